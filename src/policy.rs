//! The program inside this binary: opened, completed with what only this host knows, loaded.

use crate::bpf;
use crate::error::{Error, Result};
use crate::host;
use crate::host::netns::Netns;
use crate::offsets::Offsets;
use crate::rules;
use crate::shared::{self, Finding, Policy};
use crate::timer;
use crate::way::{Method, Way};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, OpenObject, PrintLevel};
use nix::errno::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/set_rto.skel.rs"));
}
use skeleton::{OpenSetRtoSkel, SetRtoSkel, SetRtoSkelBuilder};

/// The map that says how devices are found, `finding` in the generated C.
pub(crate) const FINDING: &str = ".rodata.device";

/// The name of the program in the kernel.
pub(crate) const PROGRAM: &str = "set_rto";

/// The capabilities that are missing to load and attach the program, by name.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn missing_capabilities(asked: Option<Method>) -> Result<Vec<&'static str>> {
    // Reading kernel structures, or computing with addresses, takes CAP_PERFMON; of the latter the rule compiler knows.
    let reads = rules::ask_for_interface() && asked != Some(Method::Address);
    host::missing_capabilities(reads || rules::NEEDS_PERFMON)
}

/// The program that tries which settings the kernel takes; where rules set more than `rto`.
pub(crate) const PROBE: &str = "probe";
/// The program that tries whether devices are found; where rules ask for them.
pub(crate) const PROBE_DEVICE: &str = "probe_device";
/// The program that notes by which device a SYN comes in, and its map; where rules ask for that.
pub(crate) const NOTE_ARRIVAL: &str = "note_arrival";
pub(crate) const ARRIVALS: &str = "arrivals";

/// The loaded object.
pub(crate) type Skeleton = SetRtoSkel<'static>;

/// What is to be loaded.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    /// A bit for each column of settings to leave out.
    pub(crate) without: u64,
    /// How devices are found; None where no rule asks for one.
    pub(crate) way: Option<Way>,
    /// Where the kernel's structures have what is read of them; None where nothing is.
    pub(crate) offsets: Option<&'a Offsets>,
    /// The counters of the same rules, to go on with.
    pub(crate) counters: Option<BorrowedFd<'a>>,
}

/// Loads the program, and what belongs to it; nothing is attached yet.
///
/// # Errors
/// A kernel that can't run these rules, or does not allow it.
pub(crate) fn load(load: &Load<'_>) -> Result<Skeleton> {
    let mut names = vec![PROGRAM];
    if let Some(way) = load.way {
        names.extend(way.arrivals.then_some(NOTE_ARRIVAL));
        names.extend((way.method == Method::Route).then_some(PROBE_DEVICE));
    }
    // The verifier gives up when a signal comes, and libbpf after five times of that.
    for _ in 0..20 {
        match load_programs(&names, load) {
            Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
            done => return done,
        }
    }
    load_programs(&names, load)
}

/// Loads the program that tries settings; None where there is none to try.
///
/// # Errors
/// As for [`load`].
pub(crate) fn load_probe() -> Result<Option<Skeleton>> {
    let nothing = Load { without: 0, way: None, offsets: None, counters: None };
    rules::has_columns().then(|| load_programs(&[PROBE], &nothing)).transpose()
}

/// The first libbpf with which a dynamic loader has been seen to work. Old ones leave maps that are not wanted without a
/// descriptor (seen with 1.1), at which the skeleton would panic; those between have not been tried.
const LIBBPF: (u32, u32) = (1, 5);

/// # Errors
/// The system's libbpf is too old.
fn check_libbpf() -> Result<()> {
    if cfg!(feature = "vendored") {
        return Ok(());
    }
    let (major, minor) = bpf::libbpf();
    if (major, minor) < LIBBPF {
        return Err(Error::new(
            format!(
                "the system's libbpf is {major}.{minor}, this set-rto needs {}.{} or newer",
                LIBBPF.0, LIBBPF.1
            ),
            "the static set-rto has its own: `cargo xtask build`, `cargo xtask dist`",
        ));
    }
    Ok(())
}

fn load_programs(names: &[&str], load: &Load<'_>) -> Result<Skeleton> {
    check_libbpf()?;
    let hz = timer::hz()?;
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    if let Ok(mut log) = LOG.lock() {
        log.clear();
    }
    // One object for the life of this one-shot process.
    let storage = Box::leak(Box::new(MaybeUninit::<OpenObject>::uninit()));
    let mut open = SetRtoSkelBuilder::default()
        .open(storage)
        .map_err(|error| Error::bpf("open the program", &error, "the binary is damaged"))?;
    complete(&mut open, hz, load)?;
    let object = open.open_object_mut();
    for mut program in object.progs_mut() {
        let is_wanted = names.iter().any(|name| program.name() == *name);
        program.set_autoload(is_wanted);
    }
    let failed = |error| Error::bpf("prepare the maps", &error, "the binary is damaged");
    for mut map in object.maps_mut() {
        let is_wanted = match map.name().to_str() {
            Some("known_devices") => load.way.is_some_and(|way| way.method == Method::Route),
            Some(ARRIVALS) => load.way.is_some_and(|way| way.arrivals),
            Some(name) if name.ends_with(".bss") => {
                if let Some(counters) = load.counters {
                    map.reuse_fd(counters).map_err(failed)?;
                }
                continue;
            }
            _ => continue,
        };
        map.set_autocreate(is_wanted).map_err(failed)?;
    }
    let loaded = open.load().map_err(|error| refused(&error))?;
    let object = loaded.object();
    if let Some(program) = object.progs().find(|program| program.name() == PROGRAM)
        && names.contains(&PROGRAM)
    {
        let constants = object.maps().find(|map| map.name().to_string_lossy().ends_with(".rodata"));
        keep_known(program.as_fd(), constants.as_ref().map(AsFd::as_fd))?;
    }
    Ok(loaded)
}

/// By its name and its constants a policy is known again. libbpf goes on where it could not give it these, for lack of
/// memory.
fn keep_known(program: BorrowedFd<'_>, constants: Option<BorrowedFd<'_>>) -> Result<()> {
    const HINT: &str = "is memory short? try again";
    let failed = |errno| Error::call("give the program its constants", errno, HINT);
    constants.map_or(Ok(()), |map| bpf::bind_map(program, map)).map_err(failed)?;
    match bpf::program_info(program).map_err(failed)?.name.is_empty() {
        true => Err(Error::new("load the program: it got no name", HINT)),
        false => Ok(()),
    }
}

/// Fills in HZ, the timers and the network namespace.
fn complete(open: &mut OpenSetRtoSkel<'_>, hz: u32, load: &Load<'_>) -> Result<()> {
    let damaged = |what: &str| Error::new(what, "the binary is damaged");
    // Jiffies are 1 at least: 0 says that the rule leaves the timer to the kernel.
    let ticks =
        |it: rules::Settings| if it.rto_us == 0 { 0 } else { timer::jiffies(it.rto_us, hz) };
    let ticks: Vec<u32> = rules::settings().map(ticks).collect();
    let jiffies: Vec<u32> = rules::numbers().filter_map(|it| ticks.get(it).copied()).collect();
    let object = open.open_object_mut();
    let mut rodata = object
        .maps_mut()
        .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
        .ok_or_else(|| damaged("the program has no constants"))?;
    let data =
        bpf::constants(&mut rodata).ok_or_else(|| damaged("the program has no constants"))?;
    let (policy, room) = shared::read::<Policy>(data).ok_or_else(|| damaged("no constants"))?;
    let policy = Policy {
        hz,
        netns: Netns::open()?.inode,
        two_jiffies_us: timer::two_jiffies_us(hz),
        without: load.without,
        ..policy
    };
    // A program for other rules than those of this binary.
    if room.len() < jiffies.len() || !shared::write(data, &policy, &jiffies) {
        return Err(damaged("too few constants"));
    }
    if let Some(way) = load.way {
        let mut maps = object.maps_mut();
        let mut map = maps.find(|map| map.name() == FINDING);
        let place = map.as_mut().and_then(bpf::constants);
        // By address nothing is read.
        let (pointer, at) = load.offsets.map_or((8, &[][..]), |it| (it.pointer, &it.at));
        let finding = way.finding(pointer);
        if !place.is_some_and(|place| shared::write::<Finding>(place, &finding, at)) {
            return Err(damaged("the program has no place for the method"));
        }
    }
    Ok(())
}

/// What libbpf had to say about the last load, the verifier's log included; shown only if that fails.
static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
}

/// True for an error of [`load`] by which the kernel says that it can't run a program that reads its structures; otherwise
/// the load itself went wrong (ENOMEM, EMFILE, EINTR, EPERM and the like), which says nothing of the kernel.
///
/// # Errors
/// The kernel does not answer.
pub(crate) fn cannot_run(error: &Error) -> Result<bool> {
    /// include/linux/errno.h, of a JIT that lacks something.
    const ENOTSUPP: i32 = 524;
    match error.errno() {
        // What the verifier does not know. But libbpf changes the program where one of its own questions to the kernel
        // has failed, for lack of memory, say: so the kernel is asked itself.
        Some(Errno::EINVAL) => match bpf::lets_read_memory() {
            Ok(can) => Ok(!can),
            Err(errno) => Err(Error::call("try a program", errno, privileges())),
        },
        // What the verifier does not allow, or what is too large for it.
        Some(Errno::EACCES | Errno::E2BIG | Errno::EFAULT) => Ok(true),
        _ => Ok(error.code() == Some(ENOTSUPP)),
    }
}

/// How much of the log is shown: its end says why.
const LOG_LINES: usize = 12;

fn refused(error: &libbpf_rs::Error) -> Error {
    use libbpf_rs::ErrorKind;
    let what = "load the program";
    match error.kind() {
        ErrorKind::PermissionDenied
            if missing_capabilities(None).is_ok_and(|it| !it.is_empty()) =>
        {
            Error::bpf(what, error, privileges())
        }
        _ => {
            let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
            Error::bpf(
                what,
                error,
                format!("`set-rto check` says what is missing; the kernel said:\n  {end}"),
            )
        }
    }
}

/// The hint for a refused privilege.
pub(crate) fn privileges() -> String {
    let missing = missing_capabilities(None).unwrap_or_default();
    if missing.is_empty() {
        "not even root may do this here: in a container or user namespace, run it on the host"
            .into()
    } else {
        format!("missing {}: run it as root", missing.join(", "))
    }
}
