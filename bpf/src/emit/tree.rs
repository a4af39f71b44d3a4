//! The data behind a table of addresses: what [`super::table`] writes, see table.h.
//!
//! Measured in executed instructions: a node costs 20, a step of a search 3, to halve the whole 2. So a search among a
//! hundred is no worse than a node; what is the best for a table is found by trying.

/// Ascending first values, the first of all is 0, and what holds from there on: a number below [`LOW_SEARCH`].
pub(super) type List = Vec<(u64, u32)>;

/// As in table.h.
pub(super) const LOW_SEARCH: u32 = 0x1000_0000;
const LOW_NODE: u32 = 0x2000_0000;
const SEARCH: u32 = 0x3000_0000;
const NODE: u32 = 0x4000_0000;

/// Instructions of a node.
const NODE_COST: usize = 20;

/// Instructions of a comparison that halves the zones.
const ZONE_COST: usize = 2;

/// Zones are 2 to the power of this at most.
const MOST_HALVINGS: u32 = 3;

/// Tables of fewer boundaries than this are one zone: a search through them is short, and the code too.
const FEW_BOUNDARIES: usize = 256;

/// Of struct node: places of nodes are in bytes, which saves an instruction.
pub(super) const NODE_BYTES: usize = 32;

/// Nodes on one path, at most; where that is not enough, longer searches are.
const DEEPEST: usize = 4;

/// Entries of the root, and of a node, are 2 to the power of this at most: 1 MB.
const MOST_BITS: u32 = 18;

/// Searches are tried up to so many steps: what 2^28 boundaries need.
const MOST_ROUNDS: u32 = 28;

/// Bytes that are never too much. More than this, a table is at most twice as large as it could be.
const FEW_BYTES: usize = 1 << 18;

/// See table.h.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) first: u64,
    pub(super) shift: u32,
    pub(super) last: u64,
    pub(super) place: usize,
}

/// How long the ways are through a table of words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stage {
    /// Nodes on a path, at most.
    pub(super) depth: usize,
    /// Steps of a search.
    pub(super) rounds: u32,
}

/// A part of the boundaries that is far from the others, as the blocks are that registries give addresses out of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone {
    /// Its first and last boundary, by place in the list.
    pub(super) ends: (usize, usize),
    /// Entries between them; none if there is but one value.
    pub(super) root: Option<Spread>,
}

/// All arrays of a table.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) starts: List,
    /// So many of them are for lower halves; places of the others are counted from there.
    pub(super) lows: usize,
    pub(super) entries: Vec<u32>,
    pub(super) nodes: Vec<Spread>,
    /// For the upper half of an address, or the only one.
    pub(super) high: Stage,
    /// For the lower half.
    pub(super) low: Stage,
    /// In order; a power of two.
    pub(super) zones: Vec<Zone>,
    /// The upper half's boundaries and values.
    pub(super) list: List,
}

impl Tree {
    /// A table over words, or the upper halves of addresses; `lows` are lists for lower halves, which values of
    /// [`LOW_SEARCH`] and above count.
    pub(super) fn new(list: List, lows: &[List], start_bytes: usize) -> Self {
        let mut tree = Self::default();
        let mut entries = Vec::new();
        let count = list.len() + lows.iter().map(Vec::len).sum::<usize>();
        let most_starts = (count * 4).max(FEW_BYTES / 16);
        if !lows.is_empty() {
            (tree, entries) = best(start_bytes, &tree, &[0], |tree, _, rounds| {
                let mut filler =
                    Filler { tree, rounds, kinds: (LOW_SEARCH, LOW_NODE), depth: 0, most_starts };
                let entries: Option<Vec<u32>> = lows.iter().map(|list| filler.list(list)).collect();
                let depth = filler.depth;
                tree.low = Stage { depth, rounds };
                entries.map(|entries| (depth, entries))
            });
        }
        let number = |value: u32| match value.checked_sub(LOW_SEARCH) {
            Some(at) => entries.get(at as usize).copied().unwrap_or_default(),
            None => value,
        };
        let list: List = list.into_iter().map(|(start, value)| (start, number(value))).collect();
        tree.lows = tree.starts.len();
        let halvings = if list.len() < FEW_BOUNDARIES { 0 } else { MOST_HALVINGS };
        let cuts: Vec<_> = (0..=halvings).map(|it| zones(&list, (1 << it) - 1)).collect();
        let halvings: Vec<_> = (0..=halvings).collect();
        let (mut tree, ()) = best(start_bytes, &tree, &halvings, |tree, halvings, rounds| {
            let mut filler = Filler { tree, rounds, kinds: (SEARCH, NODE), depth: 0, most_starts };
            filler.zones(&list, &cuts[halvings as usize])?;
            let depth = filler.depth;
            tree.high = Stage { depth, rounds };
            Some((depth, ()))
        });
        tree.list = list;
        tree
    }

    fn copy(&self) -> Self {
        Self {
            starts: self.starts.clone(),
            entries: self.entries.clone(),
            nodes: self.nodes.clone(),
            zones: Vec::new(),
            list: Vec::new(),
            ..*self
        }
    }

    fn bytes(&self, start_bytes: usize) -> usize {
        self.entries.len() * 4 + self.nodes.len() * NODE_BYTES + self.starts.len() * start_bytes
    }
}

/// The ends of zones between the widest gaps, so many of them; one zone if there are not enough.
fn zones(list: &List, gaps: usize) -> Vec<(usize, usize)> {
    let last = list.len() - 1;
    let mut widest: Vec<usize> = (2..=last).collect();
    widest.sort_by_key(|at| std::cmp::Reverse(list[*at].0 - list[*at - 1].0));
    widest.truncate(gaps);
    if widest.len() < gaps {
        widest.clear();
    }
    widest.sort_unstable();
    let firsts = std::iter::once(1.min(last)).chain(widest.iter().copied());
    let lasts = widest.iter().map(|at| at - 1).chain([last]);
    firsts.zip(lasts).collect()
}

/// The cheapest way to fill, by executed instructions, among those that do not take too many bytes.
fn best<T: Default>(
    start_bytes: usize,
    before: &Tree,
    halvings: &[u32],
    mut fill: impl FnMut(&mut Tree, u32, u32) -> Option<(usize, T)>,
) -> (Tree, T) {
    let mut tried = Vec::new();
    for halvings in halvings {
        for rounds in 0..=MOST_ROUNDS {
            let mut tree = before.copy();
            let Some((depth, _)) = fill(&mut tree, *halvings, rounds) else { continue };
            let cost = *halvings as usize * ZONE_COST + depth * NODE_COST + cost(rounds);
            tried.push((cost, tree.bytes(start_bytes), *halvings, rounds));
            // With more steps than are needed it gets no better.
            if depth == 0 {
                break;
            }
        }
    }
    let least = tried.iter().map(|it| it.1).min().unwrap_or_default();
    let limit = FEW_BYTES.max(2 * least);
    let chosen = tried.iter().filter(|it| it.1 <= limit).min();
    let mut tree = before.copy();
    let filled = chosen.and_then(|it| fill(&mut tree, it.2, it.3));
    (tree, filled.unwrap_or_default().1)
}

/// Instructions of a search.
fn cost(rounds: u32) -> usize {
    match rounds as usize {
        0 => 0,
        it => 6 + 3 * it + 3 * ((it - 1) / JOINED) + 2 * it.saturating_sub(11),
    }
}

/// So many steps of a search are verified on all ways, then these are joined.
pub(super) const JOINED: usize = 5;

struct Filler<'t> {
    tree: &'t mut Tree,
    rounds: u32,
    /// What marks searches, and nodes.
    kinds: (u32, u32),
    /// Nodes on a path so far.
    depth: usize,
    /// So many starts are too many: short lists are padded to the length of a search.
    most_starts: usize,
}

/// A list that is being put into the tree.
struct Listed<'l> {
    list: &'l List,
    /// Where it stands among the starts, if it does.
    place: Option<usize>,
}

impl Filler<'_> {
    /// The entry for a list without a root; None if the paths get too deep.
    fn list(&mut self, list: &List) -> Option<u32> {
        let mut listed = Listed { list, place: None };
        self.entry(&mut listed, 0, list.len() - 1, 0)
    }

    /// The zones of a list, behind each of which there is one value less to find: that above its last boundary.
    fn zones(&mut self, list: &List, ends: &[(usize, usize)]) -> Option<()> {
        let mut listed = Listed { list, place: None };
        for &(first, last) in ends {
            let root = match last - first {
                0 | 1 => None,
                between => {
                    // All words below the last boundary, and none below the first.
                    let words = (list[first].0, list[last].0 - 1);
                    Some(self.spread(&mut listed, first, between - 1, words, 0)?)
                }
            };
            self.tree.zones.push(Zone { ends: (first, last), root });
        }
        Some(())
    }

    /// The entry for words from that boundary on, with so many more boundaries inside.
    fn entry(
        &mut self,
        listed: &mut Listed<'_>,
        from: usize,
        inside: usize,
        depth: usize,
    ) -> Option<u32> {
        if inside == 0 {
            return Some(listed.list[from].1);
        }
        let width = 1_usize << self.rounds;
        if inside < width {
            let count = listed.list.len();
            if listed.place.is_none() {
                let starts = &mut self.tree.starts;
                if starts.len() + count.max(width) > self.most_starts {
                    return None;
                }
                listed.place = Some(starts.len());
                starts.extend(listed.list);
                // Behind the last boundary: the greatest word too finds the right value there.
                let last = listed.list.last().map_or(0, |it| it.1);
                starts.extend(std::iter::repeat_n((u64::MAX, last), width.saturating_sub(count)));
            }
            let place = listed.place.unwrap_or_default();
            // No step may lead behind the list, where other lists are.
            let at = from.min(count.saturating_sub(width));
            let base = if self.kinds.0 == SEARCH { self.tree.lows } else { 0 };
            return Some(self.kinds.0 | (place - base + at) as u32);
        }
        let place = self.tree.nodes.len();
        let mark = place * NODE_BYTES;
        if depth == DEEPEST || mark >= LOW_SEARCH as usize {
            return None;
        }
        self.depth = self.depth.max(depth + 1);
        self.tree.nodes.push(Spread { first: 0, shift: 0, last: 0, place: 0 });
        let ends = (listed.list[from + 1].0, listed.list[from + inside].0);
        self.tree.nodes[place] = self.spread(listed, from, inside, ends, depth + 1)?;
        Some(self.kinds.1 | mark as u32)
    }

    /// Entries for the words between the ends, evenly. At or below the first of them holds the boundary `from`,
    /// and there are so many more up to the second.
    fn spread(
        &mut self,
        listed: &mut Listed<'_>,
        from: usize,
        inside: usize,
        (first, end): (u64, u64),
        depth: usize,
    ) -> Option<Spread> {
        let list = listed.list;
        let wanted = if inside < 1 << 14 { inside * 2 } else { inside };
        let bits = wanted.next_power_of_two().ilog2().clamp(3, MOST_BITS);
        let shift = (64 - (end - first).leading_zeros()).saturating_sub(bits);
        let last = (end - first) >> shift;
        let place = self.tree.entries.len();
        self.tree.entries.resize(place + last as usize + 1, 0);
        let mut at = from;
        for slot in 0..=last {
            let high = if slot == last { end } else { first + (((slot + 1) << shift) - 1) };
            let until = at + list[at + 1..=from + inside].partition_point(|it| it.0 <= high);
            // A boundary at the lowest word is not inside.
            let low = first + (slot << shift);
            let is_exact = slot > 0 && until > at && list[at + 1].0 == low;
            let at_low = at + usize::from(is_exact);
            let entry = self.entry(listed, at_low, until - at_low, depth)?;
            self.tree.entries[place + slot as usize] = entry;
            at = until;
        }
        Some(Spread { first, shift, last, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program does from an entry on, see table.h.
    fn descend(tree: &Tree, mut entry: u32, kinds: (u32, u32), stage: Stage, word: u64) -> u32 {
        let base = if kinds.0 == SEARCH { tree.lows } else { 0 };
        for _ in 0..stage.depth {
            if entry >= kinds.1 {
                let node = tree.nodes[(entry - kinds.1) as usize / NODE_BYTES];
                let at = word.saturating_sub(node.first) >> node.shift;
                entry = tree.entries[node.place + at.min(node.last) as usize];
            }
        }
        if entry < kinds.0 {
            return entry;
        }
        let mut at = base + (entry - kinds.0) as usize;
        for round in (0..stage.rounds).rev() {
            let probe = at + (1 << round);
            if tree.starts.get(probe).is_some_and(|it| it.0 <= word) {
                at = probe;
            }
        }
        tree.starts[at].1
    }

    fn find(tree: &Tree, upper: u64, lower: u64) -> u32 {
        let zone = tree.zones.partition_point(|it| tree.list[it.ends.0].0 <= upper);
        let zone = tree.zones[zone.saturating_sub(1)];
        let (first, last) = (tree.list[zone.ends.0], tree.list[zone.ends.1]);
        let entry = match zone.root {
            _ if upper < first.0 => tree.list[0].1,
            _ if upper >= last.0 => last.1,
            None => first.1,
            Some(root) => tree.entries[root.place + ((upper - root.first) >> root.shift) as usize],
        };
        match descend(tree, entry, (SEARCH, NODE), tree.high, upper) {
            entry if entry < LOW_SEARCH => entry,
            entry => descend(tree, entry, (LOW_SEARCH, LOW_NODE), tree.low, lower),
        }
    }

    /// Boundaries in heaps of all sizes, up to the greatest word. (Numbers of a linear congruential generator.)
    fn list(seed: u64, count: usize, value: impl Fn(u32) -> u32) -> List {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 3 ^ state >> 33
        };
        let mut starts = vec![0, u64::MAX];
        let mut heap = 0;
        for at in 0..count {
            if at % 50 == 0 {
                heap = next() << (next() % 40);
            }
            starts.push(heap ^ next() >> (next() % 64));
        }
        starts.sort_unstable();
        starts.dedup();
        (0..).zip(starts).map(|(at, start)| (start, value(at))).collect()
    }

    fn holding(list: &List, word: u64) -> u32 {
        list[list.partition_point(|it| it.0 <= word) - 1].1
    }

    fn words(list: &List) -> impl Iterator<Item = u64> {
        let near = |start: u64| [start.wrapping_sub(1), start, start.wrapping_add(1)];
        list.iter().flat_map(move |it| near(it.0))
    }

    #[test]
    fn every_word_finds_what_holds_there() {
        for (seed, count) in [(1, 1), (2, 2), (3, 10), (4, 500), (5, 20_000)] {
            let list = list(seed, count, |at| at);
            let tree = Tree::new(list.clone(), &[], 16);
            for word in words(&list) {
                assert_eq!(find(&tree, word, 0), holding(&list, word), "{word:x} of {seed}");
            }
        }
    }

    #[test]
    fn and_so_in_lower_halves() {
        let lows: Vec<_> =
            (0..40).map(|at| list(at, [0, 1, 3, 900][at as usize % 4], |it| it * 64)).collect();
        let upper = list(99, 2_000, |at| if at % 3 == 0 { LOW_SEARCH + at % 40 } else { at });
        let tree = Tree::new(upper.clone(), &lows, 16);
        for word in words(&upper) {
            let value = holding(&upper, word);
            let Some(low) = value.checked_sub(LOW_SEARCH) else {
                assert_eq!(find(&tree, word, 0), value);
                continue;
            };
            let low = &lows[low as usize];
            for lower in words(low).step_by(1 + low.len() / 20) {
                assert_eq!(find(&tree, word, lower), holding(low, lower), "{word:x} {lower:x}");
            }
        }
    }
}
