//! Version 1's net_cls or net_prio in use. Before Linux 5.15, new sockets then belong to the root of version 2.
//!
//! This lasts until the machine shuts down, so these tests run last.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::mount::MsFlags;
use nix::mount::mount;

use super::Part;
use super::expect_both;
use crate::harness::Skip;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Lab;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;
use crate::harness::wire::kernel_version;

const PORT: u16 = 12345;
const OURS: Duration = Duration::from_secs(20);

tests! {
    in whole_machine = true;
    machine_net_cls_in_use: 60,
    machine_net_prio_in_use: 60,
}

fn machine_net_cls_in_use() -> Result<()> {
    // The controller is in use once a class has been assigned.
    in_use("net_cls", "net_cls.classid", "0x100001", OURS)
}

/// net_prio has the same lasting effect. On an older kernel with net_cls, the effect is already present.
fn machine_net_prio_in_use() -> Result<()> {
    let is_there_before = is_lost()? && has("net_cls")?;
    let before = if is_there_before { DEFAULT_RTO } else { OURS };
    // net_prio knows only the machine's own devices, not those of a namespace.
    in_use("net_prio", "net_prio.ifpriomap", "lo 5", before)
}

/// Sockets of any cgroup belong to the root once a version 1 controller is in use.
fn is_lost() -> Result<bool> {
    Ok(kernel_version()? < (5, 15))
}

fn has(controller: &str) -> Result<bool> {
    let all = fs::read_to_string("/proc/cgroups").context("no list of controllers")?;
    Ok(all.lines().any(|line| line.split_whitespace().next() == Some(controller)))
}

/// `before` is the timer in a cgroup with a policy, before a write to a class file puts the controller in use.
fn in_use(controller: &str, file: &str, text: &str, before: Duration) -> Result<()> {
    if !has(controller)? {
        bail!(Skip::new(format!("this kernel has no {controller}")));
    }
    let set_rto = SetRto::of("default")?;
    let root = sandbox::cgroup()?;
    let (lab, cable) = Lab::with_cable()?;
    let part = Part::new(&root, "part")?;
    let path = part.path.to_str().context("a cgroup whose name is no text")?;
    let there = "/sys/fs/bpf/part";
    set_rto.ok(&["install", "--cgroup", path, "--pin", there])?;
    part.inside(|| expect_both(&lab, &cable, PORT, before).context("before"))?;

    let place = Path::new("/mnt");
    mount(Some("cgroup"), place, Some("cgroup"), MsFlags::empty(), Some(controller))
        .with_context(|| format!("cannot mount {controller}"))?;
    let class = place.join("set-rto");
    fs::create_dir(&class)?;
    fs::write(class.join(file), text).with_context(|| format!("cannot write {text} to {file}"))?;
    fs::remove_dir(&class)?;

    let rto = if is_lost()? { DEFAULT_RTO } else { OURS };
    part.inside(|| {
        expect_both(&lab, &cable, PORT, rto).with_context(|| format!("with {controller}"))
    })?;
    set_rto.ok(&["remove", "--pin", there])?;
    // The root's programs still run.
    set_rto.ok(&["install"])?;
    part.inside(|| expect_both(&lab, &cable, PORT, OURS).context("at the root"))?;
    set_rto.ok(&["remove"])?;
    Ok(())
}
