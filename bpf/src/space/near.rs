//! Which terms may have something in common with a region, of tens of thousands, without comparing it with each.

use super::{Dimension, Set, Side, Term};
use std::collections::{BTreeMap, BTreeSet};

/// Terms that may be many.
#[derive(Debug, Default)]
pub(super) struct Near {
    groups: Vec<Group>,
    /// The values of each dimension that some term asks for.
    asked: BTreeMap<Dimension, Ranges>,
}

/// Terms that bound the same dimensions.
#[derive(Debug)]
struct Group {
    dimensions: Vec<Dimension>,
    terms: Vec<(Hull, Term)>,
    /// Where to look for them by each of their hull's dimensions.
    blocks: [Blocks; HULL],
}

impl Near {
    pub(super) fn add(&mut self, term: &Term) {
        for (dimension, set) in term.bounds() {
            self.asked.entry(dimension).or_default().add(set);
        }
        let dimensions: Vec<_> = term.bounds().map(|(dimension, _)| dimension).collect();
        let at = self.groups.iter().position(|group| group.dimensions == dimensions);
        let at = at.unwrap_or_else(|| {
            let blocks = std::array::from_fn(|_| Blocks::default());
            self.groups.push(Group { dimensions, terms: Vec::new(), blocks });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        let hull = Hull::of(term);
        for (blocks, range) in group.blocks.iter_mut().zip(hull.0) {
            blocks.add(range, group.terms.len());
        }
        group.terms.push((hull, term.clone()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The terms that may cover the region, and how many were looked at.
    ///
    /// Where it has values of a dimension that no term asks for, those that do ask for the dimension are not needed:
    /// the part that has these values is left to the others, and if they cover it, they cover all of it.
    pub(super) fn of(
        &self,
        region: &Term,
        domain: &impl Fn(Dimension) -> Set,
    ) -> (Vec<&Term>, usize) {
        let is_free = |(dimension, asked): &(&Dimension, &Ranges)| match region.bound(**dimension) {
            Some(set) => !asked.contains_all(set),
            None => !asked.contains_all(&domain(**dimension)),
        };
        let free: BTreeSet<Dimension> = self.asked.iter().filter(is_free).map(|it| *it.0).collect();
        let hull = Hull::of(region);
        let (mut near, mut seen) = (Vec::new(), 0);
        for group in &self.groups {
            if group.dimensions.iter().any(|dimension| free.contains(dimension)) {
                continue;
            }
            let candidates = group.candidates(&hull);
            seen += candidates.len();
            let terms = candidates.into_iter().map(|at| &group.terms[at]);
            near.extend(terms.filter(|(other, _)| other.meets(&hull)).map(|(_, term)| term));
        }
        (near, seen)
    }
}

impl Group {
    /// Places of all that meet the hull, and some more: by the dimension in which these are fewest.
    fn candidates(&self, hull: &Hull) -> Vec<usize> {
        let mut ways: Vec<_> = self
            .blocks
            .iter()
            .zip(hull.0)
            .map(|(blocks, range)| (blocks.meeting(range), Vec::new()))
            .collect();
        // In step, so that it takes no longer than the shortest way.
        loop {
            for (way, found) in &mut ways {
                match way.next() {
                    Some(place) => found.push(place),
                    None => {
                        let mut found = std::mem::take(found);
                        found.sort_unstable();
                        return found;
                    }
                }
            }
        }
    }
}

/// Ranges by the smallest block of a power of two values that they lie in: how many of its bits differ, its first value.
#[derive(Debug, Default)]
struct Blocks(BTreeMap<u32, BTreeMap<u64, Vec<usize>>>);

impl Blocks {
    fn first(value: u64, bits: u32) -> u64 {
        value & !u64::MAX.checked_shr(64 - bits).unwrap_or(0)
    }

    fn add(&mut self, (low, high): (u64, u64), place: usize) {
        let bits = 64 - (low ^ high).leading_zeros();
        let blocks = self.0.entry(bits).or_default();
        blocks.entry(Self::first(low, bits)).or_default().push(place);
    }

    /// What lies in blocks that the range meets.
    fn meeting(&self, (low, high): (u64, u64)) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flat_map(move |(bits, blocks)| {
            let met = blocks.range(Self::first(low, *bits)..=high);
            met.flat_map(|(_, places)| places.iter().copied())
        })
    }
}

/// Dimensions of a hull.
const HULL: usize = 4;

/// The first and last value of some dimensions: ports, and the upper half of an address.
#[derive(Debug)]
struct Hull([(u64, u64); HULL]);

impl Hull {
    fn of(term: &Term) -> Self {
        let mut hull = [(0, u64::MAX); HULL];
        for (dimension, set) in term.bounds() {
            let (place, shift) = match dimension {
                Dimension::Port(Side::Local) => (0, 0),
                Dimension::Port(Side::Remote) => (1, 0),
                Dimension::Ipv4(Side::Local) => (2, 0),
                Dimension::Ipv4(Side::Remote) => (3, 0),
                Dimension::Ipv6(Side::Local) => (2, 64),
                Dimension::Ipv6(Side::Remote) => (3, 64),
                _ => continue,
            };
            if let (Some((low, _)), Some((_, high))) = (set.ranges().first(), set.ranges().last()) {
                hull[place] = ((low >> shift) as u64, (high >> shift) as u64);
            }
        }
        Self(hull)
    }

    /// False for two of one family that have nothing in common.
    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one.0 <= other.1 && other.0 <= one.1)
    }
}

/// A union of ranges that grows: first → last value.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u128, u128>);

impl Ranges {
    pub(super) fn add(&mut self, set: &Set) {
        for &(mut low, mut high) in set.ranges() {
            // All that overlap or touch are taken in.
            loop {
                let end = high.saturating_add(1);
                let touching = self.0.range(..=end).next_back().map(|(l, h)| (*l, *h));
                match touching {
                    Some((l, h)) if h.saturating_add(1) >= low => {
                        self.0.remove(&l);
                        (low, high) = (low.min(l), high.max(h));
                    }
                    _ => break,
                }
            }
            self.0.insert(low, high);
        }
    }

    /// True if the whole set is in here.
    pub(super) fn contains_all(&self, set: &Set) -> bool {
        let contains = |(low, high): &(u128, u128)| {
            self.0.range(..=*low).next_back().is_some_and(|(_, end)| end >= high)
        };
        set.ranges().iter().all(contains)
    }

    /// The values of the set that are not in here.
    pub(super) fn leave(&self, set: &Set) -> Set {
        let mut taken = Vec::new();
        for &(low, high) in set.ranges() {
            taken.extend(
                self.0.range(..=low).next_back().map(|(l, h)| (*l, *h)).filter(|(_, h)| *h >= low),
            );
            if low < high {
                taken.extend(self.0.range(low + 1..=high).map(|(l, h)| (*l, *h)));
            }
        }
        set.minus(&Set::from_ranges(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        for (low, high) in [(10, 20), (30, 40), (21, 25), (0, 0), (50, 60), (28, 55)] {
            ranges.add(&Set::range(low, high));
        }
        assert_eq!(ranges.0, BTreeMap::from([(0, 0), (10, 25), (28, 60)]));
        let left = ranges.leave(&Set::range(0, 65));
        assert_eq!(left.ranges(), [(1, 9), (26, 27), (61, 65)]);
        assert!(ranges.contains_all(&Set::from_ranges(vec![(12, 13), (28, 60)])));
        assert!(!ranges.contains_all(&Set::from_ranges(vec![(12, 13), (28, 61)])));
    }

    /// All that meet a region are found, and of many not many more are looked at.
    #[test]
    fn those_that_meet_a_region() {
        let mut state = 1_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u128::from((state >> 8) % below)
        };
        let dimensions = [Dimension::Port(Side::Local), Dimension::Ipv4(Side::Remote)];
        let mut near = Near::default();
        let mut terms = Vec::new();
        let mut make = |widths: [u32; 2]| {
            dimensions.iter().zip(widths).fold(Term::default(), |term, (dimension, width)| {
                let low = random(60_000);
                let set = Set::range(low, low + random(width));
                term.replacing(*dimension, Rc::new(set)).expect("a value")
            })
        };
        for at in 0..5_000 {
            let term = make([[1, 60_000], [2_000, 1], [100, 100]][at % 3]);
            near.add(&term);
            terms.push(term);
        }
        let domain = |dimension: Dimension| dimension.domain();
        let mut looked = 0;
        for _ in 0..500 {
            let region = make([10, 10]);
            let (found, seen) = near.of(&region, &domain);
            looked += seen;
            let meeting: Vec<&Term> =
                terms.iter().filter(|term| term.and(&region).is_some()).collect();
            // Of none where the region has values that none asks for.
            assert!(found.is_empty() || found == meeting, "{region:?}");
        }
        assert!(looked > 0 && looked < 500 * 1_000, "{looked}");
        let region = Term::default().replacing(dimensions[0], Rc::new(Set::one(7)));
        let (found, _) = near.of(&region.expect("a value"), &domain);
        assert!(found.is_empty(), "whole addresses are left");
    }
}
