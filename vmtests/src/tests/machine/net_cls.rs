//! Version 1's net_cls in use: before Linux 5.15, sockets made since then belong to the root of version 2.
//!
//! That lasts until the machine ends, so this runs last.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::errno::Errno;
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
}

fn machine_net_cls_in_use() -> Result<()> {
    let set_rto = SetRto::of("default")?;
    let root = sandbox::cgroup()?;
    let (lab, cable) = Lab::with_cable()?;
    let part = Part::new(&root, "part")?;
    let path = part.path.to_str().context("a cgroup whose name is no text")?;
    let there = "/sys/fs/bpf/part";
    set_rto.ok(&["install", "--cgroup", path, "--pin", there])?;
    part.inside(|| expect_both(&lab, &cable, PORT, OURS).context("before net_cls"))?;

    let place = Path::new("/mnt");
    match mount(Some("cgroup"), place, Some("cgroup"), MsFlags::empty(), Some("net_cls")) {
        Err(Errno::EINVAL | Errno::ENOENT) => bail!(Skip::new("this kernel has no net_cls")),
        other => other.context("cannot mount net_cls")?,
    }
    let class = place.join("set-rto");
    fs::create_dir(&class)?;
    // In use is what a class has been given.
    fs::write(class.join("net_cls.classid"), "0x100001")?;
    fs::remove_dir(&class)?;

    let lost = kernel_version()? < (5, 15);
    let rto = if lost { DEFAULT_RTO } else { OURS };
    part.inside(|| expect_both(&lab, &cable, PORT, rto).context("with net_cls"))?;
    set_rto.ok(&["remove", "--pin", there])?;
    // The root's programs are asked all the same.
    set_rto.ok(&["install"])?;
    part.inside(|| expect_both(&lab, &cable, PORT, OURS).context("at the root, with net_cls"))?;
    set_rto.ok(&["remove"])?;
    Ok(())
}
