//! Tables: a dimension cut into many ranges, as data in `.rodata.tables`.
//!
//! Seen with 10,000 rules of a port each: clang takes over 20 s for a chain of comparisons; a hash map costs a helper
//! call for each end and an entry to be written for each key at install. An array over all 65,536 ports is one load, one
//! by pages two ([`super::ports`]). (`cargo xtask bench` measures chain and map beside this.)
//!
//! Addresses have no such array. Theirs is a tree that adapts to where the boundaries lie, see table.h and tree.rs. It
//! is over words: IPv6 addresses are looked up by their upper half, and where that does not decide by the lower one.

use super::tree::{JOINED, LOW_SEARCH, List, NODE_BYTES, Stage, Tree, Zone};
use super::{expression, line, ports, side};
use crate::space::Dimension;
use std::collections::HashMap;

/// Bits of the values that are looked up; from each first value on a number.
type Contents = (u32, Vec<(u128, u32)>);

/// All tables of the program.
#[derive(Default)]
pub(super) struct Tables {
    /// Their C.
    pub(super) text: String,
    /// What is written already, and whether it is an array: a port at either end is one table for both.
    known: HashMap<Contents, (String, bool)>,
    /// Arrays that are no tables of a dimension.
    arrays: usize,
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
        let (name, is_array) = self.table(width, values);
        match dimension {
            Dimension::Ipv4(end) => format!("{name}(HOST({}_ip4))", side(end)),
            Dimension::Ipv6(end) if width == 64 => format!("{name}(HALF({}_ip6, 0))", side(end)),
            Dimension::Ipv6(end) => format!("IN_HALVES({name}, {}_ip6)", side(end)),
            _ if is_array => format!("{name}[{} & 0xffff]", expression::value(dimension)),
            _ => format!("{name}({})", expression::value(dimension)),
        }
    }

    /// The table of `(first port, number)`; an expression that looks up a port in it, which is known to be one.
    pub(super) fn by_port(&mut self, port: &str, values: Vec<(u128, u32)>) -> String {
        let (name, is_array) = self.table(16, values);
        if is_array { format!("{name}[{port}]") } else { format!("{name}({port})") }
    }

    /// The name of the table, and whether it is an array.
    fn table(&mut self, width: u32, values: Vec<(u128, u32)>) -> (String, bool) {
        let next = format!("table_{}", self.known.len());
        let out = &mut self.text;
        let known = self.known.entry((width, values)).or_insert_with_key(|(_, values)| {
            let mut is_array = false;
            match width {
                16 => is_array = ports::write(out, &next, values),
                128 => halves(out, &next, values),
                _ => words(out, &next, width, values),
            }
            (next, is_array)
        });
        known.clone()
    }
}

impl Tables {
    /// A name that no other array has.
    pub(super) fn name(&mut self, kind: &str) -> String {
        self.arrays += 1;
        format!("{kind}_{}", self.arrays - 1)
    }

    /// An array of numbers by place; its name.
    pub(super) fn array(&mut self, kind: &str, values: &[u32]) -> String {
        let name = self.name(kind);
        array(&mut self.text, "u32", &name, values);
        name
    }

    /// An array of so many words, the last of which are 0.
    pub(super) fn words(&mut self, name: &str, count: usize, values: &[u64]) {
        let out = &mut self.text;
        line(out, format_args!("\nconst u64 {name}[{count}] SEC(\".rodata.tables\") = {{"));
        for row in values.chunks(8) {
            let row: Vec<_> = row.iter().map(|it| format!("{it:#x}")).collect();
            line(out, format_args!("{},", row.join(",")));
        }
        out.push_str("};\n");
    }
}

pub(super) fn array(out: &mut String, kind: &str, name: &str, values: &[u32]) {
    line(out, format_args!("\nconst {kind} {name}[{}] SEC(\".rodata.tables\") = {{", values.len()));
    for row in values.chunks(16) {
        let row: Vec<_> = row.iter().map(u32::to_string).collect();
        line(out, format_args!("{},", row.join(",")));
    }
    out.push_str("};\n");
}

/// A table over numbers of one word.
fn words(out: &mut String, name: &str, width: u32, values: &[(u128, u32)]) {
    let list = values.iter().map(|(start, value)| (*start as u64, *value)).collect();
    let tree = Tree::new(list, &[], start_bytes(width));
    arrays(out, name, width, &tree);
    upper(out, name, name, width, &tree);
}

/// A table over IPv6 addresses: two functions.
fn halves(out: &mut String, name: &str, values: &[(u128, u32)]) {
    let (list, lows) = split(values);
    let tree = Tree::new(list, &lows, 16);
    arrays(out, name, 64, &tree);
    upper(out, name, &format!("{name}_upper"), 64, &tree);
    line(out, format_args!("\nstatic __always_inline u64 {name}_lower(u64 entry, u64 word)\n{{"));
    descend(out, name, 64, &tree, &tree.low, "LOW_");
}

/// Boundaries of the upper halves, and for those that do not decide what lies below, counted from [`LOW_SEARCH`].
fn split(values: &[(u128, u32)]) -> (List, Vec<List>) {
    let mut list = List::new();
    let mut lows: Vec<List> = Vec::new();
    let mut known: HashMap<List, u32> = HashMap::new();
    let mut before = 0;
    let mut push = |start: u64, value: u32| {
        // What was thought to hold from here on.
        list.pop_if(|(last, _)| *last == start);
        if list.last().is_none_or(|(_, last)| *last != value) {
            list.push((start, value));
        }
    };
    for same in values.chunk_by(|one, other| one.0 >> 64 == other.0 >> 64) {
        let upper = (same[0].0 >> 64) as u64;
        let mut low: List = same.iter().map(|(start, value)| (*start as u64, *value)).collect();
        if low[0].0 != 0 {
            low.insert(0, (0, before));
        }
        before = low[low.len() - 1].1;
        if low.len() == 1 {
            push(upper, before);
            continue;
        }
        let next = LOW_SEARCH + lows.len() as u32;
        let number = *known.entry(low).or_insert_with_key(|low| {
            lows.push(low.clone());
            next
        });
        push(upper, number);
        if let Some(after) = upper.checked_add(1) {
            push(after, before);
        }
    }
    (list, lows)
}

fn arrays(out: &mut String, name: &str, width: u32, tree: &Tree) {
    if !tree.entries.is_empty() {
        let mut entries = tree.entries.clone();
        entries.resize(mask(entries.len()) + 1, 0);
        array(out, "u32", &format!("{name}_entries"), &entries);
    }
    if !tree.nodes.is_empty() {
        let size = mask(tree.nodes.len()) + 1;
        line(
            out,
            format_args!("\nconst struct node {name}_nodes[{size}] SEC(\".rodata.tables\") = {{"),
        );
        for it in &tree.nodes {
            line(out, format_args!("{{{}ull,{},{},{}}},", it.first, it.shift, it.last, it.place));
        }
        out.push_str("};\n");
    }
    let (lows, highs) = tree.starts.split_at(tree.lows);
    starts(out, &format!("{name}_low_starts"), width, lows, tree.low.rounds);
    starts(out, &format!("{name}_starts"), width, highs, tree.high.rounds);
}

/// Bytes of boundaries in one array; for the verifier it has as many again as a search goes through, and together
/// they must fit into a section.
const CHUNK_BYTES: usize = super::section::MOST_BYTES / 2;

fn start_bytes(width: u32) -> usize {
    if width == 32 { 8 } else { 16 }
}

/// How boundaries are put into arrays.
struct Chunks {
    /// An index into each of them.
    mask: usize,
    /// Boundaries behind the one that a search begins at.
    behind: usize,
    /// So many searches begin in each.
    stride: usize,
    /// Where each begins.
    starts: Vec<usize>,
}

impl Chunks {
    fn new(width: u32, count: usize, rounds: u32) -> Self {
        let (most, behind) = (CHUNK_BYTES / start_bytes(width), (1 << rounds) - 1);
        if count <= most {
            return Self { mask: mask(count), behind, stride: count, starts: vec![0] };
        }
        // What the last search goes through is in the array as well: behind a whole number of places, where that saves
        // an instruction, but where steps are joined within them.
        let stride = if rounds as usize > JOINED { most - behind.min(most / 2) } else { most };
        Self { mask: most - 1, behind, stride, starts: (0..count).step_by(stride).collect() }
    }

    fn name(&self, name: &str, number: usize) -> String {
        if self.starts.len() == 1 { name.into() } else { format!("{name}_{number}") }
    }
}

/// Arrays of boundaries.
fn starts(out: &mut String, name: &str, width: u32, list: &[(u64, u32)], rounds: u32) {
    if list.is_empty() {
        return;
    }
    let (kind, suffix) = if width == 32 { ("start32", "u") } else { ("start64", "ull") };
    let chunks = Chunks::new(width, list.len(), rounds);
    for (number, from) in chunks.starts.iter().enumerate() {
        let part = &list[*from..list.len().min(from + chunks.stride + chunks.behind)];
        let (name, size) = (chunks.name(name, number), chunks.mask + 1 + chunks.behind);
        let declared = format!("const struct {kind} {name}[{size}]");
        line(out, format_args!("\n{declared} SEC(\".rodata.tables\") = {{"));
        for (start, value) in part {
            let start = if width == 32 { u64::from(*start as u32) } else { *start };
            line(out, format_args!("{{{start}{suffix},{value}}},"));
        }
        out.push_str("};\n");
    }
}

/// The array among these that the entry's search is in.
fn pick(
    out: &mut String,
    name: &str,
    chunks: &Chunks,
    (first, end): (usize, usize),
    kind: &str,
    depth: usize,
) {
    let tabs = "\t".repeat(depth);
    if end - first <= 1 {
        line(out, format_args!("{tabs}from = {};", chunks.name(name, first)));
        if first > 0 && chunks.stride <= chunks.mask {
            line(out, format_args!("{tabs}entry -= {:#x};", chunks.starts[first]));
        }
        return;
    }
    let middle = first + (end - first) / 2;
    line(out, format_args!("{tabs}if (entry < {kind}SEARCH + {:#x}) {{", chunks.starts[middle]));
    pick(out, name, chunks, (first, middle), kind, depth + 1);
    line(out, format_args!("{tabs}}} else {{"));
    pick(out, name, chunks, (middle, end), kind, depth + 1);
    line(out, format_args!("{tabs}}}"));
}

/// Statements that let `from` be the array that the entry's search is in, and `at` its first boundary.
fn find_starts(out: &mut String, name: &str, width: u32, chunks: &Chunks, kind: &str) {
    line(out, format_args!("\t\tconst struct start{width} *from, *at;\n\t\tu64 probe;\n"));
    pick(out, name, chunks, (0, chunks.starts.len()), kind, 2);
    line(out, format_args!("\t\tat = &from[entry & {}];", chunks.mask));
}

/// Masked, an index stays within an array whatever it is: so the verifier needs no comparison.
pub(super) fn mask(count: usize) -> usize {
    count.next_power_of_two() - 1
}

/// The function from the root on.
fn upper(out: &mut String, table: &str, name: &str, width: u32, tree: &Tree) {
    line(out, format_args!("\nstatic __always_inline u64 {name}(u64 word)\n{{"));
    let has_roots = tree.zones.iter().any(|zone| zone.ends.0 < zone.ends.1);
    out.push_str(if has_roots { "\tu64 entry, at;\n\n" } else { "\tu64 entry;\n\n" });
    zones(out, table, tree, (0, tree.zones.len()), 1);
    descend(out, table, width, tree, &tree.high, "");
}

/// Statements that find the entry of the root that the word is in; they return where that decides.
fn zones(out: &mut String, table: &str, tree: &Tree, (from, to): (usize, usize), depth: usize) {
    let tabs = "\t".repeat(depth);
    let list = &tree.list;
    if to - from > 1 {
        let middle = from + (to - from) / 2;
        let first = list[tree.zones[middle].ends.0].0;
        line(out, format_args!("{tabs}if (word < 0x{first:x}ull) {{"));
        zones(out, table, tree, (from, middle), depth + 1);
        line(out, format_args!("{tabs}}} else {{"));
        zones(out, table, tree, (middle, to), depth + 1);
        line(out, format_args!("{tabs}}}"));
        return;
    }
    // One boundary at least, else there was no choice.
    let Zone { ends, root } = tree.zones[from];
    let (first, last) = (list[ends.0], list[ends.1]);
    let (below, above) = (list[0].1, last.1);
    let outside = match from == 0 && below != above {
        true => format!("word < 0x{:x}ull ? {below} : {above}", first.0),
        false => above.to_string(),
    };
    if ends.0 == ends.1 {
        line(out, format_args!("{tabs}entry = {outside};"));
        return;
    }
    // One subtraction serves both ends: what is below the first boundary wraps around.
    line(out, format_args!("{tabs}at = word - 0x{:x}ull;", first.0));
    line(out, format_args!("{tabs}if (at >= 0x{:x}ull)", last.0 - first.0));
    line(out, format_args!("{tabs}\treturn {outside};"));
    match root {
        Some(root) => {
            // Others' stand before.
            let place = if root.place == 0 { String::new() } else { format!("{} + ", root.place) };
            let (shift, mask) = (root.shift, mask(tree.entries.len()));
            line(
                out,
                format_args!("{tabs}entry = {table}_entries[({place}(at >> {shift})) & {mask}];"),
            );
        }
        None => line(out, format_args!("{tabs}entry = {};", first.1)),
    }
}

/// From an entry on: nodes, a search, the answer.
fn descend(out: &mut String, name: &str, width: u32, tree: &Tree, stage: &Stage, kind: &str) {
    let (nodes, entries) = (mask(tree.nodes.len()), mask(tree.entries.len()));
    for level in 1..=stage.depth {
        let tabs = "\t".repeat(level);
        line(out, format_args!("{tabs}if (entry >= {kind}NODE) {{"));
        let place = format!("place_of({name}_nodes, entry & {}, word)", nodes * NODE_BYTES);
        line(out, format_args!("{tabs}\tentry = {name}_entries[{place} & {entries}];"));
    }
    for level in (1..=stage.depth).rev() {
        line(out, format_args!("{}}}", "\t".repeat(level)));
    }
    if stage.rounds > 0 {
        let size = start_bytes(width);
        let (array, count) = match kind {
            "" => (format!("{name}_starts"), tree.starts.len() - tree.lows),
            _ => (format!("{name}_low_starts"), tree.lows),
        };
        let chunks = Chunks::new(width, count, stage.rounds);
        line(out, format_args!("\tif (entry >= {kind}SEARCH) {{"));
        find_starts(out, &array, width, &chunks, kind);
        for round in (0..stage.rounds).rev() {
            let bytes = size << round;
            let far = if bytes > 0x7fff { "LONG_" } else { "" };
            line(out, format_args!("\t\t{far}STEP({width}, {bytes});"));
            let done = (stage.rounds - round) as usize;
            if done.is_multiple_of(JOINED) && round > 0 {
                line(out, format_args!("\t\tJOIN(from, {});", chunks.mask * size));
            }
        }
        out.push_str("\t\tentry = at->value;\n\t}\n");
    }
    out.push_str("\treturn entry;\n}\n");
}
