//! Tables of addresses: one root array, then a search.
//!
//! Sorted boundaries divide the addresses, and a number belongs to each part. An address's distance from the first
//! boundary, shifted, is the index of a root array, which says at which boundary to begin; the last few steps halve what
//! is left: as many for every address, so that the program has no loop. Measured: a root takes 12 instructions, a step 3,
//! 4 for whole IPv6 addresses. Where boundaries are in heaps, most of the root is empty and the steps are many: then the
//! list is cut at its widest gaps, each part with a root of its own.

use super::Steps;
use crate::space::MAPPED;

/// A number for each address of a family.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The same for all.
    Constant(u32),
    /// Another table for addresses of which the upper word is below this one.
    Split(u64, Box<[Lookup; 2]>),
    /// A root and a search.
    Search(Search),
}

/// Of what boundaries are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// IPv4 addresses.
    Ipv4,
    /// Upper halves of IPv6 addresses: all prefixes are /64 or shorter.
    Upper,
    /// Lower halves, of addresses with this upper one.
    Lower(u64),
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
    /// For [`Key::Lower`] behind all addresses with that upper half.
    pub above: u32,
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

/// Entries of a root are 2 to the power of this at most: 1 MiB. 100,000 IPv4 prefixes of the routing table take 4 steps,
/// of IPv6 7.
const MOST_ROOT_BITS: u32 = 18;

/// Bytes of keys in one search: with what a search may look at behind them they stay below 4 MiB, a section's limit.
const MOST_KEY_BYTES: usize = 2 << 20;

/// A list is cut up to so many times on the way to a boundary.
const MOST_CUTS: u32 = 3;

/// A search of so many steps is not worth a cut.
const FEW_STEPS: u32 = 4;

impl Key {
    /// Bytes of a key.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Upper | Self::Lower(_) => 8,
            Self::Whole => 16,
        }
    }

    /// The part of an address that the root is asked for.
    fn word(self, address: u128) -> u64 {
        match self {
            Self::Ipv4 | Self::Lower(_) => address as u64,
            Self::Upper | Self::Whole => (address >> 64) as u64,
        }
    }

    /// Instructions of a search.
    fn cost(self, steps: u32) -> u32 {
        steps * if self == Self::Whole { 4 } else { 3 } + steps.saturating_sub(1) / 5 * 3
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
        lookup(key, steps, MOST_CUTS)
    })
}

/// The best table for steps of which neighbours differ.
fn lookup(family: Key, steps: Steps, cuts: u32) -> Lookup {
    if let [(_, only)] = steps[..] {
        return Lookup::Constant(only);
    }
    let search = Search::new(key(family, &steps), &steps);
    let bytes = search.keys.len() * search.key.bytes();
    let is_too_large = bytes > MOST_KEY_BYTES;
    if !is_too_large && (search.steps <= FEW_STEPS || cuts == 0) {
        return Lookup::Search(search);
    }
    let word = |at: usize| search_word(family, steps[at].0);
    let gap = |at: &usize| word(*at) - word(at - 1);
    // Behind the first boundary; between two of one word there is no cut.
    let places = (2..steps.len()).filter(|at| gap(at) > 0);
    let place = match is_too_large {
        true => places.min_by_key(|at| at.abs_diff(steps.len() / 2)),
        false => places.max_by_key(gap),
    };
    let Some(place) = place else { return Lookup::Search(search) };
    let cut = word(place);
    let (below, above) = steps.split_at(place);
    // A boundary within the word at which it is cut comes later.
    let mut above = above.to_vec();
    if search_low(family, above[0].0) > 0 {
        above.insert(0, (u128::from(cut) << 64, below[below.len() - 1].1));
    }
    let parts = [below.to_vec(), above].map(|part| lookup(family, part, cuts.saturating_sub(1)));
    let cost = 3 + parts.each_ref().map(Lookup::cost).into_iter().max().unwrap_or(0);
    match is_too_large || cost + 2 < Lookup::Search(search.clone()).cost() {
        true => Lookup::Split(cut, Box::new(parts)),
        false => Lookup::Search(search),
    }
}

/// The word by which lists are cut, and what is below it.
fn search_word(family: Key, address: u128) -> u64 {
    family.word(address)
}

fn search_low(family: Key, address: u128) -> u64 {
    if family == Key::Ipv4 { 0 } else { address as u64 }
}

/// The least that must be compared.
fn key(family: Key, steps: &Steps) -> Key {
    let upper = |at: usize| (steps[at].0 >> 64) as u64;
    let low = |at: usize| steps[at].0 as u64;
    let last = steps.len() - 1;
    // The last boundary may be the first address behind.
    let is_behind = low(last) == 0 && last > 1 && upper(last).checked_sub(1) == Some(upper(1));
    let inside = if is_behind { last - 1 } else { last };
    match family {
        Key::Ipv4 => Key::Ipv4,
        _ if (1..=last).all(|at| low(at) == 0) => Key::Upper,
        _ if upper(1) == upper(inside) => Key::Lower(upper(1)),
        _ => Key::Whole,
    }
}

impl Lookup {
    /// Instructions on the longest way.
    fn cost(&self) -> u32 {
        match self {
            Self::Constant(_) => 1,
            Self::Split(_, parts) => 3 + parts[0].cost().max(parts[1].cost()),
            Self::Search(search) => {
                let upper = if matches!(search.key, Key::Lower(_)) { 3 } else { 0 };
                12 + upper + search.key.cost(search.steps)
            }
        }
    }
}

impl Search {
    fn new(key: Key, steps: &Steps) -> Self {
        let mut last = steps.len() - 1;
        let above = steps[last].1;
        if let Key::Lower(upper) = key
            && steps[last].0 >> 64 > u128::from(upper)
        {
            last -= 1;
        }
        let steps = &steps[..=last];
        let word = |at: usize| key.word(steps[at].0);
        let (first, end) = (word(1), word(last));
        let span = end - first;
        // Keys are few at first: all of a small table is in one page anyway.
        let wanted = (steps.len() * 2).next_power_of_two().ilog2().clamp(4, MOST_ROOT_BITS);
        let mut shift = (64 - span.leading_zeros()).saturating_sub(wanted);
        // Where all boundaries are at the border of an entry, there is nothing to search.
        let exact = (1..=last).map(|at| (word(at) - first).trailing_zeros()).min().unwrap_or(0);
        let is_exact =
            key != Key::Whole && span >> exact.min(63) < (steps.len() * 8).max(64) as u64;
        if is_exact {
            shift = exact.min(63);
        }
        let at = |low: u128| steps.partition_point(|step| step.0 <= low) - 1;
        let low = |entry: u64| match key {
            Key::Ipv4 => u128::from(first + (entry << shift)),
            Key::Lower(upper) => u128::from(upper) << 64 | u128::from(first + (entry << shift)),
            Key::Upper | Key::Whole => u128::from(first + (entry << shift)) << 64,
        };
        let entries = span >> shift;
        let root: Vec<u32> = (0..=entries).map(|entry| at(low(entry)) as u32).collect();
        // So many boundaries an entry may have to go on by: to the last one before the next entry.
        let end = |entry: u64| match entry == entries {
            true => last,
            false => at(low(entry + 1) - 1),
        };
        let ways = (0..=entries).zip(&root).map(|(entry, from)| end(entry) - *from as usize);
        let most = ways.max().unwrap_or_else(|| unreachable!("a root has an entry"));
        let mut found = Self {
            key,
            outside: [steps[0].1, steps[last].1],
            above,
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

    /// What the program does.
    fn find(lookup: &Lookup, family: Key, address: u128) -> u32 {
        let search = match lookup {
            Lookup::Constant(only) => return *only,
            Lookup::Split(cut, parts) => {
                let above = usize::from(family.word(address) >= *cut);
                return find(&parts[above], family, address);
            }
            Lookup::Search(search) => search,
        };
        if let Key::Lower(upper) = search.key
            && (address >> 64) as u64 != upper
        {
            return if address >> 64 > u128::from(upper) {
                search.above
            } else {
                search.outside[0]
            };
        }
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
                let lookup = lookup(family, steps.clone(), MOST_CUTS);
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

    #[test]
    fn hosts_of_one_network_need_the_lower_half() {
        let net = 0xfd00 << 112_u128;
        for end in [3, u128::from(u64::MAX) + 1] {
            let steps = vec![(0, 0), (net + 1, 1), (net + 2, 2), (net + end, 0)];
            let lookup = lookup(Key::Whole, steps, MOST_CUTS);
            assert!(matches!(&lookup, Lookup::Search(it) if matches!(it.key, Key::Lower(_))));
            for (address, value) in
                [(0, 0), (net, 0), (net + 1, 1), (net + end - 1, 2), (net + end, 0), (u128::MAX, 0)]
            {
                assert_eq!(find(&lookup, Key::Whole, address), value, "{address:x}");
            }
        }
    }
}
