//! The rules inside this binary, and `set-rto rules` that prints them.

use crate::json::{self, Json};
use std::process::ExitCode;

/// SHA-256 of the rules file that this binary was built from.
pub(crate) const DIGEST: &str = env!("SET_RTO_DIGEST");

/// Written by the rule compiler (`bpf/src/table.rs`): the distinct settings, the number of its settings for each
/// rule, and what only people want to know.
static SETTINGS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/settings.bin"));
static NUMBERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin"));
static TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.tsv"));
static SETTINGS_TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/settings.tsv"));
static COLUMNS: &str = include_str!(concat!(env!("OUT_DIR"), "/columns.tsv"));

/// How many rules there are.
pub(crate) const COUNT: usize = NUMBERS.len() / 4;

/// What a rule sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// First retransmit timer in microseconds, 1 ms to 120 s; 0 where it is left to the kernel.
    pub(crate) rto_us: u64,
    /// A bit for each of the [`columns`].
    pub(crate) columns: u64,
    /// The smaller one of `rto_min` and `delack_max` in microseconds; 0 where neither is set.
    pub(crate) least_us: u64,
}

/// Words of one set of settings.
const WORDS: usize = 4;

/// Something that rules set besides `rto`: a kernel may lack it, or refuse it.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) key: &'static str,
    /// Of `congestion`, else empty.
    pub(crate) algorithm: &'static str,
    /// The first kernel that has it.
    pub(crate) since: &'static str,
    /// In the kernel's words.
    pub(crate) option: &'static str,
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.algorithm {
            "" => f.write_str(self.key),
            algorithm => write!(f, "{} \"{algorithm}\"", self.key),
        }
    }
}

/// All columns, by their numbers.
pub(crate) fn columns() -> impl Iterator<Item = Column> {
    COLUMNS.lines().map(|row| {
        let mut cells = row.split('\t');
        let mut cell = || cells.next().unwrap_or_default();
        Column { key: cell(), algorithm: cell(), since: cell(), option: cell() }
    })
}

/// True where some rule sets more than `rto`.
pub(crate) fn has_columns() -> bool {
    !COLUMNS.is_empty()
}

/// True where some rule asks for a device.
pub(crate) fn ask_for_interface() -> bool {
    env!("SET_RTO_INTERFACE") == "1"
}

/// True where some rule asks for the device of an incoming connection.
pub(crate) fn ask_for_arrivals() -> bool {
    env!("SET_RTO_ARRIVALS") == "1"
}

fn words(bytes: &'static [u8]) -> impl ExactSizeIterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// The distinct settings.
pub(crate) fn settings() -> impl ExactSizeIterator<Item = Settings> {
    SETTINGS.chunks_exact(4 * WORDS).map(|row| {
        let mut words = words(row).map(u64::from);
        let mut word = || words.next().unwrap_or_default();
        Settings { rto_us: word(), columns: word() | word() << 32, least_us: word() }
    })
}

/// For each rule, which of the [`settings`] are its own.
pub(crate) fn numbers() -> impl ExactSizeIterator<Item = usize> {
    words(NUMBERS).map(|number| number as usize)
}

/// One rule, for people. The loader itself needs [`settings`] and [`numbers`] only: there may be many rules.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Its line in the rules file, from 1.
    pub(crate) line: &'static str,
    /// The conditions in the expression language.
    pub(crate) when: &'static str,
    pub(crate) settings: Settings,
    /// The settings as one would write them.
    pub(crate) text: &'static str,
}

impl Rule {
    /// `rto` in milliseconds, null where it is left to the kernel.
    pub(crate) fn rto_json(&self) -> Json {
        let us = Some(self.settings.rto_us).filter(|&us| us > 0);
        json::option(us, json::milliseconds)
    }

    /// The columns that the rule sets.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (usize, Column)> {
        let bits = self.settings.columns;
        columns().enumerate().filter(move |(at, _)| bits >> at & 1 == 1)
    }
}

/// The rules in the order of the file.
pub(crate) fn all() -> impl Iterator<Item = Rule> {
    let distinct: Vec<_> = settings().zip(SETTINGS_TEXT.lines()).collect();
    TEXT.lines().zip(numbers()).filter_map(move |(row, number)| {
        let mut cells = row.splitn(3, '\t');
        let mut cell = || cells.next().unwrap_or_default();
        let (settings, text) = *distinct.get(number)?;
        Some(Rule { name: cell(), line: cell(), when: cell(), settings, text })
    })
}

/// `set-rto rules`.
pub(crate) fn run(as_json: bool) -> ExitCode {
    if as_json {
        let rules = all().map(|rule| {
            json::object(&[
                ("name", json::string(rule.name)),
                ("line", json::plain(rule.line)),
                ("when", json::string(rule.when)),
                ("rto_ms", rule.rto_json()),
                ("settings", json::string(rule.text)),
            ])
        });
        let object = json::object(&[
            ("version", json::string(env!("CARGO_PKG_VERSION"))),
            ("digest", json::string(DIGEST)),
            ("rules", json::list(rules)),
        ]);
        crate::print(&object);
    } else {
        for rule in all() {
            crate::print(&format_args!("{}: when {}, {}", rule.name, rule.when, rule.text));
        }
    }
    ExitCode::SUCCESS
}
