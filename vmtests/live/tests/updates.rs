//! Related state changes together, and the output about it is correct at each moment.

use std::mem;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use nix::errno::Errno;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;

use super::state::Snapshot;
use super::sweep::Scene;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Lab;
use crate::harness::netns::Namespace;
use crate::harness::note;
use crate::harness::restrict::Restriction;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;
use crate::harness::runner::is_guest;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::From;
use crate::harness::tests;
use crate::harness::trace::Call;
use crate::harness::trace::End;
use crate::harness::trace::Verdict;
use crate::harness::trace::follow;
use crate::harness::wire::kernel_version;

tests! {
    addresses_change_as_one: 300,
    second_program_is_put_back: 300,
    status_is_true_during_replacements: 120,
    try_names_the_rule_of_its_own_connection: 120,
    without_unix_sockets_rules_keep_to_their_namespace: 60,
    namespace_whose_number_is_used_again: 120,
    thousands_of_addresses: 180,
}

/// The timer of the rule `named` in `devices.toml`, which matches `ax0`.
const NAMED_RTO: Duration = Duration::from_secs(2);

const BY_ADDRESS: [&str; 3] = ["install", "--interface-method", "address"];
const BY_ROUTE: [&str; 3] = ["install", "--interface-method", "route"];

/// Addresses that move from `ax0` to another device and back.
struct Moving {
    addresses: Vec<IpAddr>,
}

impl Moving {
    fn new(scene: &mut Scene) -> Result<Self> {
        for name in ["ax0", "bx0"] {
            scene.lab.lay(name)?;
        }
        let addresses = (1..=8).map(|host| Ipv4Addr::new(10, 50, 0, host).into()).collect();
        let moving = Moving { addresses };
        moving.all(|address| rtnetlink::add_address("ax0", address))?;
        Ok(moving)
    }

    fn all(&self, each: impl Fn(Prefix) -> Result<()>) -> Result<()> {
        let prefix = |address: &IpAddr| Prefix { address: *address, length: 32 };
        self.addresses.iter().map(prefix).try_for_each(each)
    }

    fn move_all(&self, from: &str, to: &str) -> Result<()> {
        self.all(|address| {
            rtnetlink::remove_address(from, address)?;
            rtnetlink::add_address(to, address)
        })
    }

    /// The timers of connections from each of these addresses.
    fn timers(&self, remote: SocketAddr) -> Result<Vec<Duration>> {
        let one = |address: &IpAddr| {
            let from = From { local: Some((*address, 0).into()), device: None };
            Connection::open_from(from, remote)?.rto()
        };
        self.addresses.iter().map(one).collect()
    }
}

/// An install that reads the devices again is killed between any two calls. The map has either all old addresses or
/// all new ones.
fn addresses_change_as_one() -> Result<()> {
    let mut scene = Scene::of("devices")?;
    let remote = scene.cable.remote4(81);
    let moving = Moving::new(&mut scene)?;
    let scene = &scene;
    let prepare = || {
        scene.a.ok(&BY_ADDRESS)?;
        moving.move_all("ax0", "bx0")
    };
    prepare()?;
    let mut calls = Vec::new();
    let whole = follow(scene.a.command(&BY_ADDRESS), |call| {
        calls.push(call.clone());
        Verdict::Go
    })?;
    ensure!(whole.code()? == 0, "{whole:?}");
    let timers = moving.timers(remote)?;
    ensure!(timers.iter().all(|timer| *timer == DEFAULT_RTO), "moved away: {timers:?}");
    moving.move_all("bx0", "ax0")?;
    let places: Vec<&Call> = calls.iter().filter(|call| call.number == libc::SYS_bpf).collect();
    let step = if is_guest() { (places.len() / 6).max(1) } else { 1 };
    for place in places.iter().step_by(step) {
        prepare()?;
        let run = follow(scene.a.command(&BY_ADDRESS), |call| {
            if call.at == place.at { Verdict::Kill } else { Verdict::Go }
        })?;
        let timers = moving.timers(remote)?;
        let is_one =
            [NAMED_RTO, DEFAULT_RTO].iter().any(|rto| timers.iter().all(|timer| timer == rto));
        ensure!(is_one, "killed at call {}, {}: {timers:?}, {run:?}", place.at, place.name());
        scene.a.ok(&BY_ADDRESS)?;
        let timers = moving.timers(remote)?;
        ensure!(timers.iter().all(|timer| *timer == DEFAULT_RTO), "the next one: {timers:?}");
        moving.move_all("bx0", "ax0")?;
    }
    scene.clear()
}

/// Either both programs are replaced or neither is.
fn second_program_is_put_back() -> Result<()> {
    let scene = Scene::of("devices")?;
    let old = SetRto::of("interfaces")?;
    old.ok(&["install"])?;
    let mut calls = Vec::new();
    follow(scene.a.command(&["install"]), |call| {
        calls.push(call.clone());
        Verdict::Go
    })?;
    let mut refused = 0;
    let places: Vec<&Call> = calls.iter().filter(|call| call.number == libc::SYS_bpf).collect();
    let step = if is_guest() { (places.len() / 6).max(1) } else { 1 };
    for place in places.iter().step_by(step) {
        old.ok(&["install"])?;
        let before = Snapshot::take()?;
        let run = follow(scene.a.command(&["install"]), |call| {
            if call.at == place.at { Verdict::Fail(Errno::ENOMEM) } else { Verdict::Go }
        })?;
        if run.end == End::Exited(0) {
            continue;
        }
        refused += 1;
        before
            .still_soon()
            .with_context(|| format!("call {}, {}: {run:?}", place.at, place.name()))?;
    }
    ensure!(refused > 0, "no refusal ended an install");
    old.ok(&["install"])?;
    scene.clear()
}

/// Queries while other processes replace the policy. Returns the number of queries.
fn ask_during(
    replace: impl Fn() -> Result<()> + Send + Sync,
    ask: impl Fn() -> Result<()>,
) -> Result<usize> {
    let rounds = if is_guest() { 3 } else { 20 };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let replacer = scope.spawn(|| {
            let outcome = (0..rounds).try_for_each(|_| replace());
            ended.store(true, Ordering::Relaxed);
            outcome
        });
        let mut count = 0;
        let asked = loop {
            if let Err(error) = ask() {
                break Err(error.context(format!("question {count}")));
            }
            count += 1;
            if ended.load(Ordering::Relaxed) {
                break Ok(());
            }
        };
        replacer.join().map_err(|_| anyhow!("a thread of the test panicked"))??;
        asked.map(|()| count)
    })
}

/// `status` reports one set of rules or the other, always completely.
fn status_is_true_during_replacements() -> Result<()> {
    let scene = Scene::of("devices")?;
    scene.a.ok(&["install"])?;
    let mut count = ask_during(
        || scene.b.ok(&["install"]).and_then(|_| scene.a.ok(&["install"])).map(drop),
        || {
            let status = scene.a.status()?;
            let is_known = status.json["digest"].is_string();
            ensure!([0, 4].contains(&status.code) && is_known, "{status:?}");
            Ok(())
        },
    )?;
    // The rules stay the same throughout.
    if scene.a.run(&BY_ROUTE)?.code == Some(0) {
        count += ask_during(
            || scene.a.ok(&BY_ADDRESS).and_then(|_| scene.a.ok(&BY_ROUTE)).map(drop),
            || scene.a.ok(&["status"]).map(drop),
        )?;
    }
    note(format!("asked {count} times"));
    scene.clear()
}

/// In between, another rule decides another connection.
fn try_names_the_rule_of_its_own_connection() -> Result<()> {
    let scene = Scene::of("devices")?;
    scene.a.ok(&["install"])?;
    let others = scene.cable.remote4(2001);
    let tries = if is_guest() { 5 } else { 40 };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                Connection::open(others)?;
            }
            Ok::<_, anyhow::Error>(())
        });
        let tried = (0..tries).try_for_each(|_| {
            for (port, rule) in [(80, Some("killed")), (81, None)] {
                let said = scene.a.try_to(scene.cable.remote4(port))?;
                let named = said.lines().find_map(|line| line.trim().strip_prefix("rule "));
                let named = named.map(str::trim).filter(|name| !name.is_empty());
                let is_right = match rule {
                    Some(rule) => named == Some(rule),
                    None => named.is_none_or(|name| !["marked", "killed", "named"].contains(&name)),
                };
                ensure!(is_right, "port {port} is of {rule:?}: {said}");
            }
            Ok(())
        });
        ended.store(true, Ordering::Relaxed);
        busy.join().map_err(|_| anyhow!("a thread of the test panicked"))??;
        tried
    })?;
    scene.clear()
}

/// A service sandbox without AF_UNIX: the number of the namespace is found by other means, or the install is refused.
fn without_unix_sockets_rules_keep_to_their_namespace() -> Result<()> {
    let a = SetRto::of("devices")?;
    let mut near = Lab::new()?;
    let cable = near.lay("ax0")?;
    let installed = a.restricted(Restriction::NoUnixSockets)?.run(&BY_ADDRESS)?;
    if installed.ends_well()? != 0 {
        installed.refuses(2, &["AF_UNIX"])?;
        return Ok(());
    }
    let silent = cable.remote4(1001);
    let rto = Connection::open(silent)?.rto()?;
    ensure!(rto == NAMED_RTO, "{rto:?}: {installed}");
    let other = Namespace::create()?;
    let mut far = Lab::new()?;
    let rto = other.run(|| {
        far.lay("ax0")?;
        Connection::open(silent)?.rto()
    })?;
    let expected = of_another_namespace(NAMED_RTO)?;
    ensure!(rto == expected, "{rto:?} in another namespace");
    a.ok(&["remove"])?;
    Ok(())
}

/// The timer of a connection in another namespace if a connection in this one gets `rto`. Before Linux 5.15 programs
/// cannot read which namespace they are in.
fn of_another_namespace(rto: Duration) -> Result<Duration> {
    Ok(if kernel_version()? < (5, 15) { rto } else { DEFAULT_RTO })
}

fn number() -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// A namespace ends and the next one reuses its number. The rules do not apply to the next one.
fn namespace_whose_number_is_used_again() -> Result<()> {
    let a = SetRto::of("devices")?;
    for method in [BY_ROUTE, BY_ADDRESS] {
        let first = Namespace::create()?;
        let known = first.run(|| {
            let mut lab = Lab::new()?;
            let cable = lab.lay("ax0")?;
            if a.run(&method)?.code != Some(0) {
                return Ok(None);
            }
            let rto = Connection::open(cable.remote4(1001))?.rto()?;
            ensure!(rto == NAMED_RTO, "{method:?}: the timer is {rto:?}");
            Ok(Some(number()?))
        })?;
        drop(first);
        let Some(known) = known else { continue };
        let end = Instant::now() + Duration::from_secs(20);
        let mut kept = Vec::new();
        let second = loop {
            let next = Namespace::create()?;
            if next.run(number)? == known {
                break Some(next);
            }
            if Instant::now() > end {
                break None;
            }
            kept.push(next);
            sleep(Duration::from_millis(50));
        };
        let Some(second) = second else {
            note("no namespace got the number of one that had ended");
            continue;
        };
        let rto = second.run(|| {
            let mut lab = Lab::new()?;
            let cable = lab.lay("ax0")?;
            Connection::open(cable.remote4(1001))?.rto()
        })?;
        let expected = of_another_namespace(NAMED_RTO)?;
        ensure!(rto == expected, "{method:?}: {rto:?} in the next namespace of that number");
        a.ok(&["remove"])?;
    }
    Ok(())
}

/// The CPU time of this process's children.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::new(time.tv_sec().try_into()?, time.tv_usec() as u32 * 1000))
}

/// On a relay or a host of many containers, the time of an install grows linearly with their number, not
/// quadratically.
fn thousands_of_addresses() -> Result<()> {
    const DEVICES: u8 = 8;
    let each: u16 = if is_guest() { 250 } else { 4000 };
    let mut scene = Scene::of("devices")?;
    for device in 0..DEVICES {
        let name = format!("many{device}");
        scene.lab.lay(&name)?;
        for host in 0..each {
            let [high, low] = host.to_be_bytes();
            let address = Ipv4Addr::new(10, 100 + device, high, low).into();
            rtnetlink::add_address(&name, Prefix { address, length: 32 })?;
        }
    }
    let mut before = processor_time()?;
    let mut took = || {
        scene.a.ok(&BY_ADDRESS)?;
        let now = processor_time()?;
        Ok::<_, anyhow::Error>(now - mem::replace(&mut before, now))
    };
    let (first, again) = (took()?, took()?);
    let count = u32::from(each) * u32::from(DEVICES);
    note(format!("{count} addresses: install takes {first:.0?} of a processor, again {again:.0?}"));
    // The time in an emulated guest is not comparable.
    let is_quick = first.max(again) < Duration::from_millis(1500);
    ensure!(is_quick || is_guest(), "{count} addresses: {first:?}, again {again:?}");
    scene.clear()
}
