//! The rules as the loader has them inside: what it needs at every install in binary, the rest as text.

use crate::rule::{Rule, Settings};
use std::collections::HashMap;

/// The three parts. Numbers are little-endian 32-bit words, whatever machine the loader is for.
///
/// Few sets of rules have as many different settings as rules: each distinct set of settings is stored once, and each
/// rule has the number of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// The distinct settings in the order of their first rules, [`COLUMNS`] words each.
    pub settings: Vec<u8>,
    /// For each rule the number of its settings, one word.
    pub rules: Vec<u8>,
    /// For people: a line for each rule, parted by tabs: name, line in the file, conditions.
    pub text: String,
}

/// Words of one set of settings: `rto` in microseconds.
pub const COLUMNS: usize = 1;

fn columns(settings: &Settings) -> [u32; COLUMNS] {
    let Settings { rto_us } = settings;
    // At most 120 s.
    [u32::try_from(*rto_us).unwrap_or(u32::MAX)]
}

/// The table of these rules.
#[must_use]
pub fn table(rules: &[Rule]) -> Table {
    let mut table = Table { settings: Vec::new(), rules: Vec::new(), text: String::new() };
    let mut numbers = HashMap::new();
    for rule in rules {
        let words = columns(&rule.settings);
        let next = numbers.len() as u32;
        let number = *numbers.entry(words).or_insert_with(|| {
            table.settings.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            next
        });
        table.rules.extend(number.to_le_bytes());
        let Rule { name, line, .. } = rule;
        table.text.push_str(&format!("{name}\t{line}\t{}\n", rule.when()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_settings_are_stored_once() {
        let text =
            [("a", 1, "1s"), ("b", 2, "20s"), ("c", 3, "1000ms")].map(|(name, port, rto)| {
                format!("[[rule]]\nname = \"{name}\"\nport = {port}\nrto = \"{rto}\"\n")
            });
        let text = text.concat();
        let source = crate::diag::Source { name: "rules.toml", text: &text };
        let policy = crate::compile(&source, "0").expect("good rules");
        let words = |numbers: &[u32]| -> Vec<u8> {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
        };
        let table = policy.table();
        assert_eq!(table.settings, words(&[1_000_000, 20_000_000]));
        assert_eq!(table.rules, words(&[0, 1, 0]));
        assert_eq!(table.text, "a\t1\tport == 1\nb\t5\tport == 2\nc\t9\tport == 3\n");
    }
}
