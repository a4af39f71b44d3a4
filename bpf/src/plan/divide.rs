//! Which dimension to ask next, and the ranges between which nothing changes.

use crate::space::{Dimension, Term};
use std::collections::{BTreeMap, BTreeSet};

/// The dimension to ask: families before addresses, then the one that leaves the fewest terms to the worst
/// case, the cheaper one where they leave as many.
pub(super) fn best(terms: &[(usize, Term)]) -> Dimension {
    let mut bounded: BTreeMap<Dimension, usize> = BTreeMap::new();
    for (_, term) in terms {
        for (dimension, _) in term.bounds() {
            *bounded.entry(dimension).or_default() += 1;
        }
    }
    let is_address = |it: &Dimension| matches!(it, Dimension::Ipv4(_) | Dimension::Ipv6(_));
    if bounded.contains_key(&Dimension::Family) && bounded.keys().any(is_address) {
        return Dimension::Family;
    }
    let worst = |(dimension, count): (&Dimension, &usize)| {
        (deepest(terms, *dimension) + terms.len() - count, cost(*dimension), *dimension)
    };
    // There is one: a term that bounds nothing ends the planning.
    bounded.iter().map(worst).min().map_or(Dimension::Direction, |(_, _, dimension)| dimension)
}

/// What a test costs, roughly in instructions.
fn cost(dimension: Dimension) -> u8 {
    match dimension {
        Dimension::Port(_) => 1,
        Dimension::Direction => 2,
        Dimension::Ports => 3,
        Dimension::Family => 4,
        Dimension::Ipv4(_) => 5,
        Dimension::SameAddress => 6,
        Dimension::Ipv6(_) => 8,
        Dimension::Interface(_) => 100,
    }
}

/// Where terms begin (+1) and have ended (-1) to hold.
fn events(terms: &[(usize, Term)], dimension: Dimension) -> Vec<(u128, bool, usize)> {
    let mut events = Vec::new();
    let last = dimension.domain().ranges().last().map_or(0, |range| range.1);
    for (at, (_, term)) in terms.iter().enumerate() {
        for &(low, high) in term.bound(dimension).iter().flat_map(|set| set.ranges()) {
            events.push((low, true, at));
            // What holds up to the last value there is never ends.
            events.extend((high < last).then(|| (high + 1, false, at)));
        }
    }
    events.sort_unstable();
    events
}

/// How many of the terms that bound the dimension hold at the same value, at most.
fn deepest(terms: &[(usize, Term)], dimension: Dimension) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    // Ends sort before beginnings at the same value.
    for (_, begins, _) in events(terms, dimension) {
        now = if begins { now + 1 } else { now.saturating_sub(1) };
        most = most.max(now);
    }
    most
}

/// How many ranges the bounds of the terms make, at most.
pub(super) fn ranges(terms: &[(usize, Term)], dimension: Dimension) -> usize {
    let bounds = terms.iter().filter_map(|(_, term)| term.bound(dimension));
    1 + 2 * bounds.map(|set| set.ranges().len()).sum::<usize>()
}

/// Cuts a dimension: from each first value on, which terms hold as far as it goes, in order. Terms that don't
/// bound it hold everywhere. None where more than `most` would stand in all ranges together.
pub(super) fn divide(
    terms: &[(usize, Term)],
    dimension: Dimension,
    most: usize,
) -> Option<Vec<(u128, Vec<usize>)>> {
    let free = |at: &usize| terms[*at].1.bound(dimension).is_none();
    let mut holding: BTreeSet<usize> = (0..terms.len()).filter(free).collect();
    let events = events(terms, dimension);
    let mut arms: Vec<(u128, Vec<usize>)> = Vec::new();
    let (mut at, mut start, mut stand) = (0, 0, 0);
    loop {
        while let Some(&(value, begins, term)) = events.get(at).filter(|event| event.0 == start) {
            debug_assert_eq!(value, start);
            if begins {
                holding.insert(term);
            } else {
                holding.remove(&term);
            }
            at += 1;
        }
        let list = decisive(terms, dimension, &holding);
        stand += list.len();
        if stand > most {
            return None;
        }
        arms.push((start, list));
        match events.get(at) {
            Some((next, _, _)) => start = *next,
            None => break,
        }
    }
    Some(arms)
}

/// Those that hold, up to one that leaves nothing to ask.
fn decisive(
    terms: &[(usize, Term)],
    dimension: Dimension,
    holding: &BTreeSet<usize>,
) -> Vec<usize> {
    let mut list = Vec::new();
    for &at in holding {
        list.push(at);
        let term = &terms[at].1;
        let others = term.len() - usize::from(term.bound(dimension).is_some());
        if others == 0 {
            break;
        }
    }
    list
}
