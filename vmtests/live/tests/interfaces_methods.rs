//! The two methods of finding devices, by route and by local address: the output about them, and changes of devices,
//! routes and addresses.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::policy::Policy;
use super::policy::Rule;
use super::policy::end;
use super::support::expect_armed;
use super::support::need_ipv6;
use crate::harness::Skip;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Lab;
use crate::harness::mounts;
use crate::harness::neighbour::Replies;
use crate::harness::netns::Namespace;
use crate::harness::restrict::CAP_BPF;
use crate::harness::restrict::CAP_NET_ADMIN;
use crate::harness::restrict::Restriction;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;
use crate::harness::sandbox;
use crate::harness::setrto::Output;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::From;
use crate::harness::sockets::Own;
use crate::harness::tests;
use crate::harness::wire::kernel_version;

pub(super) const RULES: &str = include_str!("../rules/devices.toml");
pub(super) const NAMED: Rule = Some("named");
const NAMED_RTO: Duration = Duration::from_secs(2);

tests! {
    method_is_said: 60,
    method_without_btf: 60,
    method_is_replaced: 60,
    install_again_is_silent: 60,
    address_outgoing: 60,
    address_follows_installs: 60,
    address_shared_by_devices: 60,
    address_of_another_namespace: 60,
    address_without_perfmon: 60,
    route_by_rule_and_device: 60,
    route_of_the_mark_a_rule_sets: 60,
    route_renamed: 60,
    route_gone_when_asked_again: 60,
    route_of_a_socket_connected_again: 60,
}

/// Checks the method in effect.
fn in_force(set_rto: &SetRto) -> Result<String> {
    let status = set_rto.status()?;
    let method = status.json["interface_method"].as_str();
    method.map(str::to_owned).with_context(|| format!("no method in {status:?}"))
}

/// Installs with the route method; [`Skip`] if this kernel does not support it.
pub(super) fn by_route(devices: &[&str]) -> Result<Policy> {
    let policy = Policy::install("devices", RULES, devices)?;
    if in_force(&policy.set_rto)? != "route" {
        bail!(Skip::new("this kernel has no BTF, so devices are not found by route"));
    }
    Ok(policy)
}

/// Installs with the address method, whatever this kernel supports.
fn by_address(devices: &[&str]) -> Result<Policy> {
    let policy = Policy::install("devices", RULES, devices)?;
    policy.set_rto.ok(&["install", "--interface-method", "address"])?;
    ensure!(in_force(&policy.set_rto)? == "address", "not by address");
    Ok(policy)
}

fn method_is_said() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    let set_rto = &policy.set_rto;
    let method = in_force(set_rto)?;
    let words = if method == "route" { "device of the route" } else { "local address" };
    for arguments in [&["status"][..], &["check"]] {
        let said = set_rto.ok(arguments)?;
        ensure!(said.stdout.contains(words), "{arguments:?} does not say `{words}`: {said}");
    }
    let report = set_rto.ok(&["check", "--json"])?.json()?;
    let checks = report["checks"].as_array().context("no checks")?;
    let check = checks.iter().find(|check| check["name"] == "interface").context("not there")?;
    let detail = check["detail"].as_str().unwrap_or_default();
    ensure!(check["ok"] == true && detail.contains(words), "{check}");
    let why = set_rto.status()?.json["interface_why"].clone();
    ensure!(why.as_str().is_some_and(|why| why.contains(words)), "{why}");
    // Request the method in a fresh install: if it is the only one, it is already in effect.
    set_rto.ok(&["remove"])?;
    let said = set_rto.ok(&["install", "--interface-method", "address"])?;
    ensure!(said.stdout.contains("local address, asked for"), "{said}");
    set_rto.run(&["install", "--interface-method", "guess"])?.refuses(1, &["route", "address"])?;
    ensure!(in_force(set_rto)? == "address", "a wrong argument changed something");
    // A program that needs no device has no method.
    let other = SetRto::of("a")?;
    other.ok(&["install"])?;
    ensure!(other.status()?.json["interface_method"].is_null(), "{:?}", other.status()?);
    Ok(())
}

/// Simulates a kernel without BTF: the kernel's BTF file is missing.
fn method_without_btf() -> Result<()> {
    let btf = Path::new("/sys/kernel/btf");
    if btf.exists() {
        mounts::mount_fresh("tmpfs", btf)?;
    }
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    ensure!(in_force(&policy.set_rto)? == "address", "by route without BTF");
    let said = policy.set_rto.ok(&["status"])?;
    ensure!(said.stdout.contains("this kernel has no BTF"), "{said}");
    policy.outgoing(policy.cable("ax0")?.remote4(1001), NAMED)?;
    policy.outgoing(policy.cable("va")?.remote4(1001), None)?;
    let forced = policy.set_rto.run(&["install", "--interface-method", "route"])?;
    forced.refuses(2, &["route", "no BTF"])?;
    ensure!(in_force(&policy.set_rto)? == "address", "a refused install changed something");
    policy.finish()
}

fn method_is_replaced() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let (va, ax0) = (policy.cable("va")?, policy.cable("ax0")?);
    // From the other device's address, the methods give different results.
    let from = From { local: Some((va.here4(), 0).into()), device: None };
    let status = policy.set_rto.status()?;
    for (method, rto) in [("address", DEFAULT_RTO), ("route", NAMED_RTO), ("address", DEFAULT_RTO)]
    {
        policy.set_rto.ok(&["install", "--interface-method", method])?;
        ensure!(in_force(&policy.set_rto)? == method, "not by {method}");
        expect_armed(&Connection::open_from(from, ax0.remote4(1001))?, rto).context(method)?;
    }
    // An explicitly requested method applies only to that install.
    policy.set_rto.ok(&["install"])?;
    ensure!(in_force(&policy.set_rto)? == "route", "still by address");
    let link = |status: &crate::harness::setrto::Status| status.json["link_id"].clone();
    ensure!(link(&policy.set_rto.status()?) == link(&status), "another link");
    Ok(())
}

/// A hotplug script runs it on each event.
fn install_again_is_silent() -> Result<()> {
    let mut policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    for method in ["address", "route"] {
        if policy.set_rto.run(&["install", "--interface-method", method])?.code != Some(0) {
            continue;
        }
        let again = ["install", "--interface-method", method];
        let said = |policy: &Policy| policy.set_rto.ok(&again);
        // The message that the policy is already installed is not a result.
        let is_silent = |said: &Output| said.stdout.is_empty();
        // The link-local address of a device appears some time after the device.
        let settles = |policy: &Policy| -> Result<()> {
            let end = Instant::now() + Duration::from_secs(3);
            while !is_silent(&said(policy)?) {
                ensure!(Instant::now() < end, "by {method}: something changes on and on");
            }
            Ok(())
        };
        settles(&policy)?;
        for _ in 0..2 {
            let said = said(&policy)?;
            ensure!(is_silent(&said), "by {method}: {said}");
        }
        // The kernel has already accepted this program, so it is not probed again with a connection.
        if let Ok(apart) = policy.set_rto.restricted(Restriction::NoConnect) {
            let said = apart.ok(&again)?;
            ensure!(is_silent(&said), "by {method}: {said}");
        }
        let quiet = policy.set_rto.ok(&["install", "--interface-method", method, "--quiet"])?;
        ensure!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "by {method}: {quiet}");
        policy.lay(if method == "route" { "rad8" } else { "rad9" })?;
        let told = said(&policy)?;
        ensure!(told.stdout.contains("read again"), "by {method}: {told}");
        settles(&policy)?;
        let said = said(&policy)?;
        ensure!(is_silent(&said), "by {method}: {said}");
    }
    Ok(())
}

fn address_outgoing() -> Result<()> {
    let policy = by_address(&["va", "ax0"])?;
    for (name, rule) in [("ax0", NAMED), ("va", None)] {
        let cable = policy.cable(name)?;
        policy.outgoing(cable.remote4(1001), rule)?;
        policy.outgoing(cable.remote6(1001), rule)?;
        policy.outgoing(end(&format!("[::ffff:{}]:1001", cable.remote4(0).ip()))?, rule)?;
        if crate::harness::netns::has_ipv6() {
            policy.outgoing(cable.remote_local(1001)?, rule)?;
        }
    }
    // Several addresses on one device.
    let more: SocketAddr = "10.88.0.1:0".parse()?;
    rtnetlink::add_address("ax0", Prefix { address: more.ip(), length: 32 })?;
    policy.set_rto.ok(&["install", "--interface-method", "address"])?;
    let ax0 = policy.cable("ax0")?;
    let from = From { local: Some(more), device: None };
    policy.outgoing_from(from, ax0.remote4(1001), NAMED)?;
    // A socket's bound device is known without an address.
    let va = policy.cable("va")?;
    let bound = From { local: Some((va.here4(), 0).into()), device: Some("ax0") };
    policy.outgoing_from(bound, ax0.remote4(1001), NAMED)?;
    // Connections within the host.
    policy.outgoing("127.0.0.1:1001".parse::<SocketAddr>()?, None)?;
    policy.finish()
}

/// Devices and addresses are those of the last install.
fn address_follows_installs() -> Result<()> {
    const AGAIN: [&str; 3] = ["install", "--interface-method", "address"];
    let mut policy = Policy::install("devices", RULES, &["va"])?;
    // If there is no other method, this one is already in effect, and the message is not printed again.
    policy.set_rto.ok(&["remove"])?;
    let said = policy.set_rto.ok(&AGAIN)?;
    said.says(&["interface `ax0` is missing"])?;
    ensure!(!said.stderr.contains("`va`"), "`va` is there: {said}");
    policy.lay("ax0")?;
    let remote = policy.cable("ax0")?.remote4(1001);
    policy.outgoing(remote, None)?;
    policy.set_rto.ok(&AGAIN)?;
    policy.outgoing(remote, NAMED)?;
    rtnetlink::rename("ax0", "ax1")?;
    policy.set_rto.ok(&AGAIN)?.says(&["interface `ax0` is missing"])?;
    policy.outgoing_from(
        From { local: Some("10.20.2.1:0".parse()?), device: None },
        policy.cable("va")?.remote4(1001),
        None,
    )?;
    rtnetlink::rename("ax1", "ax0")?;
    policy.set_rto.ok(&AGAIN)?;
    policy.outgoing_from(
        From { local: Some("10.20.2.1:0".parse()?), device: None },
        policy.cable("va")?.remote4(1001),
        NAMED,
    )?;
    // A device that is down has no IPv6 address either.
    let here = policy.cable("ax0")?.here4();
    rtnetlink::set_down("ax0")?;
    rtnetlink::remove_address("ax0", Prefix { address: here, length: 24 })?;
    policy.set_rto.ok(&AGAIN)?.says(&["interface `ax0` has no address"])?;
    policy.finish()
}

fn address_shared_by_devices() -> Result<()> {
    let policy = by_address(&["va", "ax0"])?;
    let shared: SocketAddr = "10.88.0.1:0".parse()?;
    for name in ["va", "ax0"] {
        rtnetlink::add_address(name, Prefix { address: shared.ip(), length: 32 })?;
    }
    policy.set_rto.ok(&["remove"])?;
    let said = policy.set_rto.ok(&["install", "--interface-method", "address"])?;
    said.says(&["10.88.0.1 is an address of several interfaces"])?;
    let from = From { local: Some(shared), device: None };
    policy.outgoing_from(from, policy.cable("ax0")?.remote4(1001), None)?;
    policy.outgoing(policy.cable("ax0")?.remote4(1001), NAMED)?;
    // Addresses of one device only, then of both again. Stale entries must not remain.
    let prefix = Prefix { address: shared.ip(), length: 32 };
    rtnetlink::remove_address("va", prefix)?;
    policy.set_rto.ok(&["install", "--interface-method", "address"])?;
    policy.outgoing_from(from, policy.cable("ax0")?.remote4(1001), NAMED)?;
    rtnetlink::add_address("va", prefix)?;
    policy.set_rto.ok(&["install", "--interface-method", "address"])?;
    policy.outgoing_from(from, policy.cable("ax0")?.remote4(1001), None)?;
    policy.finish()
}

/// The same names and addresses in a container do not match if the kernel can tell network namespaces apart.
fn address_of_another_namespace() -> Result<()> {
    let policy = by_address(&["ax0"])?;
    let silent = policy.cable("ax0")?.remote4(1001);
    policy.outgoing(silent, NAMED)?;
    let other = Namespace::create()?;
    let mut lab = Lab::new()?;
    other.run(|| {
        lab.lay("ax0")?;
        // Kernels before 5.15 cannot.
        let rto = if kernel_version()? < (5, 15) { NAMED_RTO } else { DEFAULT_RTO };
        expect_armed(&Connection::open(silent)?, rto)
    })
}

/// Older kernels also verify unreachable branches as speculative paths (`sanitize_speculative_path()`,
/// kernel/bpf/verifier.c). Here these are the branches that read kernel memory. From Linux 6.7 on, `mitigations=off`
/// turns this off.
fn address_without_perfmon() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    policy.set_rto.ok(&["remove"])?;
    let few = policy.set_rto.restricted(Restriction::Only(vec![CAP_BPF, CAP_NET_ADMIN]))?;
    few.run(&["install"])?.refuses(2, &["CAP_PERFMON"])?;
    let by_address = few.run(&["install", "--interface-method", "address"])?;
    let version = kernel_version()?;
    if version < (6, 7) || version < (6, 17) && by_address.code != Some(0) {
        by_address.refuses(2, &["CAP_PERFMON"])?;
        let status = policy.set_rto.status()?;
        ensure!(status.code == 3, "installed all the same");
        return Ok(());
    }
    by_address.exits(0)?;
    policy.outgoing(policy.cable("ax0")?.remote4(1001), NAMED)?;
    policy.outgoing(policy.cable("va")?.remote4(1001), None)?;
    policy.finish()
}

/// Other inputs to the route: the socket's mark, or its bound device.
fn route_by_rule_and_device() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let (va, ax0) = (policy.cable("va")?, policy.cable("ax0")?);
    let gateway = "10.20.2.254".parse()?;
    let remote = va.remote4(1001);
    rtnetlink::add_route_in(100, Prefix { address: remote.ip(), length: 32 }, gateway, "ax0")?;
    rtnetlink::route_by_mark(7, 100)?;
    policy.outgoing(remote, None)?;
    let marked = Connection::open_with(Own { mark: 7, ..Own::default() }, remote)?;
    expect_armed(&marked, NAMED_RTO).context("marked")?;
    // Also from an address of the other device.
    let bound = From { local: Some((va.here4(), 0).into()), device: Some("ax0") };
    expect_armed(&Connection::open_from(bound, ax0.remote4(1001))?, NAMED_RTO)?;
    Ok(())
}

/// The mark that a rule sets moves the connection to another device. The rule still decides it, exactly once.
fn route_of_the_mark_a_rule_sets() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let remote = policy.cable("va")?.remote4(2001);
    let gateway = "10.20.2.254".parse()?;
    rtnetlink::add_route_in(100, Prefix { address: remote.ip(), length: 32 }, gateway, "ax0")?;
    rtnetlink::route_by_mark(7, 100)?;
    policy.outgoing(remote, Some("marked"))?;
    policy.finish()
}

fn route_renamed() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let (va, ax0) = (policy.cable("va")?.remote4(1001), policy.cable("ax0")?.remote4(1001));
    policy.outgoing(ax0, NAMED)?;
    rtnetlink::set_down("ax0")?;
    rtnetlink::rename("ax0", "ax1")?;
    policy.cable("va")?.rename("ax0")?;
    policy.outgoing(va, NAMED)?;
    policy.finish()
}

/// The kernel calls the hook again at each retransmission of the SYN. For an IPv6 connection it has dropped the route
/// by then.
fn route_gone_when_asked_again() -> Result<()> {
    need_ipv6()?;
    let policy = by_route(&["va", "ax0"])?;
    let replies = Replies::attach(&sandbox::cgroup()?)?;
    // By its local address, it would belong to the other device.
    let from = From { local: Some((policy.cable("va")?.here6(), 0).into()), device: None };
    let connection = Connection::open_from(from, policy.cable("ax0")?.remote6(1001))?;
    expect_armed(&connection, NAMED_RTO)?;
    // The kernel drops the route before the second retransmission: tcp_write_timeout(), net/ipv4/tcp_timer.c.
    let limit = Instant::now() + Duration::from_secs(12);
    while connection.retransmits()? < 2 {
        ensure!(Instant::now() < limit, "the SYN is not repeated");
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_millis(200));
    let (asked, answered) = replies.read()?;
    ensure!(asked > 1, "asked {asked} times only");
    ensure!(answered == asked, "asked {asked} times, answered {answered} times");
    ensure!(policy.set_rto.status()?.hits("named")? == 1, "counted again");
    Ok(())
}

/// The result for a socket's first connection is not reused for its second one.
fn route_of_a_socket_connected_again() -> Result<()> {
    let policy = by_route(&["va", "ax0"])?;
    let (va, ax0) = (policy.cable("va")?.remote4(1001), policy.cable("ax0")?.remote4(1001));
    for (first, second, rto) in [(va, ax0, NAMED_RTO), (ax0, va, DEFAULT_RTO)] {
        let connection = Connection::open(first)?;
        connection.open_again(second)?;
        expect_armed(&connection, rto).with_context(|| format!("{first}, then {second}"))?;
    }
    Ok(())
}
