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
//! The earliest of the rules that are found decides.

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

/// Words of all rows of a connection: 6 instructions for 3 fields each.
const MOST_WORDS: usize = 160;

/// What connections are looked up by.
#[derive(Debug)]
pub struct Tables {
    /// The rule that matches everything, which decides where no earlier one matches.
    pub otherwise: Option<usize>,
    /// The fields that are asked.
    pub fields: Vec<Field>,
    /// For rules that do not test the interface, and for those that do. The search for the device comes in between.
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
    /// A fact: 0 or 1.
    Fact(Fact),
    /// The interface, by its class of an automaton.
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
    bounds: BTreeMap<Kind, Rc<Set>>,
}

impl Case {
    fn asks_interface(&self) -> bool {
        self.bounds.keys().any(|kind| matches!(kind, Kind::Interface(_)))
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
    let mut bounds = BTreeMap::new();
    let family = term.bound(Dimension::Family);
    let mut has_address = false;
    for (dimension, set) in term.bounds() {
        match dimension {
            Dimension::Port(side) => _ = bounds.insert(Kind::Port(side), Rc::clone(set)),
            Dimension::Address(side) => {
                // The address says of which family it is.
                let family = family.map(|families| addresses(families.ranges()[0].0));
                let set = family.map_or_else(|| (**set).clone(), |family| set.and(&family));
                if set.is_empty() {
                    return None;
                }
                has_address = true;
                bounds.insert(Kind::Address(side), Rc::new(set));
            }
            Dimension::Fact(fact) => {
                bounds.insert(Kind::Fact(fact), Rc::clone(set));
            }
            Dimension::Interface { automaton, .. } => {
                bounds.insert(Kind::Interface(automaton), Rc::clone(set));
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
        bounds.insert(Kind::Small(small.to_vec()), Rc::new(Set::from_ranges(values)));
    }
    Some(Case { rule, bounds })
}

fn too_complex(rules: &[Rule], rest: &[Case]) -> Diagnostic {
    let first = rest.first().unwrap_or_else(|| unreachable!("no case is too complex"));
    let fields: BTreeSet<&str> = rest
        .iter()
        .flat_map(|case| case.bounds.keys())
        .map(|kind| match kind {
            Kind::Port(Side::Local) => "local ports",
            Kind::Port(Side::Remote) => "remote ports",
            Kind::Address(Side::Local) => "local addresses",
            Kind::Address(Side::Remote) => "remote addresses",
            Kind::Small(_) | Kind::Fact(_) => "other fields",
            Kind::Interface(_) => "interfaces",
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
