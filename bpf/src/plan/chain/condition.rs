//! A rule's formula as comparisons, in an order that fails early.

use super::Load;
use crate::rule::{Fact, Pattern, SocketField};
use crate::space::{Dimension, Interfaces, MAPPED, Normal, Set, Side, addresses as addresses_of};
use std::collections::BTreeMap;

/// The maximum length of a list that is compared item by item. A table lookup takes 25 to 35 instructions.
const MOST_ITEMS: usize = 8;

/// A table lookup counts as this many comparisons.
const LISTED: usize = 8;

/// A formula of comparisons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All must match. An empty list always matches.
    All(Vec<Condition>),
    /// At least one must match. An empty list never matches.
    Any(Vec<Condition>),
    /// A comparison and the result that it must have.
    Check(Check, bool),
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// This host answers the SYN.
    Incoming,
    /// The packets are IPv4.
    Ipv4,
    /// Both ends have the same address.
    SameAddress,
    /// A fact.
    Fact(Fact),
    /// The local port is below, equal to or above the remote one.
    PortOrder([bool; 3]),
    /// First and last port.
    Port(Side, u16, u16),
    /// First and last IPv4 address.
    Address4(Side, u32, u32),
    /// First and last IPv6 address.
    Address6(Side, u128, u128),
    /// A bit of the number that [`Chain::lookups`] has for the field.
    Listed(Dimension, usize),
    /// The interface is in the list.
    Interface(usize),
    /// There is an interface.
    AnyInterface,
}

/// All of these, in ascending order of cost.
pub(super) fn all(parts: Vec<Condition>) -> Condition {
    joined(parts, true)
}

/// One of these, in ascending order of cost.
pub(super) fn any(parts: Vec<Condition>) -> Condition {
    joined(parts, false)
}

fn joined(parts: Vec<Condition>, is_all: bool) -> Condition {
    let mut flat: Vec<Condition> = Vec::new();
    for part in parts {
        let inner = match part {
            Condition::All(inner) if is_all => inner,
            Condition::Any(inner) if !is_all => inner,
            // This is `false` in a conjunction or `true` in a disjunction.
            Condition::All(inner) | Condition::Any(inner) if inner.is_empty() => {
                return if is_all { Condition::Any(inner) } else { Condition::All(inner) };
            }
            other => vec![other],
        };
        for part in inner {
            if !flat.contains(&part) {
                flat.push(part);
            }
        }
    }
    flat.sort_by_key(Condition::cost);
    match flat.len() {
        1 => flat.remove(0),
        _ if is_all => Condition::All(flat),
        _ => Condition::Any(flat),
    }
}

/// The long lists of each field.
pub(super) type FieldLists = BTreeMap<Dimension, Vec<Set>>;

/// The comparisons of a formula.
pub(super) fn lower(
    formula: &Normal,
    interfaces: &Interfaces,
    lists: &mut FieldLists,
) -> Condition {
    let check = |check, wanted| Condition::Check(check, wanted);
    match formula {
        Normal::All(parts) => all(parts.iter().map(|it| lower(it, interfaces, lists)).collect()),
        Normal::Any(parts) => any(parts.iter().map(|it| lower(it, interfaces, lists)).collect()),
        Normal::In(dimension, set) => match dimension {
            Dimension::Direction => check(Check::Incoming, set.contains(1)),
            Dimension::Family => check(Check::Ipv4, set.contains(0)),
            Dimension::SameAddress => check(Check::SameAddress, set.contains(1)),
            Dimension::Fact(fact) => check(Check::Fact(*fact), set.contains(1)),
            Dimension::PortOrder => {
                check(Check::PortOrder([0, 1, 2].map(|order| set.contains(order))), true)
            }
            Dimension::Port(_) | Dimension::Address(_) => {
                let others = dimension.domain().minus(set);
                match others.ranges().len() < set.ranges().len() {
                    true => values(*dimension, &others, lists).negated(),
                    false => values(*dimension, set, lists),
                }
            }
            Dimension::Interface { .. } => interface(*dimension, set, interfaces),
        },
    }
}

fn values(dimension: Dimension, set: &Set, lists: &mut FieldLists) -> Condition {
    match dimension {
        Dimension::Port(side) if set.ranges().len() <= MOST_ITEMS => {
            let one = |(low, high): &(u128, u128)| {
                Condition::Check(Check::Port(side, *low as u16, *high as u16), true)
            };
            any(set.ranges().iter().map(one).collect())
        }
        Dimension::Address(side) if comparisons(set) <= MOST_ITEMS => addresses(side, set),
        _ => {
            let of = lists.entry(dimension).or_default();
            let known = of.iter().position(|it| it == set);
            let bit = known.unwrap_or_else(|| {
                of.push(set.clone());
                of.len() - 1
            });
            Condition::Check(Check::Listed(dimension, bit), true)
        }
    }
}

fn interface(dimension: Dimension, set: &Set, interfaces: &Interfaces) -> Condition {
    let list = |set: Set| {
        let classes = (dimension, set);
        interfaces.lists.iter().position(|it| interfaces.classes(it) == classes)
    };
    let (list, wanted) = match (list(set.clone()), list(dimension.domain().minus(set))) {
        (Some(list), _) => (list, true),
        (None, Some(list)) => (list, false),
        (None, None) => unreachable!("a test of the interface is about a list"),
    };
    let is_any = |it: &Pattern| it.0.bytes().all(|byte| byte == b'*');
    let check = match interfaces.lists[list].iter().any(is_any) {
        true => Check::AnyInterface,
        false => Check::Interface(list),
    };
    Condition::Check(check, wanted)
}

/// Comparisons of addresses. An IPv4 range that is not a prefix takes two.
fn comparisons(set: &Set) -> usize {
    let of = |(low, high): &(u128, u128)| match *high <= MAPPED.1 && !is_prefix(*low, *high) {
        true => 2,
        false => 1,
    };
    set.ranges().iter().map(of).sum()
}

fn addresses(side: Side, set: &Set) -> Condition {
    let mapped = Set::range(MAPPED.0, MAPPED.1);
    let (v4, v6) = (set.and(&mapped), set.minus(&mapped));
    let is_ipv4 = |wanted| Condition::Check(Check::Ipv4, wanted);
    let four = |(low, high): &(u128, u128)| {
        Condition::Check(Check::Address4(side, *low as u32, *high as u32), true)
    };
    let four = match v4 == mapped {
        true => is_ipv4(true),
        // In an IPv6 connection the field is 0 or 127.0.0.6, so this fails before the family is tested.
        false => all(vec![any(v4.ranges().iter().map(four).collect()), is_ipv4(true)]),
    };
    let six = |(low, high): &(u128, u128)| {
        let check = Condition::Check(Check::Address6(side, *low, *high), true);
        // In an IPv4 connection these words are the mapped address, or zero without CONFIG_IPV6.
        if *low >> 48 == 0 { all(vec![check, is_ipv4(false)]) } else { check }
    };
    let six = match v6 == addresses_of(1) {
        true => is_ipv4(false),
        false => any(v6.ranges().iter().map(six).collect()),
    };
    any(vec![four, six])
}

/// True if the range of addresses is a prefix.
#[must_use]
pub fn is_prefix(low: u128, high: u128) -> bool {
    let differing = low ^ high;
    differing & differing.wrapping_add(1) == 0 && low & differing == 0
}

impl Condition {
    fn negated(self) -> Self {
        match self {
            Self::All(parts) => any(parts.into_iter().map(Self::negated).collect()),
            Self::Any(parts) => all(parts.into_iter().map(Self::negated).collect()),
            Self::Check(check, wanted) => Self::Check(check, !wanted),
        }
    }

    /// Calls `f` with each comparison.
    pub fn each(&self, f: &mut impl FnMut(&Check)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each(f)),
            Self::Check(check, _) => f(check),
        }
    }

    /// True if one of the comparisons satisfies the predicate.
    #[must_use]
    pub fn any(&self, wanted: &impl Fn(&Check) -> bool) -> bool {
        let mut found = false;
        self.each(&mut |check| found |= wanted(check));
        found
    }

    pub(super) fn comparisons(&self) -> usize {
        let mut count = 0;
        // A table lookup has more paths to verify than a comparison.
        self.each(&mut |check| count += if let Check::Listed(..) = check { LISTED } else { 1 });
        count
    }

    /// The condition that is necessary for a match, regardless of such comparisons.
    pub(super) fn without(&self, dropped: &impl Fn(&Check) -> bool) -> Self {
        match self {
            Self::All(parts) => all(parts.iter().map(|part| part.without(dropped)).collect()),
            Self::Any(parts) => any(parts.iter().map(|part| part.without(dropped)).collect()),
            Self::Check(check, _) if dropped(check) => Self::All(Vec::new()),
            Self::Check(..) => self.clone(),
        }
    }

    /// The sort key: instructions, and a penalty for tests that are often true.
    fn cost(&self) -> u32 {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::cost).sum(),
            Self::Check(check, _) => check.cost(),
        }
    }
}

impl Check {
    fn cost(&self) -> u32 {
        match self {
            Self::Port(_, low, high) if low == high => 1,
            Self::Port(..) => 2,
            Self::Address4(_, low, high) if low == high => 3,
            Self::PortOrder(_) | Self::Address4(..) => 4,
            Self::Address6(..) | Self::Fact(Fact::Sum(_)) => 6,
            // A call of a helper function.
            Self::Fact(Fact::Socket(it)) if it.of == SocketField::Tos => 40,
            Self::SameAddress | Self::Incoming | Self::Fact(Fact::Socket(_)) => 8,
            Self::Ipv4 => 9,
            Self::Listed(..) => 40,
            Self::Interface(_) | Self::AnyInterface => 150,
            Self::Fact(Fact::Code(_)) => 200,
        }
    }

    pub(super) fn loads(&self) -> Vec<Load> {
        match self {
            Self::PortOrder(_) => vec![Load::Port(Side::Local), Load::Port(Side::Remote)],
            Self::Port(side, ..) => vec![Load::Port(*side)],
            Self::Fact(Fact::Sum(sum)) => {
                let sides = [(Side::Local, sum.local), (Side::Remote, sum.remote)];
                let used = sides.into_iter().filter(|(_, (factor, _))| *factor != 0);
                used.map(|(side, _)| Load::Port(side)).collect()
            }
            Self::Address4(side, ..) => vec![Load::Address4(*side)],
            Self::Address6(side, low, high) => {
                if !is_prefix(*low, *high) {
                    return Vec::new();
                }
                // The first and the last of the words that all of its addresses share.
                let words = ((low ^ high).leading_zeros().div_ceil(32)).clamp(1, 4);
                vec![Load::Word6(*side, 0), Load::Word6(*side, words - 1)]
            }
            _ => Vec::new(),
        }
    }
}
