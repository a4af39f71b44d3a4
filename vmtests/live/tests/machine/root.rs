//! A policy on the machine's real root cgroup. It applies to every socket, in any cgroup and beside any other
//! program.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::sys::resource::RLIM_INFINITY;
use nix::sys::resource::Resource;
use nix::sys::resource::setrlimit;

use super::Part;
use super::expect_both;
use crate::harness::bpf;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::clock::Hz;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::mounts;
use crate::harness::neighbour::Neighbour;
use crate::harness::netns::Namespace;
use crate::harness::restrict::CAP_BPF;
use crate::harness::restrict::CAP_NET_ADMIN;
use crate::harness::restrict::CAP_PERFMON;
use crate::harness::restrict::Capability;
use crate::harness::restrict::Restriction;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;
use crate::harness::wire::kernel_version;

/// The port and timer of the default rule, and a port without a rule.
const PORT: u16 = 12345;
const OURS: Duration = Duration::from_secs(20);
const NO_RULE: u16 = 12346;
/// The answer of the other program.
const THEIRS: Duration = Duration::from_secs(7);

tests! {
    in whole_machine = true;
    machine_root_covers_every_cgroup: 60,
    machine_root_neighbours: 60,
    machine_without_bpffs: 60,
    machine_with_few_capabilities: 60,
}

/// For a port with a rule and for one without.
fn expect(lab: &Lab, cable: &Cable, with_rule: Duration, without: Duration) -> Result<()> {
    expect_both(lab, cable, PORT, with_rule)?;
    expect_both(lab, cable, NO_RULE, without)
}

fn machine_root_covers_every_cgroup() -> Result<()> {
    let set_rto = SetRto::of("default")?;
    let root = sandbox::cgroup()?;
    ensure!(
        std::fs::read_to_string("/proc/self/cgroup")?.lines().any(|line| line == "0::/"),
        "this process is not in the machine's root cgroup"
    );
    // Only the real root has no `cgroup.type` file.
    ensure!(!root.join("cgroup.type").exists(), "{} is not the root", root.display());
    let (lab, cable) = Lab::with_cable()?;
    let outer = Part::new(&root, "outer")?;
    let inner = Part::new(&outer.path, "inner")?;
    set_rto.ok(&["install"])?;
    let status = set_rto.status()?;
    ensure!(status.json["cgroup"] == *root.to_string_lossy(), "not at the root: {status:?}");
    for (name, part) in [("the root", None), ("a part", Some(&outer)), ("its part", Some(&inner))] {
        let measure = || expect(&lab, &cable, OURS, DEFAULT_RTO);
        match part {
            Some(part) => part.inside(measure),
            None => measure(),
        }
        .with_context(|| format!("in {name}"))?;
    }
    // A separate host on this machine, like a container.
    Namespace::create()?.run(|| {
        let (lab, cable) = Lab::with_cable()?;
        expect(&lab, &cable, OURS, DEFAULT_RTO).context("in another network namespace")
    })?;
    set_rto.ok(&["remove"])?;
    expect(&lab, &cable, DEFAULT_RTO, DEFAULT_RTO).context("after remove")?;
    inner
        .inside(|| expect(&lab, &cable, DEFAULT_RTO, DEFAULT_RTO).context("in a part after remove"))
}

/// Other programs before and after ours, at the root and below. At the root the last one decides. All of those run
/// after the ones below.
fn machine_root_neighbours() -> Result<()> {
    let set_rto = SetRto::of("default")?;
    let root = sandbox::cgroup()?;
    let (lab, cable) = Lab::with_cable()?;
    let part = Part::new(&root, "part")?;
    let theirs = Neighbour::Answers(Hz::of_this_kernel()?.jiffies(THEIRS).try_into()?);
    let at_first = bpf::attached(bpf::SOCK_OPS, &root)?;
    ensure!(at_first.is_empty(), "programs at the root before the test: {at_first:?}");

    let before = theirs.link("before", &root)?;
    let below = theirs.link("below", &part.path)?;
    set_rto.ok(&["install"])?;
    expect(&lab, &cable, OURS, THEIRS).context("before ours")?;
    part.inside(|| expect(&lab, &cable, OURS, THEIRS).context("below and before ours"))?;
    drop(before);
    expect(&lab, &cable, OURS, DEFAULT_RTO).context("alone at the root")?;
    part.inside(|| expect(&lab, &cable, OURS, THEIRS).context("below ours"))?;
    let later = theirs.link("later", &part.path)?;
    part.inside(|| expect(&lab, &cable, OURS, THEIRS).context("below, after ours"))?;

    let after = theirs.link("after", &root)?;
    expect(&lab, &cable, THEIRS, THEIRS).context("after ours")?;
    let status = set_rto.status()?;
    ensure!(status.json["neighbours"][0]["name"] == "after", "not listed: {status:?}");
    // Another install replaces the program but keeps its place.
    SetRto::of("a")?.ok(&["install"])?;
    set_rto.ok(&["install"])?;
    expect(&lab, &cable, THEIRS, THEIRS).context("after ours, installed again")?;
    drop(after);
    expect(&lab, &cable, OURS, DEFAULT_RTO).context("alone again")?;
    set_rto.ok(&["remove"])?;
    part.inside(|| expect(&lab, &cable, THEIRS, THEIRS).context("below, without ours"))?;
    drop((below, later));
    let at_last = bpf::attached(bpf::SOCK_OPS, &root)?;
    ensure!(at_last.is_empty(), "programs left at the root: {at_last:?}");
    Ok(())
}

/// As at boot of a small system: `install` mounts the bpffs that keeps the policy.
fn machine_without_bpffs() -> Result<()> {
    let set_rto = SetRto::of("default")?;
    let (lab, cable) = Lab::with_cable()?;
    mounts::unmount_all("bpf")?;
    ensure!(set_rto.status()?.code == 3, "not `not installed`: {:?}", set_rto.status()?);
    set_rto.ok(&["install"])?;
    let mounted = mounts::of_type("bpf")?;
    ensure!(mounted == [Path::new(mounts::BPFFS)], "bpffs is mounted at {mounted:?}");
    expect(&lab, &cable, OURS, DEFAULT_RTO)?;
    ensure!(set_rto.status()?.code == 0, "not installed: {:?}", set_rto.status()?);
    set_rto.ok(&["remove"])?;
    expect(&lab, &cable, DEFAULT_RTO, DEFAULT_RTO).context("after remove")
}

/// As a service with minimal privileges: it installs, replaces and removes a policy at the root.
///
/// Before 5.11, BPF memory counts as locked memory, with a default limit of 64 KiB. Large tables need a higher limit.
fn machine_with_few_capabilities() -> Result<()> {
    let (lab, cable) = Lab::with_cable()?;
    let few = |rules: &str, more: &[Capability]| {
        let kept = [&[CAP_BPF, CAP_NET_ADMIN], more].concat();
        SetRto::of(rules)?.restricted(Restriction::Only(kept))
    };
    let (default, tables) = (few("default", &[])?, few("conditions", &[CAP_PERFMON])?);
    if kernel_version()? < (5, 11) {
        const DEFAULT: u64 = 64 << 10;
        setrlimit(Resource::RLIMIT_MEMLOCK, DEFAULT, DEFAULT)?;
        let refusal = few("large", &[CAP_PERFMON])?.run(&["install"])?;
        refusal.exits(2)?;
        refusal.says(&["hint: ", "ulimit -l"])?;
        expect(&lab, &cable, DEFAULT_RTO, DEFAULT_RTO).context("after a refusal")?;
        // Set the limit as a service manager does for a unit with LimitMEMLOCK.
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    }
    default.ok(&["install"])?;
    expect(&lab, &cable, OURS, DEFAULT_RTO)?;
    tables.ok(&["install"])?;
    default.ok(&["install"])?;
    expect(&lab, &cable, OURS, DEFAULT_RTO).context("installed again")?;
    default.ok(&["remove"])?;
    expect(&lab, &cable, DEFAULT_RTO, DEFAULT_RTO).context("after remove")
}
