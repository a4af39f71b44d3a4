//! Many rules become tables over the fields of a connection. The number of tables does not depend on the rules.
//!
//! A rule that tests one field is found by a table of the field's values. For rules that test several fields, each
//! field's values are divided into classes:
//!
//! - If a port or an address distinguishes rules, its class leads to a list of the few candidates ([`List`]).
//! - The other rules are bits ([`Block`]). Each class has a row with the candidate rules. The rows of a connection's
//!   classes are ANDed word by word, and the first bit that remains set is the rule. (These are the bit vectors of T. V.
//!   Lakshman and D. Stiliadis, SIGCOMM 1998.)
//!
//! Of the rules that are found, the earliest decides.

mod lists;
mod numbers;

use super::Table;
use crate::diag::Diagnostic;
use crate::reach::Regions;
use crate::rule::{Fact, Rule};
use crate::space::{Dimension, Set, Side, Term, addresses};
use lists::sort;
use numbers::Numbers;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The maximum number of words in all rows of a connection. Each takes 6 instructions for 3 fields.
const MOST_WORDS: usize = 160;

/// The tables by which connections are looked up.
#[derive(Debug)]
pub struct Tables {
    /// The rule that matches everything. It decides if no earlier rule matches.
    pub otherwise: Option<usize>,
    /// What is looked up.
    pub inputs: Vec<Input>,
    /// First the rules that do not test the interface, then those that do. The search for the device comes in between.
    pub stages: [Stage; 2],
}

/// A key and the numbers of its values.
#[derive(Debug)]
pub struct Input {
    /// The key.
    pub key: Key,
    /// The number of a value. None if the value is the number.
    pub table: Option<Table>,
    /// The number of numbers.
    pub count: usize,
}

/// The property of a connection that a table is looked up by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A port.
    Port(Side),
    /// An address, of either family.
    Address(Side),
    /// Several dimensions with two or three values each. The number of a value counts as one in the first dimension,
    /// and in each next one as the product of the sizes before it.
    Small(Vec<Dimension>),
    /// A fact: 0 or 1.
    Fact(Fact),
    /// The interface, by its class of an automaton.
    Interface(usize),
}

/// A place where rules are found.
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
    /// Its index in [`Tables::inputs`].
    pub input: usize,
    /// The rule of each number. None if the number is the rule.
    pub rules: Option<Vec<u32>>,
}

/// Rules by a field that leaves few candidates.
#[derive(Debug)]
pub struct List {
    /// That field's index in [`Tables::inputs`].
    pub key: usize,
    /// The first record of each of its numbers.
    pub starts: Vec<u32>,
    /// What the records test.
    pub inputs: Vec<usize>,
    /// The first record matches everything and is no rule.
    pub records: Vec<Record>,
    /// Records of a list.
    pub longest: usize,
}

/// A rule of a list.
#[derive(Debug)]
pub struct Record {
    /// First and last number of each input of the list.
    pub bounds: Vec<(u32, u32)>,
    /// The rule.
    pub rule: u32,
    /// True for the last record of the list.
    pub is_last: bool,
}

/// Rules as bits.
#[derive(Debug)]
pub struct Block {
    /// Words of a row.
    pub words: usize,
    /// The rows of each input.
    pub inputs: Vec<Rows>,
    /// The rule of each bit.
    pub rules: Vec<u32>,
}

/// The rows of an input of a block.
#[derive(Debug)]
pub struct Rows {
    /// The input's index in [`Tables::inputs`].
    pub input: usize,
    /// The row of each number.
    pub row_of: Vec<u32>,
    /// The rows.
    pub rows: Vec<Vec<u64>>,
}

/// A term, with its values by field.
#[derive(Debug, Clone)]
struct Case {
    rule: u32,
    bounds: BTreeMap<Key, Rc<Set>>,
}

impl Case {
    fn asks_interface(&self) -> bool {
        self.bounds.keys().any(|key| matches!(key, Key::Interface(_)))
    }
}

/// Builds the tables.
///
/// # Errors
/// There are too many rules with conditions on several fields.
pub(super) fn tables(rules: &[Rule], regions: &Regions) -> Result<Tables, Diagnostic> {
    let small = small(regions);
    let (mut otherwise, mut singles, mut several) = (None, Vec::new(), [Vec::new(), Vec::new()]);
    'rules: for (rule, terms) in regions.rules.iter().enumerate() {
        for term in terms {
            let Some(case) = case(rule as u32, term, &small) else { continue };
            match case.bounds.len() {
                0 => {
                    otherwise = Some(rule);
                    // Later rules are unreachable, and the other terms of this rule lie within this one.
                    break 'rules;
                }
                1 => singles.push(case),
                _ => several[usize::from(case.asks_interface())].push(case),
            }
        }
    }
    let [plain, by_interface] = several;
    let sorted = [sort(plain, &mut singles), sort(by_interface, &mut Vec::new())];
    for (_, rest) in &sorted {
        if rest.len() > MOST_WORDS * 64 {
            return Err(too_complex(rules, rest));
        }
    }
    let none = rules.len() as u32;
    let numbers = Numbers::new(&singles, &sorted, &small, &regions.interfaces, none);
    let mut numbers = numbers.ok_or_else(|| {
        let lists = sorted.iter().flat_map(|(lists, _)| lists).flat_map(|(_, cases)| cases);
        let rest = sorted.iter().flat_map(|(_, rest)| rest);
        too_complex(rules, &lists.chain(rest).cloned().collect::<Vec<_>>())
    })?;
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
    Ok(Tables { otherwise, inputs: numbers.finish(), stages })
}

/// The small dimensions that some rule tests.
fn small(regions: &Regions) -> Vec<Dimension> {
    let all =
        [Dimension::Direction, Dimension::Family, Dimension::SameAddress, Dimension::PortOrder];
    let terms = || regions.rules.iter().flatten();
    let asked = |it: &Dimension| terms().any(|term| term.bound(*it).is_some());
    all.into_iter().filter(asked).collect()
}

/// None for a term that never matches.
fn case(rule: u32, term: &Term, small: &[Dimension]) -> Option<Case> {
    let mut bounds = BTreeMap::new();
    let family = term.bound(Dimension::Family);
    let mut has_address = false;
    for (dimension, set) in term.bounds() {
        match dimension {
            Dimension::Port(side) => _ = bounds.insert(Key::Port(side), Rc::clone(set)),
            Dimension::Address(side) => {
                // The address determines the family.
                let family = family.map(|families| addresses(families.ranges()[0].0));
                let set = family.map_or_else(|| (**set).clone(), |family| set.and(&family));
                if set.is_empty() {
                    return None;
                }
                has_address = true;
                bounds.insert(Key::Address(side), Rc::new(set));
            }
            Dimension::Fact(fact) => {
                bounds.insert(Key::Fact(fact), Rc::clone(set));
            }
            Dimension::Interface { automaton, .. } => {
                bounds.insert(Key::Interface(automaton), Rc::clone(set));
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
        bounds.insert(Key::Small(small.to_vec()), Rc::new(Set::from_ranges(values)));
    }
    Some(Case { rule, bounds })
}

fn too_complex(rules: &[Rule], rest: &[Case]) -> Diagnostic {
    let first = rest.first().unwrap_or_else(|| unreachable!("no case is too complex"));
    let fields: BTreeSet<&str> = rest
        .iter()
        .flat_map(|case| case.bounds.keys())
        .map(|key| match key {
            Key::Port(Side::Local) => "local ports",
            Key::Port(Side::Remote) => "remote ports",
            Key::Address(Side::Local) => "local addresses",
            Key::Address(Side::Remote) => "remote addresses",
            Key::Small(_) | Key::Fact(_) => "other fields",
            Key::Interface(_) => "interfaces",
        })
        .collect();
    let fields: Vec<_> = fields.into_iter().collect();
    Diagnostic::new(
        "the rules from here on are too complex",
        rules[first.rule as usize].span.clone(),
    )
    .label(format!(
        "they have {} cases that test several fields ({}), and many of them overlap in each field",
        rest.len(),
        fields.join(", ")
    ))
    .help(format!(
        "about {} such cases fit: use fewer rules, shorter lists, or single ports and prefixes",
        MOST_WORDS * 64
    ))
}
