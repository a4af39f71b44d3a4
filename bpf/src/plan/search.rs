//! Tables of addresses: one root array, then a search.
//!
//! Sorted boundaries divide the addresses, and a number belongs to each part. An address's distance from the first
//! boundary, shifted, is the index of a root array, which says at which boundary to begin. The last few steps halve what
//! is left: as many for every address, so that the program has no loop. Measured: a root takes 12 instructions, a step 3,
//! 4 to 6 for whole IPv6 addresses. Where boundaries are in clusters, most of the root is empty and the steps are many:
//! then the list is cut at its widest gap, and each part has a root of its own.

use super::Steps;
use crate::space::MAPPED;

/// A number for each address of a family.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The same for all.
    Constant(u32),
    /// Another table for addresses below this one: [`Key::word`], and what that leaves out.
    Split((u64, u64), Box<[Lookup; 2]>),
    /// Only addresses with this upper half are told apart, by a table of their lower halves. For those below, and those
    /// above.
    Lower(u64, [u32; 2], Box<Lookup>),
    /// A root and a search.
    Search(Search),
}

/// Of what boundaries are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// IPv4 addresses.
    Ipv4,
    /// Upper halves of IPv6 addresses, if all prefixes are /64 or shorter, or lower halves.
    Half,
    /// Whole IPv6 addresses.
    Whole,
}

/// A root and a search.
#[derive(Debug, Clone)]
pub struct Search {
    /// What is compared.
    pub key: Key,
    /// Below the first boundary, and behind the last one.
    pub outside: [u32; 2],
    /// The first boundary's word.
    pub first: u64,
    /// Words up to the last boundary's.
    pub span: u64,
    /// Words of an entry of the root are 2 to the power of this.
    pub shift: u32,
    /// The boundary that each entry begins at; without steps the number.
    pub root: Vec<u32>,
    /// The boundaries.
    pub keys: Vec<u128>,
    /// The number from each boundary on.
    pub values: Vec<u32>,
    /// Steps of the search.
    pub steps: u32,
}

/// Entries of a root are 2 to the power of this. At least 512 bytes, which spare a list of dozens most steps; at most
/// 1 MiB: 100,000 IPv4 prefixes of the routing table take 4 steps, of IPv6 7.
const ROOT_BITS: (u32, u32) = (9, 18);

/// Entries for each boundary that a root may have which spares the search.
const EXACT: usize = 8;

/// Bytes of keys in one search: with what a search may look at behind them they stay below 4 MiB, a section's limit.
const MOST_KEY_BYTES: usize = 2 << 20;

/// A list is cut up to so many times on the way to a boundary,
const MOST_CUTS: u32 = 3;

/// unless its search has so few steps,
const FEW_STEPS: u32 = 4;

/// or so few boundaries: cuts make more paths for the verifier, which follows the rest of a chain for each,
const LEAST: usize = 1_000;

/// or a cut saves less than so many: it executes 3 instructions.
const WORTH: u32 = 2;

impl Key {
    /// Bytes of a key.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Half => 8,
            Self::Whole => 16,
        }
    }

    /// The part of an address that the root is asked for, and that a search compares first.
    #[must_use]
    pub fn word(self, address: u128) -> u64 {
        match self {
            Self::Ipv4 | Self::Half => address as u64,
            Self::Whole => (address >> 64) as u64,
        }
    }

    /// What the word leaves out.
    fn low(self, address: u128) -> u64 {
        match self {
            Self::Ipv4 | Self::Half => 0,
            Self::Whole => address as u64,
        }
    }

    /// The first address with this word.
    fn address(self, word: u64) -> u128 {
        match self {
            Self::Ipv4 | Self::Half => word.into(),
            Self::Whole => u128::from(word) << 64,
        }
    }
}

/// Bytes of each of these numbers.
#[must_use]
pub fn width(values: &[u32]) -> usize {
    match values.iter().max() {
        Some(widest) if *widest > u32::from(u16::MAX) => 4,
        Some(widest) if *widest > u32::from(u8::MAX) => 2,
        _ => 1,
    }
}

/// The tables of the IPv4 addresses among these steps, and of all others.
pub(super) fn families(steps: &Steps) -> [Lookup; 2] {
    let at = |value: u128| steps.partition_point(|step| step.0 <= value) - 1;
    let (first, last) = (at(MAPPED.0), at(MAPPED.1));
    let mut v4 = vec![(0, steps[first].1)];
    v4.extend(steps[first + 1..=last].iter().map(|step| (step.0 - MAPPED.0, step.1)));
    // No IPv6 packet has a mapped address: what is before goes on until behind them.
    let mut v6: Steps = steps.iter().take_while(|step| step.0 < MAPPED.0).copied().collect();
    v6.push((MAPPED.1 + 1, steps[at(MAPPED.1 + 1)].1));
    v6.extend(steps.iter().filter(|step| step.0 > MAPPED.1 + 1));
    [(Key::Ipv4, v4), (Key::Whole, v6)].map(|(key, mut steps)| {
        steps.dedup_by_key(|step| step.1);
        lookup(key, &steps, MOST_CUTS)
    })
}

/// The table for steps of which neighbours differ.
fn lookup(key: Key, steps: &[(u128, u32)], cuts: u32) -> Lookup {
    if let [(_, only)] = steps {
        return Lookup::Constant(*only);
    }
    if key == Key::Whole && steps.iter().all(|step| step.0 as u64 == 0) {
        let halves: Steps = steps.iter().map(|step| (step.0 >> 64, step.1)).collect();
        return lookup(Key::Half, &halves, cuts);
    }
    if key == Key::Whole
        && let Some(lower) = lower(steps, cuts)
    {
        return lower;
    }
    let search = Search::new(key, steps);
    let is_too_large = search.reached() * key.bytes() > MOST_KEY_BYTES;
    let is_small = search.steps <= FEW_STEPS || steps.len() < LEAST;
    if !is_too_large && (is_small || cuts == 0) {
        return Lookup::Search(search);
    }
    // Behind the first boundary.
    let gap = |at: &usize| key.word(steps[*at].0) - key.word(steps[at - 1].0);
    let widest = (2..steps.len()).max_by_key(gap);
    let place = widest.filter(|_| !is_too_large).unwrap_or(steps.len() / 2);
    let (below, mut above) = (steps[..place].to_vec(), steps[place..].to_vec());
    let cut = (key.word(above[0].0), key.low(above[0].0));
    // Each part begins at 0, as the whole does.
    above[0].0 = 0;
    let parts = [below, above].map(|part| lookup(key, &part, cuts.saturating_sub(1)));
    match is_too_large || parts.iter().all(|part| part.steps() + WORTH <= search.steps) {
        true => Lookup::Split(cut, Box::new(parts)),
        false => Lookup::Search(search),
    }
}

/// The table for boundaries that all have the same upper half, or are the first address behind it.
fn lower(steps: &[(u128, u32)], cuts: u32) -> Option<Lookup> {
    let half = |step: &(u128, u32)| (step.0 >> 64) as u64;
    let upper = half(&steps[1]);
    let count = steps[1..].iter().take_while(|step| half(step) == upper).count();
    let (inside, behind) = steps[1..].split_at(count);
    let below = steps[0].1;
    let above = match behind {
        [] => inside[count - 1].1,
        [(start, number)] if *start == (u128::from(upper) + 1) << 64 => *number,
        _ => return None,
    };
    let mut halves = vec![(0, below)];
    halves.extend(inside.iter().map(|step| (u128::from(step.0 as u64), step.1)));
    if halves[1].0 == 0 {
        halves.remove(0);
    }
    Some(Lookup::Lower(upper, [below, above], Box::new(lookup(Key::Half, &halves, cuts))))
}

impl Lookup {
    /// The most steps of a search.
    fn steps(&self) -> u32 {
        match self {
            Self::Constant(_) => 0,
            Self::Lower(_, _, table) => table.steps(),
            Self::Split(_, parts) => parts.iter().map(Self::steps).fold(0, u32::max),
            Self::Search(search) => search.steps,
        }
    }
}

impl Search {
    /// The last steps may look at so many boundaries behind.
    #[must_use]
    pub fn behind(&self) -> usize {
        (1 << self.steps) - 1
    }

    /// Boundaries that a search can come to, as a power of two.
    #[must_use]
    pub fn reached(&self) -> usize {
        (self.keys.len() + self.behind()).next_power_of_two()
    }

    fn new(key: Key, steps: &[(u128, u32)]) -> Self {
        let last = steps.len() - 1;
        let word = |at: usize| key.word(steps[at].0);
        let first = word(1);
        let span = word(last) - first;
        let wanted = (steps.len() * 2).next_power_of_two().ilog2();
        let wanted = wanted.clamp(ROOT_BITS.0, ROOT_BITS.1);
        let mut shift = (64 - span.leading_zeros()).saturating_sub(wanted);
        // Where all boundaries are at the border of an entry, there is nothing to search.
        let borders = (1..=last).fold(span, |all, at| all | (word(at) - first));
        let exact = borders.trailing_zeros().min(63);
        if key != Key::Whole && span >> exact < (steps.len() * EXACT).max(1 << ROOT_BITS.0) as u64 {
            shift = exact;
        }
        let at = |value: u128| steps.partition_point(|step| step.0 <= value) - 1;
        let begin = |entry: u64| key.address(first + (entry << shift));
        let entries = span >> shift;
        let root: Vec<u32> = (0..=entries).map(|entry| at(begin(entry)) as u32).collect();
        // So many boundaries an entry may have to go on by: to the last one before the next entry.
        let end = |entry: u64| match entry == entries {
            true => last,
            false => at(begin(entry + 1) - 1),
        };
        let ways = (0..=entries).zip(&root).map(|(entry, from)| end(entry) - *from as usize);
        let most = ways.max().unwrap_or_else(|| unreachable!("a root has an entry"));
        let mut found = Self {
            key,
            outside: [steps[0].1, steps[last].1],
            first,
            span,
            shift,
            root,
            keys: steps.iter().map(|step| step.0).collect(),
            values: steps.iter().map(|step| step.1).collect(),
            steps: (most + 1).next_power_of_two().ilog2(),
        };
        if found.steps == 0 {
            // Each entry has its number.
            found.root = found.root.iter().map(|at| found.values[*at as usize]).collect();
            (found.keys, found.values) = (Vec::new(), Vec::new());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    /// What the program does.
    fn find(lookup: &Lookup, family: Key, address: u128) -> u32 {
        let search = match lookup {
            Lookup::Constant(only) => return *only,
            Lookup::Split(cut, parts) => {
                // The cut of a table of upper halves has no lower one.
                let place = ((address >> 64) as u64, address as u64);
                let place = if family == Key::Whole { place } else { (address as u64, 0) };
                return find(&parts[usize::from(place >= *cut)], family, address);
            }
            Lookup::Lower(upper, [below, above], table) => {
                return match ((address >> 64) as u64).cmp(upper) {
                    Ordering::Less => *below,
                    Ordering::Equal => find(table, Key::Half, u128::from(address as u64)),
                    Ordering::Greater => *above,
                };
            }
            Lookup::Search(search) => search,
        };
        let is_half = family == Key::Whole && search.key == Key::Half;
        let address = if is_half { address >> 64 } else { address };
        let word = search.key.word(address);
        if word < search.first {
            return search.outside[0];
        }
        if word - search.first > search.span {
            return search.outside[1];
        }
        let entry = search.root[((word - search.first) >> search.shift) as usize];
        if search.steps == 0 {
            return entry;
        }
        let mut at = entry as usize;
        for step in (0..search.steps).rev() {
            let probe = at + (1 << step);
            if search.keys.get(probe).is_some_and(|key| *key <= address) {
                at = probe;
            }
        }
        search.values[at]
    }

    /// Boundaries in heaps of all sizes, up to the last address. (Numbers of a linear congruential generator.)
    fn steps(seed: u64, count: usize, bits: u32) -> Steps {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            u128::from(state >> 3 ^ state >> 33) << 64 | u128::from(state.rotate_left(20))
        };
        let mask = u128::MAX >> (128 - bits);
        let mut starts = vec![0, mask];
        let mut heap = 0;
        for at in 0..count {
            if at % 50 == 0 {
                heap = next();
            }
            let start = heap ^ next() >> (next() % 128);
            // Many at the border of a half.
            starts.push(if at % 3 == 0 { start & (mask << (bits / 2)) } else { start } & mask);
        }
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().enumerate().map(|(at, start)| (start, at as u32 % 7_001)).collect()
    }

    #[test]
    fn every_address_finds_its_number() {
        for (seed, count) in [(1, 1), (2, 2), (3, 10), (4, 500), (5, 20_000), (6, 150_000)] {
            for (family, bits) in [(Key::Ipv4, 32), (Key::Whole, 128)] {
                let mut steps = steps(seed, count, bits);
                steps.dedup_by_key(|step| step.1);
                let lookup = lookup(family, &steps, MOST_CUTS);
                for (start, _) in steps.iter().step_by(1 + count / 20_000) {
                    for address in [
                        start.saturating_sub(1),
                        *start,
                        start + u128::from(*start < u128::MAX >> (128 - bits)),
                    ] {
                        let at = steps.partition_point(|step| step.0 <= address) - 1;
                        let found = find(&lookup, family, address);
                        assert_eq!(found, steps[at].1, "{address:x} of {seed}, {bits} bits");
                    }
                }
            }
        }
    }
}
