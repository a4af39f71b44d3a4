//! Opens the program inside this binary, fills in what depends on this host, and loads it.

use crate::bpf::{self, Feature};
use crate::error::{Context as _, Error, Result, hint};
use crate::host;
use crate::host::cgroup::Cgroup;
use crate::host::netns::Netns;
use crate::learned;
use crate::offsets::Offsets;
use crate::rules;
use crate::shared::{self, Finding, Policy, Ticks};
use crate::timer;
use crate::way::{Method, Way};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Map, MapCore, OpenObject, PrintLevel, Program};
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

/// The map with the method of finding devices, `finding` in the generated C.
pub(crate) const FINDING: &str = ".rodata.device";

/// The name of the program in the kernel.
pub(crate) const PROGRAM: &str = "set_rto";

/// The capabilities that are missing to load and attach the program, by name.
///
/// # Errors
/// The capabilities of this process cannot be read.
pub(crate) fn missing_capabilities(asked: Option<Method>) -> Result<Vec<&'static str>> {
    // Reading kernel structures and pointer arithmetic need CAP_PERFMON. The rule compiler reports the latter.
    let reads = rules::ASKS_FOR_INTERFACE && asked != Some(Method::Address);
    host::missing_capabilities(reads || rules::NEEDS_PERFMON)
}

/// Refuses to go on without the capabilities that loading and attaching need.
pub(crate) fn require_capabilities(asked: Option<Method>) -> Result<()> {
    match missing_capabilities(asked)?.join(", ") {
        missing if missing.is_empty() => Ok(()),
        missing => {
            Err(Error::new(format!("Operation not permitted: missing {missing}"), hint::ROOT))
        }
    }
}

/// The sock_ops programs that run for sockets of a cgroup.
pub(crate) fn hook(cgroup: &Cgroup) -> Result<Vec<u32>> {
    bpf::hook(cgroup.as_fd()).map_err(|errno| {
        let hint = match errno {
            Errno::ENOSYS => "this kernel is built without CONFIG_BPF_SYSCALL".into(),
            Errno::EINVAL => "this kernel is built without CONFIG_CGROUP_BPF".into(),
            Errno::EPERM => privileges(),
            _ => hint::CHECK.into(),
        };
        let what = format_args!("look at the sock_ops hook of {}", cgroup.path.display());
        Error::call(what, errno, &hint)
    })
}

/// The program that tries which settings the kernel accepts, if rules set more than `rto`.
pub(crate) const PROBE: &str = "probe";
/// The program that tries whether devices are found, if rules test them.
pub(crate) const PROBE_DEVICE: &str = "probe_device";
/// The program that records the device that a SYN comes in by, and its map, if rules test that.
pub(crate) const NOTE_ARRIVAL: &str = "note_arrival";
const ARRIVALS: &str = "arrivals";
/// The map of the sockets of trial connections, with the device that was found for each.
pub(crate) const KNOWN_DEVICES: &str = "known_devices";
/// The map of evidence.
pub(crate) const EVIDENCE: &str = "evidence";
/// What depends on the kernel's tick, where connections are looked at up to the end of their handshake.
const TICKS: &str = ".rodata.ticks";
/// The ends of the names that libbpf gives to the maps of constants and of counters.
pub(crate) const CONSTANTS: &str = ".rodata";
pub(crate) const COUNTERS: &str = ".bss";

/// The loaded object.
pub(crate) type Skeleton = SetRtoSkel<'static>;

/// A map of the loaded object, by its name or the end of it.
///
/// # Errors
/// The object has none.
pub(crate) fn map<'a>(skeleton: &'a Skeleton, name: &str) -> Result<Map<'a>> {
    let mut maps = skeleton.object().maps();
    maps.find(|map| map.name().to_string_lossy().ends_with(name)).ok_or_else(|| lacks(name))
}

/// A program of the loaded object.
///
/// # Errors
/// The object has none.
pub(crate) fn program<'a>(skeleton: &'a Skeleton, name: &str) -> Result<Program<'a>> {
    let mut programs = skeleton.object().progs();
    programs.find(|program| program.name() == name).ok_or_else(|| lacks(name))
}

fn lacks(name: &str) -> Error {
    Error::new(format!("the program has no {name}"), hint::DAMAGED)
}

/// What to load.
#[derive(Clone, Copy, Default)]
pub(crate) struct Load<'a> {
    /// A bit for each column of settings to leave out.
    pub(crate) without: u64,
    /// How devices are found; None if no rule tests one.
    pub(crate) way: Option<Way>,
    /// The offsets in the kernel's structures; None if nothing is read from them.
    pub(crate) offsets: Option<&'a Offsets>,
    /// Counters and evidence of the same rules to continue.
    pub(crate) counters: Option<BorrowedFd<'a>>,
    pub(crate) evidence: Option<BorrowedFd<'a>>,
    /// What was learned, in a map of the wanted size.
    pub(crate) learned: Option<BorrowedFd<'a>>,
}

/// Loads the program and what belongs to it. Nothing is attached yet.
///
/// # Errors
/// The kernel can't run these rules or does not permit it.
pub(crate) fn load(load: &Load<'_>) -> Result<Skeleton> {
    let mut names = vec![PROGRAM];
    if let Some(way) = load.way {
        names.extend(way.arrivals.then_some(NOTE_ARRIVAL));
        names.extend((way.method == Method::Route).then_some(PROBE_DEVICE));
    }
    // A signal interrupts the verifier, and libbpf gives up after five attempts.
    for _ in 0..20 {
        match load_programs(&names, load) {
            Err(error) if error.errno() == Some(Errno::EAGAIN) => {}
            done => return done,
        }
    }
    load_programs(&names, load)
}

/// Loads the program that tries settings; None if there are none to try.
///
/// # Errors
/// As for [`load`].
pub(crate) fn load_probe() -> Result<Option<Skeleton>> {
    rules::has_columns().then(|| load_programs(&[PROBE], &Load::default())).transpose()
}

/// The first libbpf that is known to work with a dynamically linked set-rto. Old versions give unused maps no
/// descriptor (seen with 1.1), on which the skeleton would panic. The versions in between have not been tried.
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
            "the static set-rto contains its own: `cargo xtask build`, `cargo xtask dist`",
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
    let mut open =
        SetRtoSkelBuilder::default().open(storage).context("open the program", hint::DAMAGED)?;
    complete(&mut open, hz, load)?;
    let object = open.open_object_mut();
    for mut program in object.progs_mut() {
        let is_wanted = names.iter().any(|name| program.name() == *name);
        program.set_autoload(is_wanted);
    }
    const PREPARE: &str = "prepare the maps";
    let decides = names.contains(&PROGRAM);
    for mut map in object.maps_mut() {
        let reused = match map.name().to_str() {
            Some(EVIDENCE) => load.evidence,
            Some(learned::MAP) => load.learned,
            Some(name) if name.ends_with(COUNTERS) => load.counters,
            _ => None,
        };
        if let Some(reused) = reused {
            map.reuse_fd(reused).context(PREPARE, hint::DAMAGED)?;
            continue;
        }
        let is_wanted = match map.name().to_str() {
            Some(KNOWN_DEVICES) => load.way.is_some_and(|way| way.method == Method::Route),
            Some(ARRIVALS) => load.way.is_some_and(|way| way.arrivals),
            Some(EVIDENCE) => decides,
            Some(learned::MAP) => {
                map.set_max_entries(learned::hosts()?).context(PREPARE, hint::DAMAGED)?;
                decides
            }
            _ => continue,
        };
        map.set_autocreate(is_wanted).context(PREPARE, hint::DAMAGED)?;
    }
    let loaded = open.load().map_err(refused)?;
    if names.contains(&PROGRAM) {
        keep_known(loaded.progs.set_rto.as_fd(), map(&loaded, CONSTANTS)?.as_fd())?;
    }
    Ok(loaded)
}

/// A policy is recognised by its name and its constants. libbpf continues without them if memory is short.
fn keep_known(program: BorrowedFd<'_>, constants: BorrowedFd<'_>) -> Result<()> {
    const WHAT: &str = "give the program its constants";
    const HINT: &str = "is memory short? try again";
    bpf::bind_map(program, constants).context(WHAT, HINT)?;
    match bpf::program_info(program).context(WHAT, HINT)?.name.is_empty() {
        true => Err(Error::new("load the program: it got no name", HINT)),
        false => Ok(()),
    }
}

/// Fills in HZ, the timers and the network namespace.
fn complete(open: &mut OpenSetRtoSkel<'_>, hz: u32, load: &Load<'_>) -> Result<()> {
    // Jiffies are at least 1: 0 means that the rule leaves the timer to the kernel.
    let ticks =
        |it: rules::Settings| if it.rto_us == 0 { 0 } else { timer::jiffies(it.rto_us, hz) };
    let ticks: Vec<u32> = rules::settings().map(ticks).collect();
    let jiffies: Vec<u32> = rules::numbers().filter_map(|it| ticks.get(it).copied()).collect();
    let object = open.open_object_mut();
    let mut rodata = object
        .maps_mut()
        .find(|map| map.name().to_string_lossy().ends_with(CONSTANTS))
        .ok_or_else(|| lacks(CONSTANTS))?;
    let data = bpf::constants(&mut rodata).ok_or_else(|| lacks(CONSTANTS))?;
    let (policy, room) = shared::read::<Policy>(data).ok_or_else(|| lacks(CONSTANTS))?;
    let policy = Policy {
        hz,
        netns: Netns::open()?.inode,
        two_jiffies_us: timer::two_jiffies_us(hz),
        without: load.without,
        ..policy
    };
    // The program was built for other rules than those of this binary.
    if room.len() < jiffies.len() || !shared::write(data, &policy, &jiffies) {
        return Err(lacks("room for the timers"));
    }
    let mut ticks = object.maps_mut().find(|map| map.name() == TICKS);
    if let Some(place) = ticks.as_mut().and_then(bpf::constants) {
        let per_us = (u64::from(hz) << 32).div_ceil(1_000_000);
        let ticks = Ticks { per_us, shift: learned::shift(hz), most: 120 * hz };
        if !shared::write(place, &ticks, &[]) {
            return Err(lacks(TICKS));
        }
    }
    if let Some(way) = load.way {
        let mut maps = object.maps_mut();
        let mut map = maps.find(|map| map.name() == FINDING);
        let place = map.as_mut().and_then(bpf::constants);
        // The address method reads no structures.
        let (pointer, at) = load.offsets.map_or((8, &[][..]), |it| (it.pointer, &it.at));
        let finding = way.finding(pointer);
        if !place.is_some_and(|place| shared::write::<Finding>(place, &finding, at)) {
            return Err(lacks(FINDING));
        }
    }
    Ok(())
}

/// libbpf's messages about the last load, including the verifier's log. They are shown only if it fails.
static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
}

/// True for an error of [`load`] that shows that the kernel can't run a program that reads its structures. Any other
/// error (ENOMEM, EMFILE, EINTR, EPERM and the like) is about this load and proves nothing about the kernel.
///
/// # Errors
/// The kernel could not be queried.
pub(crate) fn cannot_run(error: &Error) -> Result<bool> {
    /// include/linux/errno.h; returned by a JIT that does not support an instruction.
    const ENOTSUPP: i32 = 524;
    match error.errno() {
        // The verifier does not know something. But libbpf also changes the program if one of its own probes failed,
        // for example for lack of memory. So the kernel is probed here again.
        Some(Errno::EINVAL) => match bpf::has(Feature::Memory) {
            Ok(can) => Ok(!can),
            Err(errno) => Err(Error::call("try a program", errno, &privileges())),
        },
        // The verifier rejects the program or finds it too large.
        Some(Errno::EACCES | Errno::E2BIG | Errno::EFAULT) => Ok(true),
        _ => Ok(error.code() == Some(ENOTSUPP)),
    }
}

/// How many lines of the log are shown. The reason is at its end.
const LOG_LINES: usize = 12;

fn refused(error: libbpf_rs::Error) -> Error {
    let is_denied = error.kind() == libbpf_rs::ErrorKind::PermissionDenied
        && missing_capabilities(None).is_ok_and(|it| !it.is_empty());
    let hint = if is_denied {
        privileges()
    } else {
        let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        format!("`set-rto check` shows what is missing; the kernel reported:\n  {end}")
    };
    Error::failed(&"load the program", &error, &hint)
}

/// The hint for a refused privilege.
pub(crate) fn privileges() -> String {
    match missing_capabilities(None) {
        Ok(missing) if missing.is_empty() => {
            "not even root may do this here: in a container or user namespace, run it on the host"
                .into()
        }
        Ok(missing) => format!("missing {}: run it as root", missing.join(", ")),
        Err(_) => hint::ROOT.into(),
    }
}
