//! The cgroup layouts of a machine: unified, hybrid, or version 1 alone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::mount::mount;

use super::expect_both;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::mounts;
use crate::harness::note;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

const CGROUPS: &str = "/sys/fs/cgroup";
const PORT: u16 = 12345;
const OURS: Duration = Duration::from_secs(20);

tests! {
    in whole_machine = true;
    machine_layout_unified: 60,
    machine_layout_hybrid: 60,
    machine_layout_version_1: 60,
}

/// Version 1 as systemd sets it up: a named hierarchy without a controller, and several with one. A controller that
/// this kernel does not have, or that version 2 uses, is left out.
fn mount_version_1() -> Result<()> {
    let hierarchies =
        [("systemd", "none,name=systemd"), ("freezer", "freezer"), ("devices", "devices")];
    for (name, options) in hierarchies {
        let place = Path::new(CGROUPS).join(name);
        fs::create_dir(&place)?;
        match mount(Some("cgroup"), &place, Some("cgroup"), MsFlags::empty(), Some(options)) {
            Err(Errno::EINVAL | Errno::EBUSY | Errno::ENOENT) if name != "systemd" => {
                note(format!("no hierarchy of version 1 with {options}"));
                fs::remove_dir(&place)?;
            }
            other => other.with_context(|| format!("cannot mount cgroup with {options}"))?,
        }
    }
    Ok(())
}

/// Replaces the existing mounts with an empty directory for hierarchies.
fn clear() -> Result<()> {
    mounts::unmount_all("cgroup2")?;
    mounts::unmount_all("cgroup")?;
    mounts::mount_fresh("tmpfs", Path::new(CGROUPS))
}

/// Installs, and checks the cgroup and the result.
fn installs_at(root: &Path, (lab, cable): &(Lab, Cable)) -> Result<()> {
    let set_rto = SetRto::of("default")?;
    let before = mounts::all()?;
    let checked = set_rto.run(&["check"])?;
    checked.exits(0)?;
    set_rto.ok(&["install"])?;
    ensure!(mounts::all()? == before, "install mounted something: {}", mounts::all()?);
    let status = set_rto.status()?;
    ensure!(status.json["cgroup"] == *root.to_string_lossy(), "not at the root: {status:?}");
    expect_both(lab, cable, PORT, OURS)?;
    set_rto.ok(&["remove"])?;
    expect_both(lab, cable, PORT, DEFAULT_RTO).context("after remove")
}

fn machine_layout_unified() -> Result<()> {
    clear()?;
    mounts::mount_fresh("cgroup2", Path::new(CGROUPS))?;
    installs_at(Path::new(CGROUPS), &Lab::with_cable()?)
}

fn machine_layout_hybrid() -> Result<()> {
    clear()?;
    mount_version_1()?;
    let unified = Path::new(CGROUPS).join("unified");
    fs::create_dir(&unified)?;
    mounts::mount_fresh("cgroup2", &unified)?;
    installs_at(&unified, &Lab::with_cable()?)
}

/// The refusal includes a hint, and following the hint works.
fn machine_layout_version_1() -> Result<()> {
    clear()?;
    mount_version_1()?;
    let set_rto = SetRto::of("default")?;
    let net = Lab::with_cable()?;
    let before = mounts::all()?;
    let refusal = set_rto.run(&["install"])?;
    refusal.refuses(2, &["cgroup2", "mount -t cgroup2"])?;
    set_rto.run(&["check"])?.exits(2)?;
    ensure!(set_rto.status()?.code == 3, "not `not installed`: {:?}", set_rto.status()?);
    ensure!(mounts::all()? == before, "a refused install mounted something: {}", mounts::all()?);
    expect_both(&net.0, &net.1, PORT, DEFAULT_RTO).context("refused")?;
    // Use the exact command from the hint.
    let hint = refusal.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
    let hint = hint.context("no hint")?;
    let status = std::process::Command::new("sh").args(["-ec", hint]).status()?;
    ensure!(status.success(), "`{hint}`: {status}");
    let root = mounts::of_type("cgroup2")?.pop().context("the hint mounted no cgroup2")?;
    installs_at(&root, &net)
}
