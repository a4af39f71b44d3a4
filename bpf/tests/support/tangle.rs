//! Rule sets that are hard to compile: hundreds to thousands of rules that test ranges of several fields.

use super::model::*;
use super::random::Random;

/// The kind of a rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tangle {
    /// One to five conditions, as `cargo xtask bench` has them; each has a port or a prefix of its own.
    Mixed,
    /// Ranges of both ports, anywhere.
    Rectangles,
    /// A port or two at one end, most ports at the other: each crosses nearly all others.
    Crosses,
    /// Nested ranges, the widest last.
    Onion,
    /// Ranges of both ports, prefixes of both ends, the direction, comparisons of fields.
    Five,
    /// Expressions with `not`, `or` and `!=` over all of that.
    Expressions,
    /// Lists of ports at both ends, and of prefixes.
    Lists,
    /// Dozens of interfaces, and a range of ports each.
    Interfaces,
    /// A port at either end, and rules of all kinds between.
    Ports,
}

pub(crate) const ALL: [Tangle; 9] = [
    Tangle::Mixed,
    Tangle::Rectangles,
    Tangle::Crosses,
    Tangle::Onion,
    Tangle::Five,
    Tangle::Expressions,
    Tangle::Lists,
    Tangle::Interfaces,
    Tangle::Ports,
];

/// Generates this many rules. The result is deterministic.
pub(crate) fn tangle(kind: Tangle, count: usize, seed: u64) -> Rules {
    let mut random = Random(seed ^ (kind as u64) << 32 ^ count as u64);
    let rules = (0..count).map(|at| {
        let conditions = conditions(kind, &mut random, at, count);
        Rule { conditions, rto: Some(1_000 + at as u64 * 1_000), settings: Vec::new() }
    });
    let rules = rules.collect();
    Rules { rules, style: random.next() }
}

fn conditions(kind: Tangle, random: &mut Random, at: usize, count: usize) -> Vec<Condition> {
    let one = |side, low, high| Condition::Port(Which::One(side), vec![Ports(low, high)]);
    let (local, remote) = (Side::Local, Side::Remote);
    match kind {
        Tangle::Mixed => mixed(random, at, count),
        Tangle::Rectangles => {
            let (a, b) = (range(random, 65_535), range(random, 65_535));
            vec![one(local, a.0, a.1), one(remote, b.0, b.1)]
        }
        Tangle::Crosses => {
            let wide = Ports(random.below(3_000) as u16, 60_000 + random.below(5_000) as u16);
            let port = (at * 61_000 / count + 1) as u16;
            let (side, other) = if random.percent(50) { (local, remote) } else { (remote, local) };
            vec![one(side, port, port + random.below(2) as u16), one(other, wide.0, wide.1)]
        }
        Tangle::Onion => {
            let step = 32_000 / count.max(1);
            let most = (step * (count - at)) as u16;
            let mut inset = || most + random.below(step.max(1)) as u16;
            let (a, b) = ((inset(), 65_535 - inset()), (inset(), 65_535 - inset()));
            vec![one(local, a.0, a.1), one(remote, b.0, b.1)]
        }
        Tangle::Five => {
            let (a, b) = (range(random, 30_000), range(random, 30_000));
            let is_v4 = random.percent(70);
            let mut all = vec![one(local, a.0, a.1), one(remote, b.0, b.1)];
            if random.percent(60) {
                all.push(Condition::Address(local, vec![net(random, is_v4)]));
            }
            if random.percent(60) {
                all.push(Condition::Address(remote, vec![net(random, is_v4)]));
            }
            if random.percent(30) {
                all.push(Condition::Direction(direction(random)));
            }
            if random.percent(30) {
                let operator =
                    *random.pick(&[Operator::Less, Operator::Greater, Operator::NotEqual]);
                all.push(Condition::When(Expression::Test(Test::PortOf(local, operator))));
            }
            all
        }
        Tangle::Expressions => {
            let test = |random: &mut Random| {
                let range = range(random, 20_000);
                let is_v4 = random.percent(70);
                let equal = if random.percent(60) { Equal::Is } else { Equal::IsNot };
                let test = match random.below(6) {
                    0 => Test::PortIn(Which::Either, vec![Ports(range.0, range.1)]),
                    1 => Test::PortIn(Which::One(local), vec![Ports(range.0, range.1)]),
                    2 => Test::PortIn(Which::One(remote), vec![Ports(range.0, range.1)]),
                    3 => Test::Address(local, equal, net(random, is_v4)),
                    4 => Test::Address(remote, equal, net(random, is_v4)),
                    _ => Test::AddressOf(local, equal),
                };
                match random.percent(20) {
                    true => Expression::Not(Box::new(Expression::Test(test))),
                    false => Expression::Test(test),
                }
            };
            let both = |random: &mut Random| {
                Expression::All(vec![test(random), test(random), test(random)])
            };
            vec![Condition::When(Expression::Any(vec![both(random), both(random)]))]
        }
        Tangle::Lists => {
            let mut ports = |count| -> Vec<Ports> {
                (0..count).map(|_| range(random, 200)).map(|(low, high)| Ports(low, high)).collect()
            };
            let (a, b) = (ports(12), ports(12));
            let nets = (0..8).map(|_| net(random, true)).collect();
            let side = if random.percent(50) { local } else { remote };
            vec![
                Condition::Port(Which::One(local), a),
                Condition::Port(Which::One(remote), b),
                Condition::Address(side, nets),
            ]
        }
        Tangle::Interfaces => {
            let a = range(random, 40_000);
            let list = random.below(60);
            let names = match list % 3 {
                0 => vec![format!("if{list}")],
                1 => vec![format!("ax{}*", list / 3), "eth0".into()],
                _ => vec![format!("tnc{}", list / 3), format!("lora{}", list / 3), "wlan0".into()],
            };
            let side = if random.percent(50) { local } else { remote };
            vec![Condition::Interface(names), one(side, a.0, a.1)]
        }
        Tangle::Ports => {
            let port = random.next() as u16;
            if random.percent(85) {
                return vec![Condition::Port(Which::Either, vec![Ports(port, port)])];
            }
            let kind =
                *random.pick(&[Tangle::Mixed, Tangle::Crosses, Tangle::Five, Tangle::Expressions]);
            conditions(kind, random, at, count)
        }
    }
}

/// A range of ports, with at most this distance from the first to the last.
fn range(random: &mut Random, most: usize) -> (u16, u16) {
    let low = random.next() as u16;
    (low, low.saturating_add(random.below(most) as u16))
}

fn direction(random: &mut Random) -> Direction {
    if random.percent(50) { Direction::Outgoing } else { Direction::Incoming }
}

/// Some within others.
fn net(random: &mut Random, is_v4: bool) -> Net {
    if is_v4 {
        let length = *random.pick(&[9_u8, 10, 12, 14, 16, 20, 24]);
        let address = 0x0a00_0000 | random.next() as u32 & 0x00ff_ffff;
        return Net::V4(address & !(u32::MAX >> length), length);
    }
    let length = *random.pick(&[34_u8, 36, 40, 44, 48, 64, 72, 128]);
    let address = 0x2001_0db8 << 96 | random.wide() >> 32;
    Net::V6(address & !u128::MAX.checked_shr(length.into()).unwrap_or(0), length)
}

fn mixed(random: &mut Random, at: usize, count: usize) -> Vec<Condition> {
    let step = 64_512 / count.max(1);
    let own = |at: usize, width: usize| {
        let low = 1_024 + at * step;
        vec![Ports(low as u16, (low + width.min(step - 1)) as u16)]
    };
    let is_v4 = random.percent(60);
    let site = at as u32 + 1;
    let place = random.below(16) as u32;
    let (remote, local) = match is_v4 {
        true => (Net::V4(44 << 24 | site << 8, 24), Net::V4(10 << 24 | place << 16, 16)),
        false => (
            Net::V6(0x2a00 << 112 | u128::from(site) << 80, 48),
            Net::V6(0x2001 << 112 | u128::from(place) << 80, 48),
        ),
    };
    let width = [0, 0, 0, 9, 49][random.below(5)];
    let kind = random.below(3);
    let mut all = Vec::new();
    if kind != 1 {
        all.push(Condition::Address(Side::Remote, vec![remote]));
    }
    if kind != 0 {
        all.push(Condition::Port(Which::One(Side::Remote), own(at, width)));
    }
    if random.percent(30) {
        all.push(Condition::Port(Which::One(Side::Local), own(random.below(count), width)));
    }
    if random.percent(40) {
        all.push(Condition::Address(Side::Local, vec![local]));
    }
    if random.percent(40) {
        all.push(Condition::Direction(direction(random)));
    }
    all
}
