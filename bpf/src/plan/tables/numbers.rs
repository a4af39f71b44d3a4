//! The numbers of fields, and what stands by them: rules, lists, rows of bits.

use super::lists::Sorted;
use super::{Block, Case, Column, Field, Kind, List, Record, Single};
use crate::plan::{Steps, Table};
use crate::reach::Regions;
use crate::space::{Dimension, Set, sweep};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Bytes of the rows of a block's field: as a power of two they stay below 4 MiB, a section's limit.
const MOST_ROW_BYTES: usize = 2 << 20;

/// Bytes of all rows. Larger ones are cut into blocks, which have fewer classes, but rows of their own.
const MOST_BYTES: usize = 12 << 20;

/// Bytes of rows while they are made.
const MOST_MADE: usize = 64 << 20;

/// Bits that are set while rows are made: a second of work.
const MOST_BITS: usize = 200_000_000;

/// The numbers of all fields while tables are made.
pub(super) struct Numbers {
    none: u32,
    fields: Vec<Numbered>,
    /// Bits that may still be set.
    bits: usize,
    /// Bytes of rows that may still be made.
    bytes: usize,
}

struct Numbered {
    kind: Kind,
    /// From each first value on a number; None where the value is the number.
    steps: Option<Steps>,
    count: usize,
    /// The rule of each number that tests this field alone; empty for none.
    rules: Vec<u32>,
}

impl Numbers {
    pub(super) fn new(
        singles: &[Case],
        sorted: &[Sorted; 2],
        small: &[Dimension],
        regions: &Regions,
        none: u32,
    ) -> Self {
        // Cases whose classes matter, and those of which a field only has to be compared.
        let mut kinds: BTreeMap<Kind, (Vec<&Case>, Vec<&Case>)> = BTreeMap::new();
        let entry =
            |case: &'_ Case| case.bounds.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
        for case in singles {
            entry(case).into_iter().for_each(|kind| kinds.entry(kind).or_default().0.push(case));
        }
        for (lists, rest) in sorted {
            for case in rest {
                entry(case)
                    .into_iter()
                    .for_each(|kind| kinds.entry(kind).or_default().1.push(case));
            }
            for (key, cases) in lists {
                for case in cases {
                    for kind in entry(case) {
                        let is_class = kind == *key || matches!(kind, Kind::Address(_));
                        let of = kinds.entry(kind).or_default();
                        if is_class {
                            of.1.push(case);
                        }
                    }
                }
            }
        }
        let fields = kinds.into_iter().map(|(kind, (singles, several))| {
            let is_asked = !singles.is_empty() || !several.is_empty();
            match &kind {
                Kind::Small(_) => {
                    let count = small.iter().map(|it| it.last() as usize + 1).product();
                    Numbered::by_value(kind, count, &singles, none)
                }
                Kind::Interface(automaton) => {
                    let count = regions.interfaces.automata[*automaton].classes.len();
                    Numbered::by_value(kind, count, &singles, none)
                }
                Kind::Fact(_) => Numbered::by_value(kind, 2, &singles, none),
                Kind::Port(_) if !is_asked => Numbered::by_value(kind, 1 << 16, &[], none),
                Kind::Port(_) | Kind::Address(_) => {
                    Numbered::by_class(kind, &singles, &several, none)
                }
            }
        });
        Self { none, fields: fields.collect(), bits: MOST_BITS, bytes: MOST_BYTES }
    }

    fn place(&self, kind: &Kind) -> usize {
        let place = self.fields.iter().position(|field| field.kind == *kind);
        place.unwrap_or_else(|| unreachable!("every bound has its field: {kind:?}"))
    }

    pub(super) fn singles(&self, of_interface: bool) -> Vec<Single> {
        let fields = self.fields.iter().enumerate().filter(|(_, field)| {
            !field.rules.is_empty() && matches!(field.kind, Kind::Interface(_)) == of_interface
        });
        let single = |(at, field): (usize, &Numbered)| {
            let is_rule = field.rules.iter().enumerate().all(|(at, rule)| at as u32 == *rule);
            Single { field: at, rules: (!is_rule).then(|| field.rules.clone()) }
        };
        fields.map(single).collect()
    }

    /// Numbers of a case's field, ascending ranges. Ports are compared as they are.
    fn ranges(&self, case: &Case, field: usize) -> Vec<(u32, u32)> {
        let field = &self.fields[field];
        let Some(set) = case.bound(&field.kind) else {
            return vec![(0, u32::MAX)];
        };
        let by_value =
            || set.ranges().iter().map(|(low, high)| (*low as u32, *high as u32)).collect();
        match field.kind {
            Kind::Address(_) => {
                let mut numbers: Vec<(u128, u128)> = Vec::new();
                field.each(set, |number| numbers.push((number.into(), number.into())));
                let set = Set::from_ranges(numbers);
                set.ranges().iter().map(|(low, high)| (*low as u32, *high as u32)).collect()
            }
            Kind::Port(_) | Kind::Small(_) | Kind::Fact(_) | Kind::Interface(_) => by_value(),
        }
    }

    pub(super) fn list(&self, key: &Kind, cases: &[Case]) -> List {
        let key = self.place(key);
        let kinds: BTreeSet<&Kind> =
            cases.iter().flat_map(|case| &case.bounds).map(|(kind, _)| kind).collect();
        let fields: Vec<usize> =
            kinds.into_iter().map(|kind| self.place(kind)).filter(|at| *at != key).collect();
        let field = &self.fields[key];
        let mut of_number: Vec<Vec<usize>> = vec![Vec::new(); field.count];
        for (at, case) in cases.iter().enumerate() {
            let set = case.bound(&field.kind).unwrap_or_else(|| unreachable!("its key is bound"));
            field.each(set, |number| {
                let list = &mut of_number[number as usize];
                if list.last() != Some(&at) {
                    list.push(at);
                }
            });
        }
        let all = fields.iter().map(|_| (0, u32::MAX)).collect();
        let mut list = List {
            key,
            starts: Vec::new(),
            fields,
            records: vec![Record { bounds: all, rule: self.none, is_last: true }],
            longest: 1,
        };
        let mut known: HashMap<Vec<usize>, u32> = HashMap::from([(Vec::new(), 0)]);
        for of in of_number {
            let next = list.records.len();
            let start = *known.entry(of).or_insert_with_key(|of| {
                for at in of {
                    let mut products = vec![Vec::new()];
                    for field in &list.fields {
                        let ranges = self.ranges(&cases[*at], *field);
                        let with = |before: &Vec<(u32, u32)>, range| {
                            [before.as_slice(), &[range]].concat()
                        };
                        products = products
                            .iter()
                            .flat_map(|before| ranges.iter().map(|range| with(before, *range)))
                            .collect();
                    }
                    let record = |bounds| Record { bounds, rule: cases[*at].rule, is_last: false };
                    list.records.extend(products.into_iter().map(record));
                }
                list.longest = list.longest.max(list.records.len() - next);
                if let Some(last) = list.records.last_mut() {
                    last.is_last = true;
                }
                next as u32
            });
            list.starts.push(start);
        }
        list
    }

    /// As few blocks as there is room for; None if there is none.
    pub(super) fn blocks(&mut self, cases: &[Case]) -> Option<Vec<Block>> {
        if cases.is_empty() {
            return Some(Vec::new());
        }
        let mut size = cases.len().next_multiple_of(64);
        loop {
            let fits = |cases: &[Case]| {
                let words = cases.len().div_ceil(64);
                let kinds: BTreeSet<&Kind> =
                    cases.iter().flat_map(|case| &case.bounds).map(|(kind, _)| kind).collect();
                let bytes = kinds.into_iter().map(|kind| {
                    let sets = cases.iter().filter_map(|case| case.bound(kind));
                    let ranges: usize = sets.map(|set| set.ranges().len()).sum();
                    let rows = self.fields[self.place(kind)].count.min(2 * ranges + 1);
                    let all = self.fields[self.place(kind)].count * words * 8;
                    if all > MOST_MADE { usize::MAX } else { rows.next_power_of_two() * words * 8 }
                });
                let bytes: Vec<usize> = bytes.collect();
                let is_small = bytes.iter().all(|bytes| *bytes <= MOST_ROW_BYTES);
                is_small.then(|| bytes.iter().sum::<usize>())
            };
            let bytes: Option<usize> = cases.chunks(size).map(fits).sum();
            if let Some(bytes) = bytes.filter(|bytes| *bytes <= self.bytes) {
                self.bytes -= bytes;
                return cases.chunks(size).map(|cases| self.block(cases)).collect();
            }
            if size == 64 {
                return None;
            }
            size = (size / 2).next_multiple_of(64);
        }
    }

    fn block(&mut self, cases: &[Case]) -> Option<Block> {
        let words = cases.len().div_ceil(64);
        let kinds: BTreeSet<&Kind> =
            cases.iter().flat_map(|case| &case.bounds).map(|(kind, _)| kind).collect();
        let mut columns = Vec::new();
        for kind in kinds {
            let at = self.place(kind);
            let field = &self.fields[at];
            let mut free = vec![0_u64; words];
            for (bit, _) in cases.iter().enumerate().filter(|(_, case)| case.bound(kind).is_none())
            {
                free[bit / 64] |= 1 << (bit % 64);
            }
            let mut rows = free.repeat(field.count);
            let mut left = self.bits;
            for (bit, case) in cases.iter().enumerate() {
                if let Some(set) = case.bound(kind) {
                    field.each(set, |number| {
                        left = left.saturating_sub(1);
                        rows[number as usize * words + bit / 64] |= 1 << (bit % 64);
                    });
                }
            }
            self.bits = left;
            if left == 0 {
                return None;
            }
            let mut column = Column { field: at, row_of: Vec::new(), rows: Vec::new() };
            let mut known: HashMap<&[u64], u32> = HashMap::new();
            for row in rows.chunks(words) {
                let next = column.rows.len() as u32;
                let number = *known.entry(row).or_insert_with(|| {
                    column.rows.push(row.to_vec());
                    next
                });
                column.row_of.push(number);
            }
            columns.push(column);
        }
        Some(Block { words, columns, rules: cases.iter().map(|case| case.rule).collect() })
    }

    pub(super) fn finish(self) -> Vec<Field> {
        let field = |it: Numbered| {
            let table = it.steps.map(|steps| match it.kind {
                Kind::Port(side) => Table::new(Dimension::Port(side), &steps),
                Kind::Address(side) => Table::new(Dimension::Address(side), &steps),
                ref other => unreachable!("{other:?} is numbered by its values"),
            });
            Field { kind: it.kind, table, count: it.count }
        };
        self.fields.into_iter().map(field).collect()
    }
}

impl Numbered {
    /// The value is the number.
    fn by_value(kind: Kind, count: usize, singles: &[&Case], none: u32) -> Self {
        let mut rules = if singles.is_empty() { Vec::new() } else { vec![none; count] };
        for case in singles {
            for (low, high) in case.bounds[0].1.ranges() {
                for rule in &mut rules[*low as usize..=*high as usize] {
                    *rule = case.rule.min(*rule);
                }
            }
        }
        Self { kind, steps: None, count, rules }
    }

    /// A number for each class of values: those of one class have the same first rule of this field alone, and lie in the
    /// same sets of the other cases. Without the latter the number is the rule.
    fn by_class(kind: Kind, singles: &[&Case], several: &[&Case], none: u32) -> Self {
        let last = match kind {
            Kind::Port(_) => u128::from(u16::MAX),
            Kind::Address(_) => u128::MAX,
            _ => unreachable!("{kind:?} is numbered by its values"),
        };
        let of_single = singles.iter().map(|case| (case, u64::from(case.rule)));
        let of_several = several.iter().enumerate().map(|(at, case)| (case, 1 << 32 | at as u64));
        let bounds = of_single.chain(of_several).flat_map(|(case, number)| {
            let set = case.bound(&kind).unwrap_or_else(|| unreachable!("the field is bound"));
            set.ranges().iter().map(move |(low, high)| (*low, *high, number))
        });
        let (mut steps, mut rules): (Steps, Vec<u32>) = (Vec::new(), Vec::new());
        let mut known: HashMap<(u32, u128), u32> = HashMap::new();
        let hash = |number: u64| if number >> 32 == 0 { 0 } else { mix(number) };
        sweep(bounds, last, hash, |start, holding, sum| {
            let first = holding.first().filter(|number| **number >> 32 == 0);
            let rule = first.map_or(none, |number| *number as u32);
            let number = if several.is_empty() {
                rule
            } else {
                *known.entry((rule, sum)).or_insert_with(|| {
                    rules.push(rule);
                    rules.len() as u32 - 1
                })
            };
            if steps.last().is_none_or(|(_, last)| *last != number) {
                steps.push((start, number));
            }
        });
        let count = match (several.is_empty(), singles.is_empty()) {
            (true, _) => {
                rules = (0..=none).collect();
                rules.len()
            }
            (false, true) => std::mem::take(&mut rules).len(),
            (false, false) => rules.len(),
        };
        Self { kind, steps: Some(steps), count, rules }
    }

    /// Calls `f` with the number of each part of a set.
    fn each(&self, set: &Set, mut f: impl FnMut(u32)) {
        let Some(steps) = &self.steps else {
            for (low, high) in set.ranges() {
                (*low..=*high).for_each(|value| f(value as u32));
            }
            return;
        };
        for (low, high) in set.ranges() {
            let from = steps.partition_point(|step| step.0 <= *low) - 1;
            steps[from..].iter().take_while(|step| step.0 <= *high).for_each(|step| f(step.1));
        }
    }
}

/// A number that looks random (SplitMix64, Steele, Lea, Flood 2014), twice as wide.
fn mix(number: u64) -> u128 {
    let half = |seed: u64| {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    half(number) << 64 | half(!number)
}
