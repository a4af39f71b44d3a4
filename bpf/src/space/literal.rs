//! Formulas as conditions on values. Regions and chains are both built from them.

use super::{Dimension, Interfaces, MAPPED, Set, addresses, family_value};
use crate::rule::{Direction, Formula, PortRange, Prefix, Test};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A formula without `not`: sets of values, joined by `and` and `or`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Normal {
    /// All must match. An empty list always matches.
    All(Vec<Normal>),
    /// At least one must match. An empty list never matches.
    Any(Vec<Normal>),
    /// The dimension has one of these values. The set is neither empty nor complete.
    In(Dimension, Set),
}

impl Normal {
    /// The formula, or its negation. Consecutive tests of one dimension become one set.
    #[must_use]
    pub fn new(formula: &Formula, negate: bool, interfaces: &Interfaces) -> Self {
        match formula {
            Formula::Not(inner) => Self::new(inner, !negate, interfaces),
            Formula::Test(test) => {
                let (dimension, set) = literal(test, interfaces);
                let domain = dimension.domain();
                Self::within(dimension, if negate { domain.minus(&set) } else { set.and(&domain) })
            }
            Formula::All(parts) | Formula::Any(parts) => {
                let parts = parts.iter().map(|part| Self::new(part, negate, interfaces));
                // The negation of a conjunction is the disjunction of the negations.
                Self::join(parts, matches!(formula, Formula::All(_)) != negate)
            }
        }
    }

    /// A test of one dimension, or `true` or `false` if the set has all values or none.
    fn within(dimension: Dimension, set: Set) -> Self {
        if set.is_empty() {
            return Self::Any(Vec::new());
        }
        if set == dimension.domain() {
            return Self::All(Vec::new());
        }
        // A test for all addresses of a family is a test of the family.
        let family = [0, 1].into_iter().find(|family| set == addresses(*family));
        match (dimension, family) {
            (Dimension::Address(_), Some(family)) => Self::In(Dimension::Family, Set::one(family)),
            _ => Self::In(dimension, set),
        }
    }

    /// The conjunction or the disjunction of the parts: one set for each dimension, and the other parts.
    fn join(parts: impl Iterator<Item = Self>, is_all: bool) -> Self {
        let flat = parts.flat_map(|part| match part {
            Self::All(inner) if is_all => inner,
            Self::Any(inner) if !is_all => inner,
            other => vec![other],
        });
        let mut sets: BTreeMap<Dimension, Vec<Set>> = BTreeMap::new();
        let mut others = Vec::new();
        for part in flat {
            match part {
                // A list of interfaces remains separate, because it is matched as a whole.
                Self::In(at, set) if !at.is_interface() => sets.entry(at).or_default().push(set),
                other => others.push(other),
            }
        }
        let one = |(at, sets): (Dimension, Vec<Set>)| match is_all {
            true => Self::within(at, sets.iter().fold(at.domain(), |all, set| all.and(set))),
            false => {
                let ranges = sets.iter().flat_map(|set| set.ranges()).copied();
                Self::within(at, Set::from_ranges(ranges.collect()))
            }
        };
        let (always, never) = (Self::All(Vec::new()), Self::Any(Vec::new()));
        let (neutral, absorbing) = if is_all { (always, never) } else { (never, always) };
        let parts = sets.into_iter().map(one).chain(others);
        let mut parts: Vec<_> = parts.filter(|part| *part != neutral).collect();
        match parts.len() {
            _ if parts.contains(&absorbing) => absorbing,
            1 => parts.remove(0),
            _ if is_all => Self::All(parts),
            _ => Self::Any(parts),
        }
    }
}

fn literal(test: &Test, interfaces: &Interfaces) -> (Dimension, Set) {
    match test {
        Test::Direction(Direction::Outgoing) => (Dimension::Direction, Set::one(0)),
        Test::Direction(Direction::Incoming) => (Dimension::Direction, Set::one(1)),
        Test::Family(family) => (Dimension::Family, Set::one(family_value(*family))),
        Test::Port(end, ranges) => (Dimension::Port((*end).into()), port_set(ranges)),
        Test::Ports(Ordering::Less) => (Dimension::PortOrder, Set::one(0)),
        Test::Ports(Ordering::Equal) => (Dimension::PortOrder, Set::one(1)),
        Test::Ports(Ordering::Greater) => (Dimension::PortOrder, Set::one(2)),
        Test::Fact(fact) => (Dimension::Fact(*fact), Set::one(1)),
        Test::SameAddress => (Dimension::SameAddress, Set::one(1)),
        Test::Address(end, prefixes) => (Dimension::Address((*end).into()), prefix_set(prefixes)),
        Test::Interface(patterns) => interfaces.classes(patterns),
    }
}

/// Ports as a set.
pub(crate) fn port_set(ranges: &[PortRange]) -> Set {
    let ranges = ranges.iter().map(|it| (u128::from(it.low), u128::from(it.high)));
    Set::from_ranges(ranges.collect())
}

/// Prefixes as a set of [`Dimension::Address`].
fn prefix_set(prefixes: &[Prefix]) -> Set {
    let size = |host_bits: u32| 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match *prefix {
            Prefix::V4(address, length) => {
                let low = MAPPED.0 | u128::from(address.to_bits());
                v4.push((low, low | size(32 - u32::from(length))));
            }
            Prefix::V6(address, length) => {
                let low = address.to_bits();
                v6.push((low, low | size(128 - u32::from(length))));
            }
        }
    }
    Set::from_ranges(v6).minus(&addresses(0)).or(&Set::from_ranges(v4))
}
