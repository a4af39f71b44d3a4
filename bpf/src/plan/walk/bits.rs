//! Rules that no table parts well, as bits: for each value of an axis a row says which of the rules it may be, a bit for
//! each. The rows of a connection's values are anded word by word, and the first bit that is left is the rule. (The bit
//! vectors of T. V. Lakshman and D. Stiliadis, SIGCOMM 1998.)
//!
//! That costs the same however the rules overlap: a few instructions for 64 of them. But rows grow with the square of the
//! rules, so that many are cut into blocks with rows of their own.

use super::{Axes, Axis, Region};
use std::collections::{BTreeSet, HashMap};

/// All blocks, the earlier rules first.
#[derive(Debug, Default)]
pub struct Bits {
    /// Blocks.
    pub blocks: Vec<Block>,
    /// Instructions that a decision executes, about.
    pub cost: usize,
    /// Of all rows, and of the arrays that lead to them.
    pub bytes: usize,
}

/// Up to 64 rules for each word of a row.
#[derive(Debug)]
pub struct Block {
    /// The rule of each bit, ascending.
    pub rules: Vec<usize>,
    /// Words of a row.
    pub words: usize,
    /// What the rules of the block ask.
    pub columns: Vec<Column>,
}

/// An axis of a block.
#[derive(Debug)]
pub struct Column {
    /// Which.
    pub axis: Axis,
    /// From each first number on, ascending from 0, the row.
    pub starts: Vec<(u32, u32)>,
    /// A bit for each rule that does not exclude these numbers.
    pub rows: Vec<Vec<u64>>,
}

/// Words of a row, at most.
const MOST_WORDS: usize = 64;

/// Bytes of all rows of a stage, and of the arrays that lead to them.
pub(super) const MOST_BYTES: usize = 12 << 20;

/// Bytes of the rows of one column: below the 4 MiB that a map's value may have before Linux 5.19.
const MOST_ROWS: usize = 2 << 20;

/// Instructions to find a row, to and a word of it, and to find the rule of a bit.
const ROW_COST: usize = 7;
const WORD_COST: usize = 2;
const BIT_COST: usize = 12;

/// Columns that a block may have: rows that are anded at once.
const MOST_COLUMNS: usize = 8;

/// The cheapest in so many bytes, if it costs less than something else.
pub(super) fn bits(
    regions: &[Region],
    axes: &Axes,
    most_bytes: usize,
    other_cost: usize,
) -> Option<Bits> {
    let mut best: Option<(usize, usize, usize)> = None;
    let mut words = 1;
    while words <= MOST_WORDS {
        let found = cost(regions, axes, words).filter(|(_, bytes)| *bytes <= most_bytes);
        best = best.into_iter().chain(found.map(|(cost, bytes)| (cost, bytes, words))).min();
        words *= 2;
    }
    let (cost, bytes, words) = best.filter(|(cost, ..)| *cost < other_cost)?;
    let blocks = regions.chunks(words * 64).map(|regions| block(regions, axes)).collect();
    Some(Bits { blocks, cost, bytes })
}

fn asked(regions: &[Region]) -> BTreeSet<Axis> {
    regions.iter().flat_map(|region| &region.bounds).map(|(axis, _)| *axis).collect()
}

/// Instructions and bytes with rows of so many words, about; None where a column takes too many.
fn cost(regions: &[Region], axes: &Axes, words: usize) -> Option<(usize, usize)> {
    let (mut cost, mut bytes) = (BIT_COST, 0);
    for regions in regions.chunks(words * 64) {
        let asked = asked(regions);
        if asked.len() > MOST_COLUMNS {
            return None;
        }
        let words = regions.len().div_ceil(64);
        cost += asked.len() * ROW_COST + words * (asked.len() * WORD_COST + 1);
        for axis in asked {
            let count = axes.get(&axis)?.count as usize;
            let bounds = regions.iter().filter_map(|region| region.bound(axis));
            let ranges: usize = bounds.map(|ranges| ranges.len()).sum();
            let rows = count.min(2 * ranges + 1);
            let row_bytes = rows.next_power_of_two() * words * 8;
            // Their numbers have 16 bits.
            if rows > 1 << 16 || row_bytes > MOST_ROWS {
                return None;
            }
            bytes += row_bytes + 2 * count.next_power_of_two();
        }
    }
    Some((cost, bytes))
}

fn block(regions: &[Region], axes: &Axes) -> Block {
    let words = regions.len().div_ceil(64);
    let columns = asked(regions).into_iter().map(|axis| column(regions, axes, axis, words));
    Block {
        rules: regions.iter().map(|region| region.rule).collect(),
        words,
        columns: columns.collect(),
    }
}

fn column(regions: &[Region], axes: &Axes, axis: Axis, words: usize) -> Column {
    let count = axes.get(&axis).map_or(0, |scale| scale.count);
    let mut events: Vec<(u32, usize)> = Vec::new();
    let mut row = vec![0_u64; words];
    for (at, region) in regions.iter().enumerate() {
        match region.bound(axis) {
            Some(ranges) => {
                events.extend(ranges.iter().flat_map(|(low, high)| [(*low, at), (high + 1, at)]));
            }
            None => row[at / 64] |= 1 << (at % 64),
        }
    }
    events.sort_unstable();
    let mut column = Column { axis, starts: Vec::new(), rows: Vec::new() };
    let mut known: HashMap<Vec<u64>, u32> = HashMap::new();
    let mut events = events.into_iter().peekable();
    let mut start = 0;
    loop {
        // To be in a range and to leave it alternate.
        while let Some((_, at)) = events.next_if(|event| event.0 == start) {
            row[at / 64] ^= 1 << (at % 64);
        }
        let number = *known.entry(row.clone()).or_insert_with(|| {
            column.rows.push(row.clone());
            column.rows.len() as u32 - 1
        });
        if column.starts.last().is_none_or(|(_, last)| *last != number) {
            column.starts.push((start, number));
        }
        match events.peek() {
            Some((next, _)) if *next < count => start = *next,
            _ => return column,
        }
    }
}
