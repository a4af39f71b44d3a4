//! install: once, again, over other rules, with any pin, and concurrently.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::state::A;
use super::state::B;
use super::state::PIN;
use super::state::attached;
use super::state::expect_timer;
use super::support::expect_armed;
use crate::harness::cgroup;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Lab;
use crate::harness::note;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::setrto::Status;
use crate::harness::sockets::Connection;
use crate::harness::tests;

tests! {
    default_rules_give_twenty_seconds: 60,
    install_twice_keeps_the_hits: 60,
    install_outlives_its_process: 60,
    install_other_rules_swaps_in_the_live_link: 60,
    install_into_new_directories: 60,
    install_on_a_chosen_cgroup: 60,
    install_under_load_never_shows_the_default: 180,
    install_by_many_at_once: 120,
    install_after_the_cgroup_is_gone: 60,
    install_is_quick: 120,
}

/// The smallest rule: one port.
fn default_rules_give_twenty_seconds() -> Result<()> {
    let set_rto = SetRto::of("default")?;
    let (_lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let rto = Duration::from_secs(20);
    expect_armed(&Connection::open(cable.remote4(12345))?, rto)?;
    let said = set_rto.try_to(cable.remote4(12345))?;
    ensure!(said.contains("first retransmit timer 20 s ("), "`try` says `{said}`");
    let said = set_rto.try_to(cable.remote4(12346))?;
    ensure!(said.contains("first retransmit timer 1 s ("), "`try` says `{said}`");
    Ok(())
}

fn install_twice_keeps_the_hits() -> Result<()> {
    let a = SetRto::of("a")?;
    let (_lab, cable) = Lab::with_cable()?;
    let first = a.ok(&["install"])?;
    // Except for the cgroup namespace of the test.
    let is_container = |line: &str| line.contains("the root of a container");
    ensure!(
        first.stderr.lines().all(is_container),
        "a first install has nothing to remark: {first}"
    );
    for _ in 0..3 {
        expect_timer(&cable, A)?;
    }
    let before = a.status()?;
    a.ok(&["install"])?.says(&["set-rto: ", "already"])?;
    let after = a.status()?;
    ensure!(after.hits("a")? == 3, "the hits are lost: {after:?}");
    for key in ["program_id", "link_id"] {
        ensure!(before.json[key] == after.json[key], "{key} changed: {before:?} {after:?}");
    }
    ensure!(attached()?.len() == 1, "{:?} are attached", attached()?);
    Ok(())
}

/// No set-rto process is left after an install, and the policy persists without one. This also applies if the process
/// is killed at that moment.
fn install_outlives_its_process() -> Result<()> {
    let a = SetRto::of("a")?;
    let (_lab, cable) = Lab::with_cable()?;
    a.ok(&["install"])?;
    let cgroup = sandbox::cgroup()?.join("cgroup.procs");
    let running = std::fs::read_to_string(cgroup)?;
    // A parent outside this PID namespace reads as 0 here.
    let count = running.lines().filter(|pid| *pid != "0").count();
    ensure!(count == 1, "processes beside the test: {running}");
    expect_timer(&cable, A)?;
    a.ok(&["remove"])?;

    // Kill it as soon as the pin exists.
    let mut child = a.command(&["install"]).spawn()?;
    let end = Instant::now() + Duration::from_secs(5);
    while !Path::new(PIN).join("link").exists() {
        ensure!(Instant::now() < end, "no pin after five seconds");
    }
    child.kill()?;
    let status = child.wait()?;
    ensure!(status.signal().is_some() || status.success(), "the install ended with {status}");
    expect_timer(&cable, A)?;
    ensure!(a.status()?.code == 0, "not installed: {:?}", a.status()?);
    Ok(())
}

fn install_other_rules_swaps_in_the_live_link() -> Result<()> {
    let (a, b) = (SetRto::of("a")?, SetRto::of("b")?);
    let (_lab, cable) = Lab::with_cable()?;
    a.ok(&["install"])?;
    expect_timer(&cable, A)?;
    let before = a.status()?;
    b.ok(&["install"])?;
    expect_timer(&cable, B)?;
    let after = b.status()?;
    ensure!(before.json["link_id"] == after.json["link_id"], "another link: {before:?} {after:?}");
    ensure!(before.json["program_id"] != after.json["program_id"], "the same program: {after:?}");
    ensure!(after.hits("b")? == 1, "hits of the new rules: {after:?}");
    ensure!(attached()?.len() == 1, "{:?} are attached", attached()?);
    Ok(())
}

fn install_into_new_directories() -> Result<()> {
    let a = SetRto::of("a")?;
    let (_lab, cable) = Lab::with_cable()?;
    for pin in ["/sys/fs/bpf/other", "/sys/fs/bpf/one/two/three"] {
        a.ok(&["install", "--pin", pin])?;
        expect_timer(&cable, A)?;
        ensure!(Path::new(pin).join("link").exists(), "nothing is pinned in {pin}");
        let status = Status::of(&a.run(&["status", "--json", "--pin", pin])?)?;
        ensure!(status.code == 0 && status.json["pin"] == pin, "not at {pin}: {status:?}");
        ensure!(a.status()?.code == 3, "also at the default pin: {:?}", a.status()?);
        a.ok(&["remove", "--pin", pin])?;
        expect_timer(&cable, DEFAULT_RTO)?;
    }
    Ok(())
}

/// `--cgroup` with a subtree. Moving the policy from there would require swapping two links atomically, so it is
/// refused.
fn install_on_a_chosen_cgroup() -> Result<()> {
    let (a, b) = (SetRto::of("a")?, SetRto::of("b")?);
    let (_lab, cable) = Lab::with_cable()?;
    let root = sandbox::cgroup()?;
    let child = root.join("part");
    std::fs::create_dir(&child)?;
    let path = child.to_str().context("a cgroup whose name is no text")?;
    a.ok(&["install", "--cgroup", path])?;
    expect_timer(&cable, DEFAULT_RTO).context("outside of the cgroup")?;
    ensure!(a.status()?.json["cgroup"] == path, "not on {path}: {:?}", a.status()?);
    std::fs::write(child.join("cgroup.procs"), "0")?;
    expect_timer(&cable, A).context("inside of the cgroup")?;
    // The rules can be changed in that cgroup, but the policy cannot move from there to the root.
    b.ok(&["install", "--cgroup", path])?;
    expect_timer(&cable, B).context("replaced inside of the cgroup")?;
    for set_rto in [&a, &b] {
        set_rto.run(&["install"])?.refuses(2, &[path, "set-rto remove"])?;
    }
    expect_timer(&cable, B).context("after a refused install on the root")?;
    ensure!(attached()?.is_empty(), "on the root: {:?}", attached()?);

    // A second policy beside it has its own pin. The root's answer comes last.
    a.ok(&["install", "--pin", "/sys/fs/bpf/second"])?;
    expect_timer(&cable, A).context("with a second policy on the root")?;
    a.ok(&["remove", "--pin", "/sys/fs/bpf/second"])?;
    expect_timer(&cable, B).context("with the first policy alone")?;
    b.ok(&["remove"])?;
    expect_timer(&cable, DEFAULT_RTO).context("after remove")?;
    std::fs::write(root.join("cgroup.procs"), "0")?;
    Ok(())
}

/// Two sets of rules are installed alternately while connections are made. Each connection gets the timer of one or
/// the other.
fn install_under_load_never_shows_the_default() -> Result<()> {
    const INSTALLS: usize = 50;
    const CONNECTIONS: usize = 2000;
    let sets = [SetRto::of("a")?, SetRto::of("b")?];
    let (_lab, cable) = Lab::with_cable()?;
    sets[0].ok(&["install"])?;
    let opened = AtomicUsize::new(0);
    let counts = thread::scope(|scope| {
        let installer = scope.spawn(|| {
            for count in 1..=INSTALLS {
                // Make some connections between any two installs, however fast those are.
                while opened.load(Ordering::Relaxed) < count * CONNECTIONS / INSTALLS {
                    thread::sleep(Duration::from_micros(100));
                }
                sets[count % 2].ok(&["install"])?;
            }
            Ok(())
        });
        let (mut of_a, mut of_b) = (0_usize, 0_usize);
        while of_a + of_b < CONNECTIONS || !installer.is_finished() {
            match Connection::open(cable.remote4(80))?.rto()? {
                A => of_a += 1,
                B => of_b += 1,
                other => bail!("connection {} has {other:?}", of_a + of_b),
            }
            opened.store(of_a + of_b, Ordering::Relaxed);
        }
        match installer.join() {
            Ok(outcome) => outcome.map(|()| (of_a, of_b)),
            Err(_) => bail!("the installing thread panicked"),
        }
    })?;
    let (of_a, of_b) = counts;
    ensure!(of_a > 100 && of_b > 100, "{of_a} connections saw one set, {of_b} the other");
    note(format!("{INSTALLS} installs; {of_a} connections with one set, {of_b} with the other"));
    Ok(())
}

/// Concurrent installs wait for each other.
fn install_by_many_at_once() -> Result<()> {
    let sets = [SetRto::of("a")?, SetRto::of("b")?];
    let (_lab, cable) = Lab::with_cable()?;
    for _ in 0..3 {
        thread::scope(|scope| {
            let installers: Vec<_> = (0..8)
                .map(|count| {
                    scope.spawn({
                        let set = &sets[count % 2];
                        move || set.ok(&["install"])
                    })
                })
                .collect();
            installers.into_iter().try_for_each(|one| match one.join() {
                Ok(outcome) => outcome.map(drop),
                Err(_) => bail!("an installing thread panicked"),
            })
        })?;
        ensure!(attached()?.len() == 1, "{:?} are attached", attached()?);
        let rto = Connection::open(cable.remote4(80))?.rto()?;
        ensure!(rto == A || rto == B, "the timer is {rto:?}");
        sets[0].ok(&["remove"])?;
        ensure!(attached()?.is_empty(), "{:?} are attached after remove", attached()?);
    }
    Ok(())
}

/// A link to a removed cgroup is no longer a policy.
fn install_after_the_cgroup_is_gone() -> Result<()> {
    let a = SetRto::of("a")?;
    let (_lab, cable) = Lab::with_cable()?;
    let child = sandbox::cgroup()?.join("gone");
    std::fs::create_dir(&child)?;
    a.ok(&["install", "--cgroup", child.to_str().context("no text")?])?;
    cgroup::remove_empty(&child)?;
    // The kernel detaches the program from a work queue.
    let end = Instant::now() + Duration::from_secs(5);
    while a.status()?.code == 0 {
        ensure!(Instant::now() < end, "installed on a cgroup that is gone: {:?}", a.status()?);
        thread::sleep(Duration::from_millis(10));
    }
    ensure!(a.status()?.code == 3, "expected not installed: {:?}", a.status()?);
    a.ok(&["install"])?;
    expect_timer(&cable, A)?;
    ensure!(a.status()?.code == 0, "not installed: {:?}", a.status()?);
    Ok(())
}

/// A time limit well above any noise. On an emulated machine it is relative to the time of starting any process.
fn install_is_quick() -> Result<()> {
    const ROUNDS: usize = 21;
    let (default, a) = (SetRto::of("default")?, SetRto::of("a")?);
    let timed = |set_rto: &SetRto, argument: &str| {
        let start = Instant::now();
        set_rto.ok(&[argument]).map(|_| start.elapsed())
    };
    let (mut fresh, mut replaced, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        fresh.push(timed(&default, "install")?);
        replaced.push(timed(&a, "install")?);
        nothing.push(timed(&a, "--version")?);
        a.ok(&["remove"])?;
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[ROUNDS / 2]
    };
    let bound = Duration::from_millis(100).max(40 * median(&mut nothing));
    for (what, times) in [("install", &mut fresh), ("install over another", &mut replaced)] {
        let median = median(times);
        note(format!("{what}: median {median:.1?} of {ROUNDS}, worst {:.1?}", times[ROUNDS - 1]));
        ensure!(median < bound, "{what} takes {median:?}, over {bound:?}");
    }
    Ok(())
}
