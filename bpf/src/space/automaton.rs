//! Many interface patterns as one deterministic automaton: each byte of a name leads from a state to the next, and
//! the end to the set of lists that the name matches. So a name is looked at once, however many patterns there are.
//!
//! A state is what all patterns together can have read so far. Patterns that begin with their own letters part soon;
//! those that begin with `*` multiply, so that the number of states is limited.

use super::LONGEST;
use super::names::{skip, step};
use std::collections::HashMap;

/// What an entry is: below this the number of a state, from here on the number of a result.
pub const END: u32 = 1 << 30;

/// The class of the byte that ends a name, and of bytes that no pattern spells out, while it is built.
const NUL: usize = 0;
const OTHER: usize = 1;

/// States and classes of bytes as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automaton {
    /// The class of each byte. Bytes of one class lead to the same states everywhere.
    pub classes: Vec<u8>,
    /// How many classes there are.
    pub width: usize,
    /// For each state, the first of which is where a name begins, and each class: the next state, or from [`END`] on
    /// a result. The byte 0, behind a name, always leads to a result.
    pub entries: Vec<u32>,
    /// Sets of lists, a bit for each.
    pub results: Vec<u64>,
}

/// A pattern, and the lists that it stands in.
pub type Listed<'p> = (&'p str, u64);

/// What patterns have read so far: those that may still match, by number, each with its places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    live: Vec<(usize, u32)>,
    /// Lists that match whatever follows.
    certain: u64,
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
        let mut classes = vec![OTHER as u8; 256];
        classes[0] = NUL as u8;
        for (class, letter) in (2..).zip(&letters) {
            classes[usize::from(*letter)] = class;
        }
        let (entries, results) =
            Builder { patterns, classes: &classes, width, most, ..Builder::default() }.build()?;
        let mut automaton = Self { classes, width, entries, results };
        automaton.join_states();
        automaton.join_classes();
        Some(automaton)
    }

    /// The lists that a name matches, as the program finds them.
    #[must_use]
    pub fn lists(&self, name: &[u8]) -> u64 {
        let mut entry = 0;
        for byte in name.iter().chain(&[0]) {
            let class = usize::from(self.classes[usize::from(*byte)]);
            entry = self.entries[entry as usize * self.width + class];
            if entry >= END {
                break;
            }
        }
        self.results.get(entry.wrapping_sub(END) as usize).copied().unwrap_or_default()
    }

    /// States from which all names lead to the same results become one.
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

    /// Classes that lead to the same states everywhere become one.
    fn join_classes(&mut self) {
        let column = |class: usize| -> Vec<u32> {
            self.entries.iter().skip(class).step_by(self.width).copied().collect()
        };
        let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut kept = Vec::new();
        let mut renamed = Vec::new();
        for class in 0..self.width {
            let next = known.len();
            let number = *known.entry(column(class)).or_insert(next);
            if number == next {
                kept.push(class);
            }
            renamed.push(number as u8);
        }
        let rows = self.entries.chunks(self.width);
        let entries = rows.flat_map(|row| kept.iter().map(|class| row[*class])).collect();
        (self.entries, self.width) = (entries, kept.len());
        self.classes.iter_mut().for_each(|class| *class = renamed[usize::from(*class)]);
    }
}

#[derive(Default)]
struct Builder<'b> {
    patterns: &'b [Listed<'b>],
    classes: &'b [u8],
    width: usize,
    most: usize,
    states: Vec<State>,
    known: HashMap<State, u32>,
    results: Vec<u64>,
    known_results: HashMap<u64, u32>,
}

impl Builder<'_> {
    /// Entries and results.
    fn build(mut self) -> Option<(Vec<u32>, Vec<u64>)> {
        let live = self.patterns.iter().map(|it| skip(1, it.0.as_bytes())).enumerate().collect();
        let start = self.settled(State { live, certain: 0 });
        self.states.push(start);
        let mut entries = Vec::new();
        let mut level = 0;
        for depth in 0..=LONGEST {
            // All that so many bytes lead to and fewer do not.
            let end = self.states.len();
            for at in level..end {
                let state = self.states[at].clone();
                entries.push(self.result(self.matched(&state)));
                let next = if depth < LONGEST { self.step(&state) } else { Vec::new() };
                // Behind the longest name nothing follows.
                let dead = self.result(state.certain);
                entries.extend(
                    next.iter().copied().chain(std::iter::repeat(dead)).take(self.width - 1),
                );
                if self.states.len() * self.width > self.most {
                    return None;
                }
            }
            level = end;
        }
        Some((entries, self.results))
    }

    /// Lists that match if the name ends here.
    fn matched(&self, state: &State) -> u64 {
        let ended = state
            .live
            .iter()
            .filter(|(pattern, places)| places >> self.patterns[*pattern].0.len() & 1 == 1);
        ended.fold(state.certain, |lists, (pattern, _)| lists | self.patterns[*pattern].1)
    }

    /// Where the state leads to by each class from [`OTHER`] on.
    fn step(&mut self, state: &State) -> Vec<u32> {
        let mut others = Vec::new();
        let mut by_class: Vec<HashMap<usize, u32>> = vec![HashMap::new(); self.width];
        for (pattern, places) in &state.live {
            let text = self.patterns[*pattern].0.as_bytes();
            let other = step(*places, text, 0);
            others.push((*pattern, other));
            for (at, letter) in text.iter().enumerate().filter(|(_, it)| !b"*?".contains(it)) {
                if places >> at & 1 == 1 {
                    let class = usize::from(self.classes[usize::from(*letter)]);
                    by_class[class].insert(*pattern, step(*places, text, *letter));
                }
            }
        }
        others.retain(|(_, places)| *places != 0);
        let mut number = |live| {
            let state = self.settled(State { live, certain: state.certain });
            self.number(state)
        };
        let other = number(others.clone());
        let mut next = vec![other];
        for changed in by_class.into_iter().skip(OTHER + 1) {
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
            let (text, lists) = self.patterns[*pattern];
            let tail = text.trim_end_matches('*').len();
            if tail < text.len() && places >> tail & 1 == 1 {
                state.certain |= lists;
            }
        }
        let certain = state.certain;
        state
            .live
            .retain(|(pattern, places)| *places != 0 && self.patterns[*pattern].1 & !certain != 0);
        state
    }

    /// A state that nothing can change any more is a result.
    fn number(&mut self, state: State) -> u32 {
        if state.live.is_empty() {
            return self.result(state.certain);
        }
        if let Some(number) = self.known.get(&state) {
            return *number;
        }
        let number = self.states.len() as u32;
        self.states.push(state.clone());
        self.known.insert(state, number);
        number
    }

    fn result(&mut self, lists: u64) -> u32 {
        let next = self.results.len() as u32;
        let number = *self.known_results.entry(lists).or_insert(next);
        if number == next {
            self.results.push(lists);
        }
        END + number
    }
}

#[cfg(test)]
mod tests {
    use super::super::matches;
    use super::*;

    /// Numbers of a linear congruential generator.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (self.0 >> 33) as usize % limit
        }

        fn text(&mut self, letters: &str, longest: usize) -> String {
            let length = 1 + self.below(longest);
            let letters = letters.as_bytes();
            (0..length).map(|_| char::from(letters[self.below(letters.len())])).collect()
        }
    }

    #[test]
    fn it_says_what_each_pattern_says() {
        let mut numbers = Numbers(1);
        let (mut built, mut matched) = (0, 0);
        for set in 0..300 {
            let letters = ["ab*?", "ab*", "abcdefgh0123*", "ab", "abcdeABCDE\u{7e}0?"][set % 5];
            let count = 1 + numbers.below([3, 10, 40][set % 3]);
            let patterns: Vec<_> = (0..count)
                .map(|_| {
                    let lists = 1_u64 << numbers.below(64) | 1 << numbers.below(64);
                    (numbers.text(letters, 15), lists)
                })
                .collect();
            let listed: Vec<_> =
                patterns.iter().map(|(text, bits)| (text.as_str(), *bits)).collect();
            let Some(automaton) = Automaton::new(&listed, 1 << 18) else { continue };
            built += 1;
            for _ in 0..400 {
                let mut name = match numbers.below(3) {
                    0 => numbers.text("abcdefgh0123ABCDE~x", 15),
                    _ => patterns[numbers.below(count)].0.replace('*', &numbers.text("ab0", 3)),
                }
                .replace(['*', '?'], "b");
                name.truncate(LONGEST);
                let holding = listed.iter().filter(|(text, _)| matches(text, name.as_bytes()));
                let expected = holding.fold(0, |lists, (_, bits)| lists | bits);
                assert_eq!(automaton.lists(name.as_bytes()), expected, "{name} of {patterns:?}");
                matched += usize::from(expected != 0);
            }
        }
        assert!(built > 200 && matched > 20_000, "{built} sets, {matched} names");
    }

    #[test]
    fn endings_of_names_are_shared() {
        let names: Vec<_> = (0..1000).map(|at| format!("if{at:03}")).collect();
        let listed: Vec<_> = names.iter().map(|it| (it.as_str(), 1)).collect();
        let automaton = Automaton::new(&listed, 1 << 20).expect("few states");
        assert_eq!(automaton.entries.len() / automaton.width, 6, "one for each byte, and the end");
        assert_eq!(automaton.width, 5, "NUL, i, f, digits and others");
        assert_eq!((automaton.lists(b"if042"), automaton.lists(b"if1000")), (1, 0));
    }

    #[test]
    fn what_multiplies_is_given_up() {
        let texts: Vec<_> = ('a'..='z').map(|letter| format!("*{letter}*")).collect();
        let listed: Vec<_> =
            texts.iter().enumerate().map(|(at, text)| (text.as_str(), 1 << at)).collect();
        assert_eq!(Automaton::new(&listed, 1 << 16), None);
        let few = Automaton::new(&listed[..8], 1 << 16).expect("256 states");
        assert_eq!(few.lists(b"xhxaxxb"), 0b1000_0011);
    }
}
