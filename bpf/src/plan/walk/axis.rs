//! What rules ask of a connection, numbered: each dimension, or an address of either family, is an axis. Ports may stand
//! for themselves. Where the values of one axis fall into few classes, between which no rule tells a difference, these
//! are numbered instead.

use super::{Ranges, Region};
use crate::plan::Terms;
use crate::space::{Dimension, Set, Side};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// What a test may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// See [`Dimension::Port`].
    Port(Side),
    /// Where the address lies: classes of IPv4, then those of IPv6.
    Address(Side),
    /// See [`Dimension::Direction`].
    Direction,
    /// See [`Dimension::Family`].
    Family,
    /// See [`Dimension::Ports`].
    Ports,
    /// See [`Dimension::SameAddress`].
    SameAddress,
    /// See [`Dimension::Interface`].
    List(usize),
}

/// How an axis is numbered.
#[derive(Debug, Default)]
pub struct Scale {
    /// Numbers from 0.
    pub count: u32,
    /// The number from each first value on, for each dimension that is looked up; none where the value is the number.
    pub classes: Vec<(Dimension, Vec<(u128, u32)>)>,
}

/// All that are asked.
pub type Axes = BTreeMap<Axis, Scale>;

/// So much is spent on classes before ranges between boundaries are numbered as they are: seconds at most.
const MOST_STEPS: usize = 20_000_000;

pub(super) fn axis(dimension: Dimension) -> Axis {
    match dimension {
        Dimension::Direction => Axis::Direction,
        Dimension::Family => Axis::Family,
        Dimension::Port(side) => Axis::Port(side),
        Dimension::Ipv4(side) | Dimension::Ipv6(side) => Axis::Address(side),
        Dimension::Ports => Axis::Ports,
        Dimension::SameAddress => Axis::SameAddress,
        Dimension::Interface(list) => Axis::List(list),
    }
}

/// The sets of a dimension in numbers of its axis.
type Numbered = HashMap<*const Set, Rc<Ranges>>;

/// Numbers all axes. Equal sets must be shared.
pub(super) fn number(terms: &Terms) -> (Axes, Vec<Region>) {
    let mut sets: BTreeMap<Dimension, Vec<Rc<Set>>> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    for (dimension, set) in terms.iter().flat_map(|(_, term)| term.bounds()) {
        if seen.insert((dimension, Rc::as_ptr(set))) {
            sets.entry(dimension).or_default().push(Rc::clone(set));
        }
    }
    let mut axes = Axes::new();
    let mut numbered: BTreeMap<Dimension, Numbered> = BTreeMap::new();
    for (dimension, sets) in &sets {
        let scale: &mut Scale = axes.entry(axis(*dimension)).or_default();
        let plain = plain(sets);
        let ranges = match dimension {
            Dimension::Ipv4(_) | Dimension::Ipv6(_) => {
                let (starts, ranges) = classes(sets, *dimension, scale.count);
                scale.count = starts.iter().map(|(_, class)| class + 1).max().unwrap_or_default();
                scale.classes.push((*dimension, starts));
                ranges
            }
            Dimension::Port(_) => {
                let (starts, ranges) = classes(sets, *dimension, 0);
                let count =
                    |numbered: &Numbered| numbered.values().map(|it| it.len()).sum::<usize>();
                if count(&ranges) < count(&plain) {
                    scale.count =
                        starts.iter().map(|(_, class)| class + 1).max().unwrap_or_default();
                    scale.classes.push((*dimension, starts));
                    ranges
                } else {
                    scale.count = 1 << 16;
                    plain
                }
            }
            Dimension::Ports => {
                scale.count = 3;
                plain
            }
            _ => {
                scale.count = 2;
                plain
            }
        };
        numbered.insert(*dimension, ranges);
    }
    // Where rules ask for addresses of one family only, those of the other are one class behind.
    for (axis, scale) in &mut axes {
        let Axis::Address(side) = axis else { continue };
        for (place, dimension) in
            [Dimension::Ipv4(*side), Dimension::Ipv6(*side)].into_iter().enumerate()
        {
            if !sets.contains_key(&dimension) {
                scale.classes.insert(place, (dimension, vec![(0, scale.count)]));
                scale.count += 1;
            }
        }
    }
    let region = |(rule, term): &(usize, crate::space::Term)| {
        let is_address = |(dimension, _): (Dimension, _)| {
            matches!(dimension, Dimension::Ipv4(_) | Dimension::Ipv6(_))
        };
        // An address is of one family anyway.
        let has_address = term.bounds().any(is_address);
        let bounds = term.bounds().filter(|(it, _)| !(has_address && *it == Dimension::Family));
        let bound = |(dimension, set): (Dimension, &Rc<Set>)| {
            let ranges = numbered.get(&dimension).and_then(|it| it.get(&Rc::as_ptr(set)));
            (axis(dimension), ranges.cloned().unwrap_or_default())
        };
        let mut bounds: Vec<_> = bounds.map(bound).collect();
        bounds.sort_by_key(|(axis, _)| *axis);
        Region { rule: *rule, bounds }
    };
    let regions: Vec<_> = terms.iter().map(region).collect();
    axes.retain(|axis, _| regions.iter().any(|region| region.bound(*axis).is_some()));
    (axes, regions)
}

/// Values as they are, for dimensions of 32 bits at most.
fn plain(sets: &[Rc<Set>]) -> Numbered {
    let ranges = |set: &Set| set.ranges().iter().map(|it| (it.0 as u32, it.1 as u32)).collect();
    sets.iter().map(|set| (Rc::as_ptr(set), Rc::new(ranges(set)))).collect()
}

/// Classes of values, counted from `first` in the order in which they begin: values of one class lie in the same sets.
fn classes(sets: &[Rc<Set>], dimension: Dimension, first: u32) -> (Vec<(u128, u32)>, Numbered) {
    let last = dimension.domain().ranges().last().map_or(0, |range| range.1);
    let mut events = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        for &(low, high) in set.ranges() {
            events.push((low, at));
            // What holds up to the last value there is never ends.
            events.extend((high < last).then(|| (high + 1, at)));
        }
    }
    events.sort_unstable();
    let mut starts: Vec<u128> = events.iter().map(|event| event.0).collect();
    starts.insert(0, 0);
    starts.dedup();
    // Each set has a number of 128 bits, and those that hold their sum: equal sums are equal sets, but for an accident
    // that no one has to fear. Being in a set and leaving it alternate.
    let mut inside = vec![false; sets.len()];
    let mut sum = 0_u128;
    let mut known: HashMap<u128, u32> = HashMap::new();
    let mut events = events.into_iter().peekable();
    let mut class_of = Vec::with_capacity(starts.len());
    for start in &starts {
        while let Some((_, at)) = events.next_if(|event| event.0 == *start) {
            inside[at] = !inside[at];
            let number = spread(at);
            sum = if inside[at] { sum.wrapping_add(number) } else { sum.wrapping_sub(number) };
        }
        let next = known.len() as u32;
        class_of.push(first + *known.entry(sum).or_insert(next));
    }
    let place = |value: u128| starts.partition_point(|start| *start < value);
    // From the first to behind the last place of each range.
    let places = |set: &Set| -> Vec<(usize, usize)> {
        let end = |high: u128| if high < last { place(high + 1) } else { starts.len() };
        set.ranges().iter().map(|(low, high)| (place(*low), end(*high))).collect()
    };
    let all: Vec<_> = sets.iter().map(|set| places(set)).collect();
    let steps: usize = all.iter().flatten().map(|(from, to)| to - from).sum();
    let is_plain = known.len() == starts.len() || steps > MOST_STEPS;
    if is_plain {
        class_of = (first..).take(starts.len()).collect();
    }
    let ranges = |places: &Vec<(usize, usize)>| -> Ranges {
        if is_plain {
            let range =
                |(from, to): &(usize, usize)| (first + *from as u32, first + *to as u32 - 1);
            return places.iter().map(range).collect();
        }
        let mut classes: Vec<u32> =
            places.iter().flat_map(|(from, to)| class_of[*from..*to].iter().copied()).collect();
        classes.sort_unstable();
        classes.dedup();
        let mut ranges: Ranges = Vec::new();
        for class in classes {
            match ranges.last_mut() {
                Some(last) if last.1 + 1 == class => last.1 = class,
                _ => ranges.push((class, class)),
            }
        }
        ranges
    };
    let numbered =
        sets.iter().zip(&all).map(|(set, places)| (Rc::as_ptr(set), Rc::new(ranges(places))));
    let numbered = numbered.collect();
    let mut list: Vec<(u128, u32)> = starts.into_iter().zip(class_of).collect();
    list.dedup_by_key(|(_, class)| *class);
    (list, numbered)
}

/// Bits that look random (splitmix64, S. Vigna), the same each time.
fn spread(at: usize) -> u128 {
    let half = |seed: u64| {
        let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(bits ^ bits >> 31)
    };
    let at = at as u64 + 1;
    half(at) << 64 | half(at | 1 << 40)
}
