//! Connections for a rule set, most of them at the boundaries of its conditions.

use crate::random::Random;
use crate::rule::Connection;
use crate::rule::Ports;
use crate::rule::Prefix;
use crate::rule::Rule;
use crate::rule::address;
use crate::rule::number;
use crate::sets::RuleSet;
use crate::sets::Shape;

/// The same set gives the same connections.
pub(crate) fn connections(set: &RuleSet, count: usize) -> Vec<Connection> {
    let mut random = Random::of(&format!("connections of {}", set.name()));
    (0..count).map(|at| one(set, at, &mut random)).collect()
}

fn one(set: &RuleSet, at: usize, random: &mut Random) -> Connection {
    let is_v4 = match set.shape {
        Shape::List { is_v4 } | Shape::Prefixes { is_v4 } => is_v4 != random.percent(5),
        Shape::Ports | Shape::Mixed => random.percent(50),
    };
    let mut it = Connection {
        local: anywhere(is_v4, random),
        remote: anywhere(is_v4, random),
        local_port: random.next() as u16,
        remote_port: random.next() as u16,
        incoming: random.percent(50),
    };
    if random.percent(15) {
        return it;
    }
    // The first and the last rule are interesting in every set.
    let rule = match at % 50 {
        0 => 0,
        1 => set.rules.len() - 1,
        _ => random.below(set.rules.len()),
    };
    satisfy(&set.rules[rule], &mut it, random);
    if random.percent(40) {
        nudge(&set.rules[rule], &mut it, random);
    }
    it
}

/// Any address that accepts connections.
fn anywhere(is_v4: bool, random: &mut Random) -> std::net::IpAddr {
    match is_v4 {
        true => address(true, (1 + random.wide() % 222) << 24 | (random.wide() & 0xff_ffff)),
        false => address(false, 1 << 125 | random.wide() >> 3),
    }
}

/// Changes the connection to match the rule.
fn satisfy(rule: &Rule, it: &mut Connection, random: &mut Random) {
    let mut port = |ports: Ports| match random.below(4) {
        0 => ports.0,
        1 => ports.1,
        _ => ports.0 + random.below(usize::from(ports.1 - ports.0) + 1) as u16,
    };
    let either = rule.port.map(&mut port);
    if let Some(ports) = rule.local_port {
        it.local_port = port(ports);
    }
    if let Some(ports) = rule.remote_port {
        it.remote_port = port(ports);
    }
    match either {
        Some(port) if random.percent(50) => it.local_port = port,
        Some(port) => it.remote_port = port,
        None => {}
    }
    let inside = |list: &[Prefix], random: &mut Random| {
        let prefix = *list.get(random.below(list.len().max(1)))?;
        let bits = match random.below(4) {
            0 => prefix.bits,
            1 => prefix.last(),
            _ => prefix.bits | (random.wide() & prefix.host_mask()),
        };
        Some(address(prefix.is_v4, bits))
    };
    let (local, remote) = (inside(&rule.local, random), inside(&rule.remote, random));
    // Both ends are of one family.
    if let Some(address) = local.or(remote)
        && address.is_ipv4() != it.local.is_ipv4()
    {
        it.local = anywhere(address.is_ipv4(), random);
        it.remote = anywhere(address.is_ipv4(), random);
    }
    it.local = local.unwrap_or(it.local);
    it.remote = remote.unwrap_or(it.remote);
    it.incoming = rule.incoming.unwrap_or(it.incoming);
}

/// Moves the connection by one step, often out of the rule's range.
fn nudge(rule: &Rule, it: &mut Connection, random: &mut Random) {
    let up = random.percent(50);
    let port = |port: u16| if up { port.saturating_add(1) } else { port.saturating_sub(1) };
    let place = |end: std::net::IpAddr| {
        let (is_v4, bits) = number(end);
        address(is_v4, if up { bits.saturating_add(1) } else { bits.saturating_sub(1) })
    };
    match random.below(4) {
        0 if !rule.remote.is_empty() => it.remote = place(it.remote),
        1 if !rule.local.is_empty() => it.local = place(it.local),
        2 if rule.incoming.is_some() => it.incoming = !it.incoming,
        _ if rule.remote_port.is_some() => it.remote_port = port(it.remote_port),
        _ if rule.remote.is_empty() => {
            it.local_port = port(it.local_port);
            it.remote_port = port(it.remote_port);
        }
        _ => it.remote = place(it.remote),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hold_for_many_of_them_but_not_for_all() {
        for (shape, size) in [
            (Shape::Ports, 10),
            (Shape::List { is_v4: true }, 1_000),
            (Shape::Prefixes { is_v4: false }, 1_000),
            (Shape::Mixed, 100),
        ] {
            let set = RuleSet::new(shape, size);
            let all = connections(&set, 1_000);
            let held = |it: &&Connection| set.rules.iter().any(|rule| rule.holds(it));
            let count = all.iter().filter(held).count();
            assert!((300..950).contains(&count), "{}: {count} of 1,000", set.name());
            assert!(all.iter().all(|it| it.local.is_ipv4() == it.remote.is_ipv4()));
        }
    }
}
