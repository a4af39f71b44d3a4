//! The policy inside the loader: one Rust file of constants. The loader declares the types `Column`, `How` and `Kernel`
//! where it includes that file (src/rules.rs).
//!
//! There may be 65,536 rules. rustc takes a second for as many structures and 16 seconds for as many strings, and the
//! loader would have to relocate each string when it starts. So the rules are one array of numbers and one string.

use crate::Policy;
use crate::setting::{Column, Form, How, Learned, Mechanism, Setting, Settings, Value};
use crate::structures::MEMBERS;
use std::collections::HashMap;
use std::fmt::Write as _;

/// A kernel without type information of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its releases, as `uname -r` prints them.
    pub releases: Vec<String>,
    /// Bytes of a pointer.
    pub pointer: u32,
    /// The offsets of [`MEMBERS`].
    pub offsets: Vec<u32>,
}

impl Policy {
    /// The text of the file. `version` is the compiler's.
    #[must_use]
    pub fn constants(&self, version: &str, kernels: &[Kernel]) -> String {
        let Self { digest, asks_for_interface, needs_arrivals, needs_perfmon, .. } = self;
        let (count, interfaces) = (self.rules.len(), &self.interfaces);
        let (evidence, hosts) = (self.evidence.numbers(), self.hosts);
        let columns = lines(&self.columns, column);
        let kernels = lines(kernels, |Kernel { releases, pointer, offsets }| {
            format!(
                "Kernel {{ releases: &{releases:?}, pointer: {pointer}, offsets: &{offsets:?} }}"
            )
        });
        let members = if *asks_for_interface { MEMBERS } else { &[] };
        let members = lines(members, |(_, paths)| format!("&{paths:?}"));
        let mut out = format!(
            "/// The version of set-rto.
pub(crate) const VERSION: &str = {version:?};
/// SHA-256 of the rules file.
pub(crate) const DIGEST: &str = {digest:?};
/// The number of rules.
pub(crate) const COUNT: usize = {count};
/// True if a rule tests an interface.
pub(crate) const ASKS_FOR_INTERFACE: bool = {asks_for_interface};
/// True if a rule tests the interface of incoming connections.
pub(crate) const ASKS_FOR_ARRIVALS: bool = {needs_arrivals};
/// True if the program needs CAP_PERFMON, however interfaces are found.
pub(crate) const NEEDS_PERFMON: bool = {needs_perfmon};
/// Counters of a rule's evidence in each direction; 0 if there is none.
pub(crate) const EVIDENCE: usize = {evidence};
/// How many hosts are remembered; None if no rule learns.
pub(crate) const HOSTS: Option<u32> = {hosts:?};
/// All names and patterns of interfaces, sorted.
pub(crate) const INTERFACES: &[&str] = &{interfaces:?};
/// Settings besides `rto`, by their bits.
pub(crate) const COLUMNS: &[Column] = {columns};
/// What the program reads of the kernel's structures: paths to each member.
pub(crate) const MEMBERS: &[&[&str]] = {members};
/// The kernels that were given at build time.
pub(crate) const KERNELS: &[Kernel] = {kernels};
"
        );
        self.rules(&mut out);
        out
    }

    /// The rules and their distinct settings, which are usually far fewer than the rules.
    fn rules(&self, out: &mut String) {
        let mut numbers = HashMap::new();
        let (mut settings, mut rules, mut text) = (Vec::new(), Vec::new(), String::new());
        for rule in &self.rules {
            let spelled = rule.settings.to_string();
            let new = numbers.len() as u64;
            let number = *numbers.entry(spelled).or_insert_with_key(|spelled| {
                settings.extend(words(&rule.settings, &self.columns));
                text.push_str(spelled);
                settings.push(text.len() as u64);
                text.push_str(&json(&rule.settings));
                settings.push(text.len() as u64);
                new
            });
            rules.push((rule, number));
        }
        let mut words = Vec::with_capacity(rules.len() * 4);
        for (rule, number) in rules {
            text.push_str(&rule.name);
            let name = text.len() as u64;
            text.push_str(&rule.when());
            words.extend([number, rule.line as u64, name, text.len() as u64]);
        }
        let what = "For each distinct set of settings: `rto` in microseconds, 0 for the kernel's; the bits of its \
                    columns; `rto_min` and `delack_max` in microseconds, 0 for the kernel's; the \
                    bounds of a timer that is learned in microseconds, 0 for others; where its text ends, and \
                    where the same as JSON ends.";
        numbers_of(out, what, ("SETTINGS", "u64", 8), &settings);
        let what = "For each rule: the number of its settings, its line in the file, where its name ends, where its \
                    conditions end.";
        numbers_of(out, what, ("RULES", "u32", 4), &words);
        let what = "The texts of all settings, then name and conditions of each rule.";
        let _ = writeln!(out, "/// {what}\npub(crate) static TEXT: &str = {text:?};");
    }
}

/// An array of numbers, so many in a row. It is a static, so that it is in memory once.
fn numbers_of(
    out: &mut String,
    what: &str,
    (name, kind, row): (&str, &str, usize),
    numbers: &[u64],
) {
    let count = numbers.len();
    let _ = write!(out, "/// {what}\npub(crate) static {name}: [{kind}; {count}] = [");
    for row in numbers.chunks(row) {
        let row: Vec<_> = row.iter().map(u64::to_string).collect();
        let _ = write!(out, "\n    {},", row.join(", "));
    }
    out.push_str("\n];\n");
}

/// An array with one item on each line.
fn lines<T>(items: &[T], spell: impl Fn(&T) -> String) -> String {
    let lines: String = items.iter().map(|item| format!("\n    {},", spell(item))).collect();
    format!("&[{lines}\n]")
}

fn column(Column { setting, algorithm }: &Column) -> String {
    let how = match &setting.mechanism {
        // One option for each family; the socket's addresses decide which.
        Mechanism::Option(option) if option.how == How::Tos => "Tos",
        Mechanism::Option(_) => "Option",
        Mechanism::Reply(_) => "Reply",
    };
    let (key, since, option) = (setting.key, setting.since, setting.constant());
    format!(
        "Column {{ key: {key:?}, algorithm: {algorithm:?}, since: {since:?}, option: {option:?}, \
         how: super::How::{how} }}"
    )
}

/// The settings as a JSON object. Durations are in milliseconds.
fn json(settings: &Settings) -> String {
    let ms = |us: u64| match (us / 1_000, us % 1_000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    };
    let entries = settings.iter().map(|(Setting { key, form, .. }, value)| match (form, value) {
        (Form::Duration(_, unit), Value::Number(number)) => {
            format!("\"{key}_ms\":{}", ms(u64::from(*number) * unit))
        }
        (Form::Timer(_), Value::Number(us)) => format!("\"{key}_ms\":{}", ms((*us).into())),
        (Form::True, _) => format!("\"{key}\":true"),
        (_, Value::Number(number)) => format!("\"{key}\":{number}"),
        // Of characters that JSON has no escapes for.
        (_, Value::Name(name)) => format!("\"{key}\":\"{name}\""),
        (_, Value::Learned(Learned { start, min, max })) => {
            let [start, min, max] = [start, min, max].map(|us| ms((*us).into()));
            format!(
                "\"{key}\":{{\"learn\":true,\"start_ms\":{start},\"min_ms\":{min},\"max_ms\":{max}}}"
            )
        }
    });
    format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
}

/// `rto`, columns, the settings for which the kernel's tick may be too slow, and the bounds of a timer that is learned.
fn words(settings: &Settings, columns: &[Column]) -> [u64; 6] {
    let number = |key| settings.number(key).unwrap_or_default().into();
    [
        settings.rto_us().unwrap_or_default().into(),
        Column::bits(columns, settings),
        number("rto_min"),
        number("delack_max"),
        settings.learned().map_or(0, |it| it.min.into()),
        settings.learned().map_or(0, |it| it.max.into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constants(text: &str, kernels: &[Kernel]) -> String {
        let source = crate::diag::Source { name: "rules.toml", text };
        crate::compile(&source, "1.2.3").expect("good rules").constants("1.2.3", kernels)
    }

    #[test]
    fn same_settings_are_stored_once() {
        let text =
            [("a", 1, "1s"), ("b", 2, "20s"), ("c", 3, "1000ms")].map(|(name, port, rto)| {
                format!("[[rule]]\nname = \"{name}\"\nport = {port}\nrto = \"{rto}\"\n")
            });
        let said = constants(&text.concat(), &[]);
        for expected in [
            "const VERSION: &str = \"1.2.3\";\n",
            "const COUNT: usize = 3;\n",
            "const ASKS_FOR_INTERFACE: bool = false;\n",
            "const COLUMNS: &[Column] = &[\n];\n",
            "static SETTINGS: [u64; 16] = [\n    1000000, 0, 0, 0, 0, 0, 6, 21,\n    20000000, 0, 0, 0, 0, 0, 28, 44,\n];\n",
            "static RULES: [u32; 12] = [\n    0, 1, 45, 54,\n    1, 5, 55, 64,\n    0, 9, 65, 74,\n];\n",
            "static TEXT: &str = \"rto 1s{\\\"rto_ms\\\":1000}rto 20s{\\\"rto_ms\\\":20000}aport == 1bport == 2cport == 3\";\n",
        ] {
            assert!(said.contains(expected), "no {expected} in\n{said}");
        }
    }

    #[test]
    fn columns_and_kernels_are_structures() {
        let text = "[[rule]]\nname = \"a\"\ninterface = \"ax*\"\nrto_min = \"20ms\"\nmark = 7\n";
        let kernel = Kernel { releases: vec!["6.1.0".into()], pointer: 4, offsets: vec![0, 7] };
        let said = constants(text, &[kernel]);
        for expected in [
            "const ASKS_FOR_INTERFACE: bool = true;\n",
            "const ASKS_FOR_ARRIVALS: bool = true;\n",
            "const INTERFACES: &[&str] = &[\"ax*\"];\n",
            "Column { key: \"mark\", algorithm: \"\", since: ",
            "Kernel { releases: &[\"6.1.0\"], pointer: 4, offsets: &[0, 7] },\n",
            "    &[\"net.ns.inum\"],\n",
            "\n    0, 3, 20000, 0, ",
        ] {
            assert!(said.contains(expected), "no {expected} in\n{said}");
        }
    }
}
