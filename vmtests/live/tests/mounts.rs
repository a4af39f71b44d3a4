//! Mounts of the file systems. A policy that would end with a process never counts as installed, and a covered mount
//! is never used.

use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::mount::MsFlags;
use nix::mount::mount;

use super::state::A;
use super::state::Snapshot;
use super::state::attached;
use super::state::nothing_attached;
use super::sweep::Scene;
use crate::harness::mounts;
use crate::harness::restrict::Restriction;
use crate::harness::sandbox;
use crate::harness::tests;

tests! {
    own_mounts_without_bpffs_are_refused: 60,
    own_mounts_of_a_network_namespace_are_refused: 60,
    own_mounts_with_the_hosts_bpffs: 60,
    bpffs_that_is_read_only: 60,
    cgroup2_that_is_covered: 60,
}

/// `unshare -m set-rto install`: the bpffs, and with it the policy, would disappear with the process.
fn own_mounts_without_bpffs_are_refused() -> Result<()> {
    let scene = Scene::of("a")?;
    let apart = scene.a.restricted(Restriction::OwnMounts)?;
    mounts::unmount_all("bpf")?;
    let before = Snapshot::take()?;
    apart.run(&["install"])?.refuses(2, &["nsenter"])?;
    before.still()?;
    ensure!(apart.run(&["status"])?.code == Some(3), "{}", apart.run(&["status"])?);
    apart.ok(&["remove"])?;
    ensure!([0, 2].contains(&apart.run(&["check"])?.ends_well()?), "{}", apart.run(&["check"])?);
    before.still()?;
    // The host itself has a mounted bpffs.
    scene.a.ok(&["install"])?;
    ensure!(scene.timer()? == A, "the timer is {:?}", scene.timer()?);
    scene.clear()
}

/// `ip netns exec` mounts a new /sys with neither bpffs nor cgroup2.
fn own_mounts_of_a_network_namespace_are_refused() -> Result<()> {
    let scene = Scene::of("a")?;
    let cgroup = sandbox::cgroup()?;
    let (sys, elsewhere) = (Path::new("/sys"), Path::new("/mnt"));
    // Only a cgroup2 mounted elsewhere is reachable.
    mounts::mount_fresh("cgroup2", elsewhere)?;
    mounts::mount_fresh("sysfs", sys)?;
    let apart = scene.a.restricted(Restriction::OwnMounts)?;
    let before = mounts::all()?;
    let refused = apart.run(&["install"])?;
    refused.refuses(2, &["nsenter"])?;
    ensure!(mounts::all()? == before, "{refused} has mounted something");
    nix::mount::umount2(sys, nix::mount::MntFlags::MNT_DETACH)?;
    nix::mount::umount2(elsewhere, nix::mount::MntFlags::MNT_DETACH)?;
    ensure!(sandbox::cgroup()? == cgroup, "another cgroup2");
    ensure!(attached()?.is_empty(), "{:?} are attached", attached()?);
    Ok(())
}

/// If the bpffs belongs to the host, the pins persist.
fn own_mounts_with_the_hosts_bpffs() -> Result<()> {
    let scene = Scene::of("a")?;
    let apart = scene.a.restricted(Restriction::OwnMounts)?;
    apart.ok(&["install"])?;
    ensure!(scene.timer()? == A, "the timer is {:?}", scene.timer()?);
    scene.a.ok(&["status"])?;
    apart.ok(&["remove"])?;
    scene.clear()
}

fn remount(flags: MsFlags) -> Result<()> {
    let flags = MsFlags::MS_REMOUNT | flags;
    mount(None::<&str>, mounts::BPFFS, None::<&str>, flags, None::<&str>)
        .context("cannot mount the bpffs otherwise")
}

fn bpffs_that_is_read_only() -> Result<()> {
    let scene = Scene::of("devices")?;
    remount(MsFlags::MS_RDONLY)?;
    let before = Snapshot::take()?;
    let refused = scene.a.run(&["install"])?;
    refused.refuses(2, &["read-only"])?;
    ensure!(!refused.stderr.contains("dot"), "it has nothing to do with dots: {refused}");
    before.still_soon()?;
    scene.a.ok(&["remove"])?;
    ensure!(scene.a.run(&["status"])?.code == Some(3), "{}", scene.a.run(&["status"])?);
    remount(MsFlags::empty())?;
    scene.a.ok(&["install"])?;
    // The installed policy stays, and other rules are refused or attached completely. The kernel does not open links
    // read-only (`bpf_obj_get_user()`, kernel/bpf/inode.c), so `status` may fail to read it.
    remount(MsFlags::MS_RDONLY)?;
    let said = scene.a.run(&["status"])?;
    ensure!([0, 5].contains(&said.ends_well()?), "{said}");
    let removed = scene.a.run(&["remove"])?;
    removed.refuses(2, &["read-only"])?;
    let before = Snapshot::take()?;
    let replaced = scene.b.run(&["install"])?;
    if replaced.ends_well()? != 0 {
        replaced.refuses(2, &["read-only"])?;
        before.still_soon().with_context(|| format!("{replaced}"))?;
    }
    remount(MsFlags::empty())?;
    let said = scene.a.run(&["status"])?;
    let expected = if attached()?.is_empty() { 3 } else { 0 };
    ensure!(said.code == Some(expected), "{:?}: {removed}, {said}", attached()?);
    scene.a.ok(&["install"])?;
    ensure!(scene.timer()? == A, "the timer is {:?}", scene.timer()?);
    scene.clear()
}

/// The reachable mount counts.
fn cgroup2_that_is_covered() -> Result<()> {
    let scene = Scene::of("a")?;
    let (covered, reachable) = (sandbox::cgroup()?, Path::new("/mnt"));
    mounts::mount_fresh("tmpfs", &covered)?;
    // If the covered mount is the only one, none is usable.
    scene.a.run(&["install"])?.refuses(2, &["cgroup2"])?;
    mounts::mount_fresh("cgroup2", reachable)?;
    let installed = scene.a.run(&["install"])?;
    let status = scene.a.status()?;
    let timer = scene.timer()?;
    let removed = scene.a.run(&["remove"])?;
    nix::mount::umount2(&covered, nix::mount::MntFlags::MNT_DETACH)?;
    nothing_attached()?;
    installed.exits(0)?;
    ensure!(status.json["cgroup"] == "/mnt", "not on /mnt: {status:?}");
    ensure!(timer == A, "the timer is {timer:?}");
    removed.exits(0)
}
