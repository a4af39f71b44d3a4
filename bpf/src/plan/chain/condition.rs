//! A rule's formula as comparisons, in an order that fails early.

use super::Load;
use crate::rule::{Direction, End, Fact, Family, Formula, Pattern, PortRange, Prefix, Test};
use crate::space::{
    Dimension, Interfaces, MAPPED, Set, Side, addresses as addresses_of, port_set, prefix_set,
};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Items of a list that are compared one by one; a search for one in a table takes 25 to 35 instructions.
const MOST_ITEMS: usize = 8;

/// A formula of comparisons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All match; none: always.
    All(Vec<Condition>),
    /// One at least; none: never.
    Any(Vec<Condition>),
    /// A comparison, and whether it is wanted to be true.
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
    /// The local port is below, at or above the remote one.
    PortOrder([bool; 3]),
    /// First and last port.
    Port(Side, u16, u16),
    /// First and last IPv4 address.
    Address4(Side, u32, u32),
    /// First and last IPv6 address.
    Address6(Side, u128, u128),
    /// A bit of a number of [`Chain::lookups`].
    Listed(usize, usize),
    /// The interface is in the list.
    Interface(usize),
    /// There is an interface.
    AnyInterface,
}

/// All of these, what costs least first.
pub(super) fn all(parts: Vec<Condition>) -> Condition {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Condition::All(inner) => flat.extend(inner),
            Condition::Any(inner) if inner.is_empty() => return Condition::Any(inner),
            other => flat.push(other),
        }
    }
    joined(flat, Condition::All)
}

/// One of these, what costs least first.
pub(super) fn any(parts: Vec<Condition>) -> Condition {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Condition::Any(inner) => flat.extend(inner),
            Condition::All(inner) if inner.is_empty() => return Condition::All(inner),
            other => flat.push(other),
        }
    }
    joined(flat, Condition::Any)
}

fn joined(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    let mut known = Vec::new();
    parts.retain(|part| {
        let is_new = !known.contains(part);
        known.extend(is_new.then(|| part.clone()));
        is_new
    });
    parts.sort_by_key(Condition::cost);
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

/// The long lists of each field.
pub(super) type FieldLists = BTreeMap<Dimension, Vec<Set>>;

pub(super) fn lower(
    formula: &Formula,
    negate: bool,
    interfaces: &Interfaces,
    lists: &mut FieldLists,
) -> Condition {
    let join = |is_all: bool| if is_all { all } else { any };
    match formula {
        Formula::Not(inner) => lower(inner, !negate, interfaces, lists),
        Formula::All(parts) | Formula::Any(parts) => {
            if let Some(order) = order(formula) {
                return Condition::Check(Check::PortOrder(order), !negate);
            }
            let is_all = matches!(formula, Formula::All(_)) != negate;
            join(is_all)(parts.iter().map(|part| lower(part, negate, interfaces, lists)).collect())
        }
        Formula::Test(test) => {
            let found = literal(test, interfaces, lists);
            if negate { found.negated() } else { found }
        }
    }
}

/// `!=`, `<=` and `>=` of two ports are one comparison.
fn order(formula: &Formula) -> Option<[bool; 3]> {
    let Formula::Any(parts) = formula else { return None };
    let mut order = [false; 3];
    for part in parts {
        let Formula::Test(Test::Ports(ordering)) = part else { return None };
        order[place(*ordering)] = true;
    }
    (!parts.is_empty()).then_some(order)
}

fn place(ordering: Ordering) -> usize {
    match ordering {
        Ordering::Less => 0,
        Ordering::Equal => 1,
        Ordering::Greater => 2,
    }
}

fn literal(test: &Test, interfaces: &Interfaces, lists: &mut FieldLists) -> Condition {
    let check = |check, wanted| Condition::Check(check, wanted);
    match test {
        Test::Direction(direction) => check(Check::Incoming, *direction == Direction::Incoming),
        Test::Family(family) => check(Check::Ipv4, *family == Family::Ipv4),
        Test::Fact(fact) => check(Check::Fact(*fact), true),
        Test::SameAddress => check(Check::SameAddress, true),
        Test::Ports(ordering) => {
            let mut order = [false; 3];
            order[place(*ordering)] = true;
            check(Check::PortOrder(order), true)
        }
        Test::Port(end, ranges) => ports(*end, ranges, lists),
        Test::Address(end, prefixes) => addresses(*end, prefixes, lists),
        Test::Interface(patterns) => {
            let is_any = |it: &Pattern| it.0.bytes().all(|byte| byte == b'*');
            match patterns.iter().any(is_any) {
                true => check(Check::AnyInterface, true),
                false => check(Check::Interface(interfaces.number(patterns)), true),
            }
        }
    }
}

fn ports(end: End, ranges: &[PortRange], lists: &mut FieldLists) -> Condition {
    let side = end.into();
    let set = port_set(ranges);
    if set == Dimension::Port(side).domain() {
        return Condition::All(Vec::new());
    }
    if set.ranges().len() > MOST_ITEMS {
        return listed(Dimension::Port(side), set, lists);
    }
    let one = |(low, high): &(u128, u128)| {
        Condition::Check(Check::Port(side, *low as u16, *high as u16), true)
    };
    any(set.ranges().iter().map(one).collect())
}

fn listed(dimension: Dimension, set: Set, lists: &mut FieldLists) -> Condition {
    let of = lists.entry(dimension).or_default();
    let known = of.iter().position(|it| *it == set);
    let bit = known.unwrap_or_else(|| {
        of.push(set);
        of.len() - 1
    });
    // The field gets its number when all are known.
    let field = match dimension {
        Dimension::Port(Side::Local) => 0,
        Dimension::Port(Side::Remote) => 1,
        Dimension::Address(Side::Local) => 2,
        Dimension::Address(Side::Remote) => 3,
        other => unreachable!("{other:?} has no lists"),
    };
    Condition::Check(Check::Listed(field, bit), true)
}

const FIELDS: [Dimension; 4] = [
    Dimension::Port(Side::Local),
    Dimension::Port(Side::Remote),
    Dimension::Address(Side::Local),
    Dimension::Address(Side::Remote),
];

fn addresses(end: End, prefixes: &[Prefix], lists: &mut FieldLists) -> Condition {
    let side: Side = end.into();
    let set = prefix_set(prefixes);
    let mapped = Set::range(MAPPED.0, MAPPED.1);
    let (v4, v6) = (set.and(&mapped), set.minus(&mapped));
    let comparisons = |set: &Set| set.ranges().iter().map(|range| pieces(*range)).sum::<usize>();
    if comparisons(&v4) + v6.ranges().len() > MOST_ITEMS {
        return listed(Dimension::Address(side), set, lists);
    }
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
    let all_six = addresses_of(1);
    let six = match v6 == all_six {
        true => is_ipv4(false),
        false => any(v6.ranges().iter().map(six).collect()),
    };
    if v4 == mapped && v6 == all_six { Condition::All(Vec::new()) } else { any(vec![four, six]) }
}

/// True for a range of addresses that is a prefix.
#[must_use]
pub fn is_prefix(low: u128, high: u128) -> bool {
    let differing = low ^ high;
    differing & differing.wrapping_add(1) == 0 && low & differing == 0
}

/// Comparisons of a range of IPv4 addresses: as prefixes if there are few.
fn pieces((low, high): (u128, u128)) -> usize {
    if is_prefix(low, high) { 1 } else { 2 }
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
        self.each(&mut |_| count += 1);
        count
    }

    /// What must be so for this to match, whatever such comparisons say.
    pub(super) fn without(&self, dropped: &impl Fn(&Check) -> bool) -> Self {
        match self {
            Self::All(parts) => all(parts.iter().map(|part| part.without(dropped)).collect()),
            Self::Any(parts) => any(parts.iter().map(|part| part.without(dropped)).collect()),
            Self::Check(check, _) if dropped(check) => Self::All(Vec::new()),
            Self::Check(..) => self.clone(),
        }
    }

    /// Gives looked-up fields their places among these.
    pub(super) fn number(&mut self, fields: &[Dimension]) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter_mut().for_each(|part| part.number(fields));
            }
            Self::Check(Check::Listed(field, _), _) => {
                let place = fields.iter().position(|it| *it == FIELDS[*field]);
                *field = place.unwrap_or_else(|| unreachable!("a field with lists"));
            }
            Self::Check(..) => {}
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
            Self::SameAddress | Self::Incoming => 8,
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
                // Of those that are the same in all of its addresses the first and the last.
                let words = ((low ^ high).leading_zeros().div_ceil(32)).clamp(1, 4);
                vec![Load::Word6(*side, 0), Load::Word6(*side, words - 1)]
            }
            _ => Vec::new(),
        }
    }
}
