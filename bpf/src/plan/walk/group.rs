//! Parts rules into groups. A table over one axis leads to those of a group that are left, so that it costs the same for
//! ten rules and for ten thousand. A rule that lies in few ranges of the axis is repeated in each; those for which that
//! would be too much, or which do not ask for the axis, are for other groups, and what is left at last for one without a
//! table. So the data grows with the rules, not with the product of their conditions. What costs less as bits becomes these.

use super::bits::{self, bits};
use super::tree::{Builder, Cell};
use super::{Axes, Axis, Entry, Group, Ranges, Region, Stage, Target};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// Groups of a stage with a table of their own.
const MOST_TABLES: usize = 5;

/// Fewer rules than this need no table.
const FEW: usize = 6;

/// Bytes of a stage's tests: with one test more than a power of two, these stay below the 4 MiB that a map's value may
/// have before Linux 5.19.
const MOST_BYTES: usize = 2 << 20;

/// So many tests are made, where rules are entangled, to have short walks.
const ROOM: usize = 30_000;

/// Tests on the longest walks of all groups of a stage: some twenty instructions each for the kernel's verifier.
const LONGEST: usize = 4_096;

/// How many tests regions make in all ranges of a table, at most: so many times as they have, and so many anyway.
const REPEATED: (usize, usize) = (3, 4_000);

/// Instructions of a test, of a table, and of taking the earlier of two rules, about.
const TEST_COST: usize = 17;
const TABLE_COST: usize = 6;
const FIRST_COST: usize = 5;

/// Plans a stage of tests of so many bytes; None where it would be too much.
pub(super) fn stage(regions: Vec<Region>, axes: &Axes, bytes: usize) -> Option<Stage> {
    if regions.is_empty() {
        return Some(Stage::default());
    }
    // Where tables repeat too much, a walk past all of it may still be short enough.
    let tables = |most: usize| plan(regions.clone(), axes, MOST_BYTES / bytes, most);
    let parted = tables(MOST_TABLES).or_else(|| tables(0));
    // One for all may be better than several.
    let most = parted.as_ref().map_or(usize::MAX, |(_, cost)| *cost);
    match bits(&regions, axes, bits::MOST_BYTES, most) {
        Some(bits) => {
            let group = Group { entry: Entry::Bits(bits), longest: 0 };
            Some(Stage { groups: vec![group], tests: Vec::new() })
        }
        None => parted.map(|(stage, _)| stage),
    }
}

/// With so many tables, and what a decision costs then.
fn plan(
    mut regions: Vec<Region>,
    axes: &Axes,
    most_tests: usize,
    most_tables: usize,
) -> Option<(Stage, usize)> {
    let mut parts: Vec<(Option<Axis>, Vec<Region>)> = Vec::new();
    while parts.len() < most_tables && regions.len() > FEW {
        let Some((axis, chosen)) = best(&regions, axes) else { break };
        let mut chosen = chosen.into_iter();
        let (mut group, mut rest) = (Vec::new(), Vec::new());
        for region in regions {
            if chosen.next().unwrap_or_default() { &mut group } else { &mut rest }.push(region);
        }
        parts.push((Some(axis), group));
        regions = rest;
    }
    parts.extend((!regions.is_empty()).then_some((None, regions)));

    // What each part takes as plain lists, and so how much room there is for more.
    let mut lists = Vec::new();
    for (axis, group) in parts {
        let divided = axis.map(|axis| divide(&group, axis));
        lists.push((axis, group, divided));
    }
    let plain = |(_, group, divided): &(_, Vec<Region>, Option<Division>)| -> usize {
        match divided {
            None => group.iter().map(Region::tests).sum(),
            Some(arms) => {
                let lists: BTreeSet<&Vec<usize>> = arms.iter().map(|(_, list)| list).collect();
                lists.iter().flat_map(|list| list.iter()).map(|at| group[*at].tests()).sum()
            }
        }
    };
    // A group whose tests would not even fit in a row is for bits.
    let plain: Vec<usize> = lists.iter().map(plain).collect();
    let total: usize = plain.iter().filter(|tests| **tests <= most_tests / 2).sum();
    if total > most_tests {
        return None;
    }
    let times = (ROOM / total.max(1)).max(1);
    let mut bytes = bits::MOST_BYTES;
    let mut cost = 0;
    let mut builder = Builder::new(axes);
    let mut groups = Vec::new();
    for ((axis, group, divided), plain) in lists.into_iter().zip(plain) {
        cost += FIRST_COST;
        if plain > most_tests / 2 {
            let bits = bits(&group, axes, bytes, usize::MAX)?;
            (bytes, cost) = (bytes - bits.bytes, cost + bits.cost);
            groups.push(Group { entry: Entry::Bits(bits), longest: 0 });
            continue;
        }
        let before = builder.len();
        let mut longest = 0;
        let mut known: HashMap<Vec<usize>, Target> = HashMap::new();
        let mut target = |list: Vec<usize>, axis: Option<Axis>| {
            if let Some(target) = known.get(&list) {
                return *target;
            }
            let without = |at: &usize| {
                let mut region = group[*at].clone();
                region.bounds.retain(|(it, _)| Some(*it) != axis);
                region
            };
            let regions: Vec<_> = list.iter().map(without).collect();
            let room = regions.iter().map(Region::tests).sum::<usize>() * times;
            let target = builder.build(regions, &Cell::default(), room);
            longest = builder.depth(target).max(longest);
            known.insert(list, target);
            target
        };
        let entry = match (axis, divided) {
            (Some(axis), Some(arms)) => {
                let mut targets: Vec<(u32, Target)> = Vec::new();
                for (start, list) in arms {
                    let target = target(list, Some(axis));
                    if targets.last().is_none_or(|(_, last)| *last != target) {
                        targets.push((start, target));
                    }
                }
                Entry::By(axis, targets)
            }
            _ => Entry::At(target((0..group.len()).collect(), None)),
        };
        let walk = longest * TEST_COST + if axis.is_some() { TABLE_COST } else { 0 };
        let is_long = longest > FEW;
        match is_long.then(|| bits(&group, axes, bytes, walk)).flatten() {
            Some(bits) => {
                builder.truncate(before);
                (bytes, cost) = (bytes - bits.bytes, cost + bits.cost);
                groups.push(Group { entry: Entry::Bits(bits), longest: 0 });
            }
            None => {
                cost += walk;
                groups.push(Group { entry, longest });
            }
        }
    }
    let tests = builder.finish();
    let longest: usize = groups.iter().map(|group| group.longest).sum();
    let is_within = tests.len() <= most_tests && longest <= LONGEST;
    is_within.then_some((Stage { groups, tests }, cost))
}

/// The axis of the table that leaves the fewest rules, counting those that share a range of it, and which regions it
/// is for; None if no table is worth it.
fn best(regions: &[Region], axes: &Axes) -> Option<(Axis, Vec<bool>)> {
    let has_table = |axis: &&Axis| matches!(axis, Axis::Port(_) | Axis::Address(_));
    let one = |axis: &Axis| {
        let chosen = narrow(regions, *axis)?;
        let mut group = Vec::new();
        for (region, is_chosen) in regions.iter().zip(&chosen) {
            group.extend(region.bound(*axis).filter(|_| *is_chosen).cloned());
        }
        let left = regions.len() - group.len() + deepest(&group);
        Some((left, *axis, chosen))
    };
    let (left, axis, chosen) = axes.keys().filter(has_table).filter_map(one).min()?;
    (left * 4 <= regions.len() * 3).then_some((axis, chosen))
}

/// The regions that lie in so few ranges between boundaries that they may be repeated in each.
fn narrow(regions: &[Region], axis: Axis) -> Option<Vec<bool>> {
    let bounds: Vec<(usize, &Rc<Ranges>)> = regions
        .iter()
        .enumerate()
        .filter_map(|(at, region)| region.bound(axis).map(|ranges| (at, ranges)))
        .collect();
    let ranges = || bounds.iter().flat_map(|(_, ranges)| ranges.iter());
    let mut starts: Vec<u32> = ranges().flat_map(|(low, high)| [*low, high + 1]).collect();
    starts.sort_unstable();
    starts.dedup();
    let place = |value: u32| starts.partition_point(|start| *start < value);
    let width = |(at, ranges): &(usize, &Rc<Ranges>)| {
        let widths = ranges.iter().map(|(low, high)| place(high + 1) - place(*low));
        let searches = if ranges.len() > 1 { 2 * ranges.len() - 1 } else { 0 };
        let rest = (regions[*at].tests() - searches).max(1);
        (widths.sum::<usize>() * rest, *at)
    };
    let mut widths: Vec<_> = bounds.iter().map(width).collect();
    widths.sort_unstable();
    let tests: usize = bounds.iter().map(|(at, _)| regions[*at].tests()).sum();
    let most = REPEATED.0 * tests + REPEATED.1;
    let mut chosen = vec![false; regions.len()];
    let mut sum = 0;
    for (width, at) in widths {
        sum += width;
        if sum > most {
            break;
        }
        chosen[at] = true;
    }
    chosen.contains(&true).then_some(chosen)
}

/// How many hold at the same value, at most.
fn deepest(bounds: &[Rc<Ranges>]) -> usize {
    let ranges = bounds.iter().flat_map(|ranges| ranges.iter());
    let mut events: Vec<_> = ranges.flat_map(|(low, high)| [(*low, 1), (high + 1, -1)]).collect();
    events.sort_unstable();
    let (mut now, mut most) = (0_isize, 0);
    for (_, step) in events {
        now += step;
        most = most.max(now);
    }
    most.unsigned_abs()
}

/// From each first value on, the places of the regions that hold there, in order.
type Division = Vec<(u32, Vec<usize>)>;

fn divide(regions: &[Region], axis: Axis) -> Division {
    let mut events = Vec::new();
    for (at, region) in regions.iter().enumerate() {
        for (low, high) in region.bound(axis).iter().flat_map(|ranges| ranges.iter()) {
            events.push((*low, true, at));
            events.push((high + 1, false, at));
        }
    }
    events.sort_unstable();
    let mut holding = BTreeSet::new();
    let mut arms: Division = vec![(0, Vec::new())];
    for same in events.chunk_by(|one, other| one.0 == other.0) {
        for &(_, begins, at) in same {
            if begins {
                holding.insert(at)
            } else {
                holding.remove(&at)
            };
        }
        let start = same[0].0;
        arms.pop_if(|(last, _)| *last == start);
        arms.push((start, holding.iter().copied().collect()));
    }
    arms
}
