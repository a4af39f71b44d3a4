//! Formulas → terms.

use super::{Dimension, Set, family_value};
use crate::rule::{Direction, End, Family, Formula, Pattern, Prefix, Test};
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// A region of the space: the values that the dimensions must have; a dimension that is not there may have any.
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

    fn of(dimension: Dimension, set: Set) -> Option<Self> {
        let domain = dimension.domain();
        let set = set.and(&domain);
        if set == domain {
            return Some(Self::default());
        }
        Self::default().replacing(dimension, Rc::new(set))
    }
}

/// More terms than this make a rule too entangled to be reasoned about.
pub const MOST_TERMS: usize = 4096;

/// So many are merged pair by pair.
const FEW_TERMS: usize = 64;

/// The terms of a formula, one of which must hold.
pub type Terms = Vec<Term>;

/// A formula's terms; None if there would be more than [`MOST_TERMS`]. `lists` collects the lists of
/// interface patterns, which [`Dimension::Interface`] counts.
pub fn terms(formula: &Formula, lists: &mut Vec<Vec<Pattern>>) -> Option<Terms> {
    expand(formula, false, lists)
}

fn expand(formula: &Formula, negate: bool, lists: &mut Vec<Vec<Pattern>>) -> Option<Terms> {
    match (formula, negate) {
        (Formula::Not(inner), _) => expand(inner, !negate, lists),
        (Formula::Test(test), _) => Some(literal(test, negate, lists)),
        (Formula::All(parts), false) | (Formula::Any(parts), true) => {
            parts.iter().try_fold(vec![Term::default()], |sum, part| {
                let part = expand(part, negate, lists)?;
                if sum.len() * part.len() > MOST_TERMS * 16 {
                    return None;
                }
                let pairs =
                    sum.iter().flat_map(|left| part.iter().map(move |right| left.and(right)));
                merge(pairs.flatten().collect())
            })
        }
        (Formula::Any(parts), false) | (Formula::All(parts), true) => {
            let mut sum = Vec::new();
            for part in parts {
                sum.append(&mut expand(part, negate, lists)?);
                if sum.len() > MOST_TERMS * 16 {
                    return None;
                }
            }
            merge(sum)
        }
    }
}

/// Terms that differ in the values of one dimension only become one; doubles go.
fn merge(mut terms: Terms) -> Option<Terms> {
    if terms.len() > FEW_TERMS {
        terms = gather(terms);
    }
    let mut merged: Terms = Vec::with_capacity(terms.len());
    'next: for term in terms {
        for other in &mut merged {
            if let Some(both) = union(other, &term) {
                *other = both;
                continue 'next;
            }
        }
        if merged.len() >= MOST_TERMS {
            return None;
        }
        merged.push(term);
    }
    Some(merged)
}

/// What a term asks of all dimensions but one, that dimension, and the ranges of it that have come together.
type Group = (Term, Dimension, Vec<(u128, u128)>);

/// Terms that differ in their last dimension only become one, in time that does not grow with their square.
fn gather(terms: Terms) -> Terms {
    let mut places: HashMap<Term, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for term in terms {
        let Some((&dimension, set)) = term.0.last_key_value() else { return vec![term] };
        // The last dimension stands in the key without its values.
        let place = term.replacing(dimension, Rc::new(dimension.domain())).unwrap_or_default();
        let at = *places.entry(place).or_insert(groups.len());
        match groups.get_mut(at) {
            Some((_, _, ranges)) => ranges.extend(set.ranges()),
            None => groups.push((term.without(dimension), dimension, set.ranges().to_vec())),
        }
    }
    let whole = |(rest, dimension, ranges): (Term, Dimension, Vec<_>)| {
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

fn literal(test: &Test, negate: bool, lists: &mut Vec<Vec<Pattern>>) -> Terms {
    let one = |dimension: Dimension, set: Set| -> Terms {
        let set = if negate { dimension.domain().minus(&set) } else { set };
        Term::of(dimension, set).into_iter().collect()
    };
    match test {
        Test::Direction(Direction::Outgoing) => one(Dimension::Direction, Set::one(0)),
        Test::Direction(Direction::Incoming) => one(Dimension::Direction, Set::one(1)),
        Test::Family(family) => one(Dimension::Family, Set::one(family_value(*family))),
        Test::Port(end, ranges) => {
            let ranges = ranges.iter().map(|it| (u128::from(it.low), u128::from(it.high)));
            one(Dimension::Port((*end).into()), Set::from_ranges(ranges.collect()))
        }
        Test::Ports(ordering) => {
            let value = match ordering {
                Ordering::Less => 0,
                Ordering::Equal => 1,
                Ordering::Greater => 2,
            };
            one(Dimension::Ports, Set::one(value))
        }
        Test::SameAddress => one(Dimension::SameAddress, Set::one(1)),
        Test::Address(end, prefixes) => address(*end, prefixes, negate),
        Test::Interface(patterns) => {
            let known = lists.iter().position(|list| list == patterns);
            let index = known.unwrap_or_else(|| {
                lists.push(patterns.clone());
                lists.len() - 1
            });
            one(Dimension::Interface(index), Set::one(1))
        }
    }
}

/// An address means something in its own family only.
fn address(end: End, prefixes: &[Prefix], negate: bool) -> Terms {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for prefix in prefixes {
        match *prefix {
            Prefix::V4(address, length) => {
                v4.push(range(u128::from(address.to_bits()), 32 - u32::from(length)));
            }
            Prefix::V6(address, length) => {
                v6.push(range(address.to_bits(), 128 - u32::from(length)));
            }
        }
    }
    let part = |family: Family, dimension: Dimension, ranges: Vec<(u128, u128)>| {
        let mut set = Set::from_ranges(ranges);
        if negate {
            set = dimension.domain().minus(&set);
        }
        let family = Term::of(Dimension::Family, Set::one(family_value(family)))?;
        family.and(&Term::of(dimension, set)?)
    };
    let side = end.into();
    let v4 = part(Family::Ipv4, Dimension::Ipv4(side), v4);
    let v6 = part(Family::Ipv6, Dimension::Ipv6(side), v6);
    // Both families whole: no bound at all.
    let all = |term: &Option<Term>| term.as_ref().is_some_and(|term| term.len() == 1);
    if all(&v4) && all(&v6) {
        return vec![Term::default()];
    }
    v4.into_iter().chain(v6).collect()
}

fn range(low: u128, host_bits: u32) -> (u128, u128) {
    (low, low | 1_u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1))
}
