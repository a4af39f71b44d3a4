//! Interfaces as one field. All lists of patterns of a file become one deterministic automaton, or a few: each byte of
//! a name leads from a state to the next, and the end to the class of names that match the same lists. So a name is
//! read once, however many patterns there are, and a condition is a set of classes.
//!
//! A state is the set of positions that all patterns together can have reached. Patterns that begin with different
//! letters separate soon. Those that begin with `*` multiply the states, so their number is limited and the lists are
//! distributed over several automata.

use super::{Dimension, LONGEST, Set};
use crate::diag::Diagnostic;
use crate::rule::{Formula, Pattern, Rule, Test};
use std::collections::{BTreeMap, HashMap};

/// An entry below this is the number of a state; from here on it is a class.
pub const END: u32 = 1 << 30;

/// Entries of an automaton, 4 bytes each, before its states are joined.
const MOST_ENTRIES: usize = 1 << 18;

/// Automata of a program. Each reads the 16 bytes of a name at most, which takes up to 100 instructions.
const MOST_AUTOMATA: usize = 16;

/// The class of the byte that ends a name, and of bytes that no pattern spells out, while it is built.
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
    classes: Vec<(Dimension, Set)>,
    numbers: HashMap<Vec<Pattern>, usize>,
}

impl Interfaces {
    /// Collects the lists and builds the automata.
    ///
    /// # Errors
    /// The patterns need too many states or automata.
    pub fn new(rules: &[Rule]) -> Result<Self, Diagnostic> {
        let mut found = Self::default();
        let mut first_rules = Vec::new();
        for rule in rules {
            rule.conditions.iter().for_each(|it| found.collect(&it.formula));
            first_rules.resize(found.lists.len(), rule);
        }
        if found.lists.is_empty() {
            return Ok(found);
        }
        // Patterns that begin with letters separate soon, so they share an automaton.
        let mut order: Vec<usize> = (0..found.lists.len()).collect();
        order.sort_by_key(|list| found.lists[*list].iter().any(|it| it.0.starts_with(['*', '?'])));
        found.divide(&order).map_err(|list| too_complex(first_rules[list]))?;
        found.classes = found.all_classes();
        Ok(found)
    }

    fn collect(&mut self, formula: &Formula) {
        match formula {
            Formula::All(parts) | Formula::Any(parts) => {
                parts.iter().for_each(|part| self.collect(part));
            }
            Formula::Not(inner) => self.collect(inner),
            Formula::Test(Test::Interface(patterns)) => {
                if !self.numbers.contains_key(patterns) {
                    self.numbers.insert(patterns.clone(), self.lists.len());
                    self.lists.push(patterns.clone());
                }
            }
            Formula::Test(_) => {}
        }
    }

    /// Automata for these lists; the list with which there would be too many.
    fn divide(&mut self, lists: &[usize]) -> Result<(), usize> {
        let mut patterns: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for &list in lists {
            for Pattern(text) in &self.lists[list] {
                let of = patterns.entry(text).or_default();
                if of.last() != Some(&(list as u32)) {
                    of.push(list as u32);
                }
            }
        }
        patterns.values_mut().for_each(|of| of.sort_unstable());
        let patterns: Vec<Listed<'_>> = patterns.into_iter().collect();
        if self.automata.len() == MOST_AUTOMATA {
            return Err(lists[0]);
        }
        if let Some(one) = Automaton::new(&patterns, MOST_ENTRIES) {
            self.automata.push(one);
            return Ok(());
        }
        if lists.len() == 1 {
            return Err(lists[0]);
        }
        let (one, other) = lists.split_at(lists.len() / 2);
        self.divide(one)?;
        self.divide(other)
    }

    fn all_classes(&self) -> Vec<(Dimension, Set)> {
        let mut classes = vec![None; self.lists.len()];
        for (number, automaton) in self.automata.iter().enumerate() {
            let count = automaton.classes.len() as u32;
            let dimension = Dimension::Interface { automaton: number, classes: count };
            let mut ranges: BTreeMap<u32, Vec<(u128, u128)>> = BTreeMap::new();
            for (class, lists) in automaton.classes.iter().enumerate() {
                for list in lists {
                    ranges.entry(*list).or_default().push((class as u128, class as u128));
                }
            }
            for (list, ranges) in ranges {
                classes[list as usize] = Some((dimension, Set::from_ranges(ranges)));
            }
        }
        let found = classes.into_iter().enumerate().map(|(list, found)| {
            found.unwrap_or_else(|| unreachable!("some name matches list {list}"))
        });
        found.collect()
    }

    /// The number of a list.
    #[must_use]
    pub fn number(&self, patterns: &[Pattern]) -> usize {
        let number = self.numbers.get(patterns).copied();
        number.unwrap_or_else(|| unreachable!("all lists have been collected"))
    }

    /// The classes of names that match one of the patterns.
    #[must_use]
    pub fn classes(&self, patterns: &[Pattern]) -> (Dimension, Set) {
        self.classes[self.number(patterns)].clone()
    }

    /// The classes of a list that match one of its patterns, asked of one name for each class.
    #[must_use]
    pub fn automaton_of(&self, list: usize) -> usize {
        match self.classes[list].0 {
            Dimension::Interface { automaton, .. } => automaton,
            other => unreachable!("a list is about the interface, not about {other:?}"),
        }
    }
}

fn too_complex(rule: &Rule) -> Diagnostic {
    Diagnostic::new("the interface patterns are too complex", rule.span.clone())
        .label("with those of this rule")
        .help("use fewer lists, or globs that begin with letters, as `ax*` does")
}

/// States and groups of bytes as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A pattern, and the lists that it stands in, ascending.
pub type Listed<'p> = (&'p str, Vec<u32>);

/// What patterns have read so far: those that may still match, by number, each with its places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    live: Vec<(usize, u32)>,
    /// Lists that match whatever follows, ascending.
    certain: Vec<u32>,
}

impl Automaton {
    /// Builds it; None where it would have more than so many entries.
    #[must_use]
    pub fn new(patterns: &[Listed<'_>], most: usize) -> Option<Self> {
        let mut letters: Vec<u8> = patterns.iter().flat_map(|it| it.0.bytes()).collect();
        letters.sort_unstable();
        letters.dedup();
        letters.retain(|letter| !b"*?".contains(letter));
        let width = letters.len() + 2;
        let mut bytes = vec![OTHER as u8; 256];
        bytes[0] = NUL as u8;
        for (group, letter) in (2..).zip(&letters) {
            bytes[usize::from(*letter)] = group;
        }
        let builder = Builder {
            patterns,
            bytes: &bytes,
            width,
            most,
            work: most * WORK,
            classes: vec![Vec::new()],
            known_classes: HashMap::from([(Vec::new(), 0)]),
            ..Builder::default()
        };
        let (entries, classes) = builder.build()?;
        let mut automaton = Self { bytes, width, entries, classes };
        automaton.join_states();
        automaton.join_bytes();
        Some(automaton)
    }

    /// The class of a name, as the program finds it.
    #[must_use]
    pub fn class(&self, name: &[u8]) -> usize {
        let mut entry = 0;
        for byte in name.iter().chain(&[0]) {
            let group = usize::from(self.bytes[usize::from(*byte)]);
            entry = self.entries[entry as usize * self.width + group];
            if entry >= END {
                break;
            }
        }
        (entry - END) as usize
    }

    /// States from which all names lead to the same classes become one.
    fn join_states(&mut self) {
        let mut blocks = vec![0_u32; self.entries.len() / self.width];
        let mut count = 1;
        loop {
            let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
            let new = self.entries.chunks(self.width).map(|row| {
                let block = |entry: &u32| match entry {
                    END.. => *entry,
                    state => blocks[*state as usize],
                };
                let next = known.len() as u32;
                *known.entry(row.iter().map(block).collect()).or_insert(next)
            });
            let new: Vec<u32> = new.collect();
            let before = std::mem::replace(&mut count, known.len());
            blocks = new;
            // A block is only ever divided, so as many are the same ones.
            if before == count {
                let mut rows: Vec<_> = known.into_iter().collect();
                rows.sort_unstable_by_key(|(_, block)| *block);
                self.entries = rows.into_iter().flat_map(|(row, _)| row).collect();
                return;
            }
        }
    }

    /// Groups of bytes that lead to the same states everywhere become one.
    fn join_bytes(&mut self) {
        let column = |group: usize| -> Vec<u32> {
            self.entries.iter().skip(group).step_by(self.width).copied().collect()
        };
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut kept = Vec::new();
        let mut renamed = Vec::new();
        for group in 0..self.width {
            let next = known.len();
            let number = *known.entry(column(group)).or_insert(next);
            if number == next {
                kept.push(group);
            }
            renamed.push(number as u8);
        }
        let rows = self.entries.chunks(self.width);
        let entries = rows.flat_map(|row| kept.iter().map(|group| row[*group])).collect();
        (self.entries, self.width) = (entries, kept.len());
        self.bytes.iter_mut().for_each(|group| *group = renamed[usize::from(*group)]);
    }
}

/// Patterns looked at for each entry, at most.
const WORK: usize = 16;

#[derive(Default)]
struct Builder<'b> {
    patterns: &'b [Listed<'b>],
    bytes: &'b [u8],
    width: usize,
    most: usize,
    /// Patterns that may still be looked at.
    work: usize,
    states: Vec<State>,
    known: HashMap<State, u32>,
    classes: Vec<Vec<u32>>,
    known_classes: HashMap<Vec<u32>, u32>,
}

impl Builder<'_> {
    /// Entries and classes.
    fn build(mut self) -> Option<(Vec<u32>, Vec<Vec<u32>>)> {
        let live = self.patterns.iter().map(|it| skip(1, it.0.as_bytes())).enumerate().collect();
        let start = self.settled(State { live, certain: Vec::new() });
        self.states.push(start);
        let mut entries = Vec::new();
        let mut level = 0;
        for depth in 0..=LONGEST {
            // All that so many bytes lead to and fewer do not.
            let end = self.states.len();
            for at in level..end {
                let state = self.states[at].clone();
                self.work = self.work.checked_sub(state.live.len())?;
                let matched = self.matched(&state);
                entries.push(self.class(matched));
                let next = if depth < LONGEST { self.step(&state) } else { Vec::new() };
                // Behind the longest name nothing follows.
                let dead = self.class(state.certain);
                entries.extend(
                    next.iter().copied().chain(std::iter::repeat(dead)).take(self.width - 1),
                );
                if self.states.len() * self.width > self.most {
                    return None;
                }
            }
            level = end;
        }
        Some((entries, self.classes))
    }

    /// Lists that match if the name ends here.
    fn matched(&self, state: &State) -> Vec<u32> {
        let mut lists = state.certain.clone();
        for (pattern, places) in &state.live {
            let (text, of) = &self.patterns[*pattern];
            if places >> text.len() & 1 == 1 {
                lists.extend(of);
            }
        }
        lists.sort_unstable();
        lists.dedup();
        lists
    }

    /// Where the state leads to by each group from [`OTHER`] on.
    fn step(&mut self, state: &State) -> Vec<u32> {
        let mut others = Vec::new();
        let mut by_group: Vec<HashMap<usize, u32>> = vec![HashMap::new(); self.width];
        for (pattern, places) in &state.live {
            let text = self.patterns[*pattern].0.as_bytes();
            let other = step(*places, text, 0);
            others.push((*pattern, other));
            for (at, letter) in text.iter().enumerate().filter(|(_, it)| !b"*?".contains(it)) {
                if places >> at & 1 == 1 {
                    let group = usize::from(self.bytes[usize::from(*letter)]);
                    by_group[group].insert(*pattern, step(*places, text, *letter));
                }
            }
        }
        others.retain(|(_, places)| *places != 0);
        let mut number = |live| {
            let state = self.settled(State { live, certain: state.certain.clone() });
            self.number(state)
        };
        let other = number(others.clone());
        let mut next = vec![other];
        for changed in by_group.into_iter().skip(OTHER + 1) {
            if changed.is_empty() {
                next.push(other);
                continue;
            }
            let unchanged = others.iter().copied().filter(|it| !changed.contains_key(&it.0));
            let mut live: Vec<_> = unchanged.chain(changed.iter().map(|(a, b)| (*a, *b))).collect();
            live.sort_unstable();
            next.push(number(live));
        }
        next
    }

    /// Without patterns that can't match any more, or about lists that match already.
    fn settled(&self, mut state: State) -> State {
        for (pattern, places) in &state.live {
            let (text, lists) = &self.patterns[*pattern];
            let tail = text.trim_end_matches('*').len();
            if tail < text.len() && places >> tail & 1 == 1 {
                state.certain.extend(lists);
            }
        }
        state.certain.sort_unstable();
        state.certain.dedup();
        let certain = &state.certain;
        let is_open = |list: &u32| certain.binary_search(list).is_err();
        state.live.retain(|(pattern, places)| {
            *places != 0 && self.patterns[*pattern].1.iter().any(is_open)
        });
        state
    }

    /// A state that nothing can change any more is a class.
    fn number(&mut self, state: State) -> u32 {
        if state.live.is_empty() {
            return self.class(state.certain);
        }
        if let Some(number) = self.known.get(&state) {
            return *number;
        }
        let number = self.states.len() as u32;
        self.states.push(state.clone());
        self.known.insert(state, number);
        number
    }

    fn class(&mut self, lists: Vec<u32>) -> u32 {
        let next = self.classes.len() as u32;
        let number = *self.known_classes.entry(lists).or_insert_with_key(|lists| {
            self.classes.push(lists.clone());
            next
        });
        END + number
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
    let mut next = 0;
    for (at, &byte) in pattern.iter().enumerate() {
        let here = places >> at & 1;
        match byte {
            b'*' => next |= here << at,
            _ if byte == b'?' || byte == letter => next |= here << (at + 1),
            _ => {}
        }
    }
    skip(next, pattern)
}
