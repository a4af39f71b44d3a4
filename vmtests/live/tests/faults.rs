//! Every system call of every verb fails, once or permanently. Afterwards either the new policy or exactly the
//! previous state is in effect, and set-rto's output is correct. By default a sample of the calls is tried;
//! `--thorough` tries all of them.

use anyhow::Result;
use nix::errno::Errno;

use super::sweep::ERRNOS;
use super::sweep::Fault;
use super::sweep::Scene;
use super::sweep::Share;
use super::sweep::Verb;
use crate::harness::syscalls;
use crate::harness::tests;

tests! {
    fault_in_a_first_install: 3600,
    fault_in_an_install_that_mounts_bpffs: 3600,
    fault_in_an_install_over_another: 3600,
    fault_in_an_install_again: 3600,
    fault_in_remove: 3600,
    fault_in_status: 3600,
    fault_in_check: 3600,
    fault_in_try: 3600,
    a_failed_look_is_no_missing_bpffs: 600,
    a_failed_look_is_no_missing_policy: 600,
    a_failed_look_makes_nothing_foreign: 600,
    bpf_that_fails_for_good_takes_nothing_away: 600,
    no_memory_is_no_missing_feature: 600,
}

/// The number of faults tried per verb by default.
const SOME: usize = 30;

fn once() -> Vec<Fault> {
    ERRNOS.map(Fault::Once).to_vec()
}

fn once_and_for_good() -> Vec<Fault> {
    [ERRNOS.map(Fault::Once), ERRNOS.map(Fault::FromThenOn)].concat()
}

/// The rules that cause the most system calls: two programs, two links, and a probe with a child.
fn in_verb(verb: Verb) -> Result<()> {
    in_verbs(&[verb])
}

fn in_verbs(verbs: &[Verb]) -> Result<()> {
    let scene = Scene::of("devices")?;
    let share = Share::of(SOME);
    verbs.iter().try_for_each(|verb| scene.sweep(*verb, &once_and_for_good(), &share, |_| true))
}

fn fault_in_a_first_install() -> Result<()> {
    in_verb(Verb::Install)
}

fn fault_in_an_install_that_mounts_bpffs() -> Result<()> {
    in_verb(Verb::InstallAndMount)
}

fn fault_in_an_install_over_another() -> Result<()> {
    in_verb(Verb::Replace)
}

fn fault_in_an_install_again() -> Result<()> {
    in_verb(Verb::Again)
}

fn fault_in_remove() -> Result<()> {
    in_verb(Verb::Remove)
}

fn fault_in_status() -> Result<()> {
    in_verbs(&[Verb::Status, Verb::StatusOfNothing])
}

fn fault_in_check() -> Result<()> {
    in_verb(Verb::Check)
}

fn fault_in_try() -> Result<()> {
    in_verb(Verb::Try)
}

/// stat(2) and its variants during the search for the bpffs. A second one mounted on top would hide the policy.
fn a_failed_look_is_no_missing_bpffs() -> Result<()> {
    let scene = Scene::of("a")?;
    scene.sweep(Verb::Replace, &once(), &Share::of(120), |call| syscalls::is_look(call.number))
}

/// `remove` reports that nothing is installed only if that is true.
fn a_failed_look_is_no_missing_policy() -> Result<()> {
    let scene = Scene::of("a")?;
    scene.sweep(Verb::Remove, &once(), &Share::All, |call| syscalls::is_look(call.number))
}

/// Our own policy is never reported as foreign with the advice to remove it.
fn a_failed_look_makes_nothing_foreign() -> Result<()> {
    let scene = Scene::of("a")?;
    let transient = [Errno::ENOMEM, Errno::EINTR, Errno::EMFILE].map(Fault::Once);
    scene.sweep(Verb::Again, &transient, &Share::of(60), |_| true)?;
    scene.sweep(Verb::Status, &transient, &Share::of(60), |_| true)
}

/// Faults start at the call that reads the second link or its map. The old policy keeps both links.
fn bpf_that_fails_for_good_takes_nothing_away() -> Result<()> {
    let scene = Scene::of("devices")?;
    let faults = [Errno::ENOMEM, Errno::EACCES].map(Fault::FromThenOn);
    let is_bpf = |call: &crate::harness::trace::Call| call.number == libc::SYS_bpf;
    scene.sweep(Verb::Again, &faults, &Share::All, is_bpf)
}

/// Devices are found by the route, or the install fails. It never falls back to the address silently.
fn no_memory_is_no_missing_feature() -> Result<()> {
    const LOAD: u64 = 5;
    let scene = Scene::of("devices")?;
    let faults = [Errno::ENOMEM, Errno::EMFILE].map(Fault::Once);
    scene.sweep(Verb::Install, &faults, &Share::All, |call| call.bpf() == Some(LOAD))
}
