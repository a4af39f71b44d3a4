//! Tables of ports, no larger than what they hold: they are part of the binary, which a router has in its flash, and of
//! the kernel's locked memory.
//!
//! An array over all 65,536 ports is the quickest: one load, 4 or 5 instructions. Rules about some dozens of ports differ
//! at but a few places of it. So it is cut into pages, those that are alike are written once, and a directory tells the
//! page of a port: two loads, 13 or 14 instructions, 2 to 6 KiB instead of 64 to 256. (A search would halve what is left,
//! but take three instructions a step. The kernel gives a section whole pages of 4 KiB anyway.)

use super::line;
use super::table::{array, mask};
use std::collections::HashMap;

/// Ports that there are.
pub(super) const PORTS: usize = 1 << 16;

/// Pages are worth their second load where they take at most one part in so many of what the array does. Ten thousand
/// rules never do: they are 20,000 bytes of numbers that differ, 32 KiB as a power of two, and the directory.
const WORTH: usize = 4;

/// Ports of a page are 2 to the power of one of these.
const PAGE_BITS: std::ops::RangeInclusive<u32> = 2..=12;

/// An array in two steps.
#[derive(Debug, PartialEq, Eq)]
struct Paged {
    /// Ports of a page are 2 to the power of this.
    bits: u32,
    /// The number of the page, for each so many ports.
    directory: Vec<u32>,
    /// One after the other, up to a power of two.
    pages: Vec<u32>,
}

impl Paged {
    fn new(all: &[u32], bits: u32) -> Self {
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
        pages.resize(mask(pages.len()) + 1, 0);
        Self { bits, directory, pages }
    }

    fn bytes(&self) -> usize {
        bytes(&self.directory) + bytes(&self.pages)
    }
}

/// The narrowest type for the numbers, and what it takes.
fn kind(values: &[u32]) -> (&'static str, usize) {
    match values.iter().max() {
        Some(widest) if *widest > u32::from(u16::MAX) => ("u32", 4),
        Some(widest) if *widest > u32::from(u8::MAX) => ("u16", 2),
        _ => ("u8", 1),
    }
}

fn bytes(values: &[u32]) -> usize {
    values.len() * kind(values).1
}

/// The number for each port, by those from each first port on.
fn spread(values: &[(u128, u32)]) -> Vec<u32> {
    let mut all = vec![0; PORTS];
    for (at, (start, value)) in values.iter().enumerate() {
        let end = values.get(at + 1).map_or(PORTS, |(next, _)| *next as usize);
        all[*start as usize..end].fill(*value);
    }
    all
}

/// By pages, if that is worth it.
fn paged(all: &[u32]) -> Option<Paged> {
    // Of two sizes that take as much the larger one: its directory is the shorter.
    let least = PAGE_BITS.rev().map(|bits| Paged::new(all, bits)).min_by_key(Paged::bytes);
    least.filter(|paged| paged.bytes() * WORTH <= bytes(all))
}

/// Writes the table of `(first port, number)`: true for an array by that name, indexed by a port; else it is a function
/// of a port.
pub(super) fn write(out: &mut String, name: &str, values: &[(u128, u32)]) -> bool {
    let all = spread(values);
    let Some(paged) = paged(&all) else {
        array(out, kind(&all).0, name, &all);
        return true;
    };
    let Paged { bits, directory, pages } = &paged;
    array(out, kind(directory).0, &format!("{name}_page"), directory);
    array(out, kind(pages).0, &format!("{name}_ports"), pages);
    line(
        out,
        format_args!(
            "\n// Pages of {ports} ports, those that are alike once. In assembly, so that the mask comes last: Linux 5.10 does\n\
             // not see that two bounded numbers are bounded together.\n\
             static __always_inline u64 {name}(u64 port)\n{{\n\
             \tu64 page = {name}_page[port >> {bits} & {last_page:#x}];\n\
             \tu64 at = page << {bits} | (port & {last_port:#x});\n\n\
             \tasm(\"%0 &= %1\" : \"+r\"(at) : \"i\"({last:#x}));\n\
             \treturn {name}_ports[at];\n}}",
            ports = 1 << bits,
            last_page = directory.len() - 1,
            last_port = (1 << bits) - 1,
            last = pages.len() - 1,
        ),
    );
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the function does.
    fn find(paged: &Paged, port: usize) -> u32 {
        let Paged { bits, directory, pages } = paged;
        let page = directory[port >> bits & (directory.len() - 1)] as usize;
        pages[(page << bits | port & ((1 << bits) - 1)) & (pages.len() - 1)]
    }

    /// A number of its own for each of these ports, and 0 for all others.
    fn single(ports: impl IntoIterator<Item = u128>) -> Vec<(u128, u32)> {
        let mut values = vec![(0, 0)];
        for (number, port) in (1..).zip(ports) {
            values.retain(|(start, _)| *start != port);
            values.extend([(port, number), (port + 1, 0)]);
        }
        values.retain(|(start, _)| *start < PORTS as u128);
        values
    }

    fn holding(values: &[(u128, u32)], port: usize) -> u32 {
        values[values.partition_point(|(start, _)| *start <= port as u128) - 1].1
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
            single([80]),
            single(borders),
            single((0..300).map(|at| at * 211 + 5)),
            single((0..20_000).map(|at| at * 3)),
            // Numbers of each width, in ranges across the borders of pages.
            vec![(0, 255), (100, 256), (5_000, 0)],
            vec![(0, 7), (1_000, 0x100_0000), (1_001, 65_535), (65_535, 65_536)],
            (0..65_536).map(|port| (port, port as u32)).collect(),
        ];
        for values in &lists {
            let all = spread(values);
            assert_eq!(all.len(), PORTS);
            for bits in PAGE_BITS {
                let paged = Paged::new(&all, bits);
                for (port, number) in all.iter().enumerate() {
                    let expected = holding(values, port);
                    assert_eq!(*number, expected, "{port}");
                    assert_eq!(find(&paged, port), expected, "{port} in pages of {bits} bits");
                }
            }
        }
    }

    #[test]
    fn no_larger_than_what_it_holds() {
        let size = |values: &[(u128, u32)]| {
            let all = spread(values);
            paged(&all).map_or((bytes(&all), false), |paged| (paged.bytes(), true))
        };
        let some = |count: u128, apart: u128| single((0..count).map(|at| at * apart + 22));
        for (values, most) in [
            (single([65_535]), 768),
            (some(20, 3_001), 3 << 10),
            (some(40, 1_501), 4 << 10),
            (some(300, 201), 24 << 10),
            // In a heap.
            (some(200, 1), 1 << 10),
        ] {
            let (bytes, is_paged) = size(&values);
            assert!(is_paged && bytes <= most, "{bytes} bytes for {} ports", values.len() / 2);
        }
        // One load for ten thousand rules, wherever their ports are.
        for apart in [1, 2, 6] {
            assert_eq!(size(&some(10_000, apart)), (PORTS * 2, false), "{apart} apart");
        }
        let different: Vec<_> = (0..1 << 16).map(|port| (port, port as u32)).collect();
        assert_eq!(size(&different), (PORTS * 2, false));
        // As wide as the numbers.
        for (widest, expected) in [(255, "u8"), (256, "u16"), (65_535, "u16"), (65_536, "u32")] {
            assert_eq!(kind(&[widest, 0]).0, expected);
        }
    }
}
