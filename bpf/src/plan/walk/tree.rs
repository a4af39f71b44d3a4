//! Few rules become tests one after the other, many a tree of them, as far as there is room.

use super::{Axes, Axis, Ranges, Region, Target, Test};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// First and last value of the axes that have been asked on the way.
pub(super) type Cell = BTreeMap<Axis, (u32, u32)>;

/// So many tests in a row are as good as a tree.
const FEW: usize = 3;

/// Regions are compared with each other up to so many.
const COMPARED: usize = 64;

/// Regions looked at in all trees together: a second of work.
const MOST_STEPS: usize = 6_000_000;

/// Makes the tests of a stage.
pub(super) struct Builder<'a> {
    axes: &'a Axes,
    tests: Vec<Test>,
    /// For each the tests on the longest walk from there.
    depths: Vec<usize>,
    known: HashMap<Test, Target>,
    steps: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(axes: &'a Axes) -> Self {
        Self { axes, tests: Vec::new(), depths: Vec::new(), known: HashMap::new(), steps: 0 }
    }

    pub(super) fn finish(self) -> Vec<Test> {
        self.tests
    }

    /// How many tests there are.
    pub(super) fn len(&self) -> usize {
        self.tests.len()
    }

    /// Forgets all tests but the first so many.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tests.truncate(len);
        self.depths.truncate(len);
        self.known.retain(|_, target| !matches!(target, Target::Test(at) if *at >= len));
    }

    /// Tests on the longest walk.
    pub(super) fn depth(&self, target: Target) -> usize {
        match target {
            Target::Test(at) => self.depths[at],
            Target::Nothing | Target::Rule(_) => 0,
        }
    }

    /// Where to find the first that holds in a cell, in so many new tests at most; `room` is enough for a row.
    pub(super) fn build(&mut self, regions: Vec<Region>, cell: &Cell, room: usize) -> Target {
        let regions = needed(regions);
        let row: usize = regions.iter().map(Region::tests).sum();
        self.steps += regions.len();
        if row > FEW
            && self.steps < MOST_STEPS
            && let Some(target) = self.split(&regions, row, cell, room)
        {
            return target;
        }
        let next = Target::Nothing;
        regions.iter().rev().fold(next, |next, region| self.region(region, next))
    }

    /// In two where that shortens the row, and there is room for it.
    fn split(
        &mut self,
        regions: &[Region],
        row: usize,
        cell: &Cell,
        room: usize,
    ) -> Option<Target> {
        let (axis, value) = self.cut(regions, cell)?;
        let (from, to) = self.whole(axis, cell);
        let (low, high) = ((from, value - 1), (value, to));
        let (below, above) = (part(regions, axis, low), part(regions, axis, high));
        let (below, above) = (needed(below), needed(above));
        self.steps += regions.len();
        let count = |regions: &[Region]| regions.iter().map(Region::tests).sum::<usize>();
        let counts = (count(&below), count(&above));
        let sum = counts.0 + counts.1;
        let is_shorter = counts.0.max(counts.1) < row || counts.0.min(counts.1) * 4 < row * 3;
        if sum + 1 > room || !is_shorter {
            return None;
        }
        let spare = room - 1 - sum;
        let room =
            |count: usize| count + (spare as u128 * count as u128 / sum.max(1) as u128) as usize;
        let mut inner = cell.clone();
        inner.insert(axis, low);
        let hit = self.build(below, &inner, room(counts.0));
        inner.insert(axis, high);
        let miss = self.build(above, &inner, room(counts.1));
        Some(self.test(Test { bounds: vec![(axis, 0, value - 1)], hit, miss }))
    }

    fn whole(&self, axis: Axis, cell: &Cell) -> (u32, u32) {
        let all = || self.axes.get(&axis).map_or(0, |scale| scale.count - 1);
        cell.get(&axis).copied().unwrap_or_else(|| (0, all()))
    }

    /// The axis and the first value above the cut that leave the fewest to the worse side, and fewest in all. Where one
    /// side keeps nearly all, as with ranges within one another, those that leave half of them to the other: after some
    /// such cuts there are ranges that take all of a side.
    fn cut(&self, regions: &[Region], cell: &Cell) -> Option<(Axis, u32)> {
        let mut hulls: BTreeMap<Axis, Vec<(u32, u32)>> = BTreeMap::new();
        for (axis, ranges) in regions.iter().flat_map(|region| &region.bounds) {
            if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
                hulls.entry(*axis).or_default().push((first.0, last.1));
            }
        }
        let count = regions.len();
        let mut fair: Option<((usize, usize), Axis, u32)> = None;
        let mut uneven: Option<(usize, Axis, u32)> = None;
        for (axis, hulls) in hulls {
            let free = count - hulls.len();
            let (from, last) = self.whole(axis, cell);
            let mut lows: Vec<u32> = hulls.iter().map(|hull| hull.0).collect();
            let mut highs: Vec<u32> = hulls.iter().map(|hull| hull.1).collect();
            lows.sort_unstable();
            highs.sort_unstable();
            let mut values: Vec<u32> =
                lows.iter().copied().chain(highs.iter().map(|it| it + 1)).collect();
            values.sort_unstable();
            values.dedup();
            for value in values.into_iter().filter(|value| *value > from && *value <= last) {
                let below = free + lows.partition_point(|low| *low < value);
                let above = free + highs.len() - highs.partition_point(|high| *high < value);
                let found = ((below.max(above), below + above), axis, value);
                if fair.is_none_or(|best| found < best) {
                    fair = Some(found);
                }
                let found = (below.min(above).abs_diff(count / 2), axis, value);
                if uneven.is_none_or(|best| found < best) {
                    uneven = Some(found);
                }
            }
        }
        let ((worse, _), axis, value) = fair?;
        if worse * 20 < count * 19 {
            return Some((axis, value));
        }
        uneven.map(|(_, axis, value)| (axis, value))
    }

    /// One region, and where to go if it does not hold.
    fn region(&mut self, region: &Region, miss: Target) -> Target {
        let (one, several): (Vec<_>, Vec<_>) =
            region.bounds.iter().partition(|(_, ranges)| ranges.len() == 1);
        let mut hit = Target::Rule(region.rule);
        for (axis, ranges) in several {
            hit = self.search(*axis, ranges, hit, miss);
        }
        if one.is_empty() {
            return hit;
        }
        let bounds = one.iter().map(|(axis, ranges)| (*axis, ranges[0].0, ranges[0].1)).collect();
        self.test(Test { bounds, hit, miss })
    }

    /// Whether the axis lies in one of the ranges.
    fn search(&mut self, axis: Axis, ranges: &[(u32, u32)], hit: Target, miss: Target) -> Target {
        match ranges {
            [] => miss,
            [(low, high)] => self.test(Test { bounds: vec![(axis, *low, *high)], hit, miss }),
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let cut = above[0].0;
                let below = self.search(axis, below, hit, miss);
                let above = self.search(axis, above, hit, miss);
                self.test(Test { bounds: vec![(axis, 0, cut - 1)], hit: below, miss: above })
            }
        }
    }

    fn test(&mut self, test: Test) -> Target {
        if test.hit == test.miss {
            return test.hit;
        }
        if let Some(target) = self.known.get(&test) {
            return *target;
        }
        let depth = 1 + self.depth(test.hit).max(self.depth(test.miss));
        let target = Target::Test(self.tests.len());
        self.tests.push(test.clone());
        self.depths.push(depth);
        self.known.insert(test, target);
        target
    }
}

/// What of the regions lies in the range of an axis.
fn part(regions: &[Region], axis: Axis, (low, high): (u32, u32)) -> Vec<Region> {
    let one = |region: &Region| {
        let Some(ranges) = region.bound(axis) else { return Some(region.clone()) };
        let inside = ranges.iter().filter(|it| it.0 <= high && it.1 >= low);
        let cut: Ranges = inside.map(|it| (it.0.max(low), it.1.min(high))).collect();
        let mut part = region.clone();
        match cut.as_slice() {
            [] => return None,
            [all] if *all == (low, high) => part.bounds.retain(|(it, _)| *it != axis),
            _ => {
                let rest = Rc::new(cut);
                for bound in part.bounds.iter_mut().filter(|(it, _)| *it == axis) {
                    bound.1 = Rc::clone(&rest);
                }
            }
        }
        Some(part)
    };
    regions.iter().filter_map(one).collect()
}

/// Without what comes too late: behind one that always holds, or within an earlier one.
fn needed(mut regions: Vec<Region>) -> Vec<Region> {
    if let Some(last) = regions.iter().position(|region| region.bounds.is_empty()) {
        regions.truncate(last + 1);
    }
    if regions.len() > COMPARED {
        let mut seen = HashSet::new();
        regions.retain(|region| seen.insert(region.bounds.clone()));
        return regions;
    }
    let mut kept: Vec<Region> = Vec::with_capacity(regions.len());
    for region in regions {
        if !kept.iter().any(|earlier| is_within(&region, earlier)) {
            kept.push(region);
        }
    }
    kept
}

fn is_within(region: &Region, other: &Region) -> bool {
    other.bounds.iter().all(|(axis, outer)| {
        region.bound(*axis).is_some_and(|inner| {
            Rc::ptr_eq(inner, outer)
                || inner.iter().all(|(low, high)| {
                    let at = outer.partition_point(|range| range.1 < *low);
                    outer.get(at).is_some_and(|range| range.0 <= *low && high <= &range.1)
                })
        })
    })
}
