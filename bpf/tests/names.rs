//! Lists of interface patterns, proven by execution: for any number of patterns, the program finds the same result as
//! matching each pattern separately.

mod support;

use support::check::{Seen, check};
use support::model::{Condition, Ports, Rule, Rules, Side, Which};
use support::random::Random;

const CONNECTIONS: usize = 1_500;

/// The characters of patterns.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Names,
    Prefixes,
    Globs,
    /// Letters that few patterns contain, because a leading `*` multiplies states.
    Contained,
    All,
}

/// A few letters, up to this many.
fn letters(random: &mut Random, from: &str, most: usize) -> String {
    let count = 1 + random.below(most);
    (0..count).map(|_| char::from(*random.pick(from.as_bytes()))).collect()
}

fn pattern(kind: Kind, random: &mut Random) -> String {
    let text = match kind {
        Kind::Names => letters(random, "abc01.", 15),
        Kind::Prefixes => letters(random, "abc01", 8) + "*",
        Kind::Globs => letters(random, "ab0*?", 9),
        Kind::Contained => format!("*{}*", letters(random, "abcdefghijklmnopqrstuvwxyzABCDEF", 2)),
        Kind::All => {
            let kind = *random.pick(&[Kind::Names, Kind::Prefixes, Kind::Globs, Kind::Contained]);
            pattern(kind, random)
        }
    };
    if [".", ".."].contains(&text.as_str()) { "a".into() } else { text }
}

/// A rule for each list. Some also test a port, so later rules are reached.
fn rules(kind: Kind, lists: usize, patterns: usize, random: &mut Random) -> Rules {
    let rule = |_| {
        let count = 1 + random.below(patterns);
        let list = (0..count).map(|_| pattern(kind, random)).collect();
        let mut conditions = vec![Condition::Interface(list)];
        if random.percent(60) {
            let port = 1 + random.below(4) as u16;
            let ports = vec![Ports(port, port)];
            conditions.push(Condition::Port(Which::One(Side::Remote), ports));
        }
        Rule { conditions, rto: Some(1_000_000), settings: Vec::new() }
    };
    Rules { rules: (0..lists).map(rule).collect(), style: random.next() }
}

fn prove(kind: Kind, sizes: &[(usize, usize)]) {
    let mut random = Random(kind as u64);
    let mut seen = Seen::default();
    for (lists, patterns) in sizes {
        let rules = rules(kind, *lists, *patterns, &mut random);
        check(&rules, CONNECTIONS, &mut seen)
            .unwrap_or_else(|what| panic!("{kind:?}, {lists} lists: {what}"));
    }
    eprintln!("{kind:?}: {seen:?}");
    assert_eq!(seen.sets, sizes.len(), "{seen:?}");
    assert!(seen.decided * 10 >= seen.runs, "too few names matched: {seen:?}");
    // counts.rs tests the cost of a set of rules.
    assert!(seen.worst <= 4_000, "{seen:?}");
}

const SIZES: [(usize, usize); 6] = [(1, 1), (3, 1), (2, 9), (8, 4), (30, 12), (64, 30)];

#[test]
fn names() {
    prove(Kind::Names, &SIZES);
}

#[test]
fn prefixes() {
    prove(Kind::Prefixes, &SIZES);
}

#[test]
fn globs() {
    prove(Kind::Globs, &SIZES);
}

#[test]
fn what_multiplies() {
    prove(Kind::Contained, &[(2, 1), (8, 2), (30, 1), (64, 1)]);
}

#[test]
fn all_kinds() {
    prove(Kind::All, &[(3, 3), (8, 4), (30, 4), (64, 4)]);
}
