//! The numbers of fields, and what they lead to: rules, lists and rows of bits.

use super::lists::Sorted;
use super::{Block, Case, Input, Key, List, Record, Rows, Single};
use crate::plan::{Steps, Table};
use crate::space::{Dimension, Interfaces, Set, sweep};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The maximum number of numbers of a field. Arrays indexed by them stay below 4 MiB, the limit of a section.
const MOST_NUMBERS: usize = 1 << 19;

/// The maximum bytes of the rows of one field of a block. A larger block has more rows, and each is longer.
const BLOCK_BYTES: usize = 512 << 10;

/// The same limit for a block of 64 cases, which cannot be divided. Rounded up to a power of two, the rows stay below
/// 4 MiB.
const MOST_ROW_BYTES: usize = 2 << 20;

/// The maximum bytes of all rows. (2,000 overlapping rules take 2 MiB.)
const MOST_BYTES: usize = 12 << 20;

/// The maximum number of bits that are set while rows are built, which takes a second.
const MOST_BITS: usize = 200_000_000;

/// The numbers of all fields while tables are built.
pub(super) struct Numbers {
    none: u32,
    fields: Vec<Numbered>,
    /// The number of bits that may still be set.
    bits: usize,
    /// The bytes of rows that may still be built.
    bytes: usize,
}

struct Numbered {
    key: Key,
    /// The number from each first value on. None if the value is the number.
    steps: Option<Steps>,
    count: usize,
    /// For each number, the rule that tests only this field, if any.
    rules: Option<Vec<u32>>,
}

/// The cases that the numbers of a field distinguish.
#[derive(Default)]
struct Uses<'c> {
    singles: Vec<&'c Case>,
    several: Vec<&'c Case>,
}

impl Numbers {
    /// None if a field would have too many numbers.
    pub(super) fn new(
        singles: &[Case],
        sorted: &[Sorted; 2],
        small: &[Dimension],
        interfaces: &Interfaces,
        none: u32,
    ) -> Option<Self> {
        let mut fields: BTreeMap<&Key, Uses<'_>> = BTreeMap::new();
        for case in singles {
            for key in case.bounds.keys() {
                fields.entry(key).or_default().singles.push(case);
            }
        }
        let in_rows = sorted.iter().flat_map(|(_, rest)| rest).map(|case| (None, case));
        let in_lists = sorted.iter().flat_map(|(lists, _)| lists);
        let in_lists = in_lists.flat_map(|(of, cases)| cases.iter().map(move |it| (Some(of), it)));
        for (of, case) in in_rows.chain(in_lists) {
            for key in case.bounds.keys() {
                let uses = fields.entry(key).or_default();
                // Records compare ports and small numbers directly.
                if of.is_none_or(|of| of == key) || matches!(key, Key::Address(_)) {
                    uses.several.push(case);
                }
            }
        }
        let fields = fields.into_iter().map(|(key, uses)| match key {
            Key::Small(_) => Numbered::by_value(
                key,
                small.iter().map(|it| it.last() as usize + 1).product(),
                &uses,
                none,
            ),
            Key::Interface(automaton) => {
                Numbered::by_value(key, interfaces.automata[*automaton].classes.len(), &uses, none)
            }
            Key::Fact(_) => Numbered::by_value(key, 2, &uses, none),
            Key::Port(_) if uses.singles.is_empty() && uses.several.is_empty() => {
                Numbered::by_value(key, 1 << 16, &uses, none)
            }
            Key::Port(_) | Key::Address(_) => Numbered::by_class(key, &uses, none),
        });
        let fields: Vec<_> = fields.collect();
        let is_small = fields.iter().all(|field| field.count <= MOST_NUMBERS);
        is_small.then_some(Self { none, fields, bits: MOST_BITS, bytes: MOST_BYTES })
    }

    fn place(&self, key: &Key) -> usize {
        let place = self.fields.iter().position(|field| field.key == *key);
        place.unwrap_or_else(|| unreachable!("every bound has its field: {key:?}"))
    }

    /// The indices of the fields that cases test.
    fn places(&self, cases: &[Case]) -> BTreeSet<usize> {
        cases.iter().flat_map(|case| case.bounds.keys()).map(|key| self.place(key)).collect()
    }

    pub(super) fn singles(&self, of_interface: bool) -> Vec<Single> {
        let of_stage = |field: &Numbered| matches!(field.key, Key::Interface(_)) == of_interface;
        let single = |(at, field): (usize, &Numbered)| {
            let rules = field.rules.clone().filter(|_| of_stage(field))?;
            let is_rule = rules.iter().enumerate().all(|(at, rule)| at as u32 == *rule);
            Some(Single { input: at, rules: (!is_rule).then_some(rules) })
        };
        self.fields.iter().enumerate().filter_map(single).collect()
    }

    /// A case's ranges of the value that records compare for a field: the number of an address, or the value itself
    /// for other fields.
    fn ranges(&self, case: &Case, field: usize) -> Vec<(u32, u32)> {
        let field = &self.fields[field];
        let Some(set) = case.bounds.get(&field.key) else {
            return vec![(0, u32::MAX)];
        };
        let mut numbers = (**set).clone();
        if let Key::Address(_) = field.key {
            let mut all = Vec::new();
            field.each(set, |number| all.push((number.into(), number.into())));
            numbers = Set::from_ranges(all);
        }
        numbers.ranges().iter().map(|(low, high)| (*low as u32, *high as u32)).collect()
    }

    pub(super) fn list(&self, key: &Key, cases: &[Case]) -> List {
        let key = self.place(key);
        let inputs: Vec<usize> = self.places(cases).into_iter().filter(|at| *at != key).collect();
        let field = &self.fields[key];
        let mut of_number: Vec<Vec<usize>> = vec![Vec::new(); field.count];
        for (at, case) in cases.iter().enumerate() {
            field.each(&case.bounds[&field.key], |number| {
                let list = &mut of_number[number as usize];
                if list.last() != Some(&at) {
                    list.push(at);
                }
            });
        }
        let all = inputs.iter().map(|_| (0, u32::MAX)).collect();
        let mut list = List {
            key,
            starts: Vec::new(),
            records: vec![Record { bounds: all, rule: self.none, is_last: true }],
            longest: 1,
            inputs,
        };
        let mut known: HashMap<Vec<usize>, u32> = HashMap::from([(Vec::new(), 0)]);
        for of in of_number {
            let next = list.records.len();
            let start = *known.entry(of).or_insert_with_key(|of| {
                let records = of.iter().flat_map(|at| self.records(&cases[*at], &list.inputs));
                let mut records: Vec<_> = records.collect();
                list.longest = list.longest.max(records.len());
                let last = records.last_mut();
                last.unwrap_or_else(|| unreachable!("a rule has a record")).is_last = true;
                list.records.append(&mut records);
                next as u32
            });
            list.starts.push(start);
        }
        list
    }

    /// The products of a case's ranges.
    fn records(&self, case: &Case, fields: &[usize]) -> Vec<Record> {
        let mut products = vec![Vec::new()];
        for field in fields {
            let ranges = self.ranges(case, *field);
            let with = |before: &Vec<_>| {
                let before = before.clone();
                ranges.iter().map(move |range| [before.as_slice(), &[*range]].concat())
            };
            products = products.iter().flat_map(with).collect();
        }
        let record = |bounds| Record { bounds, rule: case.rule, is_last: false };
        products.into_iter().map(record).collect()
    }

    /// The bytes of the rows for this many cases of each field.
    fn row_bytes(&self, cases: &[Case]) -> Vec<usize> {
        let bytes = |at: usize| {
            let field = &self.fields[at];
            let sets = cases.iter().filter_map(|case| case.bounds.get(&field.key));
            let ranges: usize = sets.map(|set| set.ranges().len()).sum();
            field.count.min(2 * ranges + 1) * cases.len().div_ceil(64) * 8
        };
        self.places(cases).into_iter().map(bytes).collect()
    }

    /// The cases as blocks. None if they take too much space or time.
    pub(super) fn blocks(&mut self, cases: &[Case]) -> Option<Vec<Block>> {
        let mut blocks = Vec::new();
        let mut rest = cases;
        while !rest.is_empty() {
            let is_small = |count: usize, most: usize| {
                self.row_bytes(&rest[..count.min(rest.len())]).iter().all(|bytes| *bytes <= most)
            };
            let mut count = 64;
            while count < rest.len() && is_small(count + 64, BLOCK_BYTES) {
                count += 64;
            }
            if !is_small(count, MOST_ROW_BYTES) {
                return None;
            }
            let (block, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            blocks.push(self.block(block)?);
        }
        Some(blocks)
    }

    fn block(&mut self, cases: &[Case]) -> Option<Block> {
        let words = cases.len().div_ceil(64);
        let mut inputs = Vec::new();
        for at in self.places(cases) {
            let field = &self.fields[at];
            let mut free = vec![0_u64; words];
            let mut work = 0;
            for (bit, case) in cases.iter().enumerate() {
                match case.bounds.get(&field.key) {
                    Some(set) => field.each(set, |_| work += 1),
                    None => free[bit / 64] |= 1 << (bit % 64),
                }
            }
            self.bits = self.bits.checked_sub(work + field.count * words)?;
            let mut rows = free.repeat(field.count);
            for (bit, case) in cases.iter().enumerate() {
                if let Some(set) = case.bounds.get(&field.key) {
                    let set_bit =
                        |number| rows[number as usize * words + bit / 64] |= 1 << (bit % 64);
                    field.each(set, set_bit);
                }
            }
            let mut distinct = Rows { input: at, row_of: Vec::new(), rows: Vec::new() };
            let mut known: HashMap<&[u64], u32> = HashMap::new();
            for row in rows.chunks(words) {
                let next = distinct.rows.len() as u32;
                let number = *known.entry(row).or_insert_with(|| {
                    distinct.rows.push(row.to_vec());
                    next
                });
                distinct.row_of.push(number);
            }
            self.bytes = self.bytes.checked_sub(distinct.rows.len() * words * 8 + field.count)?;
            inputs.push(distinct);
        }
        Some(Block { words, inputs, rules: cases.iter().map(|case| case.rule).collect() })
    }

    pub(super) fn finish(self) -> Vec<Input> {
        let input = |it: Numbered| {
            let table = it.steps.map(|steps| match it.key {
                Key::Port(side) => Table::new(Dimension::Port(side), &steps),
                Key::Address(side) => Table::new(Dimension::Address(side), &steps),
                ref other => unreachable!("{other:?} is numbered by its values"),
            });
            Input { key: it.key, table, count: it.count }
        };
        self.fields.into_iter().map(input).collect()
    }
}

impl Numbered {
    /// The value is the number.
    fn by_value(key: &Key, count: usize, uses: &Uses<'_>, none: u32) -> Self {
        let mut rules = vec![none; count];
        for case in &uses.singles {
            for (low, high) in case.bounds[key].ranges() {
                for rule in &mut rules[*low as usize..=*high as usize] {
                    *rule = case.rule.min(*rule);
                }
            }
        }
        let rules = (!uses.singles.is_empty()).then_some(rules);
        Self { key: key.clone(), steps: None, count, rules }
    }

    /// A number for each class of values. The values of one class have the same first rule that tests only this field,
    /// and they lie in the same sets of the other cases. Without other cases the number is the rule.
    fn by_class(key: &Key, uses: &Uses<'_>, none: u32) -> Self {
        let last = match key {
            Key::Port(_) => u128::from(u16::MAX),
            Key::Address(_) => u128::MAX,
            _ => unreachable!("{key:?} is numbered by its values"),
        };
        const SEVERAL: u64 = 1 << 32;
        let singles = uses.singles.iter().map(|case| (case, u64::from(case.rule)));
        let several = uses.several.iter().enumerate().map(|(at, case)| (case, SEVERAL | at as u64));
        let bounds = singles.chain(several).flat_map(|(case, number)| {
            case.bounds[key].ranges().iter().map(move |(low, high)| (*low, *high, number))
        });
        let is_rule = uses.several.is_empty();
        let mut rules: Vec<u32> = if is_rule { (0..=none).collect() } else { Vec::new() };
        let mut known: HashMap<(u32, u128), u32> = HashMap::new();
        let hash = |number: u64| if number < SEVERAL { 0 } else { mix(number) };
        let steps = sweep(bounds, last, hash, |around: &BTreeSet<u64>, sum| {
            let first = around.first().filter(|number| **number < SEVERAL);
            let rule = first.map_or(none, |number| *number as u32);
            match is_rule {
                true => rule,
                false => *known.entry((rule, sum)).or_insert_with(|| {
                    rules.push(rule);
                    rules.len() as u32 - 1
                }),
            }
        });
        let count = rules.len();
        let rules = (!uses.singles.is_empty()).then_some(rules);
        Self { key: key.clone(), steps: Some(steps), count, rules }
    }

    /// Calls `f` with the number of each part of a set.
    fn each(&self, set: &Set, mut f: impl FnMut(u32)) {
        for (low, high) in set.ranges() {
            match &self.steps {
                None => (*low..=*high).for_each(|value| f(value as u32)),
                Some(steps) => {
                    let from = steps.partition_point(|step| step.0 <= *low) - 1;
                    steps[from..].iter().take_while(|it| it.0 <= *high).for_each(|it| f(it.1));
                }
            }
        }
    }
}

/// A pseudorandom number (SplitMix64, Steele, Lea, Flood 2014), of twice the width.
fn mix(number: u64) -> u128 {
    let half = |seed: u64| {
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from(mixed ^ (mixed >> 31))
    };
    half(number) << 64 | half(!number)
}
