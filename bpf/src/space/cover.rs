//! What earlier rules have taken: asked for each rule whether anything of it is left.

use super::near::{Near, Ranges};
use super::{Dimension, Set, Term};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How many splits are tried before a region counts as not covered: never a false alarm.
const MOST_SPLITS: usize = 20_000;

/// How many pairs of regions are compared in a cover's life, some seconds of work; then only what needs no comparison is
/// found.
const MOST_PAIRS: usize = 8_000_000;

/// So many terms are looked at, or ranges sorted, in the time of a pair of regions.
const QUICKER: usize = 16;

/// A growing union of terms.
#[derive(Debug, Default)]
pub struct Cover {
    /// Terms that bound one dimension only.
    single: BTreeMap<Dimension, Ranges>,
    /// All others.
    several: Near,
    pairs: Cell<usize>,
    everything: bool,
}

impl Cover {
    /// Adds a term.
    pub fn add(&mut self, term: &Term) {
        let mut bounds = term.bounds();
        match (bounds.next(), bounds.next()) {
            (None, _) => self.everything = true,
            (Some((dimension, set)), None) => self.single.entry(dimension).or_default().add(set),
            _ => self.several.add(term),
        }
    }

    /// True if all of the term has been added, in one piece or in several. `domain` tells the values of a
    /// dimension.
    #[must_use]
    pub fn contains(&self, term: &Term, domain: &impl Fn(Dimension) -> Set) -> bool {
        if self.everything {
            return true;
        }
        let mut region = term.clone();
        for (dimension, taken) in &self.single {
            let bound = region.bound(*dimension);
            if bound.is_none() && self.several.is_empty() {
                // Nothing but this dimension could use what is left of it.
                if taken.contains_all(&domain(*dimension)) {
                    return true;
                }
                continue;
            }
            let whole = bound.map_or_else(|| domain(*dimension), |it| (**it).clone());
            let left = taken.leave(&whole);
            if left == whole {
                continue;
            }
            match region.replacing(*dimension, Rc::new(left)) {
                Some(rest) => region = rest,
                None => return true,
            }
        }
        if self.several.is_empty() || self.pairs.get() >= MOST_PAIRS {
            return false;
        }
        let (several, seen) = self.several.of(&region, domain);
        // To look for neighbours is to compare, too, only quicker.
        let spent = (self.pairs.get() + seen / QUICKER).min(MOST_PAIRS);
        let mut left = Left { splits: MOST_SPLITS, pairs: MOST_PAIRS - spent };
        let is_within = !escapes(region, several, domain, &mut left);
        self.pairs.set(MOST_PAIRS - left.pairs);
        is_within
    }
}

/// What may still be spent.
struct Left {
    splits: usize,
    pairs: usize,
}

/// True if some of the region is in none of the terms, or if that is too hard to tell.
fn escapes(
    mut region: Term,
    mut terms: Vec<&Term>,
    domain: &impl Fn(Dimension) -> Set,
    left: &mut Left,
) -> bool {
    loop {
        let before = terms.len();
        left.pairs = left.pairs.saturating_sub(before);
        if left.pairs == 0 {
            return true;
        }
        let mut kept = Vec::new();
        for term in terms {
            match part(&region, term) {
                Part::None => {}
                Part::All => return false,
                Part::Along(dimension, set) => {
                    let whole = region
                        .bound(dimension)
                        .map_or_else(|| domain(dimension), |it| (**it).clone());
                    match region.replacing(dimension, Rc::new(whole.minus(set))) {
                        Some(rest) => region = rest,
                        None => return false,
                    }
                }
                Part::Corner => kept.push(term),
            }
        }
        terms = needed(&region, kept, domain, left);
        if terms.is_empty() {
            return true;
        }
        // What was cut off may have turned corners into sides.
        if terms.len() == before {
            break;
        }
    }
    let Some((first, rest)) = terms.split_first() else { return true };
    // Around the first term: what lies outside of it in one dimension and inside in those before.
    let mut inside = region;
    for (dimension, set) in first.bounds() {
        left.splits = left.splits.saturating_sub(1);
        if left.splits == 0 {
            return true;
        }
        let whole = inside.bound(dimension).map_or_else(|| domain(dimension), |it| (**it).clone());
        let outside = inside.replacing(dimension, Rc::new(whole.minus(set)));
        if outside.is_some_and(|outside| escapes(outside, rest.to_vec(), domain, left)) {
            return true;
        }
        match inside.with(dimension, set) {
            Some(narrowed) => inside = narrowed,
            None => return true,
        }
    }
    false
}

/// Without the terms that ask for a dimension of which the region has values that none of them asks for, see [`Near::of`].
fn needed<'t>(
    region: &Term,
    mut terms: Vec<&'t Term>,
    domain: &impl Fn(Dimension) -> Set,
    left: &mut Left,
) -> Vec<&'t Term> {
    let mut asked: BTreeMap<Dimension, Vec<(u128, u128)>> = BTreeMap::new();
    for (dimension, set) in terms.iter().flat_map(|term| term.bounds()) {
        asked.entry(dimension).or_default().extend(set.ranges());
    }
    for (dimension, ranges) in asked {
        left.pairs = left.pairs.saturating_sub(ranges.len() / QUICKER);
        let asked = Set::from_ranges(ranges);
        let is_covered = match region.bound(dimension) {
            Some(set) => set.is_within(&asked),
            None => domain(dimension).is_within(&asked),
        };
        if !is_covered {
            terms.retain(|term| term.bound(dimension).is_none());
        }
    }
    terms
}

/// How much of a region a term takes.
enum Part<'t> {
    None,
    All,
    /// All that has these values of one dimension.
    Along(Dimension, &'t Set),
    /// Bounded in several dimensions.
    Corner,
}

fn part<'t>(region: &Term, term: &'t Term) -> Part<'t> {
    let mut along = None;
    let mut corner = false;
    for (dimension, set) in term.bounds() {
        match region.bound(dimension) {
            Some(whole) if whole.is_disjoint(set) => return Part::None,
            Some(whole) if whole.is_within(set) => {}
            _ => corner |= along.replace((dimension, &**set)).is_some(),
        }
    }
    match along {
        _ if corner => Part::Corner,
        None => Part::All,
        Some((dimension, set)) => Part::Along(dimension, set),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Side;
    use super::*;

    /// Boxes in a small cube, against looking at every point of it.
    #[test]
    fn as_looking_at_every_point() {
        let dimensions =
            [Dimension::Port(Side::Local), Dimension::Port(Side::Remote), Dimension::Ports];
        let domain = |_: Dimension| Set::range(0, 3);
        // A small generator of its own: the test needs no good randomness, but the same each time.
        let mut state = 1_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let mut seen = [0; 2];
        for _ in 0..3000 {
            let mut make = || {
                dimensions.iter().fold(Term::default(), |term, dimension| {
                    let bits = 1 + random(15);
                    if bits == 15 || random(3) == 0 {
                        return term;
                    }
                    let values = (0..4).filter(|i| bits >> i & 1 == 1).map(|i| (i, i)).collect();
                    term.replacing(*dimension, Rc::new(Set::from_ranges(values))).unwrap_or(term)
                })
            };
            let terms: Vec<_> = (0..4).map(|_| make()).collect();
            let asked = make();
            let mut cover = Cover::default();
            terms.iter().for_each(|term| cover.add(term));
            let lies = |term: &Term, point: &[u128; 3]| {
                let mut pairs = dimensions.iter().zip(point);
                pairs.all(|(dimension, value)| {
                    term.bound(*dimension).is_none_or(|set| set.contains(*value))
                })
            };
            let points = (0..64_u128).map(|i| [i & 3, i >> 2 & 3, i >> 4]);
            let expected = points
                .filter(|point| lies(&asked, point))
                .all(|point| terms.iter().any(|term| lies(term, &point)));
            assert_eq!(cover.contains(&asked, &domain), expected, "{asked:?} in {terms:?}");
            seen[usize::from(expected)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 300), "one-sided: {seen:?}");
    }
}
