//! The rule sets that are measured.

use crate::random::Random;
use crate::rule::Ports;
use crate::rule::Prefix;
use crate::rule::Rule;
use std::collections::BTreeMap;
use std::collections::HashSet;

/// The shape of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Rules with one `port` each.
    Ports,
    /// One rule with a list of `remote` prefixes.
    List { is_v4: bool },
    /// Rules with one `remote` prefix each, the longest first.
    Prefixes { is_v4: bool },
    /// Rules with some of five conditions.
    Mixed,
}

impl Shape {
    /// True if sets of one family differ only in size.
    pub(crate) fn family(self) -> &'static str {
        match self {
            Shape::Ports => "port rules",
            Shape::List { is_v4: true } => "IPv4 prefixes in one list",
            Shape::List { is_v4: false } => "IPv6 prefixes in one list",
            Shape::Prefixes { is_v4: true } => "IPv4 prefix rules",
            Shape::Prefixes { is_v4: false } => "IPv6 prefix rules",
            Shape::Mixed => "mixed rules",
        }
    }
}

/// A rule set. The same shape and size give the same rules in every run.
pub(crate) struct RuleSet {
    pub(crate) shape: Shape,
    pub(crate) size: usize,
    pub(crate) rules: Vec<Rule>,
}

const V4: bool = true;
const V6: bool = false;

/// Shapes with their sizes in ascending order. The quick run takes those marked.
const ALL: &[(Shape, &[(usize, bool)])] = &[
    (Shape::Ports, &[(1, true), (10, true), (100, false), (1_000, false), (10_000, true)]),
    (Shape::List { is_v4: V4 }, &[(1_000, true), (10_000, false), (100_000, true)]),
    (Shape::List { is_v4: V6 }, &[(1_000, true), (10_000, false), (100_000, true)]),
    (Shape::Prefixes { is_v4: V4 }, &[(1_000, true), (10_000, false)]),
    (Shape::Prefixes { is_v4: V6 }, &[(1_000, false), (10_000, false)]),
    (Shape::Mixed, &[(10, true), (100, true), (1_000, false), (10_000, false)]),
];

/// The sets of a run, by shape and size.
pub(crate) fn chosen(quick: bool) -> Vec<(Shape, usize)> {
    let sizes = |(shape, sizes): &(Shape, &'static [(usize, bool)])| {
        let shape = *shape;
        sizes.iter().filter(move |(_, in_quick)| *in_quick || !quick).map(move |it| (shape, it.0))
    };
    ALL.iter().flat_map(sizes).collect()
}

/// Shape and size of the set with that [`RuleSet::name`].
pub(crate) fn named(name: &str) -> Option<(Shape, usize)> {
    chosen(false).into_iter().find(|(shape, size)| label(*shape, *size) == name)
}

fn label(shape: Shape, size: usize) -> String {
    let text = format!("{} {}", grouped(size), shape.family());
    if size == 1 { text.trim_end_matches('s').into() } else { text }
}

/// Formats a number with a comma as the thousands separator.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

impl RuleSet {
    pub(crate) fn new(shape: Shape, size: usize) -> Self {
        let mut random = Random::of(&label(shape, size));
        let remote = |prefix: Prefix| Rule { remote: vec![prefix], ..Rule::default() };
        let rules = match shape {
            Shape::Ports => {
                let one = |port: u16| Rule { port: Some((port, port)), ..Rule::default() };
                ports(&mut random, size).into_iter().map(one).collect()
            }
            Shape::List { is_v4 } => {
                vec![Rule { remote: prefixes(&mut random, is_v4, size), ..Rule::default() }]
            }
            Shape::Prefixes { is_v4 } => {
                let mut list = prefixes(&mut random, is_v4, size);
                list.sort_by_key(|prefix| std::cmp::Reverse(prefix.length));
                let mut covered = Covered::default();
                list.retain(|prefix| covered.add(*prefix));
                list.into_iter().map(remote).collect()
            }
            Shape::Mixed => mixed(&mut random, size),
        };
        RuleSet { shape, size, rules }
    }

    pub(crate) fn name(&self) -> String {
        label(self.shape, self.size)
    }

    /// The name in file names.
    pub(crate) fn slug(&self) -> String {
        self.name().replace(',', "").replace(' ', "-").to_lowercase()
    }
}

/// Distinct ports, beginning with the hand-written program's.
fn ports(random: &mut Random, count: usize) -> Vec<u16> {
    let mut all = vec![12_345];
    let mut seen: HashSet<u16> = all.iter().copied().collect();
    // Far more attempts than needed.
    for _ in 0..count * 20 {
        let port = 1_024 + random.below(64_512) as u16;
        if all.len() < count && seen.insert(port) {
            all.push(port);
        }
    }
    all
}

/// Prefix lengths with the frequencies of a full routing table, per thousand.
const V4_LENGTHS: &[(u32, usize)] = &[
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
const V6_LENGTHS: &[(u32, usize)] = &[
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

/// The address blocks from which the registries allocate (RFC 7249 and IANA's list).
const V6_BLOCKS: &[(u128, u32)] =
    &[(0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2a00, 12), (0x2c00, 12)];

/// Distinct prefixes, some of them nested. Half of them are adjacent to an earlier one, as in real announcements.
fn prefixes(random: &mut Random, is_v4: bool, count: usize) -> Vec<Prefix> {
    let lengths = if is_v4 { V4_LENGTHS } else { V6_LENGTHS };
    let mut all: Vec<Prefix> = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count * 100 {
        if all.len() == count {
            break;
        }
        let length = random.weighted(lengths).unwrap_or(24);
        let beside = random.percent(50).then(|| all.len().checked_sub(1)).flatten();
        let bits = match (beside.and_then(|last| all.get(last)), is_v4) {
            (Some(last), _) => last.last().wrapping_add(1),
            (None, true) => random.wide() & u128::from(u32::MAX),
            (None, false) => {
                let (start, length) = V6_BLOCKS[random.below(V6_BLOCKS.len())];
                let block = Prefix::new(false, start << 112, length);
                block.bits | (random.wide() & block.host_mask())
            }
        };
        let prefix = Prefix::new(is_v4, bits, length);
        if is_unicast(prefix) && seen.insert(prefix) {
            all.push(prefix);
        }
    }
    all
}

/// Addresses that accept connections on a host where all of them are local.
fn is_unicast(prefix: Prefix) -> bool {
    match prefix.is_v4 {
        true => {
            (1..224).contains(&(prefix.bits >> 24))
                && prefix.bits >> 24 != 127
                && prefix.length >= 8
        }
        false => prefix.bits >> 125 == 1,
    }
}

/// Ranges of addresses in use, to detect prefixes that are covered completely.
#[derive(Default)]
struct Covered(BTreeMap<u128, u128>);

impl Covered {
    /// Returns false if the whole prefix was covered already.
    fn add(&mut self, prefix: Prefix) -> bool {
        let (mut low, mut high) = (prefix.bits, prefix.last());
        let before = self.0.range(..=low).next_back().map(|(start, end)| (*start, *end));
        if let Some((start, end)) = before.filter(|(_, end)| *end >= low) {
            if end >= high {
                return false;
            }
            low = start;
        }
        // Merges all ranges that begin inside this one or directly after it.
        while let Some((start, end)) =
            self.0.range(low..=high.saturating_add(1)).next().map(|(start, end)| (*start, *end))
        {
            self.0.remove(&start);
            high = high.max(end);
        }
        if let Some((start, end)) = self.0.range(..low).next_back().map(|(a, b)| (*a, *b))
            && end.checked_add(1) == Some(low)
        {
            self.0.remove(&start);
            low = start;
        }
        self.0.insert(low, high);
        true
    }
}

/// Rules with one to five conditions: local and remote ports, local and remote prefixes, and the direction. Each rule
/// has a port or a remote prefix that no other overlaps, so every rule is reachable.
fn mixed(random: &mut Random, count: usize) -> Vec<Rule> {
    let step = 64_512 / count.max(1) as u32;
    let own = |at: usize, width: u32| -> Ports {
        let low = 1_024 + at as u32 * step;
        (low as u16, (low + width.min(step - 1)) as u16)
    };
    let mut rules = Vec::new();
    for at in 0..count {
        let is_v4 = random.percent(60);
        let site = at as u128 + 1;
        let remote = match is_v4 {
            true => Prefix::new(true, 44 << 24 | site << 8, 24),
            false => Prefix::new(false, 0x2a00 << 112 | site << 80, 48),
        };
        let local = match is_v4 {
            true => Prefix::new(true, (10 << 24) + ((random.below(16) as u128) << 16), 16),
            false => Prefix::new(false, 0x2001 << 112 | (random.below(16) as u128) << 80, 48),
        };
        let width = [0, 0, 0, 9, 49][random.below(5)];
        let mut rule = Rule::default();
        let kind = random.below(3);
        if kind != 1 {
            rule.remote = vec![remote];
        }
        if kind != 0 {
            rule.remote_port = Some(own(at, width));
        }
        if random.percent(30) {
            rule.local_port = Some(own(random.below(count), width));
        }
        if random.percent(40) {
            rule.local = vec![local];
        }
        if random.percent(40) {
            rule.incoming = Some(random.percent(50));
        }
        rules.push(rule);
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered_is_told() {
        let four = |a: u32, length| Prefix::new(true, u128::from(a), length);
        let mut covered = Covered::default();
        assert!(covered.add(four(0x0a00_0000, 24)));
        assert!(covered.add(four(0x0a00_0200, 24)));
        assert!(covered.add(four(0x0a00_0000, 22)), "half of it is free");
        assert!(!covered.add(four(0x0a00_0100, 24)));
        assert!(covered.add(four(0x0a00_0400, 23)));
        assert!(covered.add(four(0x0a00_0600, 23)));
        assert!(!covered.add(four(0x0a00_0000, 21)), "two neighbours cover it");
        assert_eq!(covered.0.len(), 1);
    }

    #[test]
    fn sets_are_found_by_name_and_come_out_alike() {
        for (shape, size) in chosen(true).into_iter().filter(|it| it.1 <= 1_000) {
            let (one, other) = (RuleSet::new(shape, size), RuleSet::new(shape, size));
            assert_eq!(format!("{:?}", one.rules), format!("{:?}", other.rules));
            assert_eq!(named(&one.name()), Some((shape, size)));
        }
        assert_eq!(label(Shape::Ports, 1), "1 port rule");
        assert_eq!(label(Shape::Mixed, 10_000), "10,000 mixed rules");
    }
}
