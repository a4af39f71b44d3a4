//! Formulas → terms.

use super::{Dimension, Interfaces, Normal, Set};
use crate::rule::Formula;
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
}

/// More terms than this are too many cases for one rule.
pub const MOST_TERMS: usize = 4096;

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
    expand(Normal::new(formula, false, interfaces), budget)
}

fn ranges(terms: &[Term]) -> usize {
    terms
        .iter()
        .map(|term| 1 + term.bounds().map(|(_, set)| set.ranges().len()).sum::<usize>())
        .sum()
}

fn expand(formula: Normal, budget: &mut Budget) -> Option<Terms> {
    match formula {
        Normal::In(dimension, set) => {
            budget.spend(set.ranges().len())?;
            Some(Term::default().replacing(dimension, Rc::new(set)).into_iter().collect())
        }
        Normal::All(parts) => parts.into_iter().try_fold(vec![Term::default()], |sum, part| {
            let part = expand(part, budget)?;
            // Each is copied once for each of the others.
            budget.spend(sum.len() * ranges(&part) + part.len() * ranges(&sum))?;
            let pairs = sum.iter().flat_map(|left| part.iter().map(move |right| left.and(right)));
            merge(pairs.flatten().collect())
        }),
        Normal::Any(parts) => {
            let mut sum = Vec::new();
            for part in parts {
                sum.append(&mut expand(part, budget)?);
            }
            budget.spend(ranges(&sum))?;
            merge(sum)
        }
    }
}

/// Merges terms that differ in the values of only one dimension, and removes duplicates; None if too many are left.
fn merge(mut terms: Terms) -> Option<Terms> {
    let dimensions: BTreeSet<Dimension> =
        terms.iter().flat_map(|term| term.0.keys().copied()).collect();
    for dimension in dimensions {
        terms = gather(terms, dimension);
    }
    (terms.len() <= MOST_TERMS).then_some(terms)
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
