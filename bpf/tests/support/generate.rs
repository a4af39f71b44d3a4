//! Random models. Values come from small pools, so that rules overlap, touch and contain each other.

use super::model::*;
use super::settings::extra;
use proptest::collection::vec;
use proptest::option::{self, weighted};
use proptest::prelude::*;
use proptest::sample::select;

/// What kind of rule set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Flavour {
    /// Up to 40 rules of all conditions and expressions.
    Mixed,
    /// Hundreds of rules about ports.
    Ports,
    /// Long lists of prefixes.
    Prefixes,
    /// Both ends at once: long lists of ports and prefixes side by side.
    Crossed,
}

pub(crate) fn rules(flavour: Flavour) -> BoxedStrategy<Rules> {
    let rules = match flavour {
        Flavour::Mixed => prop_oneof![
            3 => vec(mixed(), 1..=6),
            3 => vec(mixed(), 5..=20),
            1 => vec(mixed(), 20..=40),
        ]
        .boxed(),
        Flavour::Ports => vec(
            prop_oneof![
                24 => port_rule(any::<u16>().boxed(), 1),
                6 => port_rule(near_port(), 3),
                1 => mixed(),
            ],
            50..=250,
        )
        .boxed(),
        Flavour::Prefixes => vec(
            prop_oneof![4 => prefix_rule(20..=120), 2 => prefix_rule(1..=3), 1 => mixed()],
            2..=20,
        )
        .boxed(),
        Flavour::Crossed => vec(
            prop_oneof![
                3 => port_rule(any::<u16>().boxed(), 60),
                3 => prefix_rule(20..=80),
                3 => prefix_rule(1..=3),
                2 => mixed(),
            ],
            4..=25,
        )
        .boxed(),
    };
    // Most sets have nothing but timers, as most rules files do.
    let extras = weighted(0.33, vec(extra(), 1..=40));
    (rules, any::<u64>(), extras)
        .prop_map(|(mut rules, style, extras)| {
            if let Some(extras) = extras {
                for (rule, extra) in rules.iter_mut().zip(extras.iter().cycle()) {
                    rule.settings.clone_from(&extra.settings);
                    rule.rto = rule.rto.filter(|_| extra.keeps_rto);
                }
            }
            keep_what_is_tested(&mut rules);
            Rules { rules, style }
        })
        .boxed()
}

/// Removes settings of what rules test of the socket, which the compiler refuses.
fn keep_what_is_tested(rules: &mut [Rule]) {
    let mut tests = Vec::new();
    for condition in rules.iter().flat_map(|rule| &rule.conditions) {
        if let Condition::When(expression) = condition {
            expression.tests(&mut tests);
        }
    }
    let is_tested = |number: SocketNumber| {
        tests.iter().any(|test| match test {
            Test::Socket(of, ..) | Test::SocketIn(of, _) => *of == number,
            _ => false,
        })
    };
    let (mark, priority) = (is_tested(SocketNumber::Mark), is_tested(SocketNumber::Priority));
    let tos = is_tested(SocketNumber::Tos);
    for rule in rules {
        rule.settings.retain(|setting| match setting.key() {
            "mark" => !mark,
            "priority" => !priority,
            "tos" => !priority && !tos,
            _ => true,
        });
    }
}

/// Few rules whose values can all be tried: no globs, no comparison of fields.
pub(crate) fn small() -> BoxedStrategy<Rules> {
    let rule = rule_of(
        weighted(0.15, vec(select(&["ax0", "eth0", "*"][..]).prop_map(String::from), 1..=2)),
        weighted(0.3, expression(enumerable_test().boxed(), 2)),
        1..=2,
    );
    (vec(rule, 1..=5), any::<u64>()).prop_map(|(rules, style)| Rules { rules, style }).boxed()
}

fn mixed() -> BoxedStrategy<Rule> {
    rule_of(
        weighted(0.15, vec(pattern(), 1..=4)),
        weighted(0.45, expression(any_test().boxed(), 3)),
        1..=4,
    )
}

fn rule_of(
    interface: impl Strategy<Value = Option<Vec<String>>> + 'static,
    when: impl Strategy<Value = Option<Expression>> + 'static,
    items: std::ops::RangeInclusive<usize>,
) -> BoxedStrategy<Rule> {
    let ports = move || vec(ports(), items.clone());
    let (either, local, remote) = (ports(), ports(), ports());
    let nets = || vec(net(), 1..=3);
    let conditions = (
        weighted(0.2, either),
        weighted(0.15, local),
        weighted(0.15, remote),
        weighted(0.15, nets()),
        weighted(0.2, nets()),
        weighted(0.05, family()),
        weighted(0.15, direction()),
        interface,
        when,
    );
    // Rules without any condition would hide all that follow: few of them.
    (conditions, rto(), near_port(), 0..20_u8)
        .prop_map(|(conditions, rto, port, empty)| {
            let (port_, local_port, remote_port, local, remote, family, direction, interface, when) =
                conditions;
            let conditions = [
                port_.map(|it| Condition::Port(Which::Either, it)),
                local_port.map(|it| Condition::Port(Which::One(Side::Local), it)),
                remote_port.map(|it| Condition::Port(Which::One(Side::Remote), it)),
                local.map(|it| Condition::Address(Side::Local, it)),
                remote.map(|it| Condition::Address(Side::Remote, it)),
                family.map(Condition::Family),
                direction.map(Condition::Direction),
                interface.map(Condition::Interface),
                when.map(Condition::When),
            ];
            let mut conditions: Vec<_> = conditions.into_iter().flatten().collect();
            if conditions.is_empty() && empty > 0 {
                conditions.push(Condition::Port(Which::Either, vec![Ports(port, port)]));
            }
            Rule { conditions, rto: Some(rto), settings: Vec::new() }
        })
        .boxed()
}

/// A rule about ports, at times of one direction or family only.
fn port_rule(port: BoxedStrategy<u16>, most: usize) -> BoxedStrategy<Rule> {
    let one = (port, prop_oneof![6 => Just(0_u16), 1 => 0..20_u16])
        .prop_map(|(low, more)| Ports(low, low.saturating_add(more)));
    let which = select(
        &[
            Which::One(Side::Local),
            Which::One(Side::Remote),
            Which::One(Side::Remote),
            Which::Either,
        ][..],
    );
    (which, vec(one, 1..=most), weighted(0.1, direction()), weighted(0.1, family()), rto())
        .prop_map(|(which, items, direction, family, rto)| {
            let mut conditions = vec![Condition::Port(which, items)];
            conditions.extend(direction.map(Condition::Direction));
            conditions.extend(family.map(Condition::Family));
            Rule { conditions, rto: Some(rto), settings: Vec::new() }
        })
        .boxed()
}

fn prefix_rule(count: std::ops::RangeInclusive<usize>) -> BoxedStrategy<Rule> {
    let scattered = prop_oneof![
        1 => net(),
        3 => (any::<u32>(), 8..=32_u8).prop_map(|(address, length)| cut4(address, length)),
        2 => (0..1_u32 << 16, 20..=32_u8)
            .prop_map(|(low, length)| cut4(0x0a14_0000 | low, length)),
        2 => (any::<u128>(), 8..=128_u8)
            .prop_map(|(address, length)| cut6(0x2001_0db8 << 96 | address >> 32, length)),
        1 => (any::<u64>(), 64..=128_u8)
            .prop_map(|(low, length)| cut6(0xfd00 << 112 | u128::from(low), length)),
    ];
    (
        select(&[Side::Local, Side::Remote][..]),
        vec(scattered, count),
        weighted(0.1, direction()),
        rto(),
    )
        .prop_map(|(side, nets, direction, rto)| {
            let mut conditions = vec![Condition::Address(side, nets)];
            conditions.extend(direction.map(Condition::Direction));
            Rule { conditions, rto: Some(rto), settings: Vec::new() }
        })
        .boxed()
}

fn rto() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(1_000),
        Just(120_000_000),
        1_000..120_000_000_u64,
        (1..120_000_u64).prop_map(|ms| ms * 1_000)
    ]
}

fn side() -> impl Strategy<Value = Side> {
    select(&[Side::Local, Side::Remote][..])
}

fn which() -> impl Strategy<Value = Which> {
    select(&[Which::Either, Which::One(Side::Local), Which::One(Side::Remote)][..])
}

fn family() -> impl Strategy<Value = Family> {
    select(&[Family::Ipv4, Family::Ipv6][..])
}

fn direction() -> impl Strategy<Value = Direction> {
    select(&[Direction::Outgoing, Direction::Incoming][..])
}

fn equal() -> impl Strategy<Value = Equal> {
    prop_oneof![4 => Just(Equal::Is), 1 => Just(Equal::IsNot)]
}

fn operator() -> impl Strategy<Value = Operator> {
    use Operator::*;
    select(&[Equal, Equal, Equal, Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual][..])
}

fn near_port() -> BoxedStrategy<u16> {
    prop_oneof![
        3 => select(&[0_u16, 1, 22, 53, 79, 80, 81, 443, 1023, 1024, 8000, 8999, 12345, 32767, 32768, 65534, 65535][..]),
        2 => 75..90_u16,
        1 => any::<u16>(),
    ]
    .boxed()
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        3 => near_port().prop_map(|port| Ports(port, port)),
        2 => (near_port(), 0..9_u16).prop_map(|(low, more)| Ports(low, low.saturating_add(more))),
        1 => (near_port(), near_port()).prop_map(|(a, b)| Ports(a.min(b), a.max(b))),
    ]
}

fn cut4(address: u32, length: u8) -> Net {
    Net::V4(address & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0), length)
}

/// A mapped prefix is IPv4; [`super::print`] writes some so.
fn cut6(address: u128, length: u8) -> Net {
    let address = address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    match address >> 32 == 0xffff && length >= 96 {
        true => cut4(address as u32, length - 96),
        false => Net::V6(address, length),
    }
}

fn net() -> impl Strategy<Value = Net> {
    let address4 = select(
        &[
            0_u32,
            0x0a00_0000,
            0x0a01_0203,
            0x0a01_0204,
            0x0aff_ffff,
            0x2c00_0001,
            0x2c80_0000,
            0x7f00_0001,
            0x7fff_ffff,
            0x8000_0000,
            0xc000_0201,
            0xffff_ffff,
        ][..],
    );
    let address6 = select(
        &[
            0_u128,
            1,
            0xfffe_ffff_ffff,
            0x1_0000_0000_0000,
            0xffff_0a01_0203,
            0x2001_0db8_0040 << 80,
            0x2001_0db8_0040_0000_0000_0000_0000_0001,
            0x2001_0db8_004f_ffff_ffff_ffff_ffff_ffff,
            0x7fff << 112,
            0x8000 << 112,
            0xfe80 << 112 | 1,
            u128::MAX,
        ][..],
    );
    let length4 = prop_oneof![
        3 => select(&[8_u8, 15, 16, 24, 31, 32, 32][..]),
        1 => 0..=32_u8
    ];
    let length6 = prop_oneof![
        3 => select(&[31_u8, 32, 33, 44, 48, 63, 64, 65, 80, 95, 96, 97, 112, 127, 128, 128][..]),
        1 => 0..=128_u8
    ];
    prop_oneof![
        (address4, length4).prop_map(|(address, length)| cut4(address, length)),
        (address6, length6).prop_map(|(address, length)| cut6(address, length)),
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(&[
            "ax0", "ax1", "lo", "eth0", "eth0.5", "wlan0", "tnc*", "ax*", "*", "?x0", "e*0", "e?h*", "*.*", "**",
            "a*b*a*", "?", "??????", "*0", "a-name-of-15-by", "a-name-of-15-b", "a-name-of-15-b*", "*a-name-of-15-by*",
            "eth?", "\u{e9}*", "\u{e9}?", "??*", "a??)", "eth0'", "sh$o%d", "8;", "or", "not", "x(#)",
        ][..]).prop_map(String::from),
        2 => "[ax0*?]{1,6}",
    ]
}

fn socket_number() -> impl Strategy<Value = SocketNumber> {
    select(&[SocketNumber::Mark, SocketNumber::Priority, SocketNumber::Tos][..])
}

fn number() -> impl Strategy<Value = u32> {
    select(&[0, 1, 4, 5, 0x100, 0x105, 0x7fff_ffff, 0x8000_0000, u32::MAX][..])
}

/// The TOS has eight bits, two of which belong to ECN.
fn fitting(of: SocketNumber, number: u32) -> u32 {
    if of == SocketNumber::Tos { number & 0xfc } else { number }
}

fn any_test() -> impl Strategy<Value = Test> {
    prop_oneof![
        6 => enumerable_test(),
        1 => (side(), operator()).prop_map(|(side, operator)| Test::PortOf(side, operator)),
        1 => (which(), select(&[1_u16, 7, 0xff, 0xff00, 0xffff][..]), operator(), near_port())
            .prop_map(|(a, mask, b, number)| Test::Masked(a, mask, b, number & mask)),
        1 => (side(), any::<bool>(), operator(), prop_oneof![3 => -12..12_i64, 1 => -70_000..140_000_i64])
            .prop_map(|(a, b, c, d)| Test::Sum(a, b, c, d)),
        1 => (side(), equal()).prop_map(|(side, equal)| Test::AddressOf(side, equal)),
        1 => (socket_number(), option::of(select(&[0xf, 0xff, 0xff00, 0x8000_0000][..])), operator(), number())
            .prop_map(|(a, mask, b, number)| Test::Socket(a, mask, b, fitting(a, number))),
        1 => (socket_number(), vec(number(), 1..=3))
            .prop_map(|(a, b)| Test::SocketIn(a, b.into_iter().map(|it| fitting(a, it)).collect())),
        1 => (equal(), pattern()).prop_map(|(equal, pattern)| Test::Interface(equal, pattern)),
        1 => vec(pattern(), 1..=3).prop_map(Test::InterfaceIn),
    ]
}

fn enumerable_test() -> impl Strategy<Value = Test> {
    prop_oneof![
        4 => (which(), operator(), near_port()).prop_map(|(a, b, c)| Test::Port(a, b, c)),
        2 => (which(), vec(ports(), 1..=3)).prop_map(|(a, b)| Test::PortIn(a, b)),
        2 => (side(), equal(), net()).prop_map(|(a, b, c)| Test::Address(a, b, c)),
        2 => (side(), vec(net(), 1..=3)).prop_map(|(a, b)| Test::AddressIn(a, b)),
        1 => (equal(), family()).prop_map(|(a, b)| Test::Family(a, b)),
        1 => vec(family(), 1..=2).prop_map(Test::FamilyIn),
        1 => (equal(), direction()).prop_map(|(a, b)| Test::Direction(a, b)),
        1 => vec(direction(), 1..=2).prop_map(Test::DirectionIn),
    ]
}

fn expression(test: BoxedStrategy<Test>, depth: u32) -> impl Strategy<Value = Expression> {
    test.prop_map(Expression::Test).prop_recursive(depth, 12, 3, |inner| {
        prop_oneof![
            4 => vec(inner.clone(), 1..=3).prop_map(Expression::All),
            3 => vec(inner.clone(), 1..=3).prop_map(Expression::Any),
            1 => inner.prop_map(|it| Expression::Not(Box::new(it))),
        ]
    })
}
