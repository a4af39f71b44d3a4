//! Interfaces as one field. All lists of patterns of a file become one deterministic automaton, or a few: each byte of a
//! name leads from a state to the next, and the end to the class of names that match the same lists. So a name is read
//! once, however many patterns there are, and a condition is a set of classes.
//!
//! The subset construction makes the automaton: a state is the set of positions that all patterns together can have
//! reached. Moore's algorithm then joins states from which all names lead to the same classes. Patterns that begin with
//! different letters separate soon. Those that begin with `*` multiply the states, so their number is limited and the lists are
//! shared out among several automata.

use super::{Dimension, Set};
use crate::diag::Diagnostic;
use crate::rule::{Formula, Pattern, Rule, Test};
use std::collections::HashMap;

/// An entry below this is the number of a state; from here on it is a class.
pub const END: u32 = 1 << 30;

/// Entries of the automaton, 4 bytes each, before its states are joined.
const MOST_ENTRIES: usize = 1 << 18;

/// Positions of patterns that are followed while it is made: a fraction of a second.
const MOST_WORK: usize = 5_000_000;

/// Automata of a program. Each reads the 16 bytes of a name at most, which takes up to 100 instructions.
const MOST_AUTOMATA: usize = 16;

/// The group of the byte that ends a name, and of bytes that no pattern spells out.
const NUL: usize = 0;
const OTHER: usize = 1;

/// All interface conditions of a file.
#[derive(Debug, Default)]
pub struct Interfaces {
    /// The distinct lists, in the order of the file.
    pub lists: Vec<Vec<Pattern>>,
    /// Each tells some of the lists apart.
    pub automata: Vec<Automaton>,
    /// For each list, the classes that match it.
    classes: HashMap<usize, (Dimension, Set)>,
    numbers: HashMap<Vec<Pattern>, usize>,
    /// A list that has the pattern.
    list_of: HashMap<Pattern, usize>,
}

impl Interfaces {
    /// Collects the lists and builds the automaton.
    ///
    /// # Errors
    /// The patterns need too many states.
    pub fn new(rules: &[Rule]) -> Result<Self, Diagnostic> {
        let mut found = Self::default();
        let mut first_rules = Vec::new();
        for rule in rules {
            rule.conditions.iter().for_each(|it| found.collect(&it.formula));
            first_rules.resize(found.lists.len(), rule);
        }
        // Patterns that begin with letters separate soon, so they share an automaton.
        let mut order: Vec<usize> = (0..found.lists.len()).collect();
        order.sort_by_key(|list| found.lists[*list].iter().any(|it| it.0.starts_with(['*', '?'])));
        if !order.is_empty() {
            found.divide(&order).map_err(|list| too_complex(first_rules[list]))?;
        }
        Ok(found)
    }

    fn collect(&mut self, formula: &Formula) {
        match formula {
            Formula::All(parts) | Formula::Any(parts) => {
                parts.iter().for_each(|part| self.collect(part));
            }
            Formula::Not(inner) => self.collect(inner),
            Formula::Test(Test::Interface(patterns)) => {
                let number = self.lists.len();
                if self.numbers.contains_key(patterns) {
                    return;
                }
                for pattern in patterns {
                    self.list_of.entry(pattern.clone()).or_insert(number);
                }
                self.numbers.insert(patterns.clone(), number);
                self.lists.push(patterns.clone());
            }
            Formula::Test(_) => {}
        }
    }

    /// Automata for these lists; the list with which there would be too many.
    fn divide(&mut self, lists: &[usize]) -> Result<(), usize> {
        let number = self.automata.len();
        if number == MOST_AUTOMATA {
            return Err(lists[0]);
        }
        let patterns = lists.iter().flat_map(|list| {
            self.lists[*list].iter().map(|pattern| (pattern.0.as_str(), *list as u32))
        });
        if let Some(automaton) = Automaton::new(&patterns.collect::<Vec<_>>()) {
            let mut ranges = HashMap::<u32, Vec<_>>::new();
            for (lists, class) in automaton.classes.iter().zip(0..) {
                for list in lists {
                    ranges.entry(*list).or_default().push((class, class));
                }
            }
            let classes = automaton.classes.len() as u32;
            let dimension = Dimension::Interface { automaton: number, classes };
            for (list, ranges) in ranges {
                self.classes.insert(list as usize, (dimension, Set::from_ranges(ranges)));
            }
            self.automata.push(automaton);
            return Ok(());
        }
        if let [only] = lists {
            return Err(*only);
        }
        let (one, other) = lists.split_at(lists.len() / 2);
        self.divide(one)?;
        self.divide(other)
    }

    /// The classes of names that match one of the patterns: a list of the file, or a name of one.
    #[must_use]
    pub fn classes(&self, patterns: &[Pattern]) -> (Dimension, Set) {
        if let Some(number) = self.numbers.get(patterns) {
            return self.classes[number].clone();
        }
        let list = patterns.first().and_then(|pattern| self.list_of.get(pattern));
        let list = list.unwrap_or_else(|| unreachable!("all lists have been collected"));
        let dimension = self.classes[list].0;
        match (dimension, patterns) {
            (Dimension::Interface { automaton, .. }, [name]) if !name.is_glob() => {
                (dimension, Set::one(self.automata[automaton].class(name.0.as_bytes()).into()))
            }
            _ => unreachable!("a part of a list is asked about by its names"),
        }
    }
}

fn too_complex(rule: &Rule) -> Diagnostic {
    Diagnostic::new("the interface patterns are too complex", rule.span.clone())
        .label("with those of this rule")
        .help("use fewer lists, or globs that begin with letters, as `ax*` does")
}

/// States and groups of bytes as a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Automaton {
    /// The group of each byte. Bytes of one group lead to the same states everywhere.
    pub bytes: Vec<u8>,
    /// How many groups there are.
    pub width: usize,
    /// For each state, the first of which is where a name begins, and each group: the next state, or from [`END`] on
    /// a class. The byte 0, behind a name, always leads to a class.
    pub entries: Vec<u32>,
    /// For each class the lists that match, ascending. The first has none.
    pub classes: Vec<Vec<u32>>,
}

/// What patterns have read so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// Patterns that may still match, by number, each with its places.
    live: Vec<(usize, u32)>,
    /// Lists that match whatever follows, ascending.
    certain: Vec<u32>,
}

impl Automaton {
    /// Builds it from patterns and the list that each belongs to; None if it would be too large.
    fn new(patterns: &[(&str, u32)]) -> Option<Self> {
        let mut letters: Vec<u8> = patterns.iter().flat_map(|it| it.0.bytes()).collect();
        letters.sort_unstable();
        letters.dedup();
        letters.retain(|letter| !b"*?".contains(letter));
        let mut bytes = vec![OTHER as u8; 256];
        bytes[0] = NUL as u8;
        for (group, letter) in (2..).zip(&letters) {
            bytes[usize::from(*letter)] = group;
        }
        let width = letters.len() + 2;
        let mut builder =
            Builder { patterns, classes: Numbers::default(), states: Numbers::default() };
        builder.classes.number(Vec::new());
        let live = patterns.iter().map(|it| skip(1, it.0.as_bytes())).enumerate().collect();
        let start = builder.settled(State { live, certain: Vec::new() });
        builder.states.number(start);
        let (mut entries, mut work) = (Vec::new(), 0);
        let mut at = 0;
        // Each state is looked at once; that may find more of them.
        while let Some(state) = builder.states.all.get(at).cloned() {
            at += 1;
            let matched = builder.matched(&state);
            entries.push(END + builder.classes.number(matched));
            // No pattern has the letter 0.
            for letter in [0].iter().chain(&letters) {
                entries.push(builder.next(&state, *letter));
            }
            work += state.live.len() * width;
            if builder.states.all.len() * width > MOST_ENTRIES || work > MOST_WORK {
                return None;
            }
        }
        let mut automaton = Self { bytes, width, entries, classes: builder.classes.all };
        automaton.join_states();
        automaton.join_bytes();
        Some(automaton)
    }

    /// The class of a name, as the program finds it.
    #[must_use]
    pub fn class(&self, name: &[u8]) -> u32 {
        let mut entry = 0;
        for byte in name.iter().chain(&[0]) {
            let group = usize::from(self.bytes[usize::from(*byte)]);
            entry = self.entries[entry as usize * self.width + group];
            if entry >= END {
                break;
            }
        }
        entry - END
    }

    /// States from which all names lead to the same classes become one.
    fn join_states(&mut self) {
        let mut blocks = vec![0_u32; self.entries.len() / self.width];
        let mut count = 1;
        loop {
            let mut rows = Numbers::<Vec<u32>>::default();
            let block = |entry: &u32| match entry {
                END.. => *entry,
                state => blocks[*state as usize],
            };
            let new = self.entries.chunks(self.width);
            blocks = new.map(|row| rows.number(row.iter().map(block).collect())).collect();
            // A block is only ever divided, so as many are the same ones.
            if std::mem::replace(&mut count, rows.all.len()) == rows.all.len() {
                self.entries = rows.all.concat();
                return;
            }
        }
    }

    /// Groups of bytes that lead to the same states everywhere become one.
    fn join_bytes(&mut self) {
        let mut columns = Numbers::<Vec<u32>>::default();
        let column = |group| self.entries.iter().skip(group).step_by(self.width).copied().collect();
        let groups: Vec<u32> = (0..self.width).map(|group| columns.number(column(group))).collect();
        let states = self.entries.len() / self.width;
        let row = |state: usize| columns.all.iter().map(move |column: &Vec<u32>| column[state]);
        self.entries = (0..states).flat_map(row).collect();
        self.width = columns.all.len();
        self.bytes.iter_mut().for_each(|group| *group = groups[usize::from(*group)] as u8);
    }
}

/// Different values, numbered as they come.
#[derive(Debug)]
struct Numbers<T> {
    all: Vec<T>,
    known: HashMap<T, u32>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self { all: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn number(&mut self, value: T) -> u32 {
        let next = self.all.len() as u32;
        *self.known.entry(value).or_insert_with_key(|value| {
            self.all.push(value.clone());
            next
        })
    }
}

struct Builder<'b> {
    patterns: &'b [(&'b str, u32)],
    classes: Numbers<Vec<u32>>,
    states: Numbers<State>,
}

impl Builder<'_> {
    /// Lists that match if the name ends here.
    fn matched(&self, state: &State) -> Vec<u32> {
        let mut lists = state.certain.clone();
        let at_end =
            |(pattern, places): &&(usize, u32)| places >> self.patterns[*pattern].0.len() & 1 == 1;
        lists.extend(state.live.iter().filter(at_end).map(|it| self.patterns[it.0].1));
        lists.sort_unstable();
        lists.dedup();
        lists
    }

    /// Where a letter leads to: a state, or a class if nothing can change any more.
    fn next(&mut self, state: &State, letter: u8) -> u32 {
        let step = |(pattern, places): &(usize, u32)| {
            (*pattern, step(*places, self.patterns[*pattern].0.as_bytes(), letter))
        };
        let live = state.live.iter().map(step).collect();
        let state = self.settled(State { live, certain: state.certain.clone() });
        match state.live.is_empty() {
            true => END + self.classes.number(state.certain),
            false => self.states.number(state),
        }
    }

    /// Without patterns that can't match any more, or about lists that match already.
    fn settled(&self, mut state: State) -> State {
        let is_certain = |(pattern, places): &&(usize, u32)| {
            let text = self.patterns[*pattern].0;
            let tail = text.trim_end_matches('*').len();
            tail < text.len() && places >> tail & 1 == 1
        };
        let certain = state.live.iter().filter(is_certain).map(|it| self.patterns[it.0].1);
        state.certain.extend(certain);
        state.certain.sort_unstable();
        state.certain.dedup();
        let certain = &state.certain;
        let is_open = |list: u32| certain.binary_search(&list).is_err();
        state.live.retain(|(pattern, places)| *places != 0 && is_open(self.patterns[*pattern].1));
        state
    }
}

/// True if the name matches the pattern.
#[must_use]
pub fn matches(pattern: &str, name: &[u8]) -> bool {
    let pattern = pattern.as_bytes();
    let places = name.iter().fold(skip(1, pattern), |places, &byte| step(places, pattern, byte));
    places >> pattern.len() & 1 == 1
}

/// From places that stand before a `*` one may go on without a character.
fn skip(mut places: u32, pattern: &[u8]) -> u32 {
    for (at, _) in pattern.iter().enumerate().filter(|(_, byte)| **byte == b'*') {
        places |= (places >> at & 1) << (at + 1);
    }
    places
}

/// Where a letter leads to.
fn step(places: u32, pattern: &[u8], letter: u8) -> u32 {
    let (mut next, mut left) = (0, places);
    while left != 0 {
        let at = left.trailing_zeros();
        left &= left - 1;
        match pattern.get(at as usize) {
            Some(b'*') => next |= 1 << at,
            Some(byte) if *byte == b'?' || *byte == letter => next |= 1 << (at + 1),
            // Another letter, or the end of the pattern.
            _ => {}
        }
    }
    skip(next, pattern)
}
