//! Formulas → terms.

use super::{Dimension, Interfaces, MAPPED, Set, addresses, family_value};
use crate::rule::{Direction, Formula, PortRange, Prefix, Test};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// A region of the space: the values that the dimensions must have. A missing dimension may have any value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Term(BTreeMap<Dimension, Rc<Set>>);

impl Term {
    /// The dimensions that matter, and their values.
    pub fn bounds(&self) -> impl Iterator<Item = (Dimension, &Rc<Set>)> {
        self.0.iter().map(|(dimension, set)| (*dimension, set))
    }

    /// The values that a dimension must have; None for any.
    #[must_use]
    pub fn bound(&self, dimension: Dimension) -> Option<&Rc<Set>> {
        self.0.get(&dimension)
    }

    /// True if every connection lies in it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// How many dimensions matter.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The same as [`Self::is_everything`], for those who expect it beside `len`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The region where the dimension has these values too; None if there is none.
    #[must_use]
    pub fn with(&self, dimension: Dimension, set: &Rc<Set>) -> Option<Self> {
        let narrowed = match self.0.get(&dimension) {
            None => Rc::clone(set),
            Some(old) => Rc::new(old.and(set)),
        };
        self.replacing(dimension, narrowed)
    }

    /// The region with other values for a dimension; None if there are none.
    #[must_use]
    pub fn replacing(&self, dimension: Dimension, set: Rc<Set>) -> Option<Self> {
        if set.is_empty() {
            return None;
        }
        let mut term = self.clone();
        term.0.insert(dimension, set);
        Some(term)
    }

    /// The region without regard to a dimension.
    #[must_use]
    pub fn without(&self, dimension: Dimension) -> Self {
        let mut term = self.clone();
        term.0.remove(&dimension);
        term
    }

    /// What lies in both; None if nothing does.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        other.0.iter().try_fold(self.clone(), |term, (dimension, set)| term.with(*dimension, set))
    }

    /// True if something lies in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let apart = |(dimension, set): (&Dimension, &Rc<Set>)| {
            other.bound(*dimension).is_some_and(|it| it.is_disjoint(set))
        };
        !self.0.iter().any(apart)
    }

    fn of(dimension: Dimension, set: Set) -> Option<Self> {
        let domain = dimension.domain();
        let set = set.and(&domain);
        if set == domain {
            return Some(Self::default());
        }
        Self::default().replacing(dimension, Rc::new(set))
    }
}

/// More terms than this are too many cases for one rule.
pub const MOST_TERMS: usize = 4096;

/// Up to this many are merged pair by pair.
const FEW_TERMS: usize = 64;

/// The terms of a formula, one of which must match.
pub type Terms = Vec<Term>;

/// What may still be spent on expanding formulas, in ranges of values.
#[derive(Debug)]
pub struct Budget(usize);

impl Default for Budget {
    /// All rules of a file together: 20 million ranges take 2 s and 400 MB at most.
    fn default() -> Self {
        Self(20_000_000)
    }
}

impl Budget {
    fn spend(&mut self, ranges: usize) -> Option<()> {
        self.0 = self.0.checked_sub(ranges)?;
        Some(())
    }
}

/// A formula's terms; None if there would be more than [`MOST_TERMS`], or the budget is spent.
pub fn terms(formula: &Formula, interfaces: &Interfaces, budget: &mut Budget) -> Option<Terms> {
    expand(formula, false, interfaces, budget)
}

fn ranges(terms: &[Term]) -> usize {
    terms
        .iter()
        .map(|term| 1 + term.bounds().map(|(_, set)| set.ranges().len()).sum::<usize>())
        .sum()
}

fn expand(
    formula: &Formula,
    negate: bool,
    interfaces: &Interfaces,
    budget: &mut Budget,
) -> Option<Terms> {
    match (formula, negate) {
        (Formula::Not(inner), _) => expand(inner, !negate, interfaces, budget),
        (Formula::Test(test), _) => {
            let terms = literal(test, negate, interfaces);
            budget.spend(ranges(&terms))?;
            Some(terms)
        }
        (Formula::All(parts), false) | (Formula::Any(parts), true) => {
            parts.iter().try_fold(vec![Term::default()], |sum, part| {
                let part = expand(part, negate, interfaces, budget)?;
                // Each is copied once for each of the others.
                budget.spend(sum.len() * ranges(&part) + part.len() * ranges(&sum))?;
                let pairs =
                    sum.iter().flat_map(|left| part.iter().map(move |right| left.and(right)));
                merge(pairs.flatten().collect())
            })
        }
        (Formula::Any(parts), false) | (Formula::All(parts), true) => {
            let mut sum = Vec::new();
            for part in parts {
                sum.append(&mut expand(part, negate, interfaces, budget)?);
            }
            budget.spend(ranges(&sum))?;
            merge(sum)
        }
    }
}

/// Merges terms that differ in the values of only one dimension, and removes duplicates. Large numbers are grouped by
/// dimension, which avoids quadratic time.
fn merge(mut terms: Terms) -> Option<Terms> {
    if terms.len() > FEW_TERMS {
        let dimensions: BTreeSet<Dimension> =
            terms.iter().flat_map(|term| term.0.keys().copied()).collect();
        for dimension in dimensions {
            terms = gather(terms, dimension);
        }
        return (terms.len() <= MOST_TERMS).then_some(terms);
    }
    let mut merged: Terms = Vec::with_capacity(terms.len());
    'next: for term in terms {
        for other in &mut merged {
            if let Some(both) = union(other, &term) {
                *other = both;
                continue 'next;
            }
        }
        merged.push(term);
    }
    Some(merged)
}

/// Merges terms that differ only in this dimension, in the order of the first.
fn gather(terms: Terms, dimension: Dimension) -> Terms {
    let mut places: HashMap<Term, usize> = HashMap::new();
    let mut groups: Vec<(Term, Vec<(u128, u128)>)> = Vec::new();
    for term in terms {
        let rest = term.without(dimension);
        let next = groups.len();
        let at = *places.entry(rest.clone()).or_insert(next);
        if at == next {
            groups.push((rest, Vec::new()));
        }
        match term.bound(dimension) {
            Some(set) => groups[at].1.extend(set.ranges()),
            None => groups[at].1.push((0, dimension.last())),
        }
    }
    let whole = |(rest, ranges): (Term, Vec<_>)| {
        let set = Set::from_ranges(ranges);
        if set == dimension.domain() { Some(rest) } else { rest.replacing(dimension, Rc::new(set)) }
    };
    groups.into_iter().filter_map(whole).collect()
}

/// The union, if it is a term.
fn union(a: &Term, b: &Term) -> Option<Term> {
    if a.0.len() != b.0.len() {
        return None;
    }
    let mut differing = None;
    for ((dimension, set), (other, other_set)) in a.0.iter().zip(&b.0) {
        if dimension != other {
            return None;
        }
        if set != other_set && differing.replace(*dimension).is_some() {
            return None;
        }
    }
    let Some(dimension) = differing else { return Some(a.clone()) };
    let set = a.bound(dimension)?.or(b.bound(dimension)?);
    if set == dimension.domain() {
        return Some(a.without(dimension));
    }
    a.replacing(dimension, Rc::new(set))
}

fn literal(test: &Test, negate: bool, interfaces: &Interfaces) -> Terms {
    let (dimension, set) = match test {
        Test::Direction(Direction::Outgoing) => (Dimension::Direction, Set::one(0)),
        Test::Direction(Direction::Incoming) => (Dimension::Direction, Set::one(1)),
        Test::Family(family) => (Dimension::Family, Set::one(family_value(*family))),
        Test::Port(end, ranges) => (Dimension::Port((*end).into()), port_set(ranges)),
        Test::Ports(ordering) => (Dimension::PortOrder, Set::one(order_value(*ordering))),
        Test::Fact(fact) => (Dimension::Fact(*fact), Set::one(1)),
        Test::SameAddress => (Dimension::SameAddress, Set::one(1)),
        Test::Address(end, prefixes) => (Dimension::Address((*end).into()), prefix_set(prefixes)),
        Test::Interface(patterns) => interfaces.classes(patterns),
    };
    let set = if negate { dimension.domain().minus(&set) } else { set };
    // All addresses of a family are a test of the family.
    let family = [0, 1].into_iter().find(|family| set == addresses(*family));
    match (dimension, family) {
        (Dimension::Address(_), Some(family)) => Term::of(Dimension::Family, Set::one(family)),
        _ => Term::of(dimension, set),
    }
    .into_iter()
    .collect()
}

/// The value of an order in [`Dimension::PortOrder`].
fn order_value(ordering: Ordering) -> u128 {
    match ordering {
        Ordering::Less => 0,
        Ordering::Equal => 1,
        Ordering::Greater => 2,
    }
}

/// Ports as a set.
pub(crate) fn port_set(ranges: &[PortRange]) -> Set {
    let ranges = ranges.iter().map(|it| (u128::from(it.low), u128::from(it.high)));
    Set::from_ranges(ranges.collect())
}

/// Prefixes as a set of [`Dimension::Address`].
pub(crate) fn prefix_set(prefixes: &[Prefix]) -> Set {
    let mapped = Set::range(MAPPED.0, MAPPED.1);
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
    Set::from_ranges(v6).minus(&mapped).or(&Set::from_ranges(v4))
}
