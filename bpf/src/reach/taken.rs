//! What rules have taken of the connections of one family: asked whether anything of a region is left.

use crate::space::{Dimension, Set, Term};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Ranges that are looked at in all questions together: a second of work. Then no more is found.
const MOST_WORK: usize = 20_000_000;

/// Of these to find what is around a value, at least.
const LEAST_SHARE: usize = 50;

/// Dimensions under which a term is indexed: what contains a region in all dimensions but one, contains it in one of
/// any two.
const INDEXED: usize = 2;

/// All terms, with the rule that each belongs to.
#[derive(Debug)]
pub(super) struct Taken<'t> {
    addresses: Set,
    /// The first rule that matches everything.
    everything: Option<usize>,
    /// By dimension, terms that bound no other: who takes values, ascending.
    single: BTreeMap<Dimension, Owners>,
    several: Vec<(usize, &'t Term)>,
    index: BTreeMap<Dimension, Index>,
    work: Cell<usize>,
}

impl<'t> Taken<'t> {
    /// `addresses` are those of the family; rules ascend.
    pub(super) fn new(addresses: Set, rules: impl Iterator<Item = (usize, &'t [Term])>) -> Self {
        let mut taken = Self {
            addresses,
            everything: None,
            single: BTreeMap::new(),
            several: Vec::new(),
            index: BTreeMap::new(),
            work: Cell::new(MOST_WORK),
        };
        let mut single: BTreeMap<Dimension, Vec<(u128, u128, usize)>> = BTreeMap::new();
        let mut ranges: BTreeMap<Dimension, Vec<(u128, u128, usize)>> = BTreeMap::new();
        for (rule, term) in rules.flat_map(|(rule, terms)| terms.iter().map(move |it| (rule, it))) {
            let mut bounds: Vec<_> = term.bounds().collect();
            match bounds[..] {
                [] => _ = taken.everything.get_or_insert(rule),
                [(dimension, set)] => {
                    let owned = set.ranges().iter().map(|(low, high)| (*low, *high, rule));
                    single.entry(dimension).or_default().extend(owned);
                }
                _ => {
                    bounds.sort_by(|one, other| {
                        let width = |(dimension, set): (Dimension, &Rc<Set>)| {
                            let sum = set.ranges().iter().map(|it| (it.1 - it.0) as f64 + 1.0);
                            sum.sum::<f64>() / (dimension.last() as f64 + 1.0)
                        };
                        width(*one).total_cmp(&width(*other))
                    });
                    let id = taken.several.len();
                    for (dimension, set) in bounds.into_iter().take(INDEXED) {
                        let all = set.ranges().iter().map(|(low, high)| (*low, *high, id));
                        ranges.entry(dimension).or_default().extend(all);
                    }
                    taken.several.push((rule, term));
                }
            }
        }
        taken.single = single.into_iter().map(|(at, ranges)| (at, Owners::new(ranges))).collect();
        taken.index = ranges.into_iter().map(|(at, ranges)| (at, Index::new(ranges))).collect();
        taken
    }

    fn domain(&self, dimension: Dimension) -> Set {
        match dimension {
            Dimension::Address(_) => self.addresses.clone(),
            other => other.domain(),
        }
    }

    /// True if rules before this one are found to take all of the term.
    pub(super) fn contains(&self, term: &Term, before: usize) -> bool {
        if self.everything.is_some_and(|rule| rule < before) {
            return true;
        }
        let mut region = term.clone();
        loop {
            // Of each dimension the values that are taken whatever the others are, within the region.
            let mut gone: BTreeMap<Dimension, Vec<(u128, u128)>> = BTreeMap::new();
            for (dimension, owners) in &self.single {
                match region.bound(*dimension) {
                    Some(whole) => {
                        let owned = owners.within(whole, before);
                        self.spend(owned.len() + whole.ranges().len());
                        gone.insert(*dimension, owned);
                    }
                    None if owners.all_before(&self.domain(*dimension), before) => return true,
                    None => {}
                }
            }
            for id in self.candidates(&region, before) {
                let other = self.several[id].1;
                let mut outside = other.bounds().filter(|(dimension, set)| {
                    let bound = region.bound(*dimension);
                    self.spend(bound.map_or(1, |bound| bound.ranges().len()));
                    !bound.is_some_and(|bound| bound.is_within(set))
                });
                match (outside.next(), outside.next()) {
                    (None, _) => return true,
                    (Some((dimension, set)), None) => {
                        self.spend(set.ranges().len());
                        let owned = || {
                            let owners = self.single.get(&dimension);
                            let all = self.domain(dimension);
                            owners.map(|it| it.within(&all, before)).unwrap_or_default()
                        };
                        gone.entry(dimension).or_insert_with(owned).extend(set.ranges());
                    }
                    _ => {}
                }
            }
            let mut is_smaller = false;
            for (dimension, ranges) in gone.into_iter().filter(|(_, ranges)| !ranges.is_empty()) {
                let bound = region.bound(dimension).map(|set| (**set).clone());
                let whole = bound.unwrap_or_else(|| self.domain(dimension));
                let left = whole.minus(&Set::from_ranges(ranges));
                if left != whole {
                    match region.replacing(dimension, Rc::new(left)) {
                        Some(rest) => region = rest,
                        None => return true,
                    }
                    is_smaller = true;
                }
            }
            if !is_smaller || self.work.get() == 0 {
                return false;
            }
        }
    }

    fn spend(&self, work: usize) {
        self.work.set(self.work.get().saturating_sub(work));
    }

    /// Earlier terms of several dimensions that may contain the region in all dimensions but one.
    fn candidates(&self, region: &Term, before: usize) -> Vec<usize> {
        let mut found = Vec::new();
        for (dimension, set) in region.bounds() {
            let Some(index) = self.index.get(&dimension) else { continue };
            // A share for each term: where thousands lie around a value, only some are looked at.
            let share = (MOST_WORK / 8 / self.several.len()).max(LEAST_SHARE).min(self.work.get());
            let mut left = share;
            index.at(set.ranges()[0].0, &mut left, &mut |id| {
                if self.several[id].0 < before {
                    found.push(id);
                }
            });
            self.spend(share - left);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Disjoint ranges, ascending, with the first rule that takes each.
#[derive(Debug)]
struct Owners {
    ranges: Vec<(u128, u128, usize)>,
    /// All of them together, and the last rule.
    all: Set,
    last: usize,
}

impl Owners {
    fn new(ranges: Vec<(u128, u128, usize)>) -> Self {
        let mut owners = Vec::new();
        let bounds = ranges.iter().map(|(low, high, rule)| (*low, *high, *rule));
        crate::space::sweep(
            bounds,
            u128::MAX,
            |_| 0,
            |start, holding: &BTreeSet<usize>, _| {
                if let Some((_, high, _)) = owners.last_mut()
                    && *high == u128::MAX
                {
                    *high = start - 1;
                }
                owners.extend(holding.first().map(|rule| (start, u128::MAX, *rule)));
            },
        );
        let all = Set::from_ranges(owners.iter().map(|it| (it.0, it.1)).collect());
        let last = owners.iter().map(|it| it.2).max().unwrap_or_default();
        Self { ranges: owners, all, last }
    }

    /// True if rules before this one take all of the domain. (Where later ones take some of it too, that is not seen.)
    fn all_before(&self, domain: &Set, before: usize) -> bool {
        self.last < before && domain.is_within(&self.all)
    }

    /// What rules before this one take of the set.
    fn within(&self, set: &Set, before: usize) -> Vec<(u128, u128)> {
        let mut found = Vec::new();
        for (low, high) in set.ranges() {
            let from = self.ranges.partition_point(|it| it.1 < *low);
            let inside = self.ranges[from..].iter().take_while(|it| it.0 <= *high);
            found.extend(inside.filter(|it| it.2 < before).map(|it| (it.0, it.1)));
        }
        found
    }
}

/// Ranges of which those around a value are found: an interval tree, laid out as a binary search goes.
#[derive(Debug)]
struct Index {
    /// First value, last value, number; ascending.
    ranges: Vec<(u128, u128, usize)>,
    /// Of the part that is searched from each place, the last value of all.
    last: Vec<u128>,
}

impl Index {
    fn new(mut ranges: Vec<(u128, u128, usize)>) -> Self {
        ranges.sort_unstable();
        let mut index = Self { last: vec![0; ranges.len()], ranges };
        index.fill(0, index.ranges.len());
        index
    }

    fn fill(&mut self, from: usize, to: usize) -> u128 {
        if from == to {
            return 0;
        }
        let middle = from + (to - from) / 2;
        let around = self.fill(from, middle).max(self.fill(middle + 1, to));
        self.last[middle] = around.max(self.ranges[middle].1);
        self.last[middle]
    }

    /// Calls `found` with the number of each range around the value, while there is work left.
    fn at(&self, value: u128, left: &mut usize, found: &mut impl FnMut(usize)) {
        self.part(0, self.ranges.len(), value, left, found);
    }

    fn part(
        &self,
        from: usize,
        to: usize,
        value: u128,
        left: &mut usize,
        found: &mut impl FnMut(usize),
    ) {
        let middle = from + (to - from) / 2;
        if from == to || self.last[middle] < value || *left == 0 {
            return;
        }
        *left -= 1;
        self.part(from, middle, value, left, found);
        let (low, high, number) = self.ranges[middle];
        if low <= value {
            if value <= high {
                found(number);
            }
            self.part(middle + 1, to, value, left, found);
        }
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
            let said = taken.contains(&asked, 4);
            assert!(expected || !said, "{asked:?} in {terms:?}");
            covered += usize::from(expected);
            found += usize::from(said);
            open += usize::from(!expected);
        }
        assert!(found * 10 >= covered * 9, "{found} of {covered} were found");
        assert!(covered > 300 && open > 300, "one-sided: {covered}, {open}");
    }
}
