//! Rules beyond the budget of code become data: tests that one loop walks along, whatever the rules are.
//!
//! As code, hundreds of rules about several things each took the kernel's verifier over a million instructions, or clang
//! minutes. Here the verifier sees a loop without branches but its end, so that its work is the longest walk times the
//! loop's length, and nothing else.
//!
//! What is known of a connection is put into one or two words first ([`axis`]): ports, numbers for where the addresses
//! lie, the direction. A [`Test`] holds these words against bounds for all of them at once. The rules are parted into
//! groups ([`group`]): one by where the remote address lies, say, one by the local port, a last one for the rest. Within
//! a group a table leads to the few rules that are left, and a tree ([`tree`]) parts these where they are many. A group
//! for which the walk would be long is put into bits ([`bits`](mod@bits)) instead. Of the rules that the groups find the
//! earliest decides.

mod axis;
mod bits;
mod group;
mod layout;
mod tree;

pub use axis::{Axes, Axis, Scale};
pub use bits::{Bits, Block, Column};
pub use layout::{Layout, Place};

use super::Terms;
use std::rc::Rc;

/// The data of a program.
#[derive(Debug)]
pub struct Walk {
    /// What the rules ask, and how it is numbered.
    pub axes: Axes,
    /// Where that stands in words.
    pub layout: Layout,
    /// Of rules that ask for no interface, and of those that do: the device is found between.
    pub stages: [Stage; 2],
}

/// Tests, and where to begin.
#[derive(Debug, Default)]
pub struct Stage {
    /// Each is asked.
    pub groups: Vec<Group>,
    /// One comes after those it leads to.
    pub tests: Vec<Test>,
}

/// Rules of which the first that holds is found in one walk.
#[derive(Debug)]
pub struct Group {
    /// Where the walk begins.
    pub entry: Entry,
    /// Tests on the longest walk.
    pub longest: usize,
}

/// Where a walk begins.
#[derive(Debug)]
pub enum Entry {
    /// There.
    At(Target),
    /// By an axis: from each first value on, ascending from 0.
    By(Axis, Vec<(u32, Target)>),
    /// There is no walk: bits decide.
    Bits(Bits),
}

/// Where a test leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// No rule of the group holds.
    Nothing,
    /// This one does.
    Rule(usize),
    /// To another test, by its place in [`Stage::tests`].
    Test(usize),
}

/// Whether all of some axes lie within bounds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Test {
    /// First and last value, for each axis that matters.
    pub bounds: Vec<(Axis, u32, u32)>,
    /// Where to go if they do.
    pub hit: Target,
    /// And if they don't.
    pub miss: Target,
}

/// A term in numbers of the axes.
#[derive(Debug, Clone)]
struct Region {
    rule: usize,
    /// Ascending by axis; sorted, disjoint ranges.
    bounds: Vec<(Axis, Rc<Ranges>)>,
}

type Ranges = Vec<(u32, u32)>;

impl Region {
    fn bound(&self, axis: Axis) -> Option<&Rc<Ranges>> {
        self.bounds.iter().find(|(it, _)| *it == axis).map(|(_, ranges)| ranges)
    }

    /// How many tests it takes.
    fn tests(&self) -> usize {
        let counts = || self.bounds.iter().map(|(_, ranges)| ranges.len());
        let searches: usize = counts().filter(|count| *count > 1).map(|count| 2 * count - 1).sum();
        searches + usize::from(counts().any(|count| count == 1))
    }
}

/// Plans the data; None where it would be too much.
pub(super) fn walk(terms: &Terms) -> Option<Walk> {
    let (axes, regions) = axis::number(terms);
    let asks_device =
        |region: &Region| region.bounds.iter().any(|(axis, _)| matches!(axis, Axis::List(_)));
    let (with, without): (Vec<_>, Vec<_>) = regions.into_iter().partition(asks_device);
    let layout = Layout::new(&axes);
    let stage = |regions, has_lists| group::stage(regions, &axes, layout.bytes(has_lists));
    let stages = [stage(without, false)?, stage(with, true)?];
    Some(Walk { axes, layout, stages })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Dimension, Set, Side, Term};

    const DIMENSIONS: [Dimension; 6] = [
        Dimension::Port(Side::Local),
        Dimension::Port(Side::Remote),
        Dimension::Ipv4(Side::Remote),
        Dimension::Direction,
        Dimension::Ports,
        Dimension::Interface(3),
    ];

    /// The number of the dimension's value on its axis.
    fn number(walk: &Walk, axis: Axis, values: &[u128]) -> u32 {
        let at = DIMENSIONS.iter().position(|it| axis::axis(*it) == axis).expect("a dimension");
        let classes = walk.axes[&axis].classes.iter().find(|it| it.0 == DIMENSIONS[at]);
        classes.map_or(values[at] as u32, |(_, starts)| {
            starts[starts.partition_point(|start| start.0 <= values[at]) - 1].1
        })
    }

    /// The rule of the first bit.
    fn first(block: &Block, number: impl Fn(Axis) -> u32) -> Option<usize> {
        let rows: Vec<&Vec<u64>> = block
            .columns
            .iter()
            .map(|column| {
                let at = column.starts.partition_point(|it| it.0 <= number(column.axis)) - 1;
                &column.rows[column.starts[at].1 as usize]
            })
            .collect();
        let left = |at: &usize| rows.iter().all(|row| row[at / 64] >> (at % 64) & 1 == 1);
        (0..block.rules.len()).find(left).map(|at| block.rules[at])
    }

    fn decide(walk: &Walk, values: &[u128]) -> Option<usize> {
        let mut found: Option<usize> = None;
        for stage in &walk.stages {
            for group in &stage.groups {
                let mut target = match &group.entry {
                    Entry::At(target) => *target,
                    Entry::By(axis, targets) => {
                        let number = number(walk, *axis, values);
                        targets[targets.partition_point(|it| it.0 <= number) - 1].1
                    }
                    Entry::Bits(bits) => bits
                        .blocks
                        .iter()
                        .find_map(|block| first(block, |axis| number(walk, axis, values)))
                        .map_or(Target::Nothing, Target::Rule),
                };
                let mut steps = 0;
                while let Target::Test(at) = target {
                    let Test { bounds, hit, miss } = &stage.tests[at];
                    let within = |(axis, low, high): &(Axis, u32, u32)| {
                        (*low..=*high).contains(&number(walk, *axis, values))
                    };
                    target = if bounds.iter().all(within) { *hit } else { *miss };
                    steps += 1;
                }
                assert!(steps <= group.longest, "{steps} tests of {}", group.longest);
                if let Target::Rule(rule) = target {
                    found = Some(found.map_or(rule, |found| found.min(rule)));
                }
            }
        }
        found
    }

    /// Random terms of few values, so that they overlap, at random points.
    #[test]
    fn as_asking_one_by_one() {
        // A small generator of its own: the test needs no good randomness, but the same each time.
        let mut state = 1_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut decided = 0;
        for count in 1..150 {
            let mut terms = Terms::new();
            for rule in 0..count {
                let mut term = Term::default();
                for dimension in DIMENSIONS {
                    let last = dimension.domain().ranges()[0].1.min(60) as u32;
                    if random(3) == 0 {
                        continue;
                    }
                    let mut range = || {
                        let low = random(last + 1);
                        (low.into(), (low + random(last / 4 + 1)).min(last).into())
                    };
                    let ranges =
                        if count % 3 == 0 { vec![range(), range()] } else { vec![range()] };
                    let set = Rc::new(Set::from_ranges(ranges));
                    term = term.replacing(dimension, set).expect("a value");
                }
                terms.push((rule, term));
            }
            let walk = walk(&terms).expect("few terms");
            for _ in 0..200 {
                let values = DIMENSIONS.map(|dimension| {
                    let last = dimension.domain().ranges()[0].1.min(63) as u32;
                    u128::from(random(last + 1))
                });
                let holds = |term: &Term| {
                    let bound = |(at, it): (usize, &Dimension)| {
                        term.bound(*it).is_none_or(|set| set.contains(values[at]))
                    };
                    DIMENSIONS.iter().enumerate().all(bound)
                };
                let expected = terms.iter().find(|(_, term)| holds(term)).map(|(rule, _)| *rule);
                assert_eq!(decide(&walk, &values), expected, "{values:?} of {terms:?}");
                decided += usize::from(expected.is_some());
            }
        }
        assert!((5_000..28_000).contains(&decided), "one-sided: {decided}");
    }
}
