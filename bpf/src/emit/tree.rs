//! The data behind a table of addresses: what [`super::table`] writes, see table.h.
//!
//! Measured in executed instructions: an entry of the root costs 9, a node 17, a step of a search 3. So a search among
//! as many as 2,000 is no worse than two nodes; which is the best for a table is found by trying.

/// Ascending first values, the first of all is 0, and what holds from there on: a number below [`LOW_SEARCH`].
pub(super) type List = Vec<(u64, u32)>;

/// As in table.h.
pub(super) const LOW_SEARCH: u32 = 0x1000_0000;
const LOW_NODE: u32 = 0x2000_0000;
const SEARCH: u32 = 0x3000_0000;
const NODE: u32 = 0x4000_0000;

/// Of struct node: places of nodes are in bytes, which saves an instruction.
pub(super) const NODE_BYTES: usize = 32;

/// Nodes on one path, at most; where that is not enough, longer searches are.
const DEEPEST: usize = 4;

/// Entries of the root, and of a node, are 2 to the power of this at most: 1 MB.
const MOST_BITS: u32 = 18;

/// Searches are tried up to so many steps: what 2^28 boundaries need.
const MOST_ROUNDS: u32 = 28;

/// Bytes for each boundary, all in all, that are not too much; and bytes that never are.
const BYTES_EACH: usize = 64;
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

/// All arrays of a table.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) starts: List,
    pub(super) entries: Vec<u32>,
    pub(super) nodes: Vec<Spread>,
    /// For the upper half of an address, or the only one.
    pub(super) high: Stage,
    /// For the lower half.
    pub(super) low: Stage,
    /// Between the first and the last boundary; none if there is but one value.
    pub(super) root: Option<Spread>,
    /// That value.
    pub(super) only: u32,
    /// The upper half's boundaries and values.
    pub(super) list: List,
}

impl Tree {
    /// A table over words, or the upper halves of addresses; `lows` are lists for lower halves, which values of
    /// [`LOW_SEARCH`] and above count.
    pub(super) fn new(list: List, lows: &[List], start_bytes: usize) -> Self {
        let count = list.len() + lows.iter().map(Vec::len).sum::<usize>();
        let limit = FEW_BYTES.max(count * BYTES_EACH);
        let mut tree = Self::default();
        let mut entries = Vec::new();
        if !lows.is_empty() {
            (tree, entries) = best(limit, start_bytes, &tree, |tree, rounds| {
                let mut filler = Filler { tree, rounds, kinds: (LOW_SEARCH, LOW_NODE), depth: 0 };
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
        let (mut tree, ()) = best(limit, start_bytes, &tree, |tree, rounds| {
            let mut filler = Filler { tree, rounds, kinds: (SEARCH, NODE), depth: 0 };
            filler.root(&list)?;
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
            list: Vec::new(),
            ..*self
        }
    }

    fn bytes(&self, start_bytes: usize) -> usize {
        self.entries.len() * 4 + self.nodes.len() * NODE_BYTES + self.starts.len() * start_bytes
    }
}

/// The cheapest way to fill, by executed instructions, among those that take no more than `limit` bytes.
fn best<T: Default>(
    limit: usize,
    start_bytes: usize,
    before: &Tree,
    mut fill: impl FnMut(&mut Tree, u32) -> Option<(usize, T)>,
) -> (Tree, T) {
    let mut found: Option<((bool, usize, usize), Tree, T)> = None;
    for rounds in 0..=MOST_ROUNDS {
        let is_dear = |it: &((bool, usize, usize), Tree, T)| !it.0.0 && it.0.1 <= cost(rounds);
        if found.as_ref().is_some_and(is_dear) {
            break;
        }
        let mut tree = before.copy();
        let Some((depth, more)) = fill(&mut tree, rounds) else { continue };
        let bytes = tree.bytes(start_bytes);
        let score = (bytes > limit, depth * 17 + cost(rounds), bytes);
        if found.as_ref().is_none_or(|it| score < it.0) {
            found = Some((score, tree, more));
        }
        if depth == 0 {
            break; // more steps than enough
        }
    }
    found.map(|(_, tree, more)| (tree, more)).unwrap_or_default()
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

    /// The root of a list, behind which there is one value less to find: that above the last boundary.
    fn root(&mut self, list: &List) -> Option<()> {
        let mut listed = Listed { list, place: None };
        match list.as_slice() {
            [] | [_] => {}
            [.., _, _] if list.len() <= 3 => self.tree.only = list[1].1,
            [.., last] => {
                // All words below the last boundary, and none below the first.
                let ends = (list[1].0, last.0 - 1);
                self.tree.root = Some(self.spread(&mut listed, 1, list.len() - 3, ends, 0)?);
            }
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
            let tree = &mut *self.tree;
            let place = *listed.place.get_or_insert_with(|| {
                let place = tree.starts.len();
                tree.starts.extend(listed.list);
                // Behind the last boundary: the greatest word too finds the right value there.
                let last = listed.list.last().map_or(0, |it| it.1);
                let missing = width.saturating_sub(listed.list.len());
                tree.starts.extend(std::iter::repeat_n((u64::MAX, last), missing));
                place
            });
            // No step may lead behind the list, where other lists are.
            let at = from.min(listed.list.len().saturating_sub(width));
            return Some(self.kinds.0 | (place + at) as u32);
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
