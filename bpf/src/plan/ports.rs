//! Tables of ports, kept small: they take space in the binary, which may be in a router's flash, and in the kernel's
//! locked memory.
//!
//! An array over all 65,536 ports is the fastest: one load, 4 or 5 instructions. With rules for a few dozen ports most
//! of it is uniform. So it is cut into pages, equal pages are stored once, and a directory maps a port to its page.
//! That takes two loads, 13 or 14 instructions, and 2 to 6 KiB instead of 64 to 256.

use super::Steps;
use std::collections::HashMap;

/// The number of ports.
const PORTS: usize = 1 << 16;

/// Pages are used if they take at most this fraction (1/4) of the array: they cost a second load. Ten thousand rules
/// never do: they are 20,000 bytes of numbers that differ, 32 KiB as a power of two, and the directory.
const WORTH: usize = 4;

/// Ports of a page are 2 to the power of one of these.
const PAGE_BITS: std::ops::RangeInclusive<u32> = 2..=12;

/// A number for each port: an array in two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTable {
    /// Ports of a page are 2 to the power of this; 16 for one page, without a directory.
    pub bits: u32,
    /// The number of the page, for each so many ports.
    pub directory: Vec<u32>,
    /// One after the other, up to a power of two.
    pub pages: Vec<u32>,
}

impl PortTable {
    pub(super) fn new(steps: &Steps) -> Self {
        let mut all = vec![0; PORTS];
        for (at, (start, value)) in steps.iter().enumerate() {
            let end = steps.get(at + 1).map_or(PORTS, |(next, _)| *next as usize);
            all[*start as usize..end].fill(*value);
        }
        let direct = Self { bits: 16, directory: Vec::new(), pages: all };
        // Of two sizes that take as much the larger one: its directory is the shorter.
        let sizes = PAGE_BITS.rev().map(|bits| Self::paged(&direct.pages, bits));
        let least = sizes.min_by_key(Self::bytes);
        least.filter(|paged| paged.bytes() * WORTH <= direct.bytes()).unwrap_or(direct)
    }

    fn paged(all: &[u32], bits: u32) -> Self {
        let mut known: HashMap<&[u32], u32> = HashMap::new();
        let (mut directory, mut pages) = (Vec::new(), Vec::new());
        for page in all.chunks(1 << bits) {
            let next = known.len() as u32;
            let number = *known.entry(page).or_insert_with(|| {
                pages.extend_from_slice(page);
                next
            });
            directory.push(number);
        }
        pages.resize(pages.len().next_power_of_two(), 0);
        Self { bits, directory, pages }
    }

    fn bytes(&self) -> usize {
        [&self.directory, &self.pages].iter().map(|it| it.len() * super::search::width(it)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program does.
    fn find(table: &PortTable, port: usize) -> u32 {
        let PortTable { bits, directory, pages } = table;
        let page = directory.get(port >> bits).map_or(0, |page| *page as usize);
        pages[page << bits | port & ((1 << bits) - 1)]
    }

    /// A number of its own for each of these ports, and 0 for all others.
    fn single(ports: impl IntoIterator<Item = u128>) -> Steps {
        let mut values = vec![(0, 0)];
        for (number, port) in (1..).zip(ports) {
            values.retain(|(start, _)| *start != port);
            values.extend([(port, number), (port + 1, 0)]);
        }
        values.retain(|(start, _)| *start < PORTS as u128);
        values
    }

    #[test]
    fn every_port_finds_its_number() {
        let borders = (2..=12).flat_map(|bits| [(1 << bits) - 1, 1 << bits, 3 << bits]);
        let mut borders: Vec<u128> = borders.chain([0, 65_534, 65_535]).collect();
        borders.sort_unstable();
        borders.dedup();
        let lists = [
            single([0]),
            single([65_535]),
            single(borders),
            single((0..300).map(|at| at * 211 + 5)),
            single((0..20_000).map(|at| at * 3)),
            // Numbers of each width, in ranges across the borders of pages.
            vec![(0, 255), (100, 256), (5_000, 0)],
            vec![(0, 7), (1_000, 0x100_0000), (1_001, 65_535), (65_535, 65_536)],
            (0..65_536).map(|port| (port, port as u32)).collect(),
        ];
        for values in &lists {
            let table = PortTable::new(values);
            for port in 0..PORTS {
                let at = values.partition_point(|(start, _)| *start <= port as u128) - 1;
                assert_eq!(find(&table, port), values[at].1, "{port}");
            }
        }
    }

    #[test]
    fn no_larger_than_what_it_holds() {
        let some = |count: u128, apart: u128| single((0..count).map(|at| at * apart + 22));
        for (values, most) in [
            (single([65_535]), 768),
            (some(20, 3_001), 3 << 10),
            (some(40, 1_501), 4 << 10),
            (some(300, 201), 24 << 10),
            (some(200, 1), 1 << 10),
        ] {
            let bytes = PortTable::new(&values).bytes();
            assert!(bytes <= most, "{bytes} bytes for {} ports", values.len() / 2);
        }
        // One load for ten thousand rules, wherever their ports are.
        for apart in [1, 2, 6] {
            assert_eq!(PortTable::new(&some(10_000, apart)).bits, 16);
        }
    }
}
