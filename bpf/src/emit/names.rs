//! Automata as data, see names.h.

use super::line;
use crate::space::automaton::{Automaton, END};
use std::fmt::LowerHex;

/// The declarations.
const HEADER: &str = include_str!("names.h");

/// `END_OF_NAME` in the header.
const END_OF_NAME: u32 = 0x4000_0000;

/// Writes the tables, and the function that walks through them: the lists that a name matches.
pub(super) fn emit(out: &mut String, automata: &[Automaton]) {
    out.push('\n');
    out.push_str(HEADER);
    let mut walks = Vec::new();
    for (at, automaton) in automata.iter().enumerate() {
        let name = format!("names_{at}");
        let Automaton { classes, width, entries, results } = automaton;
        // As bytes while four times a class is one, which saves a shift.
        let kind = if *width <= 64 { "u8" } else { "u16" };
        let classes: Vec<_> = classes.iter().map(|class| u32::from(*class) * 4).collect();
        array(out, kind, &format!("{name}_classes"), &classes, 256);
        let place = |entry: &u32| match entry.checked_sub(END) {
            Some(result) => END_OF_NAME + result * 8,
            None => entry * *width as u32 * 4,
        };
        let places: Vec<_> = entries.iter().map(place).collect();
        let size = entries.len().next_power_of_two();
        array(out, "u32", &format!("{name}_entries"), &places, size);
        let most = results.len().next_power_of_two();
        array(out, "u64", &format!("{name}_lists"), results, most);
        walks.push(format!(
            "*(const u64 *)((const void *){name}_lists + (WALK({name}, name, {}) & {}))",
            (size - 1) * 4,
            (most - 1) * 8,
        ));
    }
    out.push_str("\nstatic __always_inline u64 lists_of(const char *name)\n{\n");
    line(out, format_args!("\treturn {};\n}}", walks.join(" |\n\t       ")));
}

fn array<T: LowerHex>(out: &mut String, kind: &str, name: &str, values: &[T], size: usize) {
    line(out, format_args!("\nconst {kind} {name}[{size}] SEC(\".rodata.names\") = {{"));
    for row in values.chunks(16) {
        let row: Vec<_> = row.iter().map(|it| format!("{it:#x}")).collect();
        line(out, format_args!("{},", row.join(",")));
    }
    out.push_str("};\n");
}
