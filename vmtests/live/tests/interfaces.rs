//! The condition `interface`: the route's device for outgoing packets, and the device the kernel reports for incoming
//! ones.

use std::net::SocketAddr;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::policy::Policy;
use super::policy::Rule;
use super::policy::end;
use super::policy::rto_in;
use super::support::expect_armed;
use super::support::expect_synack_timer;
use super::support::need_ipv6;
use crate::harness::Skip;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Lab;
use crate::harness::netns::Namespace;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;
use crate::harness::setrto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::From;
use crate::harness::sockets::listen;
use crate::harness::tests;

const RULES: &str = include_str!("../rules/interfaces.toml");

const NAME: Rule = Some("interface-name");
const GLOB: Rule = Some("interface-glob");
const LIST: Rule = Some("interface-list");

tests! {
    interface_outgoing: 60,
    interface_outgoing_link_local: 60,
    interface_incoming_bound_listener: 60,
    interface_incoming_link_local: 60,
    interface_incoming_by_local_address: 60,
    interface_hot_plugged: 60,
    interface_of_another_namespace: 60,
    interface_with_all_other_conditions: 60,
}

/// Runs one of these tests with another executable of the same rules.
pub(super) fn run_with(executable: &'static str, name: &str) -> Result<()> {
    setrto::substitute("interfaces", executable);
    let test = TESTS.iter().find(|test| test.name == name);
    let test = test.with_context(|| format!("no test {name}"))?;
    (test.run)()
}

/// Installs the interface rules if this kernel can run them.
fn install(devices: &[&str]) -> Result<Policy> {
    let policy = Policy::install("interfaces", RULES, devices)?;
    if policy.set_rto.status()?.json["interface_method"] != "route" {
        bail!(Skip::new("this kernel has no BTF, so devices are not found by route"));
    }
    Ok(policy)
}

fn interface_outgoing() -> Result<()> {
    const DEVICES: [&str; 12] = [
        "va",
        "ax",
        "ax0",
        "ax00",
        "ax1",
        "ra",
        "rad",
        "rad7",
        "sat1",
        "sat12",
        "amid2",
        "fifteen-letters",
    ];
    const CASES: [(&str, u16, Rule); 16] = [
        ("va", 1001, None),
        ("ax0", 1001, NAME),
        ("ax0", 1002, None),
        ("ax00", 1001, None),
        ("ax", 1001, None),
        ("rad7", 1002, GLOB),
        ("rad", 1002, GLOB),
        ("rad7", 1001, None),
        ("ra", 1002, None),
        ("va", 1002, None),
        ("ax1", 1003, LIST),
        ("sat1", 1003, LIST),
        ("sat12", 1003, None),
        ("amid2", 1003, LIST),
        ("fifteen-letters", 1003, None),
        ("fifteen-letters", 1004, Some("interface-long")),
    ];
    let policy = install(&DEVICES)?;
    for (name, port, rule) in CASES {
        let cable = policy.cable(name)?;
        policy.outgoing(cable.remote4(port), rule)?;
        policy.outgoing(cable.remote6(port), rule)?;
        policy.outgoing(end(&format!("[::ffff:{}]:{port}", cable.remote4(0).ip()))?, rule)?;
    }
    // A connection within the host uses `lo`, whatever its addresses.
    policy.outgoing((policy.cable("ax0")?.here4(), 1001), None)?;
    policy.finish()
}

fn interface_outgoing_link_local() -> Result<()> {
    need_ipv6()?;
    let policy = install(&["va", "ax0"])?;
    policy.outgoing(policy.cable("ax0")?.remote_local(1001)?, NAME)?;
    policy.outgoing(policy.cable("va")?.remote_local(1001)?, None)?;
    policy.finish()
}

fn interface_incoming_bound_listener() -> Result<()> {
    let policy = install(&["va", "ax0"])?;
    for (name, rule) in [("ax0", NAME), ("va", None)] {
        let cable = policy.cable(name)?;
        let bound = |address: &str| Ok::<_, anyhow::Error>((end(address)?, Some(name)));
        let (here4, here6) = ((cable.here4(), 1001).into(), (cable.here6(), 1001).into());
        policy.incoming_at(bound("0.0.0.0:1001")?, name, cable.remote4(4000), here4, rule)?;
        policy.incoming_at(bound("[::]:1001")?, name, cable.remote6(4001), here6, rule)?;
        policy.incoming_at(bound("[::]:1001")?, name, cable.remote4(4002), here4, rule)?;
    }
    // The listener's device counts, not the device that has the address.
    let (va, ax0) = (policy.cable("va")?, policy.cable("ax0")?);
    for (cable, other, rule) in [(ax0, va, NAME), (va, ax0, None)] {
        let listener = (end("0.0.0.0:1001")?, Some(cable.name.as_str()));
        let here = (other.here4(), 1001).into();
        policy.incoming_at(listener, &cable.name, cable.remote4(4003), here, rule)?;
    }
    policy.finish()
}

fn interface_incoming_link_local() -> Result<()> {
    need_ipv6()?;
    let policy = install(&["va", "ax0"])?;
    for (name, rule) in [("ax0", NAME), ("va", None)] {
        let cable = policy.cable(name)?;
        let (from, to) = (cable.remote_local(4000)?, cable.here_local(1001)?);
        policy.incoming_at((end("[::]:1001")?, None), name, from, to, rule)?;
    }
    policy.finish()
}

/// A listener that is not bound to an address or device.
fn interface_incoming_by_local_address() -> Result<()> {
    let policy = install(&["va", "ax0", "rad7"])?;
    for (name, port, rule) in
        [("ax0", 1001, NAME), ("va", 1001, None), ("rad7", 1002, GLOB), ("rad7", 1001, None)]
    {
        let cable = policy.cable(name)?;
        let any = (end(&format!("[::]:{port}"))?, None);
        let four = (end(&format!("0.0.0.0:{port}"))?, None);
        let (here4, here6) = ((cable.here4(), port).into(), (cable.here6(), port).into());
        policy.incoming_at(four, name, cable.remote4(4000), here4, rule)?;
        policy.incoming_at(any, name, cable.remote6(4001), here6, rule)?;
        policy.incoming_at(any, name, cable.remote4(4002), here4, rule)?;
    }
    // This address was added later. If the kernel does not report the ingress device, the device of the address
    // counts, as of the last install.
    let address = end("10.88.0.1:1001")?;
    rtnetlink::add_address("ax0", Prefix { address: address.ip(), length: 32 })?;
    let four = (end("0.0.0.0:1001")?, None);
    let is_told = policy.set_rto.status()?.json["arrivals"] == true;
    let rule = if is_told { NAME } else { None };
    policy.incoming_at(four, "ax0", end("10.99.0.2:4003")?, address, rule)?;
    policy.set_rto.ok(&["install"])?;
    policy.incoming_at(four, "ax0", end("10.99.0.2:4004")?, address, NAME)?;
    policy.finish()
}

/// Devices that appear or reappear after the install.
fn interface_hot_plugged() -> Result<()> {
    let mut policy = install(&["va", "ax0"])?;
    policy.lay("rad9")?;
    policy.outgoing(policy.cable("rad9")?.remote4(1002), GLOB)?;
    policy.outgoing(policy.cable("rad9")?.remote6(1002), GLOB)?;
    policy.outgoing(policy.cable("rad9")?.remote4(1001), None)?;

    let before = rtnetlink::index("ax0")?;
    rtnetlink::delete_link("ax0")?;
    let mut lab = Lab::new()?;
    let again = lab.lay_again("ax0", 2)?;
    ensure!(rtnetlink::index("ax0")? != before, "the device came back under the same number");
    policy.outgoing(again.remote4(1001), NAME)?;
    policy.finish()
}

/// Names refer to devices of the network namespace in which `install` ran.
fn interface_of_another_namespace() -> Result<()> {
    let policy = install(&["ax0"])?;
    let here = policy.cable("ax0")?;
    let (silent, local) = (here.remote4(1001), SocketAddr::new(here.here4(), 1001));
    policy.outgoing(silent, NAME)?;
    let other = Namespace::create()?;
    let mut lab = Lab::new()?;
    other.run(|| {
        // The other namespace has a device with the same name, number and addresses.
        let cable = lab.lay("ax0")?;
        let far = cable.remote4(4000);
        expect_armed(&Connection::open(silent)?, DEFAULT_RTO).context("outgoing")?;
        let _bound = listen(end("0.0.0.0:1001")?, Some("ax0"))?;
        expect_synack_timer(&lab, &cable, far, local, DEFAULT_RTO).context("bound listener")?;
        drop(_bound);
        let _listener = listen(end("0.0.0.0:1001")?, None)?;
        let far = cable.remote4(4001);
        expect_synack_timer(&lab, &cable, far, local, DEFAULT_RTO).context("by local address")
    })?;
    // After an install from that namespace, the names refer to its devices.
    let rto = rto_in(RULES, "interface-name")?;
    let set_rto = policy.set_rto.clone();
    other.run(|| {
        set_rto.ok(&["install"])?;
        expect_armed(&Connection::open(silent)?, rto).context("after an install from there")
    })?;
    expect_armed(&Connection::open(silent)?, DEFAULT_RTO).context("after an install elsewhere")?;
    Ok(())
}

/// One rule with every condition. Each condition in turn fails to match.
fn interface_with_all_other_conditions() -> Result<()> {
    let policy = install(&["va", "ax0"])?;
    let everything = Some("everything");
    let from =
        |local: &str, device| Ok::<_, anyhow::Error>(From { local: Some(end(local)?), device });
    policy.outgoing_from(from("10.20.2.1:1140", None)?, end("10.30.2.1:1150")?, everything)?;
    policy.outgoing_from(
        from("10.20.2.1:1149", Some("ax0"))?,
        end("10.30.2.9:1150")?,
        everything,
    )?;
    for (local, device, remote) in [
        ("10.20.2.1:1141", Some("va"), "10.30.2.1:1150"),
        ("10.20.2.1:1139", None, "10.30.2.1:1150"),
        ("10.20.2.1:1142", None, "10.30.2.1:1151"),
        ("10.20.1.1:1143", Some("ax0"), "10.30.2.1:1150"),
        ("10.20.2.1:1144", Some("ax0"), "10.30.3.1:1150"),
    ] {
        policy.outgoing_from(from(local, device)?, end(remote)?, None)?;
    }
    // The other direction, where all other conditions match.
    let listener = (end("0.0.0.0:1145")?, Some("ax0"));
    policy.incoming_at(listener, "ax0", end("10.30.2.1:1150")?, end("10.20.2.1:1145")?, None)?;
    policy.finish()
}
