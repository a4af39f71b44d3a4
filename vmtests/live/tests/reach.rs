//! What `install`, `status` and `try` say about where a policy applies: its cgroup, its network namespace, its bpffs,
//! the interface of a connection, other programs on the hook, and the kernel's ticks.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sched::CloneFlags;
use nix::sched::unshare;

use super::interfaces_methods::by_route;
use super::state::A;
use super::state::Snapshot;
use super::sweep::Scene;
use crate::harness::clock::Hz;
use crate::harness::lab::Lab;
use crate::harness::mounts;
use crate::harness::neighbour::Neighbour;
use crate::harness::netns::Namespace;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    route_notes_a_missing_interface: 60,
    try_shows_the_interface_of_the_route: 60,
    try_shows_the_interface_of_the_route_by_ipv6: 60,
    status_in_another_network_namespace: 60,
    install_in_another_network_namespace: 60,
    neighbours_are_listed_in_order: 60,
    try_finds_a_neighbour_that_cancels: 60,
    try_finds_no_neighbour_that_is_silent: 60,
    container_is_named: 60,
    private_bpffs_is_refused: 60,
    rounding_is_noted: 60,
}

const CONTAINER: &str = "root of a container";
const OTHER: &str = "network namespace";

fn route_notes_a_missing_interface() -> Result<()> {
    let policy = by_route(&["va"])?;
    policy.set_rto.ok(&["remove"])?;
    let said = policy.set_rto.ok(&["install"])?;
    said.says(&["interface `ax0` is missing"])?;
    ensure!(!said.stderr.contains("`va`"), "`va` exists: {said}");
    Ok(())
}

/// The usual layout of AMPRNet: the radio has no address of its own, and packets carry that of another interface.
fn try_shows_the_interface_of_the_route() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let here = policy.cable("ax0")?.here4();
    rtnetlink::remove_address("ax0", Prefix { address: here, length: 24 })?;
    let to = Prefix { address: "10.40.0.0".parse()?, length: 24 };
    rtnetlink::add_route_over(to, "ax0")?;
    let said = policy.set_rto.try_to("10.40.0.9:1001".parse()?)?;
    ensure!(said.contains("rule                 named"), "another rule: {said}");
    ensure!(said.contains("interface            ax0"), "another interface: {said}");
    let said = policy.set_rto.try_to(policy.cable("va")?.remote4(80))?;
    ensure!(said.contains("interface            va"), "another interface: {said}");
    ensure!(!said.contains("overrules"), "no other program is there: {said}");
    Ok(())
}

fn try_shows_the_interface_of_the_route_by_ipv6() -> Result<()> {
    super::support::need_ipv6()?;
    let policy = by_route(&["va", "ax0"])?;
    let said = policy.set_rto.try_to(policy.cable("ax0")?.remote6(1001))?;
    ensure!(said.contains("interface            ax0"), "another interface: {said}");
    Ok(())
}

fn status_in_another_network_namespace() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let said = policy.set_rto.ok(&["status"])?;
    ensure!(!said.stdout.contains(OTHER), "this is the namespace: {said}");
    let other = Namespace::create()?;
    let said = other.run(|| policy.set_rto.ok(&["status"]))?;
    ensure!(said.stdout.contains(OTHER), "it does not say where: {said}");
    ensure!(!said.stdout.contains("not attached"), "it is attached: {said}");
    let json = other.run(|| policy.set_rto.status())?.json;
    let notes = json["notes"].as_array().context("no notes")?;
    let is_said = |note: &serde_json::Value| note.as_str().is_some_and(|it| it.contains(OTHER));
    ensure!(notes.iter().any(is_said), "{json}");
    ensure!(json["installed"] == true, "{json}");
    Ok(())
}

/// It moves the policy there, and says so.
fn install_in_another_network_namespace() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let other = Namespace::create()?;
    let said = other.run(|| policy.set_rto.ok(&["install"]))?;
    said.says(&[OTHER, "now those of this one"])?;
    let said = other.run(|| policy.set_rto.ok(&["install"]))?;
    ensure!(!said.stderr.contains(OTHER), "the namespace is the same now: {said}");
    policy.set_rto.ok(&["install"])?.says(&[OTHER])
}

fn neighbours_are_listed_in_order() -> Result<()> {
    let default = SetRto::of("default")?;
    let cgroup = sandbox::cgroup()?;
    Neighbour::Silent.attach("before", &cgroup)?;
    default.ok(&["install"])?;
    Neighbour::Silent.attach("after", &cgroup)?;
    let said = default.ok(&["status"])?;
    for (name, order) in [("before", "runs before"), ("after", "runs after")] {
        let is_it = |line: &str| line.contains(&format!(" {name}, {order}"));
        ensure!(said.stdout.lines().any(is_it), "no `{name}, {order}` in {said}");
    }
    let json = default.status()?.json;
    for (at, is_after) in [(0, false), (1, true)] {
        ensure!(json["neighbours"][at]["after"] == is_after, "{at} is not {is_after}: {json}");
    }
    Ok(())
}

/// The kernel's sample programs reply -1, which stands for the kernel's own timer.
fn try_finds_a_neighbour_that_cancels() -> Result<()> {
    let default = SetRto::of("default")?;
    let (_lab, cable) = Lab::with_cable()?;
    default.ok(&["install"])?;
    Neighbour::Answers(u32::MAX).attach("cancels", &sandbox::cgroup()?)?;
    let said = default.try_to(cable.remote4(12345))?;
    ensure!(said.contains("timer 1 s"), "not cancelled: {said}");
    ensure!(said.contains("another program overrules it"), "not found: {said}");
    let said = default.try_to(cable.remote4(12346))?;
    ensure!(!said.contains("overrules"), "no rule matches: {said}");
    Ok(())
}

fn try_finds_no_neighbour_that_is_silent() -> Result<()> {
    let default = SetRto::of("default")?;
    let (_lab, cable) = Lab::with_cable()?;
    default.ok(&["install"])?;
    Neighbour::Silent.attach("silent", &sandbox::cgroup()?)?;
    let said = default.try_to(cable.remote4(12345))?;
    ensure!(!said.contains("overrules"), "nothing overrules it: {said}");
    Ok(())
}

/// The sandbox has a cgroup namespace of its own, as containers do.
fn container_is_named() -> Result<()> {
    let a = SetRto::of("a")?;
    a.ok(&["install"])?.says(&[CONTAINER])?;
    let said = a.ok(&["status"])?;
    ensure!(said.stdout.contains(CONTAINER), "not named: {said}");
    a.ok(&["remove"])?;
    // A cgroup that is asked for by name is what it is.
    let child = sandbox::cgroup()?.join("child");
    std::fs::create_dir(&child)?;
    let said = a.ok(&["install", "--cgroup", child.to_str().context("no text")?])?;
    ensure!(!said.stderr.contains(CONTAINER), "it is not a root: {said}");
    let said = a.ok(&["status"])?;
    ensure!(!said.stdout.contains(CONTAINER), "it is not a root: {said}");
    Ok(())
}

/// A bpffs that was mounted in a mount namespace of its own, as `ip netns exec NAME sh -c 'mount … && set-rto install'`
/// does: what is pinned there ends with it.
fn private_bpffs_is_refused() -> Result<()> {
    let scene = Scene::of("a")?;
    let before = Snapshot::take()?;
    for words in [&["install"][..], &["install", "--dry-run"]] {
        let mut command = scene.a.command(words);
        // SAFETY: between fork and exec, this does nothing but system calls.
        unsafe {
            command.pre_exec(|| {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
                mount(none, Path::new("/"), none, private, none)?;
                mount(Some("bpf"), mounts::BPFFS, Some("bpf"), MsFlags::empty(), none)?;
                Ok(())
            });
        }
        scene.a.finish(&mut command)?.refuses(2, &["private mount namespace", "nsenter"])?;
        before.still_soon()?;
    }
    scene.a.ok(&["install"])?;
    ensure!(scene.timer()? == A, "the timer is {:?}", scene.timer()?);
    scene.clear()
}

/// Each timer that becomes more than a tenth longer has a note.
fn rounding_is_noted() -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let settings = SetRto::of("settings")?;
    let said = settings.ok(&["install", "--partial"])?;
    for (key, ms) in [("rto_min", 40), ("delack_max", 10), ("rto_min", 2)] {
        let asked = Duration::from_millis(ms);
        let becomes = hz.duration(hz.jiffies(asked).max(2));
        let note = format!("{key} {ms} ms becomes");
        let is_coarse = becomes > asked + asked / 10;
        ensure!(said.stderr.contains(&note) == is_coarse, "`{note}`, {is_coarse}: {said}");
    }
    Ok(())
}
