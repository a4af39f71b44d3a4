//! What rules have taken of the connections of one family: asked whether anything of a region is left.

use crate::space::{Dimension, Set, Term, sweep};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Ranges that are looked at in all questions together: a second of work. Then no more is found.
const MOST_WORK: usize = 20_000_000;

/// Ranges that are remembered: 100 MB. (A file has 300,000 items, but products of lists have more.)
const MOST_RANGES: usize = 1_000_000;

/// Terms that are remembered around each value, at least and in total: where thousands overlap only some are looked at.
const LEAST_AROUND: usize = 10;
const MOST_AROUND: usize = 5_000_000;

/// Dimensions under which a term is indexed: what contains a region in all dimensions but one, contains it in one of
/// any two.
const INDEXED: usize = 2;

/// All terms, with the rule that each belongs to.
#[derive(Debug)]
pub(super) struct Taken<'t> {
    addresses: Set,
    /// The first rule that matches everything.
    everything: Option<usize>,
    /// By dimension, the first rule that takes values whatever the other dimensions are.
    single: BTreeMap<Dimension, Around>,
    /// Terms of several dimensions, and by dimension which of them lie around a value.
    several: Vec<(usize, &'t Term)>,
    index: BTreeMap<Dimension, Around>,
    work: Cell<usize>,
}

/// Ranges of values of a dimension, and a number.
type Ranges = BTreeMap<Dimension, Vec<(u128, u128, usize)>>;

impl<'t> Taken<'t> {
    /// `addresses` are those of the family; rules ascend.
    pub(super) fn new(addresses: Set, rules: impl Iterator<Item = (usize, &'t [Term])>) -> Self {
        let (mut everything, mut several) = (None, Vec::new());
        let (mut single, mut index) = (Ranges::new(), Ranges::new());
        let mut room = MOST_RANGES;
        let mut add = |to: &mut Ranges, (at, set): (Dimension, &Rc<Set>), number| {
            if let Some(rest) = room.checked_sub(set.ranges().len()) {
                let ranges = set.ranges().iter().map(|(low, high)| (*low, *high, number));
                to.entry(at).or_default().extend(ranges);
                room = rest;
            }
        };
        for (rule, term) in rules.flat_map(|(rule, terms)| terms.iter().map(move |it| (rule, it))) {
            let mut bounds: Vec<_> = term.bounds().collect();
            match bounds[..] {
                [] => _ = everything.get_or_insert(rule),
                [one] => add(&mut single, one, rule),
                _ => {
                    bounds.sort_by(|one, other| width(*one).total_cmp(&width(*other)));
                    let number = several.len();
                    bounds.into_iter().take(INDEXED).for_each(|it| add(&mut index, it, number));
                    several.push((rule, term));
                }
            }
        }
        let around = |ranges: Ranges, most: fn(usize) -> usize| {
            let of = |(at, ranges): (Dimension, Vec<_>)| {
                let most = most(ranges.len());
                (at, Around::new(ranges, most, &domain(&addresses, at)))
            };
            ranges.into_iter().map(of).collect()
        };
        Self {
            everything,
            single: around(single, |_| 1),
            // A range begins a step, and ends one.
            index: around(index, |ranges| (MOST_AROUND / 2 / ranges).max(LEAST_AROUND)),
            several,
            work: Cell::new(MOST_WORK),
            addresses,
        }
    }

    /// True if rules before this one are found to take all of the term. `by` gets those that do, and perhaps others.
    pub(super) fn contains(&self, term: &Term, before: usize, by: &mut BTreeSet<usize>) -> bool {
        if let Some(rule) = self.everything.filter(|rule| *rule < before) {
            by.insert(rule);
            return true;
        }
        let mut region = term.clone();
        while self.work.get() > 0 {
            // Of each dimension the values that are taken whatever the others are, within the region.
            let mut gone: BTreeMap<Dimension, Vec<(u128, u128)>> = BTreeMap::new();
            for (dimension, around) in &self.single {
                if region.bound(*dimension).is_some() {
                    gone.insert(*dimension, self.owned(&region, *dimension, before, by));
                } else if around.last.is_some_and(|rule| rule < before) {
                    by.extend(around.steps.iter().flat_map(|step| &step.1));
                    return true;
                }
            }
            for number in self.candidates(&region, before) {
                let (rule, other) = self.several[number];
                let mut outside = other.bounds().filter(|(dimension, set)| {
                    let bound = region.bound(*dimension);
                    self.spend(bound.map_or(1, |bound| bound.ranges().len()));
                    !bound.is_some_and(|bound| bound.is_within(set))
                });
                match (outside.next(), outside.next()) {
                    (None, _) => {
                        by.insert(rule);
                        return true;
                    }
                    (Some((dimension, set)), None) => {
                        self.spend(set.ranges().len());
                        by.insert(rule);
                        gone.entry(dimension)
                            .or_insert_with(|| self.owned(&region, dimension, before, by))
                            .extend(set.ranges());
                    }
                    _ => {}
                }
            }
            let whole = region.clone();
            for (dimension, ranges) in gone.into_iter().filter(|(_, ranges)| !ranges.is_empty()) {
                let left = self.values(&region, dimension).minus(&Set::from_ranges(ranges));
                match region.replacing(dimension, Rc::new(left)) {
                    Some(rest) => region = rest,
                    None => return true,
                }
            }
            if region == whole {
                break;
            }
        }
        false
    }

    /// The region's values of a dimension.
    fn values(&self, region: &Term, dimension: Dimension) -> Set {
        let bound = region.bound(dimension).map(|set| (**set).clone());
        bound.unwrap_or_else(|| domain(&self.addresses, dimension))
    }

    /// The region's values that rules of this dimension alone take.
    fn owned(
        &self,
        region: &Term,
        dimension: Dimension,
        before: usize,
        by: &mut BTreeSet<usize>,
    ) -> Vec<(u128, u128)> {
        let Some(around) = self.single.get(&dimension) else { return Vec::new() };
        let mut owned = Vec::new();
        for (low, high) in self.values(region, dimension).ranges() {
            let first = around.place(*low);
            for (at, (start, rules)) in around.steps[first..].iter().enumerate() {
                if start > high {
                    break;
                }
                self.spend(1);
                if let Some(rule) = rules.first().filter(|rule| **rule < before) {
                    let next = around.steps.get(first + at + 1).map_or(u128::MAX, |it| it.0 - 1);
                    owned.push((*start.max(low), next.min(*high)));
                    by.insert(*rule);
                }
            }
        }
        owned
    }

    fn spend(&self, work: usize) {
        self.work.set(self.work.get().saturating_sub(work));
    }

    /// Earlier terms of several dimensions that may contain the region in all dimensions but one.
    fn candidates(&self, region: &Term, before: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for (dimension, set) in region.bounds() {
            if let Some(around) = self.index.get(&dimension) {
                let (_, numbers) = &around.steps[around.place(set.ranges()[0].0)];
                self.spend(numbers.len());
                found.extend(numbers.iter().filter(|number| self.several[**number].0 < before));
            }
        }
        found
    }
}

/// All values of a dimension that the family has.
fn domain(addresses: &Set, dimension: Dimension) -> Set {
    match dimension {
        Dimension::Address(_) => addresses.clone(),
        other => other.domain(),
    }
}

/// The part of a dimension that a bound is.
fn width((dimension, set): (Dimension, &Rc<Set>)) -> f64 {
    let sum: f64 = set.ranges().iter().map(|it| (it.1 - it.0) as f64 + 1.0).sum();
    sum / (dimension.last() as f64 + 1.0)
}

/// Ranges by the values that they lie around.
#[derive(Debug)]
struct Around {
    /// From each first value on, which ranges: the first few numbers. The first step begins at 0.
    steps: Vec<(u128, Vec<usize>)>,
    /// If all values have one, the greatest of their first numbers.
    last: Option<usize>,
}

impl Around {
    fn new(ranges: Vec<(u128, u128, usize)>, most: usize, domain: &Set) -> Self {
        let few = |numbers: &BTreeSet<usize>, _| numbers.iter().take(most).copied().collect();
        let steps: Vec<(u128, Vec<usize>)> = sweep(ranges.into_iter(), u128::MAX, |_| 0, few);
        let mut last = Some(0);
        for (at, (start, numbers)) in steps.iter().enumerate() {
            let end = steps.get(at + 1).map_or(u128::MAX, |next| next.0 - 1);
            if !Set::range(*start, end).and(domain).is_empty() {
                last = last.max(numbers.first().copied()).filter(|_| !numbers.is_empty());
            }
            if last.is_none() {
                break;
            }
        }
        Self { steps, last }
    }

    /// The step that a value lies in.
    fn place(&self, value: u128) -> usize {
        self.steps.partition_point(|step| step.0 <= value) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::space::Side;
    use super::*;

    /// Boxes in a small cube, against looking at every point of it: never a false alarm, and most are found.
    #[test]
    fn as_looking_at_every_point() {
        let dimensions =
            [Dimension::PortOrder, Dimension::Port(Side::Remote), Dimension::Direction];
        // A small generator of its own: the test needs no good randomness, but the same each time.
        let mut state = 1_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let (mut found, mut covered, mut open) = (0, 0, 0);
        for _ in 0..3000 {
            let mut make = || {
                dimensions.iter().fold(Term::default(), |term, dimension| {
                    let last = dimension.last().min(3);
                    let bits = 1 + random((1 << (last + 1)) - 1);
                    let all = (1 << (last + 1)) - 1;
                    if bits == all || random(3) == 0 {
                        return term;
                    }
                    let last = if last == 3 { dimension.last() } else { last };
                    let values = (0..=last.min(3)).filter(|i| bits >> i & 1 == 1);
                    let values = values.map(|i| (i, if i == 3 { last } else { i })).collect();
                    term.replacing(*dimension, Rc::new(Set::from_ranges(values))).unwrap_or(term)
                })
            };
            let terms: Vec<_> = (0..4).map(|_| vec![make()]).collect();
            let asked = make();
            let rules = terms.iter().map(Vec::as_slice).enumerate();
            let taken = Taken::new(Set::range(0, u128::MAX), rules);
            let lies = |term: &Term, point: &[u128; 3]| {
                let mut pairs = dimensions.iter().zip(point);
                pairs.all(|(dimension, value)| {
                    term.bound(*dimension).is_none_or(|set| set.contains(*value))
                })
            };
            let points = (0..24_u128).map(|i| [i % 3, i / 3 % 4, i / 12]);
            let expected = points
                .filter(|point| lies(&asked, point))
                .all(|point| terms.iter().any(|term| lies(&term[0], &point)));
            let said = taken.contains(&asked, 4, &mut BTreeSet::new());
            assert!(expected || !said, "{asked:?} in {terms:?}");
            covered += usize::from(expected);
            found += usize::from(said);
            open += usize::from(!expected);
        }
        assert!(found * 10 >= covered * 9, "{found} of {covered} were found");
        assert!(covered > 300 && open > 300, "one-sided: {covered}, {open}");
    }
}
