//! Which rules are found by lists: those that a port or an address distinguishes.

use super::{Case, Key};
use std::collections::BTreeSet;

/// The maximum number of rules on a list. Each executes 15 to 20 instructions.
const LONGEST: usize = 4;

/// The maximum number of lists by different fields. Each executes 20 instructions in addition to its rules.
const MOST_LISTS: usize = 2;

/// A list must take 1/2 of the remaining rules, because it is executed in addition to their bits.
const WORTH: usize = 2;

/// The maximum number of classes of the key that one rule may cover. The rule is on the lists of all of them.
const MOST_PLACES: usize = 64;

/// The maximum size in bytes of all records of a list. Rounded up to a power of two they stay below 4 MiB, the limit
/// of a section.
const MOST_BYTES: usize = 2 << 20;

/// Lists by their keys, and the rules that remain for bits.
pub(super) type Sorted = (Vec<(Key, Vec<Case>)>, Vec<Case>);

/// Puts rules on lists where they fit. Rules that test only a list's key join it, which saves a table if all of them
/// do.
pub(super) fn sort(mut cases: Vec<Case>, singles: &mut Vec<Case>) -> Sorted {
    let mut lists = Vec::new();
    while lists.len() < MOST_LISTS {
        let keys: BTreeSet<&Key> = cases.iter().flat_map(|case| case.bounds.keys()).collect();
        let chosen = |key: &&Key| (narrow(&cases, key), (*key).clone());
        let count = |chosen: &[bool]| chosen.iter().filter(|is_chosen| **is_chosen).count();
        let best = keys.iter().filter(|key| is_key(key)).map(chosen).max_by_key(|it| count(&it.0));
        let Some((chosen, key)) = best.filter(|it| count(&it.0) * WORTH >= cases.len().max(1))
        else {
            break;
        };
        let mut list = divide(&mut cases, &chosen);
        let count = list.len();
        list.extend(singles.extract_if(.., |case| case.bounds.contains_key(&key)));
        let chosen = narrow(&list, &key);
        let mut rest = match chosen[..count].iter().all(|is_chosen| *is_chosen) {
            true => divide(&mut list, &chosen.iter().map(|it| !it).collect::<Vec<_>>()),
            // They divide its classes too finely.
            false => list.split_off(count),
        };
        singles.append(&mut rest);
        list.sort_by_key(|case| case.rule);
        lists.push((key, list));
    }
    (lists, cases)
}

/// Removes the chosen cases.
fn divide(cases: &mut Vec<Case>, chosen: &[bool]) -> Vec<Case> {
    let mut chosen = chosen.iter();
    cases.extract_if(.., |_| chosen.next() == Some(&true)).collect()
}

/// True for a field that may be the key of a list.
fn is_key(key: &Key) -> bool {
    matches!(key, Key::Port(_) | Key::Address(_))
}

/// The cases that may be on lists by a field: the narrowest first, and last those that test only this field. A case
/// whose other fields have several ranges needs a record for each product of them.
fn narrow(cases: &[Case], key: &Key) -> Vec<bool> {
    let others: BTreeSet<&Key> =
        cases.iter().flat_map(|case| case.bounds.keys()).filter(|other| *other != key).collect();
    // The first and the last number of each field, and the rule. Each takes 4 bytes.
    let mut room = MOST_BYTES / (4 + 8 * others.len());
    let mut starts: Vec<u128> = cases
        .iter()
        .filter_map(|case| case.bounds.get(key))
        .flat_map(|set| set.ranges())
        .flat_map(|(low, high)| [Some(*low), high.checked_add(1)])
        .flatten()
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let from = |value: u128| starts.partition_point(|start| *start < value);
    let to = |value: u128| value.checked_add(1).map_or(starts.len(), from);
    let mut order = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        if let Some(set) = case.bounds.get(key) {
            let parts: Vec<_> = set.ranges().iter().map(|(a, b)| from(*a)..to(*b)).collect();
            order.push((parts.iter().map(ExactSizeIterator::len).sum::<usize>(), at, parts));
        }
    }
    order.sort_unstable_by_key(|it| (cases[it.1].bounds.len() == 1, it.0, it.1));
    let mut depths = vec![0; starts.len()];
    let mut is_chosen = vec![false; cases.len()];
    for (places, at, parts) in order {
        let other = cases[at].bounds.iter().filter(|(other, _)| *other != key);
        let records = other.map(|(_, set)| set.ranges().len()).fold(1, usize::saturating_mul);
        if records > LONGEST || places > MOST_PLACES || places * records > room {
            continue;
        }
        let deepest = parts.iter().flat_map(|range| &depths[range.clone()]).max();
        if deepest.is_some_and(|deepest| deepest + records <= LONGEST) {
            room -= places * records;
            is_chosen[at] = true;
            parts.into_iter().flatten().for_each(|place| depths[place] += records);
        }
    }
    is_chosen
}
