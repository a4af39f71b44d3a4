//! Tables: a dimension cut into many ranges, as data in `.rodata.tables`.
//!
//! Seen with 10,000 rules of a port each: clang takes over 20 s for a chain of comparisons; a hash map costs a helper
//! call for each end and an entry to be written for each key at install. An array over all 65,536 ports is one load.
//! (`cargo xtask bench` measures chain and map beside this.)
//!
//! Addresses have no such array. Theirs is a trie of few levels: the first level is indexed by the (up to 16) bits
//! behind those that all boundaries share, further ones by 8 bits each where more than [`FEW`] boundaries fall into one
//! entry; what is left is a search among few neighbours.

use super::{expression, line, side};
use crate::space::Dimension;
use std::collections::HashMap;

/// So many boundaries in one entry are searched, in 4 rounds.
const FEW: usize = 15;

/// Levels below the first.
const LEVELS: usize = 4;

/// Bits that index each of these: a wider level is sparser, and tables of megabytes take their time to load.
const LEVEL_BITS: u32 = 8;

/// In an entry of the trie: the rest is a place in the next level, or among the boundaries; else it is a value.
const IS_LEVEL: u32 = 1 << 31;
const IS_SEARCH: u32 = 1 << 30;

/// All tables of the program.
#[derive(Default)]
pub(super) struct Tables {
    /// Their C.
    pub(super) text: String,
    /// What is written already: a port at either end is one table for both.
    known: HashMap<(u32, Vec<(u128, u32)>), String>,
}

impl Tables {
    /// The table of `(first value, number)`; an expression that looks up the connection's value in it.
    pub(super) fn look_up(&mut self, dimension: Dimension, values: Vec<(u128, u32)>) -> String {
        // Prefixes up to /64, as nearly all are, need but the upper half of the address.
        let upper = |(start, _): &(u128, u32)| start & u128::from(u64::MAX) == 0;
        let (width, values) = match dimension {
            Dimension::Ipv4(_) => (32, values),
            Dimension::Ipv6(_) if values.iter().all(upper) => {
                (64, values.into_iter().map(|(start, value)| (start >> 64, value)).collect())
            }
            Dimension::Ipv6(_) => (128, values),
            _ => (16, values),
        };
        let next = format!("table_{}", self.known.len());
        let out = &mut self.text;
        let name = self.known.entry((width, values)).or_insert_with_key(|(_, values)| {
            match width {
                16 => ports(out, &next, values),
                _ => trie(out, &next, width, values),
            }
            next
        });
        match dimension {
            Dimension::Ipv4(end) => format!("{name}(HOST({}_ip4))", side(end)),
            Dimension::Ipv6(end) if width == 64 => {
                let side = side(end);
                format!("{name}(HOST({side}_ip6[0]) << 32 | HOST({side}_ip6[1]))")
            }
            Dimension::Ipv6(end) => format!("{name}({}_ip6(ctx))", side(end)),
            _ => format!("{name}[{} & 0xffff]", expression::value(dimension)),
        }
    }
}

fn ports(out: &mut String, name: &str, values: &[(u128, u32)]) {
    let widest = values.iter().map(|(_, value)| *value).max().unwrap_or_default();
    let kind = if widest <= u32::from(u16::MAX) { "u16" } else { "u32" };
    let mut all = Vec::with_capacity(1 << 16);
    for (at, (start, value)) in values.iter().enumerate() {
        let end = values.get(at + 1).map_or(1 << 16, |(next, _)| *next);
        all.extend((*start..end).map(|_| *value));
    }
    array(out, kind, name, &all);
}

fn array(out: &mut String, kind: &str, name: &str, values: &[u32]) {
    line(out, format_args!("\nconst {kind} {name}[{}] SEC(\".rodata.tables\") = {{", values.len()));
    for row in values.chunks(16) {
        let row: Vec<_> = row.iter().map(u32::to_string).collect();
        line(out, format_args!("{},", row.join(",")));
    }
    out.push_str("};\n");
}

/// A trie, still to be written.
struct Trie<'v> {
    width: u32,
    values: &'v [(u128, u32)],
    /// First bit and number of bits of each level.
    levels: Vec<(u32, u32)>,
    /// Entries of all levels, the first level first.
    entries: Vec<u32>,
    /// The rounds of the longest search.
    rounds: u32,
}

impl<'v> Trie<'v> {
    fn new(width: u32, values: &'v [(u128, u32)]) -> Self {
        // Outside of the first and the last boundary there is one value each: two comparisons.
        let (first, last) = (values[1].0, values[values.len() - 1].0);
        let shared = (first ^ last).leading_zeros() - (128 - width);
        let wanted = (values.len() * 2).next_power_of_two().ilog2().clamp(4, 16);
        let bits = wanted.min(width - shared);
        let mut levels = vec![(shared, bits)];
        let mut at = shared + bits;
        while levels.len() <= LEVELS && at < width {
            let bits = LEVEL_BITS.min(width - at);
            levels.push((at, bits));
            at += bits;
        }
        let mut trie = Self { width, values, levels, entries: vec![0; 1 << bits], rounds: 0 };
        let base = if shared == 0 { 0 } else { first >> (width - shared) << (width - shared) };
        trie.fill(0, 0, base);
        trie
    }

    /// Fills the entries of a level from `place` on, for the addresses from `base` on.
    fn fill(&mut self, level: usize, place: usize, base: u128) {
        let (first_bit, bits) = self.levels[level];
        let size_bits = self.width - first_bit - bits;
        for at in 0..1_usize << bits {
            let low = base + ((at as u128) << size_bits);
            let high = low + ((1_u128 << size_bits) - 1);
            // The boundary that holds at the lowest address, and how many more there are up to the highest.
            let from = self.values.partition_point(|(start, _)| *start <= low) - 1;
            let inside = self.values[from + 1..].partition_point(|(start, _)| *start <= high);
            self.entries[place + at] = match inside {
                0 => self.values[from].1,
                _ if inside > FEW && level + 1 < self.levels.len() => {
                    let next = self.entries.len();
                    self.entries.resize(next + (1 << self.levels[level + 1].1), 0);
                    self.fill(level + 1, next, low);
                    IS_LEVEL | next as u32
                }
                _ => {
                    self.rounds = self.rounds.max((inside + 1).next_power_of_two().ilog2());
                    IS_SEARCH | from as u32
                }
            };
        }
    }

    /// An expression for the entry's index within a level.
    fn index(&self, level: usize) -> String {
        let (first_bit, bits) = self.levels[level];
        let mask = (1_u32 << bits) - 1;
        let shift = self.width - first_bit - bits;
        if self.width <= 64 {
            return format!("(address >> {shift} & {mask})");
        }
        match shift {
            64.. => format!("(address.high >> {} & {mask})", shift - 64),
            _ if shift + bits <= 64 => format!("(address.low >> {shift} & {mask})"),
            _ => {
                let up = 64 - shift;
                format!("((address.high << {up} | address.low >> {shift}) & {mask})")
            }
        }
    }
}

fn trie(out: &mut String, name: &str, width: u32, values: &[(u128, u32)]) {
    let trie = Trie::new(width, values);
    // A number of one word.
    let is_word = width <= 64;
    // Masked, an index stays within the table whatever it is: so the verifier needs no comparison.
    let entry_mask = trie.entries.len().next_power_of_two() - 1;
    let mut entries = trie.entries.clone();
    let widest = 1 << trie.levels[1..].iter().map(|level| level.1).max().unwrap_or_default();
    let uses_levels = trie.entries.iter().any(|entry| entry & IS_LEVEL != 0);
    if uses_levels {
        entries.resize(entry_mask + widest, values[0].1);
    }
    array(out, "u32", &format!("{name}_entries"), &entries);
    let start_mask = values.len().next_power_of_two() - 1;
    if trie.rounds > 0 {
        starts(out, name, width, values, start_mask + (1 << trie.rounds));
    }
    let parameter = if is_word { "u64 address" } else { "struct ip6 address" };
    let constant = |value: u128| match is_word {
        true => format!("0x{value:08x}ull"),
        false => expression::words(value),
    };
    let below = |value: u128| match is_word {
        true => format!("address < {}", constant(value)),
        false => format!("below(address, {})", constant(value)),
    };
    let (first, last) = (values[1], values[values.len() - 1]);
    line(out, format_args!("\nstatic __always_inline u64 {name}({parameter})\n{{\n\tu64 entry;\n"));
    line(out, format_args!("\tif ({})\n\t\treturn {};", below(first.0), values[0].1));
    line(out, format_args!("\tif (!({}))\n\t\treturn {};", below(last.0), last.1));
    line(out, format_args!("\tentry = {name}_entries[{}];", trie.index(0)));
    let depth = if uses_levels { trie.levels.len() } else { 1 };
    for level in 1..depth {
        let tabs = "\t".repeat(level);
        line(out, format_args!("{tabs}if (entry & 0x{IS_LEVEL:x}) {{"));
        line(
            out,
            format_args!(
                "{tabs}\tentry = {name}_entries[(entry & {entry_mask}) + {}];",
                trie.index(level)
            ),
        );
    }
    for level in (1..depth).rev() {
        line(out, format_args!("{}}}", "\t".repeat(level)));
    }
    if trie.rounds > 0 {
        line(out, format_args!("\tif (entry & 0x{IS_SEARCH:x})"));
        line(out, format_args!("\t\treturn {name}_search(entry & {start_mask}, address);"));
    }
    line(out, format_args!("\treturn entry;\n}}"));
}

/// The boundaries and the search among them: of the 2^rounds from `at` on, the last that is not above.
fn starts(out: &mut String, name: &str, width: u32, values: &[(u128, u32)], size: usize) {
    let rounds = (size - (values.len().next_power_of_two() - 1)).ilog2();
    let (kind, fields) = match width {
        32 => ("struct start32", "u32 first, value;"),
        64 => ("struct start64", "u64 first, value;"),
        _ => ("struct start128", "u64 high, low, value;"),
    };
    if !out.contains(&format!("{kind} {{")) {
        line(out, format_args!("\n{kind} {{\n\t{fields}\n}};"));
    }
    line(out, format_args!("\nconst {kind} {name}_starts[{size}] SEC(\".rodata.tables\") = {{"));
    for (start, value) in values {
        let start = match width {
            32 => start.to_string(),
            64 => format!("{start}ull"),
            _ => expression::words(*start),
        };
        line(out, format_args!("{{{start},{value}}},"));
    }
    // Behind the last: above every address that gets here.
    for _ in values.len()..size {
        out.push_str(match width {
            32 => "{-1u,0},\n",
            64 => "{-1ull,0},\n",
            _ => "{-1ull,-1ull,0},\n",
        });
    }
    let (parameter, not_above) = match width {
        32 | 64 => ("u64 address", "starts[probe].first <= address"),
        _ => ("struct ip6 address", "!below(address, starts[probe].high, starts[probe].low)"),
    };
    line(
        out,
        format_args!("}};\n\nstatic __always_inline u64 {name}_search(u64 at, {parameter})\n{{"),
    );
    line(out, format_args!("\tconst {kind} *starts = {name}_starts;\n\tu64 probe;\n"));
    let mask = size.next_power_of_two() - 1;
    for round in (0..rounds).rev() {
        let step = 1_u64 << round;
        if rounds <= 5 {
            line(out, format_args!("\tprobe = at + {step};"));
        } else {
            // Many rounds: a mask keeps the ways that the verifier follows alike, so that it joins them.
            line(out, format_args!("\tprobe = (at + {step}) & {mask};"));
        }
        line(out, format_args!("\tif ({not_above})\n\t\tat = probe;"));
    }
    line(out, format_args!("\treturn starts[at].value;\n}}"));
}
