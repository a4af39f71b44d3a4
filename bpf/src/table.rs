//! The rules as the loader has them inside: what it needs at every install in binary, the rest as text.

use crate::rule::Rule;
use crate::setting::{Column, Mechanism, Setting, Settings, Value};
use std::collections::HashMap;

/// The parts. Numbers are little-endian 32-bit words, whatever machine the loader is for.
///
/// Few sets of rules have as many different settings as rules: each distinct set of settings is stored once, and each
/// rule has the number of its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The distinct settings in the order of their first rules, [`WORDS`] words each.
    pub settings: Vec<u8>,
    /// For people: a line for each distinct set of settings, as one would write them.
    pub settings_text: String,
    /// For each rule the number of its settings, one word.
    pub rules: Vec<u8>,
    /// For people: a line for each rule, parted by tabs: name, line in the file, conditions.
    pub text: String,
    /// A line for each column, parted by tabs: key, algorithm, the first kernel, the option in the kernel's words.
    pub columns: String,
}

/// Words of one set of settings: `rto` in microseconds, 0 for none; the bits of its columns, the lower half first;
/// the smaller one of `rto_min` and `delack_max` in microseconds, 0 for neither: the kernel's tick may be too slow for it.
pub const WORDS: usize = 4;

fn words(settings: &Settings, columns: &[Column]) -> [u32; WORDS] {
    let bits = Column::bits(columns, settings);
    // Halves of 64 bits.
    let least = [Setting::RtoMin, Setting::DelackMax].into_iter();
    let least = least.filter_map(|it| settings.get(it)).map(Value::number).min();
    [
        settings.rto_us().unwrap_or_default(),
        bits as u32,
        (bits >> 32) as u32,
        least.unwrap_or_default(),
    ]
}

/// The table of these rules.
#[must_use]
pub fn table(rules: &[Rule], columns: &[Column]) -> Table {
    let mut table = Table::default();
    let mut numbers = HashMap::new();
    for rule in rules {
        let text = rule.settings.to_string();
        let next = numbers.len() as u32;
        let number = *numbers.entry(text).or_insert_with_key(|text| {
            let words = words(&rule.settings, columns);
            table.settings.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            table.settings_text.push_str(text);
            table.settings_text.push('\n');
            next
        });
        table.rules.extend(number.to_le_bytes());
        let Rule { name, line, .. } = rule;
        table.text.push_str(&format!("{name}\t{line}\t{}\n", rule.when()));
    }
    for column in columns {
        let spec = column.setting.spec();
        let option = match spec.mechanism {
            Mechanism::Option(_, option) => option,
            Mechanism::Reply(callback) => callback,
        };
        let Column { algorithm, .. } = column;
        let line = format!("{}\t{algorithm}\t{}\t{option}\n", spec.key, spec.since);
        table.columns.push_str(&line);
    }
    table
}

#[cfg(test)]
mod tests {

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
        assert_eq!(table.settings, words(&[1_000_000, 0, 0, 0, 20_000_000, 0, 0, 0]));
        assert_eq!(table.settings_text, "rto 1s\nrto 20s\n");
        assert_eq!(table.rules, words(&[0, 1, 0]));
        assert_eq!(table.text, "a\t1\tport == 1\nb\t5\tport == 2\nc\t9\tport == 3\n");
    }
}
