//! `set-rto install`: attach, or replace in place. After any failure or kill, either the new policy is in effect or
//! the previous state.
//!
//! The order is fixed: lock the pin directory, read its state once, load and pin the new set beside the old one, switch
//! with one call, and remove what is no longer used.

use crate::bpf;
use crate::device;
use crate::device::local::{self, Devices};
use crate::error::{Context as _, Error, Result, hint};
use crate::host;
use crate::host::cgroup::{self, Cgroup};
use crate::pin::{self, Installed, LINK, Locked};
use crate::policy::Load;
use crate::way::Why;
use crate::{Install, learned, output, policy, probe, rules, timer, trial};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

/// `set-rto install`.
///
/// # Errors
/// The kernel refuses a step, or lacks a setting. With `partial` a missing setting is reported and left out.
pub(crate) fn run(asked: &Install) -> Result<ExitCode> {
    if asked.quiet {
        output::be_quiet();
    }
    host::supported_release()?;
    let hz = timer::hz()?;
    let cgroup = Cgroup::chosen(asked.cgroup.as_deref())?;
    policy::require_capabilities(asked.interface_method)?;
    // A hook that cannot be read cannot be attached to. Nothing has been changed yet.
    policy::hook(&cgroup)?;
    let is_of_a_container = cgroup.is_of_a_container()?;
    let mut directory = Locked::create(&asked.pin)?;
    let found = pin::look(&directory)?;
    // A detached link has no policy in effect: a new one takes its place.
    let old = found.as_deref().filter(|it| it.cgroup.is_some());
    let what = match old {
        None => What::Installed,
        Some(old) => {
            refuse_another_cgroup(old, &cgroup, asked)?;
            match is_same(old, &cgroup, asked, hz)? && !asked.forget {
                false => What::Replaced,
                true if knows_devices(old)? => What::Nothing,
                true => What::Refreshed,
            }
        }
    };
    let nouns = if rules::COUNT == 1 { "rule" } else { "rules" };
    let place = format!("{} {nouns} on {}", rules::COUNT, cgroup.path.display());
    if let (What::Nothing, Some(old)) = (&what, old) {
        if !asked.dry_run {
            sweep(&directory, &cgroup, old.program_id, old.program_id);
        }
        // A note, not a result: hotplug scripts call this whenever an interface changes.
        output::note(&format_args!("already installed: {place}"));
        return Ok(ExitCode::SUCCESS);
    }
    // This kernel has accepted all settings of a policy that is in effect without omissions.
    let without = match old {
        Some(old) if old.is_current() && old.policy.without == 0 => 0,
        _ => probe::lacking(&cgroup, asked.partial)?,
    };
    let same = old.filter(|_| what == What::Refreshed);
    // A detached policy has learned, too.
    let known = found.as_deref().filter(|_| !asked.forget).and_then(|it| it.learned.as_ref());
    let hosts = learned::hosts()?;
    let fitting = known.filter(|(_, room)| *room == hosts);
    let load = Load {
        without,
        counters: same.map(|old| old.counters.as_fd()),
        evidence: same.and_then(|old| old.evidence.as_ref()).map(AsFd::as_fd),
        learned: fitting.map(|(map, _)| map.as_fd()),
        ..Load::default()
    };
    let loaded = device::load(load, asked.interface_method, &cgroup)?;
    let device::Loaded { skeleton, way, failed: mut notes } = loaded;
    if let Some(way) = way {
        let devices = Devices::read()?;
        devices.write(policy::map(&skeleton, local::MAP)?.as_fd())?;
        notes.extend(devices.notes(way.method)?);
        if let Some(netns) = old.map(Installed::other_netns).transpose()?.flatten() {
            notes.push(format!("interfaces were {netns}, and are now those of this one"));
        }
    }
    if let Some(wanted) = rules::HOSTS {
        if let (Some((old, room)), None) = (known, fitting) {
            learned::copy(old.as_fd(), *room, policy::map(&skeleton, learned::MAP)?.as_fd())?;
        }
        if hosts > wanted {
            notes.push(format!(
                "room for {hosts} hosts, not {wanted}: at least 256 for each processor"
            ));
        }
    }
    if !asked.dry_run {
        let kept = known.map(|(map, _)| map.as_fd());
        let id = pin::store(&mut directory, &skeleton, way, kept)?;
        let program = skeleton.progs.set_rto.as_fd();
        switch(&mut directory, found.as_deref(), program, &cgroup)?;
        directory.commit()?;
        sweep(&directory, &cgroup, id, old.map_or(id, |old| old.program_id));
    }
    notes.iter().for_each(|note| output::note(note));
    let words = match (&what, asked.dry_run) {
        (What::Installed, false) => "installed",
        (What::Installed, true) => "would install",
        (What::Replaced, false) => "replaced",
        (What::Replaced, true) => "would replace",
        (_, false) => "already installed, interfaces and addresses read again",
        (_, true) => "already installed, would read interfaces and addresses again",
    };
    if what == What::Refreshed {
        output::print(&format_args!("{words}: {place}"));
        return Ok(ExitCode::SUCCESS);
    }
    note_rounding(hz);
    if is_of_a_container {
        output::note(&cgroup::OF_A_CONTAINER);
    }
    output::print(&format_args!("{words}: {place}"));
    if let Some(way) = way {
        output::print(&format_args!("interfaces by {}", way.text()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What an install does.
#[derive(PartialEq, Eq)]
enum What {
    Installed,
    Replaced,
    /// The same is in effect.
    Nothing,
    /// The same, but for interfaces and addresses.
    Refreshed,
}

/// Removes the sets that are not in effect and the cgroups of earlier trials. The policy is in effect, so the next run
/// removes whatever a failure leaves here.
fn sweep(directory: &Locked, cgroup: &Cgroup, keep: u32, known: u32) {
    let trials = trial::sweep(cgroup.as_fd()).context("remove the cgroups of trials", hint::RETRY);
    for swept in [pin::sweep(directory, Some(keep), Some(known)), trials] {
        if let Err(error) = swept {
            output::error(&error);
        }
    }
}

/// Two links can't be swapped in one step: for a moment there would be two policies or none.
fn refuse_another_cgroup(old: &Installed, cgroup: &Cgroup, asked: &Install) -> Result<()> {
    let Some(id) = old.cgroup else { return Ok(()) };
    if cgroup.has_id(id)? {
        return Ok(());
    }
    let place = cgroup::path(id)?.map_or("another cgroup".into(), |it| it.display().to_string());
    Err(Error::new(
        format!("what is pinned at {} is attached to {place}", asked.pin.display()),
        "`set-rto remove` first, or install a second policy with another --pin",
    ))
}

/// Puts a program in effect: swaps it in the live link, or attaches and pins a new link. A kill in between ends a new
/// link with the process.
fn switch(
    directory: &mut Locked,
    found: Option<&Installed>,
    program: BorrowedFd<'_>,
    cgroup: &Cgroup,
) -> Result<()> {
    match found {
        Some(old) if old.cgroup.is_some() => {
            return bpf::replace(old.link.as_fd(), old.program.as_fd(), program).context(
                format_args!("replace the program of {}", directory.path().join(LINK).display()),
                "the policy that was there is still in effect; try again",
            );
        }
        Some(_) => directory.unpin(LINK)?,
        None => {}
    }
    let link = directory.attached(cgroup.attach(program)?);
    directory.pin((*link).as_fd(), LINK)
}

/// True if the installed policy has this host's interfaces and addresses, or needs none.
fn knows_devices(old: &Installed) -> Result<bool> {
    match (old.way, &old.devices) {
        (Some(_), Some(map)) => Devices::read()?.are_in(map.as_fd()),
        _ => Ok(true),
    }
}

/// True if an install would change nothing except interfaces and their addresses.
fn is_same(old: &Installed, cgroup: &Cgroup, asked: &Install, hz: u32) -> Result<bool> {
    if !old.is_current() || old.policy.hz != hz || !old.has_arrivals() {
        return Ok(false);
    }
    // The kernel may meanwhile support what was left out then, for example after loading a congestion control module.
    if old.policy.without != 0 && old.policy.without != probe::lacking(cgroup, asked.partial)? {
        return Ok(false);
    }
    let Some(way) = old.way else { return Ok(true) };
    let is_method = match asked.interface_method {
        Some(method) => way.method == method,
        // A requested method applied to that install only.
        None => way.why != Why::Asked,
    };
    Ok(is_method && old.other_netns()?.is_none())
}

/// Prints a note for each timer that the kernel's tick makes more than 10 % longer than its rule says.
fn note_rounding(hz: u32) {
    let real = |us, least| timer::microseconds(timer::jiffies(us, hz).max(least), hz);
    let coarse = |it: rules::Settings| {
        // With the kernel's minimum, in jiffies.
        let all = [
            ("rto", it.rto_us, 1),
            ("rto_min", it.rto_min_us, 2),
            ("delack_max", it.delack_max_us, 2),
        ];
        let all = all.into_iter().filter(|(_, us, _)| *us > 0);
        all.map(move |(key, us, least)| (key, us, real(us, least)))
            .filter(|(_, us, real)| real.abs_diff(*us) * 10 > *us)
    };
    // There may be many rules with few different settings.
    if !rules::settings().any(|it| coarse(it).next().is_some()) {
        return;
    }
    for rules::Rule { name, settings, .. } in rules::all() {
        for (key, us, real) in coarse(settings) {
            let (asked, given) = (timer::spell(us), timer::spell(real));
            output::note(&format_args!(
                "rule `{name}`: {key} {asked} becomes {given}, the kernel's tick is 1/{hz} s"
            ));
        }
    }
}
