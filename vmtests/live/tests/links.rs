//! All kinds of devices: which name counts, with each method that this kernel supports.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::interfaces_methods::NAMED;
use super::interfaces_methods::RULES;
use super::policy::Policy;
use super::policy::Rule;
use super::policy::end;
use super::support::far_port;
use crate::harness::Skip;
use crate::harness::lab::Cable;
use crate::harness::lab::Over;
use crate::harness::links;
use crate::harness::mounts;
use crate::harness::netns::has_ipv6;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;
use crate::harness::sockets::From;
use crate::harness::tests;

tests! {
    link_vlan: 120,
    link_bridge: 120,
    link_bond: 120,
    link_macvlan: 120,
    link_vrf: 120,
    link_vrfs_with_equal_addresses: 60,
    link_tun: 60,
    link_ipip: 60,
    link_dummy: 60,
    link_without_address: 60,
    link_chosen_by_source: 60,
    link_in_another_is_noted: 180,
}

/// A network whose default route uses `va`, plus additional links.
fn network() -> Result<Policy> {
    Policy::install("devices", RULES, &["va"])
}

/// Installs with each method that this kernel supports, runs the probes, and checks the hit counters.
fn by_each(policy: &Policy, probe: impl Fn(&Policy, &str) -> Result<()>) -> Result<()> {
    for method in ["route", "address"] {
        // A fresh install resets the counters, even if the method is the same.
        policy.set_rto.ok(&["remove"])?;
        if policy.set_rto.run(&["install", "--interface-method", method])?.code == Some(0) {
            probe(policy, method).and_then(|()| policy.finish_round()).context(method)?;
        } else {
            ensure!(method == "route", "the address method works on every kernel");
        }
    }
    Ok(())
}

/// Outgoing and incoming connections over a cable, with unbound sockets and with sockets that are bound to its
/// device.
fn both_ways(policy: &Policy, cable: &Cable, rule: Rule) -> Result<()> {
    let name = cable.name.as_str();
    policy.outgoing(cable.remote4(1001), rule)?;
    policy.outgoing(cable.remote6(1001), rule)?;
    policy.outgoing(end(&format!("[::ffff:{}]:1001", cable.remote4(0).ip()))?, rule)?;
    let from = From { local: None, device: Some(name) };
    policy.outgoing_from(from, cable.remote4(1001), rule)?;
    let (here4, here6) = ((cable.here4(), 1001).into(), (cable.here6(), 1001).into());
    let far = |end: SocketAddr| SocketAddr::new(end.ip(), far_port());
    for bound in [None, Some(name)] {
        let (four, six) = (far(cable.remote4(0)), far(cable.remote6(0)));
        policy.incoming_at((end("0.0.0.0:1001")?, bound), name, four, here4, rule)?;
        policy.incoming_at((end("[::]:1001")?, bound), name, six, here6, rule)?;
        if has_ipv6() {
            policy.incoming_at((end("[::]:1001")?, bound), name, far(four), here4, rule)?;
        }
    }
    Ok(())
}

/// The device on top of a network card counts and has the addresses. The card itself does not count.
fn the_upper_counts(over: Over<'_>) -> Result<()> {
    let mut policy = network()?;
    policy.lay_by(|lab| lab.lay_under("ax0", "low0", &over))?;
    // The member device has the name, which has no effect. The name of the upper device stays free.
    let before = policy.cable("ax0")?.clone();
    by_each(&policy, |policy, _| both_ways(policy, &before, NAMED))?;
    rtnetlink::delete_link("ax0")?;
    rtnetlink::delete_link_if_there("low0")?;
    policy.lay_by(|lab| lab.lay_under("up0", "ax0", &over))?;
    let after = policy.cable("up0")?.clone();
    by_each(&policy, |policy, _| {
        both_ways(policy, &after, None)?;
        // At least one connection must match a rule, or the policy is not in effect.
        policy.outgoing(policy.cable("va")?.remote4(2001), Some("marked"))
    })
}

fn link_vlan() -> Result<()> {
    the_upper_counts(Over::Vlan(5))
}

fn link_bridge() -> Result<()> {
    the_upper_counts(Over::Bridge)
}

fn link_bond() -> Result<()> {
    the_upper_counts(Over::Bond)
}

fn link_macvlan() -> Result<()> {
    the_upper_counts(Over::Macvlan)
}

/// Connections of a socket that is bound to a VRF. They use the device in the VRF.
fn within(policy: &Policy, cable: &Cable, vrf: &str, rule: Rule) -> Result<()> {
    let from = From { local: None, device: Some(vrf) };
    policy.outgoing_from(from, cable.remote4(1001), rule)?;
    policy.outgoing_from(from, cable.remote6(1001), rule)?;
    let far = |end: SocketAddr| SocketAddr::new(end.ip(), far_port());
    let (here4, here6) = ((cable.here4(), 1001).into(), (cable.here6(), 1001).into());
    let (four, six) = (far(cable.remote4(0)), far(cable.remote6(0)));
    policy.incoming_at((end("0.0.0.0:1001")?, Some(vrf)), &cable.name, four, here4, rule)?;
    policy.incoming_at((end("[::]:1001")?, Some(vrf)), &cable.name, six, here6, rule)?;
    if has_ipv6() {
        policy.incoming_at((end("[::]:1001")?, Some(vrf)), &cable.name, far(four), here4, rule)?;
    }
    Ok(())
}

/// The device in a VRF counts, since packets leave through it.
fn link_vrf() -> Result<()> {
    let mut policy = network()?;
    policy.lay_by(|lab| lab.lay_under("ax0", "ax0", &Over::Vrf("red", 100)))?;
    let member = policy.cable("ax0")?.clone();
    by_each(&policy, |policy, _| within(policy, &member, "red", NAMED))?;
    rtnetlink::delete_link("ax0")?;
    rtnetlink::delete_link("red")?;
    policy.lay_by(|lab| lab.lay_under("low0", "low0", &Over::Vrf("ax0", 101)))?;
    let member = policy.cable("low0")?.clone();
    by_each(&policy, |policy, _| {
        within(policy, &member, "ax0", None)?;
        policy.outgoing(policy.cable("va")?.remote4(2001), Some("marked"))
    })?;
    // An address of the VRF device itself.
    let own = "10.88.0.1:1001".parse::<SocketAddr>()?;
    rtnetlink::add_address("ax0", Prefix { address: own.ip(), length: 32 })?;
    by_each(&policy, |policy, method| {
        let rule = if method == "route" { None } else { NAMED };
        let from = From { local: Some((own.ip(), 0).into()), device: Some("ax0") };
        policy.outgoing_from(from, member.remote4(1001), rule)?;
        let far = member.remote4(far_port());
        policy.incoming_at((end("0.0.0.0:1001")?, Some("ax0")), "low0", far, own, NAMED)
    })
}

/// If devices in several VRFs share a local address, only the SYN's path identifies the device.
fn link_vrfs_with_equal_addresses() -> Result<()> {
    let mut policy = network()?;
    policy.lay_by(|lab| lab.lay_under("ax0", "ax0", &Over::Vrf("red", 100)))?;
    policy.lay_by(|lab| lab.lay_under("low0", "low0", &Over::Vrf("blue", 101)))?;
    let (red, blue) = (policy.cable("ax0")?.clone(), policy.cable("low0")?.clone());
    let shared = red.here4();
    rtnetlink::add_address("low0", Prefix { address: shared, length: 32 })?;
    by_each(&policy, |policy, method| {
        let rule = if method == "route" { NAMED } else { None };
        let from = |vrf| From { local: Some((shared, 0).into()), device: Some(vrf) };
        policy.outgoing_from(from("red"), red.remote4(1001), rule)?;
        policy.outgoing_from(from("blue"), blue.remote4(1001), None)?;
        policy.outgoing(policy.cable("va")?.remote4(2001), Some("marked"))
    })
}

fn link_tun() -> Result<()> {
    let mut policy = network()?;
    let mut other = None;
    policy.lay_by(|lab| {
        let (cable, end) = lab.lay_tun("ax0")?;
        other = Some(end);
        Ok(cable)
    })?;
    let (cable, other) = (policy.cable("ax0")?.clone(), other.context("no tun")?);
    by_each(&policy, |policy, _| {
        policy.outgoing(cable.remote4(1001), NAMED)?;
        policy.outgoing(cable.remote6(1001), NAMED)?;
        let put = |packet: &[u8]| Ok((&other).write_all(packet)?);
        let (four, six) = (cable.remote4(far_port()), cable.remote6(far_port()));
        let (here4, here6) = ((cable.here4(), 1001).into(), (cable.here6(), 1001).into());
        policy.incoming_by((end("0.0.0.0:1001")?, None), (four, here4), NAMED, put)?;
        policy.incoming_by((end("[::]:1001")?, None), (six, here6), NAMED, put)
    })
}

/// The tunnel device counts, not the device under it.
fn link_ipip() -> Result<()> {
    let mut policy = Policy::install("devices", RULES, &["va", "wire"])?;
    let under = policy.cable("wire")?.clone();
    policy.lay_by(|lab| lab.lay_ipip("ax0", &under))?;
    let cable = policy.cable("ax0")?.clone();
    by_each(&policy, |policy, _| {
        policy.outgoing(cable.remote4(1001), NAMED)?;
        policy.outgoing(under.remote4(1001), None)?;
        let ends = (cable.remote4(far_port()), (cable.here4(), 1001).into());
        let any = (end("0.0.0.0:1001")?, None);
        policy.incoming_by(any, ends, NAMED, |packet| policy.lab.send_in_ipip(&under, packet))
    })
}

/// An address on a dummy device. Its packets leave and arrive through another device.
fn link_dummy() -> Result<()> {
    let policy = network()?;
    links::add_dummy("ax0")?;
    rtnetlink::set_up("ax0")?;
    let own = "10.88.0.1:1001".parse::<SocketAddr>()?;
    rtnetlink::add_address("ax0", Prefix { address: own.ip(), length: 32 })?;
    let va = policy.cable("va")?.clone();
    by_each(&policy, |policy, method| {
        let by_address = if method == "route" { None } else { NAMED };
        let from = From { local: Some((own.ip(), 0).into()), device: None };
        policy.outgoing_from(from, va.remote4(1001), by_address)?;
        let is_told = policy.set_rto.status()?.json["arrivals"] == true;
        let incoming = if is_told { None } else { NAMED };
        let far = va.remote4(far_port());
        policy.incoming_at((end("0.0.0.0:1001")?, None), "va", far, own, incoming)?;
        policy.outgoing(va.remote4(2001), Some("marked"))
    })
}

/// An unnumbered link, which uses the address of another device.
fn link_without_address() -> Result<()> {
    let mut policy = network()?;
    policy.lay("ax0")?;
    let (va, ax0) = (policy.cable("va")?.clone(), policy.cable("ax0")?.clone());
    rtnetlink::set_down("ax0")?;
    rtnetlink::remove_address("ax0", Prefix { address: ax0.here4(), length: 24 })?;
    rtnetlink::set_up("ax0")?;
    rtnetlink::add_route_over(Prefix { address: ax0.remote4(0).ip(), length: 24 }, "ax0")?;
    by_each(&policy, |policy, method| {
        let by_route = if method == "route" { NAMED } else { None };
        let from = From { local: Some((va.here4(), 0).into()), device: None };
        policy.outgoing_from(from, ax0.remote4(1001), by_route)?;
        // The socket may name its egress device.
        let bound = From { local: Some((va.here4(), 0).into()), device: Some("ax0") };
        policy.outgoing_from(bound, ax0.remote4(1001), NAMED)
    })
}

/// `ip rule add from ADDRESS`, on a host with several default routes.
fn link_chosen_by_source() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    let (va, ax0) = (policy.cable("va")?.clone(), policy.cable("ax0")?.clone());
    rtnetlink::route_from(ax0.here4(), 100)?;
    let to = Prefix { address: "0.0.0.0".parse()?, length: 0 };
    rtnetlink::add_route_in(100, to, "10.20.2.254".parse()?, "ax0")?;
    let six = Prefix { address: "::".parse()?, length: 0 };
    if has_ipv6() {
        rtnetlink::route_from(ax0.here6(), 100)?;
        rtnetlink::add_route_in(100, six, "fd20:2::fe".parse()?, "ax0")?;
    }
    by_each(&policy, |policy, _| {
        // Without the `ip rule`, these destinations are reached through `va`.
        for remote in ["10.99.0.1:1001", "[fd99::1]:1001"] {
            let remote = end(remote)?;
            let local = |cable: &Cable| match remote.is_ipv4() {
                true => (cable.here4(), 0).into(),
                false => (cable.here6(), 0).into(),
            };
            for (cable, rule) in [(&ax0, NAMED), (&va, None)] {
                let from = From { local: Some(local(cable)), device: None };
                policy.outgoing_from(from, remote, rule)?;
            }
        }
        Ok(())
    })
}

/// A rule that names a device inside a bridge, bond or VRF gets a note with the name to use.
fn link_in_another_is_noted() -> Result<()> {
    let mut policy = network()?;
    mounts::show_devices()?;
    let in_up0 = Some("interface `ax0` is part of up0");
    let vrf = Some("interface `ax0` is a VRF: name the interfaces in it");
    let links = [
        ("up0", "ax0", Over::Bridge, in_up0),
        ("up0", "ax0", Over::Bond, in_up0),
        ("low0", "low0", Over::Vrf("ax0", 101), vrf),
        ("ax0", "ax0", Over::Vrf("red", 100), None),
        ("up0", "ax0", Over::Vlan(5), None),
    ];
    for (name, lower, over, note) in &links {
        let laid = policy.lay_by(|lab| lab.lay_under(name, lower, over));
        // Kinds that this kernel does not support have tests of their own, which report that.
        let is_there = laid
            .map(|_| true)
            .or_else(|error| if error.is::<Skip>() { Ok(false) } else { Err(error) })?;
        for method in ["route", "address"].into_iter().filter(|_| is_there) {
            // An unchanged note is not printed again.
            policy.set_rto.ok(&["remove"])?;
            let said = policy.set_rto.run(&["install", "--interface-method", method])?;
            if said.code != Some(0) {
                ensure!(method == "route", "the address method works on every kernel: {said}");
                continue;
            }
            let told = said.stderr.lines().find(|line| line.contains("name the interface"));
            let is_right = match note {
                Some(note) => told.is_some_and(|told| told.contains(note)),
                None => told.is_none(),
            };
            ensure!(is_right, "{name}, by {method}, not {note:?}: {said}");
            ensure!(!said.stderr.contains("`va`"), "nothing is the matter with `va`: {said}");
        }
        for link in ["ax0", "red", "low0", "up0"] {
            rtnetlink::delete_link_if_there(link)?;
        }
    }
    Ok(())
}
