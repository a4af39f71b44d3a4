//! The expected answer, found in the most naive way: each rule in order, each condition as design.md defines it.

use super::connection::Connection;
use super::kernel::refuses;
use super::model::*;
use std::net::IpAddr;

/// The rule that decides.
pub(crate) fn decide(rules: &Rules, connection: &Connection) -> Option<usize> {
    rules.rules.iter().position(|rule| rule.conditions.iter().all(|it| holds(it, connection)))
}

fn holds(condition: &Condition, it: &Connection) -> bool {
    match condition {
        Condition::Interface(patterns) => patterns.iter().any(|pattern| device(it, pattern)),
        Condition::Port(which, items) => items.iter().any(|item| port_in(it, *which, *item)),
        Condition::Address(side, items) => items.iter().any(|item| address_in(it, *side, *item)),
        Condition::Family(family) => it.family() == *family,
        Condition::Direction(direction) => it.direction == *direction,
        Condition::When(expression) => is_true(expression, it),
    }
}

fn is_true(expression: &Expression, it: &Connection) -> bool {
    match expression {
        Expression::All(parts) => parts.iter().all(|part| is_true(part, it)),
        Expression::Any(parts) => parts.iter().any(|part| is_true(part, it)),
        Expression::Not(inner) => !is_true(inner, it),
        Expression::Test(test) => passes(test, it),
    }
}

pub(crate) fn passes(test: &Test, it: &Connection) -> bool {
    match test {
        // `port` matches either end, and `port != 80` means that neither end matches.
        Test::Port(which, Operator::NotEqual, number) => {
            ends(it, *which).iter().all(|port| port != number)
        }
        Test::Port(which, operator, number) => {
            ends(it, *which).iter().any(|port| compare(*operator, *port, *number))
        }
        Test::PortIn(which, items) => items.iter().any(|item| port_in(it, *which, *item)),
        Test::PortOf(Side::Local, operator) => compare(*operator, it.local_port, it.remote_port),
        Test::PortOf(Side::Remote, operator) => compare(*operator, it.remote_port, it.local_port),
        Test::Masked(which, mask, Operator::NotEqual, number) => {
            ends(it, *which).iter().all(|port| port & mask != *number)
        }
        Test::Masked(which, mask, operator, number) => {
            ends(it, *which).iter().any(|port| compare(*operator, port & mask, *number))
        }
        Test::Sum(side, adds, operator, number) => {
            let (local, remote) = (i64::from(it.local_port), i64::from(it.remote_port));
            let (one, other) = if *side == Side::Local { (local, remote) } else { (remote, local) };
            compare(*operator, if *adds { one + other } else { one - other }, *number)
        }
        // Only a socket that sends the SYN has these numbers.
        Test::Socket(of, mask, Operator::NotEqual, number) => {
            !passes(&Test::Socket(*of, *mask, Operator::Equal, *number), it)
        }
        Test::Socket(of, mask, operator, number) => {
            let masked = of_socket(it, *of) & mask.unwrap_or(u32::MAX);
            it.direction == Direction::Outgoing && compare(*operator, masked, *number)
        }
        Test::SocketIn(of, items) => {
            it.direction == Direction::Outgoing && items.contains(&of_socket(it, *of))
        }
        Test::Address(side, equal, net) => is(*equal, address_in(it, *side, *net)),
        Test::AddressIn(side, items) => items.iter().any(|item| address_in(it, *side, *item)),
        Test::AddressOf(_, equal) => is(*equal, it.local == it.remote),
        Test::Interface(equal, pattern) => is(*equal, device(it, pattern)),
        Test::InterfaceIn(patterns) => patterns.iter().any(|pattern| device(it, pattern)),
        Test::Family(equal, family) => is(*equal, it.family() == *family),
        Test::FamilyIn(families) => families.contains(&it.family()),
        Test::Direction(equal, direction) => is(*equal, it.direction == *direction),
        Test::DirectionIn(directions) => directions.contains(&it.direction),
    }
}

fn is(equal: Equal, value: bool) -> bool {
    match equal {
        Equal::Is => value,
        Equal::IsNot => !value,
    }
}

fn ends(it: &Connection, which: Which) -> Vec<u16> {
    match which {
        Which::Either => vec![it.local_port, it.remote_port],
        Which::One(Side::Local) => vec![it.local_port],
        Which::One(Side::Remote) => vec![it.remote_port],
    }
}

fn port_in(it: &Connection, which: Which, Ports(low, high): Ports) -> bool {
    ends(it, which).iter().any(|port| low <= *port && *port <= high)
}

fn compare<T: Ord>(operator: Operator, left: T, right: T) -> bool {
    match operator {
        Operator::Equal => left == right,
        Operator::NotEqual => left != right,
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Greater => left > right,
        Operator::GreaterOrEqual => left >= right,
    }
}

/// A number of the socket that sends the SYN. The two bits of ECN are not part of the TOS. A kernel that does not
/// report it gives 0.
fn of_socket(it: &Connection, of: SocketNumber) -> u32 {
    let number = it.numbers[of as usize];
    let (level, option) = if it.local.is_ipv4() { (0, 1) } else { (41, 67) };
    match of {
        SocketNumber::Tos if refuses(it.socket.refusals, level, option) => 0,
        SocketNumber::Tos => number & 0xfc,
        SocketNumber::Mark | SocketNumber::Priority => number,
    }
}

/// Bit by bit.
fn address_in(it: &Connection, side: Side, net: Net) -> bool {
    let address = match side {
        Side::Local => it.local,
        Side::Remote => it.remote,
    };
    match (address, net) {
        (IpAddr::V4(address), Net::V4(prefix, length)) => {
            (0..u32::from(length)).all(|bit| (address.to_bits() ^ prefix) << bit >> 31 == 0)
        }
        (IpAddr::V6(address), Net::V6(prefix, length)) => {
            (0..u32::from(length)).all(|bit| (address.to_bits() ^ prefix) << bit >> 127 == 0)
        }
        _ => false,
    }
}

fn device(it: &Connection, pattern: &str) -> bool {
    it.device.as_ref().is_some_and(|name| glob(pattern.as_bytes(), name))
}

/// `*` is any run of bytes, `?` any one.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|taken| glob(rest, &name[taken..])),
        ([b'?', rest @ ..], [_, others @ ..]) => glob(rest, others),
        ([byte, rest @ ..], [first, others @ ..]) => byte == first && glob(rest, others),
        _ => false,
    }
}
