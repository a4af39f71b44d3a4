//! `set-rto install`: attach, or replace in place. Whatever fails and wherever it is killed, either the new
//! policy is in force or what was there before.

use crate::bpf;
use crate::device::local::{self, Devices};
use crate::device::{self, Loaded, Wanted, arrivals};
use crate::error::{Error, Result};
use crate::host::{self, cgroup, mounts};
use crate::installed::{self, Installed, Program, State};
use crate::undo::{Undo, remove_pin};
use crate::way::{Method, Way, Why};
use crate::{policy, probe, rules, timer};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, MapCore};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// `set-rto install`. `asked`: the one method by which devices are to be found.
///
/// # Errors
/// What the kernel refuses; also a setting that it lacks, unless `partial`: then that is left out and said.
pub(crate) fn run(
    asked_cgroup: Option<&Path>,
    pin: &Path,
    partial: bool,
    asked: Option<Method>,
) -> Result<ExitCode> {
    host::refuse_old_kernel()?;
    let cgroup = cgroup::chosen(asked_cgroup)?;
    if !policy::missing_capabilities(asked).is_empty() {
        return Err(Error::new("install: Operation not permitted", policy::privileges()));
    }
    let directory = File::open(&cgroup).map_err(|error| {
        Error::io(format_args!("open {}", cgroup.display()), &error, "run it as root")
    })?;
    can_attach(&directory, &cgroup)?;
    // Whoever calls it at each change of a device shall not wait for what has been tried already.
    let is_tried = installed::look(pin).is_ok_and(|state| was_tried(&state));
    let without = if is_tried { 0 } else { probe::lacking(&cgroup, partial)? };
    let wanted = Wanted { without, asked, cgroup: Some(&cgroup), arrivals: None };
    let mut undo = Undo::default();
    let bpffs = match mounts::bpffs_of(pin) {
        Some(root) => root,
        None => {
            refuse_outside_bpffs(pin)?;
            // Where these rules can't be loaded, not even a mount shall be left behind.
            drop(device::load(&wanted)?);
            mount_bpffs(&mut undo)?
        }
    };
    let _lock = lock(&bpffs)?;
    let notes = arrivals::pinned_map(pin);
    let wanted = Wanted { arrivals: notes.as_ref(), ..wanted };
    let state = installed::look(pin)?;
    // Another one may have been here before the lock was.
    let is_unknown = is_tried && !was_tried(&state);
    let without = if is_unknown { probe::lacking(&cgroup, partial)? } else { without };
    let wanted = Wanted { without, ..wanted };
    let done = match state {
        State::Foreign(what) => {
            return Err(Error::new(
                format!("something else is at the pin: {what}"),
                format!("remove it, or choose another directory: --pin {}2", pin.display()),
            ));
        }
        State::Ours(old) if old.cgroup_id != 0 => replace(&old, &cgroup, pin, &wanted, &mut undo)?,
        State::Ours(_) => {
            // Its cgroup is gone, and the policy with it: only the name is left.
            remove_pin(&installed::link_path(pin))?;
            attach(&directory, pin, &wanted, &mut undo)?
        }
        State::Absent => attach(&directory, pin, &wanted, &mut undo)?,
    };
    undo.keep();
    done.report(&cgroup);
    Ok(ExitCode::SUCCESS)
}

/// True where these rules are in force with all their settings: then this kernel has taken them.
fn was_tried(state: &State) -> bool {
    let State::Ours(old) = state else { return false };
    let is_whole = old.program.as_ref().is_some_and(|program| program.without == 0);
    old.cgroup_id != 0 && old.is_current() && is_whole
}

/// What an install did.
enum Done {
    Installed(Option<Chosen>),
    Replaced(Option<Chosen>),
    /// The same is in force.
    Nothing,
    /// The same, but for devices and their addresses; whether something changed there.
    Refreshed(bool, Vec<String>),
}

/// How devices are found, and what there is to say about it.
struct Chosen {
    way: Way,
    notes: Vec<String>,
}

impl Done {
    fn report(&self, cgroup: &Path) {
        let noun = if rules::COUNT == 1 { "rule" } else { "rules" };
        let line = |done| format!("{done}: {} {noun} on {}", rules::COUNT, cgroup.display());
        let say = |notes: &[String]| notes.iter().for_each(|note| eprintln!("set-rto: {note}"));
        match self {
            Self::Installed(chosen) | Self::Replaced(chosen) => {
                if let Some(hz) = timer::hz() {
                    note_rounding(hz);
                }
                if let Some(Chosen { notes, .. }) = chosen {
                    say(notes);
                }
                let is_new = matches!(self, Self::Installed(_));
                crate::print(&line(if is_new { "installed" } else { "replaced" }));
                if let Some(Chosen { way, .. }) = chosen {
                    crate::print(&format_args!("interfaces by {}", way.text()));
                }
            }
            // Nothing was done: a remark, not a result.
            Self::Nothing => eprintln!("set-rto: {}", line("already installed")),
            // Called whenever a device comes or goes: then it has something to say only if that matters.
            Self::Refreshed(false, _) => {}
            Self::Refreshed(true, notes) => {
                say(notes);
                crate::print(&line("already installed, devices and addresses read again"));
            }
        }
    }
}

/// Asks the hook before anything is touched.
fn can_attach(directory: &File, cgroup: &Path) -> Result<()> {
    bpf::hook(directory.as_fd()).map(drop).map_err(|errno| {
        let hint = match errno {
            Errno::ENOSYS => "this kernel is built without CONFIG_BPF_SYSCALL".into(),
            Errno::EINVAL => "this kernel is built without CONFIG_CGROUP_BPF".into(),
            Errno::EPERM => policy::privileges(),
            _ => "`set-rto check` says what is missing".into(),
        };
        Error::call(format_args!("look at the sock_ops hook of {}", cgroup.display()), errno, hint)
    })
}

fn refuse_outside_bpffs(pin: &Path) -> Result<()> {
    if pin.starts_with(mounts::BPFFS_DIR) {
        return Ok(());
    }
    Err(Error::new(
        format!("{} is not on a BPF file system", pin.display()),
        format!("--pin takes a directory under {}", mounts::BPFFS_DIR),
    ))
}

/// Mounts bpffs where it belongs, as bpftool does.
fn mount_bpffs(undo: &mut Undo) -> Result<PathBuf> {
    let path = Path::new(mounts::BPFFS_DIR);
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(
        |errno| {
            Error::call(
                format_args!("mount bpffs at {}", path.display()),
                errno,
                "as root of the host: mount -t bpf bpf /sys/fs/bpf",
            )
        },
    )?;
    undo.mounted();
    Ok(path.to_owned())
}

/// How long another `set-rto` is waited for: 100 × 50 ms.
const LOCK_TRIES: usize = 100;

/// One install or remove at a time. The root of a bpffs is open to its owner only, so that nobody else can hold it.
pub(crate) fn lock(bpffs: &Path) -> Result<Flock<File>> {
    let what = || format!("lock {}", bpffs.display());
    let mut file =
        File::open(bpffs).map_err(|error| Error::io(what(), &error, "run it as root"))?;
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((same, Errno::EWOULDBLOCK)) => file = same,
            Err((_, errno)) => return Err(Error::call(what(), errno, "is it a bpffs?")),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Error::new(
        format!("{} is locked by another set-rto", bpffs.display()),
        "wait until it has ended: `fuser -v /sys/fs/bpf` shows it",
    ))
}

/// Swaps the program in the live link.
fn replace(
    old: &Installed,
    cgroup: &Path,
    pin: &Path,
    wanted: &Wanted<'_>,
    undo: &mut Undo,
) -> Result<Done> {
    if !cgroup::has_id(cgroup, old.cgroup_id) {
        // Two links can't change places in one step: for a moment there would be two policies, or none.
        let place = cgroup::path(old.cgroup_id).unwrap_or_else(|| "another cgroup".into());
        return Err(Error::new(
            format!("what is pinned at {} is attached to {}", pin.display(), place.display()),
            "`set-rto remove` first, or install a second policy with another --pin",
        ));
    }
    if let Some(program) = old.program.as_ref().filter(|program| is_same(old, program, pin, wanted))
    {
        let (Some(way), Some(map)) = (program.way, &program.devices) else {
            return Ok(Done::Nothing);
        };
        // The same rules again: only the devices and their addresses may have changed.
        let devices = Devices::read()?;
        return Ok(Done::Refreshed(devices.write(map.as_fd())?, devices.notes(way.method)));
    }
    let (loaded, chosen) = load(wanted)?;
    attach_arrivals(&loaded, pin, undo)?;
    let path = installed::link_path(pin);
    let failed = |error: &libbpf_rs::Error| {
        Error::bpf(
            format_args!("replace the program of {}", path.display()),
            error,
            "the policy that was there is still in force; `set-rto remove` and install again",
        )
    };
    let mut link = Link::open(&path).map_err(|error| failed(&error))?;
    link.update_prog(&loaded.skeleton.progs.set_rto).map_err(|error| failed(&error))?;
    clear_arrivals(&loaded, pin);
    Ok(Done::Replaced(chosen))
}

/// True where an install would do again what is in force.
fn is_same(old: &Installed, program: &Program, pin: &Path, wanted: &Wanted<'_>) -> bool {
    let is_method = program.way.is_none_or(|way| match wanted.asked {
        Some(method) => way.method == method,
        // What was asked for once holds for that install.
        None => way.why != Why::Asked,
    });
    let has_arrivals = program.way.is_none_or(|way| !way.arrivals || arrivals::are_attached(pin));
    old.is_current()
        && Some(program.hz) == timer::hz()
        && program.netns == host::netns()
        && program.without == wanted.without
        && is_method
        && has_arrivals
}

/// Loads the program, and fills in this host's devices.
fn load(wanted: &Wanted<'_>) -> Result<(Loaded, Option<Chosen>)> {
    let loaded = device::load(wanted)?;
    let Some(way) = loaded.way else { return Ok((loaded, None)) };
    let devices = Devices::read()?;
    let map = loaded.skeleton.object().maps().find(|map| map.name() == local::MAP);
    if let Some(map) = map {
        devices.write(map.as_fd())?;
    }
    let mut notes = loaded.failed.clone();
    notes.extend(devices.notes(way.method));
    Ok((loaded, Some(Chosen { way, notes })))
}

fn attach_arrivals(loaded: &Loaded, pin: &Path, undo: &mut Undo) -> Result<()> {
    match loaded.way {
        Some(way) if way.arrivals => arrivals::attach(&loaded.skeleton, pin, undo),
        _ => Ok(()),
    }
}

/// The new policy is in force: what the old one may have needed besides goes.
fn clear_arrivals(loaded: &Loaded, pin: &Path) {
    let keep = loaded.way.is_some_and(|way| way.arrivals);
    if let Err(error) = arrivals::clear(pin, keep) {
        eprintln!("{error}");
    }
}

/// Attaches and pins. Killed in between, the link goes with the process.
fn attach(directory: &File, pin: &Path, wanted: &Wanted<'_>, undo: &mut Undo) -> Result<Done> {
    let (loaded, chosen) = load(wanted)?;
    create_pin_directory(pin, undo)?;
    attach_arrivals(&loaded, pin, undo)?;
    let path = installed::link_path(pin);
    let mut link = loaded
        .skeleton
        .progs
        .set_rto
        .attach_cgroup(directory.as_raw_fd())
        .map_err(|error| Error::bpf("attach to the cgroup", &error, attach_hint(&error)))?;
    link.pin(&path).map_err(|error| {
        let hint = "is there room, and is the bpffs writable?";
        Error::bpf(format_args!("pin {}", path.display()), &error, hint)
    })?;
    clear_arrivals(&loaded, pin);
    Ok(Done::Installed(chosen))
}

fn attach_hint(error: &libbpf_rs::Error) -> String {
    match error.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => {
            "a program that was attached without BPF_F_ALLOW_MULTI admits no other: `bpftool cgroup tree` shows it".into()
        }
        _ => "`set-rto check` says what is missing".into(),
    }
}

fn create_pin_directory(pin: &Path, undo: &mut Undo) -> Result<()> {
    let missing: Vec<_> = pin.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    for directory in missing.into_iter().rev() {
        fs::DirBuilder::new().mode(0o700).create(directory).map_err(|error| {
            Error::io(
                format_args!("create {}", directory.display()),
                &error,
                "names on a bpffs have no dot in them",
            )
        })?;
        undo.created(directory.to_owned());
    }
    Ok(())
}

/// Says where the kernel's tick makes a timer over 10 % longer than the rule has it.
fn note_rounding(hz: u32) {
    let real = |us| timer::microseconds(timer::jiffies(us, hz), hz);
    let is_coarse = |us: u64| us > 0 && real(us).abs_diff(us) * 10 > us;
    // The kernel takes no less than two jiffies.
    let two = u64::from(timer::two_jiffies_us(hz));
    let is_raised = |us: u64| us > 0 && us < two;
    if !rules::settings().any(|it| is_coarse(it.rto_us) || is_raised(it.least_us)) {
        return;
    }
    for rules::Rule { name, settings, .. } in rules::all() {
        if is_raised(settings.least_us) {
            let (asked, given) = (timer::spell(settings.least_us), timer::spell(two));
            eprintln!(
                "set-rto: rule `{name}`: rto_min or delack_max {asked} becomes {given}, two of the kernel's ticks"
            );
        }
        let us = settings.rto_us;
        if is_coarse(us) {
            let (asked, given) = (timer::spell(us), timer::spell(real(us)));
            eprintln!(
                "set-rto: rule `{name}`: rto {asked} becomes {given}, the kernel's tick is 1/{hz} s"
            );
        }
    }
}
