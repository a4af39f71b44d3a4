//! Which rules are found by lists: those that a port or an address tells apart.

use super::{Case, Kind};
use std::collections::BTreeSet;

/// Rules on a list, at most.
const LONGEST: usize = 16;

/// Instructions of a list, and of each of its rules; measured on the mixed rules of the bench.
const LIST_COST: (usize, usize) = (20, 18);

/// Instructions to find the row of a field and the rule of a bit; and of a word of rows, for each field.
const ROW_COST: usize = 9;
const WORD_COST: usize = 2;

/// Places on lists for each rule, at most: one that lies in many classes stands on the lists of all.
const REPEATED: usize = 4;

/// Lists by different fields.
const MOST_LISTS: usize = 4;

/// Records that one rule may need, where a set of classes is no range.
const MOST_RECORDS: usize = 8;

/// Lists by their keys, and what is left for bits.
pub(super) type Sorted = (Vec<(Kind, Vec<Case>)>, Vec<Case>);

pub(super) fn sort(mut cases: Vec<Case>) -> Sorted {
    let mut lists = Vec::new();
    while lists.len() < MOST_LISTS {
        let kinds: BTreeSet<Kind> =
            cases.iter().flat_map(|case| &case.bounds).map(|(kind, _)| kind.clone()).collect();
        let bits = |count: usize| match count.div_ceil(64) {
            0 => 0,
            words => ROW_COST * (kinds.len() + 1) + words * (WORD_COST * kinds.len() + 2),
        };
        let with = |kind: &Kind| {
            let (chosen, longest) = narrow(&cases, kind);
            let left = chosen.iter().filter(|is_chosen| !**is_chosen).count();
            (LIST_COST.0 + longest * LIST_COST.1 + bits(left), kind.clone(), chosen)
        };
        let best = kinds.iter().filter(|kind| is_key(kind)).map(with).min();
        let Some((_, kind, chosen)) = best.filter(|it| it.0 < bits(cases.len())) else { break };
        let (mut list, mut rest) = (Vec::new(), Vec::new());
        for (case, is_chosen) in cases.into_iter().zip(chosen) {
            if is_chosen { &mut list } else { &mut rest }.push(case);
        }
        lists.push((kind, list));
        cases = rest;
    }
    (lists, cases)
}

/// Rules that test the key of a list alone join it, if none of its lists gets too long: that saves a table.
pub(super) fn join(key: &Kind, list: &mut Vec<Case>, singles: &mut Vec<Case>) {
    let (mut all, rest): (Vec<_>, Vec<_>) =
        singles.drain(..).partition(|case| case.bounds[0].0 == *key);
    let count = all.len();
    all.append(&mut list.clone());
    if count > 0 && narrow(&all, key).0.iter().all(|is_chosen| *is_chosen) {
        all.sort_by_key(|case| case.rule);
        *list = all;
        *singles = rest;
    } else {
        *singles = rest;
        singles.extend(all.into_iter().take(count));
    }
}

/// True for a field that may lead to lists.
fn is_key(kind: &Kind) -> bool {
    matches!(kind, Kind::Port(_) | Kind::Address(_))
}

/// The cases that may be on lists by a field: as many as there is room for, the narrowest first; and the longest list.
fn narrow(cases: &[Case], key: &Kind) -> (Vec<bool>, usize) {
    let fits = |case: &&Case| {
        let others = case.bounds.iter().filter(|(kind, _)| kind != key);
        let records: usize = others.map(|(_, set)| set.ranges().len()).product();
        records <= MOST_RECORDS
    };
    let places: Vec<usize> = (0..cases.len())
        .filter(|at| cases[*at].bound(key).is_some() && fits(&&cases[*at]))
        .collect();
    let set = |at: &usize| cases[*at].bound(key).map(|set| set.ranges()).unwrap_or_default();
    let mut starts: Vec<u128> = places
        .iter()
        .flat_map(set)
        .flat_map(|(low, high)| [*low, high.saturating_add(1)])
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let interval = |value: u128| starts.partition_point(|start| *start < value);
    let intervals = |at: &usize| {
        let of = set(at).iter();
        of.map(|(low, high)| (interval(*low), interval(high.saturating_add(1)))).collect::<Vec<_>>()
    };
    /// Of one list: its size, its place, and its parts.
    type Chosen = (usize, usize, Vec<(usize, usize)>);
    let mut chosen: Vec<Chosen> = places
        .iter()
        .map(|at| (intervals(at), at))
        .map(|(of, at)| (of.iter().map(|(from, to)| to - from).sum(), *at, of))
        .collect();
    chosen.sort_unstable();
    // The longest list of so many; None where they stand on too many lists.
    let longest = |count: usize| {
        let mut sum = 0;
        let mut change = vec![0_isize; starts.len() + 1];
        for (width, _, of) in &chosen[..count] {
            sum += width;
            for (from, to) in of {
                change[*from] += 1;
                change[*to] -= 1;
            }
        }
        let mut now = 0;
        let depths = change.into_iter().map(|step| {
            now += step;
            now.unsigned_abs()
        });
        let deepest = depths.max().unwrap_or(0);
        (sum <= REPEATED * (count + LONGEST) && deepest <= LONGEST).then_some(deepest)
    };
    let (mut least, mut most) = (0, chosen.len() + 1);
    while most - least > 1 {
        let middle = least + (most - least) / 2;
        if longest(middle).is_some() { least = middle } else { most = middle }
    }
    let mut is_chosen = vec![false; cases.len()];
    chosen[..least].iter().for_each(|(_, at, _)| is_chosen[*at] = true);
    (is_chosen, longest(least).unwrap_or(0))
}
