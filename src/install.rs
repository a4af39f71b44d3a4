//! `set-rto install`: attach, or replace in place. After any failure or kill, either the new policy is in effect or
//! the previous state.
//!
//! The order is fixed: lock the pin directory, read its state once, load and pin the new set beside the old one, switch
//! with one call, and remove what is no longer used.

use crate::bpf;
use crate::device::local::{self, Devices};
use crate::device::{self, Loaded, Wanted};
use crate::error::{Error, Result, hint};
use crate::host::cgroup::{self, Cgroup};
use crate::host::netns::Netns;
use crate::host::{self, mounts};
use crate::pin::{self, Installed, Locked, State};
use crate::way::{Method, Way, Why};
use crate::{output, policy, probe, rules, timer};
use libbpf_rs::MapCore;
use libbpf_rs::libbpf_sys::BPF_CGROUP_SOCK_OPS;
use libbpf_rs::skel::Skel;
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// The options of an install.
pub(crate) struct Asked {
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) pin: PathBuf,
    /// Leave out settings that this kernel lacks.
    pub(crate) partial: bool,
    /// The required method of finding interfaces.
    pub(crate) method: Option<Method>,
    /// Only print what would be done.
    pub(crate) dry_run: bool,
}

/// `set-rto install`.
///
/// # Errors
/// The kernel refuses a step, or lacks a setting. With `partial` a missing setting is reported and left out.
pub(crate) fn run(asked: &Asked) -> Result<ExitCode> {
    host::refuse_old_kernel()?;
    let cgroup = Cgroup::chosen(asked.cgroup.as_deref())?;
    if !policy::missing_capabilities(asked.method)?.is_empty() {
        return Err(Error::new("install: Operation not permitted", policy::privileges()));
    }
    can_attach(&cgroup)?;
    let mut directory = Locked::create(&asked.pin)?;
    let mut known = None;
    let done = match pin::look(directory.as_fd(), &asked.pin)? {
        State::Foreign(what) => {
            return Err(Error::new(
                format!("something else is at the pin: {what}"),
                format!("remove it, or choose another directory: --pin {}2", asked.pin.display()),
            ));
        }
        State::Ours(old) if old.cgroup.is_some() => {
            known = Some(old.program_id);
            replace(&old, &cgroup, asked, &mut directory)?
        }
        State::Ours(_) => attach(&cgroup, true, asked, &mut directory)?,
        State::Absent => attach(&cgroup, false, asked, &mut directory)?,
    };
    if !asked.dry_run {
        // The new policy is in effect. The next run removes whatever a failure leaves here.
        if let Err(error) = pin::sweep(&directory, Some(done.program_id), known) {
            output::error(&error);
        }
    }
    done.report(&cgroup, &directory, asked.dry_run);
    Ok(ExitCode::SUCCESS)
}

/// What an install did.
struct Done {
    what: What,
    /// The pins of this program stay.
    program_id: u32,
    /// How interfaces are found.
    way: Option<Way>,
    notes: Vec<String>,
    hz: u32,
}

enum What {
    Installed,
    Replaced,
    /// The same is in effect.
    Nothing,
    /// The same, but for interfaces and addresses.
    Refreshed,
}

impl Done {
    fn report(&self, cgroup: &Cgroup, directory: &Locked, is_dry: bool) {
        let noun = if rules::COUNT == 1 { "rule" } else { "rules" };
        let place = format!("{} {noun} on {}", rules::COUNT, cgroup.path.display());
        let words = match (&self.what, is_dry) {
            (What::Installed, false) => "installed",
            (What::Installed, true) => "would install",
            (What::Replaced, false) => "replaced",
            (What::Replaced, true) => "would replace",
            (What::Nothing, _) => {
                // A note, not a result: hotplug scripts call this whenever an interface changes.
                return output::note(&format_args!("already installed: {place}"));
            }
            (What::Refreshed, false) => "already installed, interfaces and addresses read again",
            (What::Refreshed, true) => {
                "already installed, would read interfaces and addresses again"
            }
        };
        self.notes.iter().for_each(|note| output::note(note));
        if matches!(self.what, What::Refreshed) {
            return output::print(&format_args!("{words}: {place}"));
        }
        note_rounding(self.hz);
        // These are only notes, so errors are ignored here.
        if mounts::is_private(directory.as_fd()).is_ok_and(|it| it) {
            output::note(&"this bpffs is in this mount namespace only: the policy ends with it");
        }
        if cgroup.is_of_a_container().is_ok_and(|it| it) {
            output::note(
                &"this cgroup is the root of a container: the policy covers only that container",
            );
        }
        output::print(&format_args!("{words}: {place}"));
        if let Some(way) = self.way {
            output::print(&format_args!("interfaces by {}", way.text()));
        }
    }
}

/// Queries the hook before anything is changed.
fn can_attach(cgroup: &Cgroup) -> Result<()> {
    bpf::hook(cgroup.as_fd()).map(drop).map_err(|errno| {
        let hint = match errno {
            Errno::ENOSYS => hint::NO_BPF.into(),
            Errno::EINVAL => hint::NO_CGROUP_BPF.into(),
            Errno::EPERM => policy::privileges(),
            _ => hint::CHECK.into(),
        };
        let what = format!("look at the sock_ops hook of {}", cgroup.path.display());
        Error::call(what, errno, hint)
    })
}

/// Swaps the program in the live link.
fn replace(
    old: &Installed,
    cgroup: &Cgroup,
    asked: &Asked,
    directory: &mut Locked,
) -> Result<Done> {
    if let Some(id) = old.cgroup
        && !cgroup.has_id(id)?
    {
        // Two links can't be swapped in one step: for a moment there would be two policies or none.
        let place = cgroup::path(id).map_or("another cgroup".into(), |it| it.display().to_string());
        return Err(Error::new(
            format!("what is pinned at {} is attached to {place}", asked.pin.display()),
            "`set-rto remove` first, or install a second policy with another --pin",
        ));
    }
    let hz = timer::hz()?;
    let done = |what, program_id, way, notes| Done { what, program_id, way, notes, hz };
    let is_same = is_same(old, cgroup, asked)?;
    if is_same {
        let devices = old.way.map(|_| Devices::read()).transpose()?;
        let is_known = match (&devices, &old.devices) {
            (Some(devices), Some(map)) => devices.are_in(map.as_fd())?,
            _ => true,
        };
        if is_known {
            return Ok(done(What::Nothing, old.program_id, old.way, Vec::new()));
        }
    }
    // This kernel has accepted all settings of a policy that is in effect without omissions.
    let without = match old.is_current() && old.policy.without == 0 {
        true => 0,
        false => probe::lacking(cgroup, asked.partial)?,
    };
    let counters = is_same.then(|| old.counters.as_fd());
    let prepared = prepare(&Wanted { without, asked: asked.method, cgroup, counters })?;
    let what = if is_same { What::Refreshed } else { What::Replaced };
    if asked.dry_run {
        return Ok(done(what, old.program_id, prepared.way, prepared.notes));
    }
    let program_id = pin::store(directory, &prepared.loaded.skeleton, prepared.way)?;
    let new = prepared.loaded.skeleton.progs.set_rto.as_fd();
    bpf::replace(old.link.as_fd(), old.program.as_fd(), new).map_err(|errno| {
        let what = format!("replace the program of {}", directory.name("link"));
        Error::call(what, errno, "the policy that was there is still in effect; try again")
    })?;
    directory.commit()?;
    Ok(done(what, program_id, prepared.way, prepared.notes))
}

/// True if an install would change nothing except interfaces and their addresses.
fn is_same(old: &Installed, cgroup: &Cgroup, asked: &Asked) -> Result<bool> {
    if !old.is_current() || old.policy.hz != timer::hz()? || !old.has_arrivals() {
        return Ok(false);
    }
    // The kernel may meanwhile support what was left out then, for example after loading a congestion control module.
    if old.policy.without != 0 && old.policy.without != probe::lacking(cgroup, asked.partial)? {
        return Ok(false);
    }
    let Some(way) = old.way else { return Ok(true) };
    let is_method = match asked.method {
        Some(method) => way.method == method,
        // A requested method applied to that install only.
        None => way.why != Why::Asked,
    };
    let netns = Netns::open()?;
    let is_here = match (way.cookie, netns.cookie) {
        (0, _) | (_, None) => old.policy.netns == netns.inode,
        (known, Some(cookie)) => known == cookie,
    };
    Ok(is_method && is_here)
}

/// A loaded program that knows this host's interfaces.
struct Prepared {
    loaded: Loaded,
    way: Option<Way>,
    notes: Vec<String>,
}

fn prepare(wanted: &Wanted<'_>) -> Result<Prepared> {
    let loaded = device::load(wanted)?;
    let way = loaded.way;
    let mut notes = loaded.failed.clone();
    if let Some(way) = way {
        let devices = Devices::read()?;
        fill(&loaded, &devices)?;
        notes.extend(devices.notes(way.method)?);
    }
    Ok(Prepared { loaded, way, notes })
}

/// Stores this host's interfaces in a loaded program's map.
pub(crate) fn fill(loaded: &Loaded, devices: &Devices) -> Result<()> {
    let map = loaded.skeleton.object().maps().find(|map| map.name() == local::MAP);
    let map =
        map.ok_or_else(|| Error::new("the program has no map of interfaces", hint::DAMAGED))?;
    devices.write(map.as_fd())
}

/// Attaches and pins. A kill in between ends the link with the process. `is_gone`: the pinned link is attached to
/// nothing.
fn attach(cgroup: &Cgroup, is_gone: bool, asked: &Asked, directory: &mut Locked) -> Result<Done> {
    let without = probe::lacking(cgroup, asked.partial)?;
    let wanted = Wanted { without, asked: asked.method, cgroup, counters: None };
    let Prepared { loaded, way, notes } = prepare(&wanted)?;
    let hz = timer::hz()?;
    let program = loaded.skeleton.progs.set_rto.as_fd();
    if asked.dry_run {
        return Ok(Done { what: What::Installed, program_id: 0, way, notes, hz });
    }
    let program_id = pin::store(directory, &loaded.skeleton, way)?;
    if is_gone {
        pin::remove_link(directory)?;
    }
    let link = bpf::attach(program, cgroup.as_fd(), BPF_CGROUP_SOCK_OPS).map_err(|errno| {
        Error::call(format_args!("attach to {}", cgroup.path.display()), errno, hint::attach(errno))
    })?;
    let link = directory.attached(link);
    pin::store_link(directory, (*link).as_fd())?;
    directory.commit()?;
    Ok(Done { what: What::Installed, program_id, way, notes, hz })
}

/// Prints a note for each timer that the kernel's tick makes more than 10 % longer than its rule says.
fn note_rounding(hz: u32) {
    let real = |us| timer::microseconds(timer::jiffies(us, hz), hz);
    let is_coarse = |us: u64| us > 0 && real(us).abs_diff(us) * 10 > us;
    // The kernel's minimum is two jiffies.
    let two = u64::from(timer::two_jiffies_us(hz));
    let is_raised = |us: u64| us > 0 && us < two;
    if !rules::settings().any(|it| is_coarse(it.rto_us) || is_raised(it.least_us)) {
        return;
    }
    for rules::Rule { name, settings, .. } in rules::all() {
        if is_raised(settings.least_us) {
            let (asked, given) = (timer::spell(settings.least_us), timer::spell(two));
            output::note(&format_args!(
                "rule `{name}`: rto_min or delack_max {asked} becomes {given}, two of the kernel's ticks"
            ));
        }
        let us = settings.rto_us;
        if is_coarse(us) {
            let (asked, given) = (timer::spell(us), timer::spell(real(us)));
            output::note(&format_args!(
                "rule `{name}`: rto {asked} becomes {given}, the kernel's tick is 1/{hz} s"
            ));
        }
    }
}
