//! Automata as data. See names.h.

use super::writer::{Writer, hex};
use crate::space::interface::{Automaton, END};

/// `END_OF_NAME` of names.h.
const END_OF_NAME: u32 = 0x4000_0000;

/// For each automaton, writes its tables and the function that maps a name to a number.
pub(super) fn emit(out: &mut Writer, automata: &[(Automaton, Vec<u64>)]) {
    for (at, (automaton, numbers)) in automata.iter().enumerate() {
        let name = format!("names_{at}");
        let Automaton { bytes, width, entries, .. } = automaton;
        // The number is multiplied by four here, which saves a shift, as long as the product fits in a byte.
        let (kind, size) = if *width <= 64 { ("u8", 1) } else { ("u16", 2) };
        let groups: Vec<_> = bytes.iter().map(|group| u32::from(*group) * 4).collect();
        out.array(kind, size, &format!("{name}_groups"), 256, &groups, hex);
        let place = |entry: &u32| match entry.checked_sub(END) {
            Some(class) => END_OF_NAME + class * 8,
            None => entry * *width as u32 * 4,
        };
        let places: Vec<_> = entries.iter().map(place).collect();
        let size = entries.len().next_power_of_two();
        out.array("u32", 4, &format!("{name}_entries"), size, &places, hex);
        let most = numbers.len().next_power_of_two();
        out.words(&format!("{name}_numbers"), most, numbers);
        out.function(format_args!("static __always_inline u64 {name}(const char *name)"));
        out.line(format_args!(
            "return *(const u64 *)((const void *){name}_numbers + (WALK({name}, name, {}) & {}));",
            (size - 1) * 4,
            (most - 1) * 8,
        ));
        out.close("}");
    }
}
