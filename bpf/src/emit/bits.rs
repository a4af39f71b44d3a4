//! Rules as bits, see walk.h.

use super::table::Tables;
use super::walk::ANSWER;
use super::{line, ports, table};
use crate::plan::walk::{Axis, Bits, Block, Column, Walk};

/// A de Bruijn sequence. As in walk.h.
const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;

/// Where `first_bit` finds a bit.
fn place_of(bit: usize) -> usize {
    ((u64::MAX >> (63 - bit)).wrapping_mul(SEQUENCE) >> 58) as usize
}

/// Writes a function that finds the rule of the first bit; the call. `none` stands for no rule.
pub(super) fn emit(
    tables: &mut Tables,
    walk: &Walk,
    bits: &Bits,
    values: &[(Axis, String)],
    none: usize,
) -> String {
    let mut asked: Vec<Axis> =
        bits.blocks.iter().flat_map(|block| &block.columns).map(|column| column.axis).collect();
    asked.sort_unstable();
    asked.dedup();
    let argument = |axis: &Axis| {
        let value = values.iter().find(|(it, _)| it == axis);
        value.map_or("0", |(_, value)| value.as_str())
    };
    let arguments: Vec<_> = asked.iter().map(argument).collect();
    let name = tables.name("bits");
    let parameters: Vec<_> = (0..asked.len()).map(|at| format!("u64 value_{at}")).collect();
    let mut body = format!(
        "\nstatic __always_inline u64 {name}({})\n{{\n\tu64 left;\n\n",
        parameters.join(", ")
    );
    for (at, axis) in asked.iter().enumerate() {
        let count = walk.axes.get(axis).map_or(1, |scale| scale.count as usize);
        line(&mut body, format_args!("\tBOUND(value_{at}, {:#x});", table::mask(count)));
    }
    for block in &bits.blocks {
        self::block(&mut body, tables, walk, block, &asked);
    }
    line(&mut body, format_args!("\treturn ANSWER + {none};\n}}"));
    tables.text.push_str(&body);
    format!("{name}({})", arguments.join(", "))
}

fn block(body: &mut String, tables: &mut Tables, walk: &Walk, block: &Block, asked: &[Axis]) {
    let mut rows = Vec::new();
    body.push_str("\t{\n");
    for column in &block.columns {
        let count = walk.axes.get(&column.axis).map_or(1, |scale| scale.count as usize);
        let at = asked.binary_search(&column.axis).unwrap_or_default();
        let number = row_number(tables, column, count, &format!("value_{at}"));
        let name = tables.name("rows");
        // Rows begin at any word; behind the last there is room for one more.
        let mask = table::mask(column.rows.len() * block.words * 8);
        let words: Vec<u64> = column.rows.iter().flatten().copied().collect();
        tables.words(&name, mask / 8 + block.words, &words);
        let row = format!("row_{}", rows.len());
        line(body, format_args!("\t\tu64 {row} = {number} * {};", block.words * 8));
        rows.push((row, name, mask & !7));
    }
    let mut rules = vec![0; block.words * 64];
    for (at, rule) in block.rules.iter().enumerate() {
        rules[at / 64 * 64 + place_of(at % 64)] = (ANSWER + rule) as u32;
    }
    let rules = tables.array("rule_of", &rules);
    body.push('\n');
    for (row, _, mask) in &rows {
        line(body, format_args!("\t\tBOUND({row}, {mask:#x});"));
    }
    for word in 0..block.words {
        let parts: Vec<_> = rows
            .iter()
            .map(|(row, name, _)| format!("ROW_WORD({name}, {row}, {})", word * 8))
            .collect();
        line(body, format_args!("\t\tleft = {};", parts.join(" & ")));
        line(
            body,
            format_args!("\t\tif (left)\n\t\t\treturn {rules}[{} + first_bit(left)];", word * 64),
        );
    }
    body.push_str("\t}\n");
}

/// The row of a value of an axis.
fn row_number(tables: &mut Tables, column: &Column, count: usize, value: &str) -> String {
    if count == ports::PORTS {
        let starts = column.starts.iter().map(|(start, row)| (u128::from(*start), *row));
        return tables.by_port(value, starts.collect());
    }
    let mut all = vec![0; table::mask(count) + 1];
    for (at, (start, row)) in column.starts.iter().enumerate() {
        let end = column.starts.get(at + 1).map_or(count, |(next, _)| *next as usize);
        all[*start as usize..end].fill(*row);
    }
    let name = tables.name("row_of");
    table::array(&mut tables.text, "u16", &name, &all);
    format!("{name}[{value}]")
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_bit_has_a_place_of_its_own() {
        let places: std::collections::BTreeSet<_> = (0..64).map(super::place_of).collect();
        assert_eq!(places, (0..64).collect());
    }
}
