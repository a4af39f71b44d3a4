//! Many rules: tables over the fields of a connection, whose number does not depend on the rules.
//!
//! A rule that tests one field is found by a table of the field's values. For rules that test several, each field's
//! values are divided into classes, and then
//!
//! - where a port or an address tells rules apart, its class leads to a list of the few that are left ([`List`]);
//! - the rest are bits ([`Block`]): for each class a row says which of the rules it may be. The rows of a connection's
//!   classes are anded word by word, and the first bit that is left is the rule. (The bit vectors of T. V. Lakshman and
//!   D. Stiliadis, SIGCOMM 1998.)
//!
//! Of the rules that are found the earliest decides.

use super::Table;
use crate::diag::Diagnostic;
use crate::reach::Regions;
use crate::rule::Rule;
use crate::space::{Dimension, Set, Side, Term, addresses, sweep};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

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

/// Words of all rows of a connection: 6 instructions for 3 fields each.
const MOST_WORDS: usize = 160;

/// Bytes of the rows of a block's field: as a power of two they stay below 4 MiB, a section's limit.
const MOST_ROW_BYTES: usize = 2 << 20;

/// Bytes of all rows. Larger ones are cut into blocks, which have fewer classes, but rows of their own.
const MOST_BYTES: usize = 12 << 20;

/// Bits that are set while rows are made: a second of work.
const MOST_BITS: usize = 200_000_000;

/// What connections are looked up by.
#[derive(Debug)]
pub struct Tables {
    /// The rule that matches what no earlier one does.
    pub otherwise: Option<usize>,
    /// The fields that are asked.
    pub fields: Vec<Field>,
    /// Of rules that do not ask for the interface, and of those that do: the device is found between.
    pub stages: [Stage; 2],
}

/// A field and its numbers.
#[derive(Debug)]
pub struct Field {
    /// Which.
    pub kind: Kind,
    /// The number of a value; None where the value is the number.
    pub table: Option<Table>,
    /// How many numbers there are.
    pub count: usize,
}

/// What tells connections apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A port.
    Port(Side),
    /// An address, of either family.
    Address(Side),
    /// Dimensions of two or three values each: the first counts ones, the next one as many as the first has values.
    Small(Vec<Dimension>),
    /// The interface, by an automaton.
    Interface(usize),
}

/// Where rules are found.
#[derive(Debug, Default)]
pub struct Stage {
    /// The first of its rules.
    pub first: Option<usize>,
    /// By one field.
    pub singles: Vec<Single>,
    /// By a list.
    pub lists: Vec<List>,
    /// By bits.
    pub blocks: Vec<Block>,
}

/// The rules that test one field.
#[derive(Debug)]
pub struct Single {
    /// Its place.
    pub field: usize,
    /// By number; None where the number is the rule.
    pub rules: Option<Vec<u32>>,
}

/// Rules by a field that leaves few of them.
#[derive(Debug)]
pub struct List {
    /// That field's place.
    pub key: usize,
    /// By its number the first record.
    pub starts: Vec<u32>,
    /// What the records ask.
    pub fields: Vec<usize>,
    /// The first matches all, and is no rule.
    pub records: Vec<Record>,
    /// Records of a list.
    pub longest: usize,
}

/// A rule of a list.
#[derive(Debug)]
pub struct Record {
    /// First and last number of each field of the list.
    pub bounds: Vec<(u32, u32)>,
    /// The rule.
    pub rule: u32,
    /// True where no other follows.
    pub is_last: bool,
}

/// Rules as bits.
#[derive(Debug)]
pub struct Block {
    /// Words of a row.
    pub words: usize,
    /// The fields.
    pub columns: Vec<Column>,
    /// The rule of each bit.
    pub rules: Vec<u32>,
}

/// A field of a block.
#[derive(Debug)]
pub struct Column {
    /// Its place.
    pub field: usize,
    /// The row of each number.
    pub row_of: Vec<u32>,
    /// The rows.
    pub rows: Vec<Vec<u64>>,
}

/// A term by fields.
#[derive(Debug, Clone)]
struct Case {
    rule: u32,
    bounds: Vec<(Kind, Rc<Set>)>,
}

impl Case {
    fn bound(&self, kind: &Kind) -> Option<&Rc<Set>> {
        self.bounds.iter().find(|(it, _)| it == kind).map(|(_, set)| set)
    }

    fn asks_interface(&self) -> bool {
        self.bounds.iter().any(|(kind, _)| matches!(kind, Kind::Interface(_)))
    }
}

/// Makes the tables.
///
/// # Errors
/// More rules of several fields than can be told apart.
pub(super) fn tables(rules: &[Rule], regions: &Regions) -> Result<Tables, Diagnostic> {
    let small = small(regions);
    let (mut otherwise, mut singles, mut several) = (None, Vec::new(), [Vec::new(), Vec::new()]);
    'rules: for (rule, terms) in regions.rules.iter().enumerate() {
        for term in terms {
            let Some(case) = case(rule as u32, term, &small) else { continue };
            match case.bounds.len() {
                0 => {
                    otherwise = Some(rule);
                    // Later rules are unreachable, and this one's other terms lie within this.
                    break 'rules;
                }
                1 => singles.push(case),
                _ => several[usize::from(case.asks_interface())].push(case),
            }
        }
    }
    let mut sorted = several.map(|cases| sort(cases));
    let (lists, _) = &mut sorted[0];
    lists.iter_mut().for_each(|(key, cases)| join(key, cases, &mut singles));
    for (_, rest) in &sorted {
        check(rules, rest)?;
    }
    let none = rules.len() as u32;
    let mut numbers = Numbers::new(&singles, &sorted, &small, regions, none);
    let mut stages = [Stage::default(), Stage::default()];
    for (number, ((lists, rest), stage)) in sorted.iter().zip(&mut stages).enumerate() {
        let of_stage = |case: &&Case| usize::from(case.asks_interface()) == number;
        let in_lists = lists.iter().flat_map(|(_, cases)| cases);
        let all = singles.iter().filter(of_stage).chain(in_lists).chain(rest);
        stage.first = all.map(|case| case.rule as usize).min();
        stage.singles = numbers.singles(number == 1);
        stage.lists = lists.iter().map(|(key, cases)| numbers.list(key, cases)).collect();
        stage.blocks = numbers.blocks(rest).ok_or_else(|| too_complex(rules, rest))?;
    }
    Ok(Tables { otherwise, fields: numbers.finish(), stages })
}

/// The small dimensions that some rule asks.
fn small(regions: &Regions) -> Vec<Dimension> {
    let all =
        [Dimension::Direction, Dimension::Family, Dimension::SameAddress, Dimension::PortOrder];
    let terms = || regions.rules.iter().flatten();
    let asked = |it: &Dimension| terms().any(|term| term.bound(*it).is_some());
    all.into_iter().filter(asked).collect()
}

/// None for a term that nothing matches.
fn case(rule: u32, term: &Term, small: &[Dimension]) -> Option<Case> {
    let mut bounds = Vec::new();
    let family = term.bound(Dimension::Family);
    let mut has_address = false;
    for (dimension, set) in term.bounds() {
        match dimension {
            Dimension::Port(side) => bounds.push((Kind::Port(side), Rc::clone(set))),
            Dimension::Address(side) => {
                // The address says of which family it is.
                let family = family.map(|families| addresses(families.ranges()[0].0));
                let set = family.map_or_else(|| (**set).clone(), |family| set.and(&family));
                if set.is_empty() {
                    return None;
                }
                has_address = true;
                bounds.push((Kind::Address(side), Rc::new(set)));
            }
            Dimension::Interface { automaton, .. } => {
                bounds.push((Kind::Interface(automaton), Rc::clone(set)));
            }
            Dimension::Direction
            | Dimension::Family
            | Dimension::SameAddress
            | Dimension::PortOrder => {}
        }
    }
    let is_asked =
        |it: &&Dimension| term.bound(**it).is_some() && !(has_address && **it == Dimension::Family);
    if small.iter().any(|it| is_asked(&it)) {
        let count: u128 = small.iter().map(|it| it.last() + 1).product();
        let matches = |number: &u128| {
            let mut rest = *number;
            small.iter().all(|it| {
                let value = rest % (it.last() + 1);
                rest /= it.last() + 1;
                !is_asked(&it) || term.bound(*it).is_some_and(|set| set.contains(value))
            })
        };
        let values = (0..count).filter(matches).map(|number| (number, number)).collect();
        bounds.push((Kind::Small(small.to_vec()), Rc::new(Set::from_ranges(values))));
    }
    bounds.sort_by(|one, other| one.0.cmp(&other.0));
    Some(Case { rule, bounds })
}

/// Lists by their keys, and what is left for bits.
type Sorted = (Vec<(Kind, Vec<Case>)>, Vec<Case>);

fn sort(mut cases: Vec<Case>) -> Sorted {
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
fn join(key: &Kind, list: &mut Vec<Case>, singles: &mut Vec<Case>) {
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
    let mut chosen: Vec<(usize, usize, Vec<(usize, usize)>)> = places
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

fn check(rules: &[Rule], rest: &[Case]) -> Result<(), Diagnostic> {
    match rest.len().div_ceil(64) <= MOST_WORDS {
        true => Ok(()),
        false => Err(too_complex(rules, rest)),
    }
}

fn too_complex(rules: &[Rule], rest: &[Case]) -> Diagnostic {
    let first = rest.first().map_or(0, |case| case.rule as usize);
    let fields: BTreeSet<&str> = rest
        .iter()
        .flat_map(|case| &case.bounds)
        .map(|(kind, _)| match kind {
            Kind::Port(Side::Local) => "local ports",
            Kind::Port(Side::Remote) => "remote ports",
            Kind::Address(Side::Local) => "local addresses",
            Kind::Address(Side::Remote) => "remote addresses",
            Kind::Small(_) => "other fields",
            Kind::Interface(_) => "interfaces",
        })
        .collect();
    let fields: Vec<_> = fields.into_iter().collect();
    Diagnostic::new("the rules from here on are too complex", rules[first].span.clone())
        .label(format!(
            "they have {} cases of several fields ({}), many of which overlap in each",
            rest.len(),
            fields.join(", ")
        ))
        .help(format!(
            "about {} such cases fit: use fewer rules, shorter lists, or single ports and prefixes",
            MOST_WORDS * 64
        ))
}

/// The numbers of all fields while tables are made.
struct Numbers {
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
    steps: Option<super::Steps>,
    count: usize,
    /// The rule of each number that tests this field alone; empty for none.
    rules: Vec<u32>,
}

impl Numbers {
    fn new(
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

    fn singles(&self, of_interface: bool) -> Vec<Single> {
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
            Kind::Port(_) | Kind::Small(_) | Kind::Interface(_) => by_value(),
        }
    }

    fn list(&self, key: &Kind, cases: &[Case]) -> List {
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
    fn blocks(&mut self, cases: &[Case]) -> Option<Vec<Block>> {
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
                    rows.next_power_of_two() * words * 8
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
            for (bit, case) in
                cases.iter().enumerate().filter(|(_, case)| case.bound(kind).is_none())
            {
                debug_assert!(case.bound(kind).is_none());
                free[bit / 64] |= 1 << (bit % 64);
            }
            // The cases of each number, so that rows are made one after the other.
            let mut of_number: Vec<Vec<u32>> = vec![Vec::new(); field.count];
            let mut left = self.bits;
            for (bit, case) in cases.iter().enumerate() {
                if let Some(set) = case.bound(kind) {
                    field.each(set, |number| {
                        left = left.saturating_sub(1);
                        if left > 0 {
                            of_number[number as usize].push(bit as u32);
                        }
                    });
                }
            }
            self.bits = left;
            if left == 0 {
                return None;
            }
            let mut column = Column { field: at, row_of: Vec::new(), rows: Vec::new() };
            let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
            for mut bits in of_number {
                bits.dedup();
                let next = column.rows.len() as u32;
                let number = *known.entry(bits).or_insert_with_key(|bits| {
                    let mut row = free.clone();
                    bits.iter().for_each(|bit| row[*bit as usize / 64] |= 1 << (bit % 64));
                    column.rows.push(row);
                    next
                });
                column.row_of.push(number);
            }
            columns.push(column);
        }
        Some(Block { words, columns, rules: cases.iter().map(|case| case.rule).collect() })
    }

    fn finish(self) -> Vec<Field> {
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
        let (mut steps, mut rules): (super::Steps, Vec<u32>) = (Vec::new(), Vec::new());
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
