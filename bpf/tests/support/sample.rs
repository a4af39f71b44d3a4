//! Random connections, with a bias to the bounds of every interval of a rule set and to what one rule asks for.

use super::connection::{Connection, Path, Socket};
use super::model::*;
use super::random::Random;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The values at which decisions may change, and the tests of each rule.
pub(crate) struct Sampler<'r> {
    ports: Vec<u16>,
    v4: Vec<u32>,
    v6: Vec<u128>,
    names: Vec<Vec<u8>>,
    rules: Vec<Vec<Wish<'r>>>,
}

/// What a rule asks for: one of some values, or a test of an expression.
enum Wish<'r> {
    Ports(Which, &'r [Ports]),
    Nets(Side, &'r [Net]),
    Names(&'r [String]),
    Family(Family),
    Direction(Direction),
    Ends(Side, Operator),
    SameAddress,
    Socket(SocketNumber, u32),
}

/// A connection while it is chosen.
struct Draft {
    family: Option<Family>,
    v4: [u32; 2],
    v6: [u128; 2],
    ports: [u16; 2],
    direction: Direction,
    numbers: [u32; 3],
    name: Vec<u8>,
}

const SIDES: [Side; 2] = [Side::Local, Side::Remote];

impl<'r> Sampler<'r> {
    pub(crate) fn new(rules: &'r Rules) -> Self {
        let mut sampler = Self {
            ports: vec![0, 1, 80, 32767, 32768, u16::MAX],
            v4: vec![0, 0x0a00_0001, 0x7fff_ffff, 0x8000_0000, u32::MAX],
            v6: vec![0, 1, 0xfffe_ffff_ffff, 0x1_0000_0000_0000, 0x2001_0db8 << 96, u128::MAX],
            names: [&b"lo"[..], b"ax0", b"eth0", b"123456789012345"].map(<[u8]>::to_vec).to_vec(),
            rules: Vec::new(),
        };
        for rule in &rules.rules {
            let mut wishes = Vec::new();
            rule.conditions.iter().for_each(|it| wish(it, &mut wishes));
            wishes.iter().for_each(|it| sampler.edges(it));
            sampler.rules.push(wishes);
        }
        sampler
    }

    fn edges(&mut self, wish: &Wish<'_>) {
        match wish {
            Wish::Ports(_, items) => {
                for Ports(low, high) in *items {
                    self.ports.extend([low.saturating_sub(1), *low, *high, high.saturating_add(1)]);
                }
            }
            Wish::Nets(_, items) => {
                for item in *items {
                    match *item {
                        Net::V4(address, length) => {
                            let (low, high) = Net::range4(address, length);
                            self.v4.extend([
                                low.saturating_sub(1),
                                low,
                                high,
                                high.saturating_add(1),
                            ]);
                        }
                        Net::V6(address, length) => {
                            let (low, high) = Net::range6(address, length);
                            self.v6.extend([
                                low.saturating_sub(1),
                                low,
                                high,
                                high.saturating_add(1),
                            ]);
                        }
                    }
                }
            }
            Wish::Names(patterns) => self.names.extend(
                patterns
                    .iter()
                    .map(|it| it.bytes().filter(|byte| *byte != b'*').take(15).collect()),
            ),
            _ => {}
        }
    }

    /// A connection.
    pub(crate) fn connection(&self, random: &mut Random) -> Connection {
        let mut draft = Draft {
            family: None,
            v4: [self.v4(random), self.v4(random)],
            v6: [self.v6(random), self.v6(random)],
            ports: [self.port(random), self.port(random)],
            direction: *random.pick(&[Direction::Outgoing, Direction::Incoming]),
            numbers: [
                *random.pick(&[0, 5, 0x105, u32::MAX]),
                *random.pick(&[0, 5, 0x105, u32::MAX]),
                *random.pick(&[0, 5, 0x12, 0xff]),
            ],
            name: self.name(random),
        };
        if random.percent(70) && !self.rules.is_empty() {
            for wish in random.pick(&self.rules) {
                if random.percent(85) {
                    draft.grant(wish, random);
                }
            }
        }
        if random.percent(4) {
            draft.ports[1] = draft.ports[0];
        }
        if random.percent(4) {
            draft.v4[1] = draft.v4[0];
            draft.v6[1] = draft.v6[0];
        }
        self.finish(draft, random)
    }

    fn finish(&self, draft: Draft, random: &mut Random) -> Connection {
        let family = draft.family.unwrap_or(*random.pick(&[Family::Ipv4, Family::Ipv6]));
        let address = |side: usize| match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(draft.v4[side])),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(unmapped(draft.v6[side]))),
        };
        let is_inet6 = random.percent(50);
        let socket = Socket {
            is_inet6,
            without_ipv6: family == Family::Ipv4 && !is_inet6 && random.percent(20),
            fast_open: random.percent(20),
            listens: false,
            retransmits: 0,
            refusals: if random.percent(50) { 0 } else { random.next() & random.next() },
            ip4_words: match random.percent(50) {
                // The kernel's value for IPv6 (LOOPBACK4_IPV6).
                true => [0x7f00_0006; 2],
                false => [self.v4(random), self.v4(random)],
            },
        };
        let mut connection = Connection {
            local: address(0),
            remote: address(1),
            local_port: draft.ports[0],
            remote_port: draft.ports[1],
            direction: draft.direction,
            numbers: draft.numbers,
            device: None,
            socket,
            path: Path::Nothing,
            decoy: self.name(random),
        };
        connection.path = path(&connection, random);
        if matches!(connection.path, Path::Route | Path::Bound(_) | Path::Address(_)) {
            connection.device = Some(draft.name);
        }
        connection
    }

    fn port(&self, random: &mut Random) -> u16 {
        if random.percent(85) { *random.pick(&self.ports) } else { random.next() as u16 }
    }

    fn v4(&self, random: &mut Random) -> u32 {
        if random.percent(85) { *random.pick(&self.v4) } else { random.next() as u32 }
    }

    fn v6(&self, random: &mut Random) -> u128 {
        if random.percent(85) { *random.pick(&self.v6) } else { random.wide() }
    }

    /// A name that matches some rule, or almost does.
    fn name(&self, random: &mut Random) -> Vec<u8> {
        let mut name = random.pick(&self.names).clone();
        match random.below(6) {
            0 => name.push(*random.pick(b"a0x.")),
            1 => _ = name.pop(),
            2 if !name.is_empty() => {
                let at = random.below(name.len());
                name[at] = *random.pick(b"a0x*?");
            }
            _ => {}
        }
        valid(name)
    }
}

impl Draft {
    /// Chooses what the rule asks for, mostly a value at a bound.
    fn grant(&mut self, wish: &Wish<'_>, random: &mut Random) {
        match wish {
            Wish::Ports(which, items) => {
                let Ports(low, high) = *random.pick(items);
                let inside = low + random.below(usize::from(high - low) + 1) as u16;
                let side = match which {
                    Which::Either => random.below(2),
                    Which::One(side) => SIDES.iter().position(|it| it == side).unwrap_or(0),
                };
                self.ports[side] = *random.pick(&[low, high, inside]);
            }
            Wish::Nets(side, items) => {
                let side = SIDES.iter().position(|it| it == side).unwrap_or(0);
                match *random.pick(items) {
                    Net::V4(address, length) => {
                        let (low, high) = Net::range4(address, length);
                        let inside = low | (random.next() as u32 & (high ^ low));
                        self.v4[side] = *random.pick(&[low, high, inside]);
                        self.family = Some(Family::Ipv4);
                    }
                    Net::V6(address, length) => {
                        let (low, high) = Net::range6(address, length);
                        let inside = low | (random.wide() & (high ^ low));
                        self.v6[side] = *random.pick(&[low, high, inside]);
                        self.family = Some(Family::Ipv6);
                    }
                }
            }
            Wish::Names(patterns) => {
                let mut name = Vec::new();
                for byte in random.pick(patterns).bytes() {
                    match byte {
                        b'*' => (0..random.below(4)).for_each(|_| name.push(*random.pick(b"a0x"))),
                        b'?' => name.push(*random.pick(b"a0x.")),
                        other => name.push(other),
                    }
                }
                self.name = valid(name);
            }
            Wish::Family(family) => self.family = Some(*family),
            Wish::Direction(direction) => self.direction = *direction,
            Wish::Ends(side, operator) => {
                let [one, other] = match side {
                    Side::Local => [0, 1],
                    Side::Remote => [1, 0],
                };
                let near = self.ports[other];
                self.ports[one] = match operator {
                    Operator::Equal | Operator::LessOrEqual | Operator::GreaterOrEqual => near,
                    Operator::Less => near.saturating_sub(1),
                    Operator::Greater | Operator::NotEqual => near.saturating_add(1),
                };
            }
            Wish::Socket(of, number) => {
                let near = number.wrapping_add(random.below(3) as u32).wrapping_sub(1);
                self.numbers[*of as usize] = match of {
                    SocketNumber::Tos => near & 0xff,
                    _ => near,
                };
            }
            Wish::SameAddress => {
                self.v4[1] = self.v4[0];
                self.v6[1] = self.v6[0];
            }
        }
    }
}

/// What a condition asks for.
fn wish<'r>(condition: &'r Condition, into: &mut Vec<Wish<'r>>) {
    match condition {
        Condition::Interface(patterns) => into.push(Wish::Names(patterns)),
        Condition::Port(which, items) => into.push(Wish::Ports(*which, items)),
        Condition::Address(side, items) => into.push(Wish::Nets(*side, items)),
        Condition::Family(family) => into.push(Wish::Family(*family)),
        Condition::Direction(direction) => into.push(Wish::Direction(*direction)),
        Condition::When(expression) => {
            let mut tests = Vec::new();
            expression.tests(&mut tests);
            into.extend(tests.into_iter().map(wish_of));
        }
    }
}

/// The tests without regard to `not`. A negated test has the same bounds.
fn wish_of(test: &Test) -> Wish<'_> {
    use std::slice::from_ref;
    match test {
        Test::Port(which, _, number) => Wish::Ports(*which, single(*number)),
        Test::PortIn(which, items) => Wish::Ports(*which, items),
        Test::PortOf(side, operator) => Wish::Ends(*side, *operator),
        Test::Masked(which, _, _, number) => Wish::Ports(*which, single(*number)),
        Test::Sum(side, _, operator, _) => Wish::Ends(*side, *operator),
        Test::Address(side, _, net) => Wish::Nets(*side, from_ref(net)),
        Test::AddressIn(side, items) => Wish::Nets(*side, items),
        Test::AddressOf(..) => Wish::SameAddress,
        Test::Socket(of, _, _, number) => Wish::Socket(*of, *number),
        Test::SocketIn(of, items) => Wish::Socket(*of, items[0]),
        Test::Interface(_, pattern) => Wish::Names(from_ref(pattern)),
        Test::InterfaceIn(patterns) => Wish::Names(patterns),
        Test::Family(_, family) => Wish::Family(*family),
        Test::FamilyIn(items) => Wish::Family(items[0]),
        Test::Direction(_, direction) => Wish::Direction(*direction),
        Test::DirectionIn(items) => Wish::Direction(items[0]),
    }
}

/// The port as a range that is never freed. There are at most 65,536 of them.
fn single(port: u16) -> &'static [Ports] {
    static ALL: std::sync::LazyLock<Vec<Ports>> =
        std::sync::LazyLock::new(|| (0..=u16::MAX).map(|port| Ports(port, port)).collect());
    std::slice::from_ref(&ALL[usize::from(port)])
}

/// A valid device name: 1 to 15 bytes.
fn valid(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(15);
    if name.is_empty() {
        name.push(b'a');
    }
    name
}

/// The nearest address that is not mapped, since no packet has a mapped one.
pub(crate) fn unmapped(address: u128) -> u128 {
    match address >> 32 == 0xffff {
        true => 0xfffe_ffff_ffff,
        false => address,
    }
}

fn path(connection: &Connection, random: &mut Random) -> Path {
    let before = if random.percent(70) { 0 } else { random.below(32) as u8 };
    let bound = if random.percent(50) || connection.socket.without_ipv6 {
        Path::Bound(before)
    } else {
        Path::Address(before)
    };
    let is_outgoing = connection.direction == Direction::Outgoing;
    match random.below(16) {
        0 => Path::OtherNamespace,
        1 => Path::Nothing,
        2 => Path::Gone,
        3 if is_outgoing => Path::Unreadable,
        4..8 => bound,
        _ if is_outgoing => Path::Route,
        _ => bound,
    }
}
