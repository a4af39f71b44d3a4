//! The cost of a decision: the limits of the design. `cargo xtask bench` prints the same figures.

mod support;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use support::check::{one, other};
use support::connection::{Connection, Path, incoming, outgoing};
use support::image::Image;
use support::random::Random;
use support::runner::Runner;
use support::{clang, policy};

fn runner(text: &str) -> Runner {
    let object = clang(&policy(text).c, false).unwrap_or_else(|error| panic!("{error}"));
    Runner::new(Image::read(&object, false), false).expect("a program")
}

/// Returns the most steps over the connections. Each connection must be decided as stated.
fn worst(runner: &mut Runner, cases: impl Iterator<Item = (Connection, Option<usize>)>) -> u64 {
    let steps = |(connection, rule): (Connection, _)| {
        one(runner, &connection, 0, rule, false).unwrap_or_else(|what| panic!("{what}"))
    };
    cases.map(steps).max().unwrap_or_default()
}

/// A rule for each value of a condition.
fn rules(conditions: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for (rule, condition) in conditions.enumerate() {
        let _ = write!(text, "[[rule]]\nname = \"r{rule}\"\n{condition}\nrto = \"2s\"\n");
    }
    text
}

#[test]
fn callbacks_that_no_rule_needs() {
    let files: [&[&str]; 5] = [
        &["port = 12345"],
        &["interface = \"ax0\"", "port = 1"],
        &["interface = \"a*x?\""],
        &["local = \"10.0.0.0/8\"", "interface = [\"ax*\", \"b\"]", "local_port = 7"],
        &["local = \"10.0.0.0/8\"", "remote = \"fd00::/8\""],
    ];
    for conditions in files {
        let text = rules(conditions.iter().map(|it| (*it).to_string()));
        let mut runner = runner(&text);
        for op in (0..30).filter(|op| *op != 1) {
            for connection in
                [outgoing("10.0.0.1:12345", "10.0.0.2:1"), incoming("[::1]:1", "[::1]:12345")]
            {
                other(&mut runner, &connection, op, 7, 4)
                    .unwrap_or_else(|what| panic!("{what}\n{text}"));
            }
        }
    }
}

/// Returns the most steps of decisions by this many rules with one port each, at either end, at this distance.
fn port_rules(count: usize, first: usize, apart: usize) -> u64 {
    let port = |rule: usize| (first + rule * apart) as u16;
    let mut runner = runner(&rules((0..count).map(|rule| format!("port = {}", port(rule)))));
    let mut random = Random(1);
    let rule_of = |port: u16| {
        let at = usize::from(port).checked_sub(first)?;
        at.is_multiple_of(apart).then_some(at / apart).filter(|rule| *rule < count)
    };
    let cases = (0..20_000).map(|_| {
        let mut edge = || {
            let near = usize::from(port(random.below(count))) + random.below(3);
            if random.percent(20) { random.next() as u16 } else { (near as u16).wrapping_sub(1) }
        };
        let (local, remote) = (edge(), edge());
        let rule = rule_of(local).into_iter().chain(rule_of(remote)).min();
        (outgoing(&format!("10.0.0.1:{local}"), &format!("10.0.0.2:{remote}")), rule)
    });
    let worst = worst(&mut runner, cases.collect::<Vec<_>>().into_iter());
    eprintln!("{count} port rules, {apart} apart: {worst} instructions at most");
    worst
}

#[test]
fn ten_thousand_port_rules() {
    for (first, apart) in [(1_000, 6), (1_000, 1)] {
        let worst = port_rules(10_000, first, apart);
        assert!(worst <= 40, "{worst} instructions");
    }
}

/// Their tables use pages: a few kilobytes, for 18 more instructions.
#[test]
fn dozens_of_port_rules() {
    for (count, first, apart) in [(21, 22, 3_001), (40, 0, 1_680), (40, 64, 64), (300, 15, 218)] {
        let worst = port_rules(count, first, apart);
        assert!(worst <= 52, "{worst} instructions");
    }
}

/// Four lists of 64 globs each, with names that traverse the whole automaton. The search for the device is included.
#[test]
fn many_globs() {
    let globs = |at: usize| {
        [format!("w?an{at}"), format!("ppp{at}?*"), format!("*.{at}"), format!("v*h{at}-")]
    };
    let list = |rule: usize| {
        let globs = (0..16).flat_map(|at| globs(100 + 16 * rule + at));
        globs.map(|glob| format!("\"{glob}\"")).collect::<Vec<_>>().join(", ")
    };
    let mut runner = runner(&rules((0..4).map(|rule| format!("interface = [{}]", list(rule)))));
    let mut cases = Vec::new();
    for at in 0..200_usize {
        let rule = at.checked_sub(100).map(|at| at / 16).filter(|rule| *rule < 4);
        for name in [
            format!("wlan{at}"),
            format!("ppp{at}0"),
            format!("longer-name.{at}"),
            format!("vxxx-1.2.h{at}-"),
        ] {
            let mut connection = outgoing("10.0.0.1:40000", "10.0.0.2:80");
            assert!(name.len() <= 15, "{name}");
            (connection.device, connection.path) = (Some(name.into_bytes()), Path::Route);
            cases.push((connection, rule));
        }
    }
    let steps = |(connection, rule): (Connection, Option<usize>)| {
        one(&mut runner, &connection, 0, rule, true).unwrap_or_else(|what| panic!("{what}"))
    };
    let worst = cases.into_iter().map(steps).max().unwrap_or_default();
    eprintln!("256 globs in 4 lists: {worst} instructions at most");
    assert!(worst <= 310, "{worst} instructions");
}

const PREFIXES: usize = 100_000;

/// Fifty thousand rules about two disjoint prefixes each, far from each other. (A file has at most 65,536 rules.)
fn prefixes(ranges: &[(u128, u128)], is_v4: bool) -> u64 {
    assert!(ranges.len() >= PREFIXES * 9 / 10, "{}", ranges.len());
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
    let address = |value: u128| match is_v4 {
        true => IpAddr::V4(Ipv4Addr::from_bits(value as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(value)),
    };
    let width = if is_v4 { 32 } else { 128 };
    let length = |(low, high): (u128, u128)| width - (high - low + 1).ilog2();
    let item = |it: &(u128, u128)| format!("\"{}/{}\"", address(it.0), length(*it));
    let count = ranges.len().div_ceil(2);
    let condition = |rule: usize| {
        let items: Vec<_> = ranges[rule..].iter().step_by(count).map(item).collect();
        format!("remote = [{}]", items.join(", "))
    };
    let mut runner = runner(&rules((0..count).map(condition)));

    worst(&mut runner, near(ranges, count, is_v4).into_iter())
}

/// Connections to addresses at the edges of ranges and within them. The ranges belong to this many rules in turn.
fn near(ranges: &[(u128, u128)], rules: usize, is_v4: bool) -> Vec<(Connection, Option<usize>)> {
    let mut random = Random(2);
    let case = |_| {
        let (low, high) = *random.pick(ranges);
        let value = match random.below(5) {
            0 => low,
            1 => high,
            2 => low - 1,
            3 => high + 1,
            _ => low + random.wide() % (high - low + 1),
        };
        let after = ranges.partition_point(|(low, _)| *low <= value);
        let rule = after.checked_sub(1).filter(|at| value <= ranges[*at].1).map(|at| at % rules);
        let local = if is_v4 { "10.0.0.1:40000" } else { "[2001:db8::1]:40000" };
        let remote = match is_v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(value as u32)),
            false => IpAddr::V6(Ipv6Addr::from_bits(value)),
        };
        (outgoing(local, &SocketAddr::new(remote, 80).to_string()), rule)
    };
    (0..4_000).map(case).collect()
}

fn even4(at: usize) -> (u128, u128) {
    (0x0100_0000 + at as u128 * 0xa000, 15)
}

fn dense4(at: usize) -> (u128, u128) {
    (0x0a14_0000 + at as u128 * 2, 0)
}

fn even6(at: usize) -> (u128, u128) {
    ((0x2001_0db8 << 96) + ((at as u128 * 40_503) << 64), u64::MAX.into())
}

fn dense6(at: usize) -> (u128, u128) {
    ((0xfd00 << 112) + at as u128 * 2, 0)
}

/// First address and size of each prefix.
type Shape = fn(usize) -> (u128, u128);

fn at_most_80(name: &str, is_v4: bool, shape: impl Fn(usize) -> (u128, u128)) {
    let ranges: Vec<_> = (0..PREFIXES).map(shape).map(|(low, more)| (low, low + more)).collect();
    ranges_at_most_80(name, is_v4, &ranges);
}

fn ranges_at_most_80(name: &str, is_v4: bool, ranges: &[(u128, u128)]) {
    let worst = prefixes(ranges, is_v4);
    eprintln!("100,000 prefixes, {name}: {worst} instructions at most");
    assert!(worst <= 80, "{name}: {worst} instructions");
}

/// Draws as many as requested at random. None is contained in another.
fn drawn(mut draw: impl FnMut(&mut Random) -> (u128, u128)) -> Vec<(u128, u128)> {
    let mut random = Random(3);
    let mut taken = std::collections::BTreeMap::new();
    for _ in 0..PREFIXES * 20 {
        let (low, more) = draw(&mut random);
        let before = taken.range(..=low + more).next_back();
        if taken.len() < PREFIXES && before.is_none_or(|(_, high)| *high < low) {
            taken.insert(low, low + more);
        }
    }
    taken.into_iter().collect()
}

/// A prefix of so many bits in a block of fewer.
fn within(block: u128, block_bits: u32, bits: u32, random: &mut Random) -> (u128, u128) {
    let more = u128::MAX.checked_shr(bits).unwrap_or(0);
    let inside = u128::MAX.checked_shr(block_bits).unwrap_or(0);
    (block | (random.wide() & inside & !more), more)
}

const GLOBAL: u128 = 0x2000 << 112;

#[test]
fn a_hundred_thousand_ipv4_prefixes() {
    at_most_80("IPv4, even", true, even4);
    at_most_80("IPv4, dense", true, dense4);
}

#[test]
fn a_hundred_thousand_ipv6_prefixes() {
    at_most_80("IPv6, even", false, even6);
    at_most_80("IPv6, dense", false, dense6);
}

/// One half is clustered, and the other is spread evenly.
#[test]
fn prefixes_of_both_shapes() {
    let both = |first: Shape, then: Shape| {
        move |at: usize| if at < PREFIXES / 2 { first(at) } else { then(at) }
    };
    at_most_80("IPv4, both", true, both(dense4, |at| (0x8000_0000 + at as u128 * 0x4000, 15)));
    at_most_80("IPv6, both", false, both(even6, dense6));
}

/// Prefixes from the registries' blocks (RFC 7249) with the lengths of a full routing table, in thousandths. Half of
/// them are next to an earlier prefix. They form one list, because they overlap.
fn routing_table(blocks: &[(u128, u32)], lengths: &[(u32, usize)], is_v4: bool) {
    let lengths: Vec<u32> =
        lengths.iter().flat_map(|(length, of)| std::iter::repeat_n(*length, *of)).collect();
    let mut random = Random(4);
    let width = if is_v4 { 32 } else { 128 };
    let hosts = |length: u32| u128::MAX.checked_shr(128 - width + length).unwrap_or(0);
    let mut all: Vec<(u128, u128)> = Vec::with_capacity(PREFIXES);
    for _ in 0..PREFIXES {
        let more = hosts(*random.pick(&lengths));
        let beside = all.last().filter(|_| random.percent(50)).map(|it| it.1 + 1);
        let (block, length) = *random.pick(blocks);
        let low = beside.unwrap_or(block | random.wide() & hosts(length)) & !more;
        all.push((low, low | more));
    }
    let item = |(low, more): &(u128, u128)| {
        let address = match is_v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(*low as u32)),
            false => IpAddr::V6(Ipv6Addr::from_bits(*low)),
        };
        format!("\"{address}/{}\"", width - (more - low + 1).ilog2())
    };
    let items: Vec<_> = all.iter().map(item).collect();
    let mut runner = runner(&rules(std::iter::once(format!("remote = [{}]", items.join(", ")))));
    all.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (low, high) in all {
        match joined.last_mut() {
            Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
            _ => joined.push((low, high)),
        }
    }
    let cases = near(&joined, 1, is_v4);
    let worst = worst(&mut runner, cases.into_iter());
    let family = if is_v4 { "IPv4" } else { "IPv6" };
    eprintln!("100,000 prefixes, {family}, as routed: {worst} instructions at most");
    assert!(worst <= 80, "{family}: {worst} instructions");
}

#[test]
fn prefixes_as_they_are_routed() {
    let blocks: Vec<_> = (1..224).filter(|it| *it != 127).map(|it| (it << 24, 8)).collect();
    let lengths = [
        (24, 600),
        (23, 100),
        (22, 110),
        (21, 50),
        (20, 45),
        (19, 27),
        (18, 15),
        (17, 10),
        (16, 15),
        (15, 3),
        (14, 2),
        (12, 1),
        (28, 7),
        (32, 15),
    ];
    routing_table(&blocks, &lengths, true);
    let blocks =
        [(0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2a00, 12), (0x2c00, 12)];
    let lengths = [
        (48, 480),
        (32, 140),
        (44, 110),
        (40, 90),
        (36, 50),
        (46, 50),
        (47, 30),
        (29, 20),
        (56, 10),
        (64, 15),
        (128, 5),
    ];
    routing_table(&blocks.map(|(block, length)| (block << 112, length)), &lengths, false);
}

#[test]
#[ignore = "minutes"]
fn random_ipv4_prefixes() {
    let random = drawn(|random| {
        let more = (1 << random.below(12)) - 1;
        ((0x0100_0000 + random.wide() % 0xd000_0000) & !more, more)
    });
    ranges_at_most_80("IPv4, random", true, &random);
    let heaps = drawn(|random| {
        let heap = random.below(60) as u32;
        let hosts = u128::from(u32::MAX >> (8 + heap % 20));
        let block = u128::from(heap.wrapping_mul(0x9e37_79b9) & 0x7fff_fff0) & !hosts;
        (block | random.wide() & hosts, 0)
    });
    ranges_at_most_80("IPv4, heaps", true, &heaps);
}

#[test]
#[ignore = "minutes"]
fn random_ipv6_prefixes() {
    for (first, lengths) in [(48, 1), (64, 1), (128, 1), (32, 33), (32, 97)] {
        let random = drawn(|random| {
            let bits = first + random.below(lengths) as u32;
            within(GLOBAL, 3, bits, random)
        });
        ranges_at_most_80(&format!("IPv6, {lengths} lengths from /{first}"), false, &random);
    }
    // A provider: hosts with the same few last words in neighbouring networks.
    at_most_80("IPv6, hosts", false, |at| {
        ((0x2001_0db8 << 96) + ((at as u128 / 4) << 64) + at as u128 % 4 + 1, 0)
    });
    let crowded = drawn(|random| within(0xfd00 << 112, 64, 128, random));
    ranges_at_most_80("IPv6, random hosts of a network", false, &crowded);
    let heaps = drawn(|random| {
        let heap = random.below(60) as u128;
        let bits = 16 + heap as u32 % 30;
        let block = heap.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 3 | GLOBAL;
        within(block & !(u128::MAX >> bits), bits, 64, random)
    });
    ranges_at_most_80("IPv6, heaps", false, &heaps);
}
