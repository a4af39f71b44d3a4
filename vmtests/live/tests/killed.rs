//! SIGKILL at every system call: afterwards the new policy or exactly the previous state is in effect.

use anyhow::Result;

use super::sweep::Fault;
use super::sweep::Scene;
use super::sweep::Share;
use super::sweep::Verb;
use crate::harness::tests;

tests! {
    killed_in_a_first_install: 600,
    killed_in_an_install_over_another: 600,
    killed_in_an_install_that_mounts_bpffs: 600,
    killed_in_remove: 600,
    killed_where_devices_are_asked_for: 1200,
}

/// The number of calls that a test tries by default.
const SOME: usize = 60;

fn killed(rules: &str, verbs: &[Verb]) -> Result<()> {
    let scene = Scene::of(rules)?;
    verbs
        .iter()
        .try_for_each(|verb| scene.sweep(*verb, &[Fault::Killed], &Share::of(SOME), |_| true))
}

fn killed_in_a_first_install() -> Result<()> {
    killed("a", &[Verb::Install])
}

fn killed_in_an_install_over_another() -> Result<()> {
    killed("a", &[Verb::Replace])
}

fn killed_in_an_install_that_mounts_bpffs() -> Result<()> {
    killed("a", &[Verb::InstallAndMount])
}

fn killed_in_remove() -> Result<()> {
    killed("a", &[Verb::Remove])
}

/// These rules need two programs and two links.
fn killed_where_devices_are_asked_for() -> Result<()> {
    killed("devices", &[Verb::Install, Verb::Replace, Verb::Again, Verb::Remove])
}
