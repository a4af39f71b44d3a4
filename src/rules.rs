//! The rules inside this binary, and `set-rto rules` that prints them.

use crate::json;
use std::process::ExitCode;

/// SHA-256 of the rules file that this binary was built from.
pub(crate) const DIGEST: &str = env!("SET_RTO_DIGEST");

/// Written by the rule compiler (`bpf/src/table.rs`): the distinct settings, the number of its settings for each
/// rule, and what only people want to know.
static SETTINGS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/settings.bin"));
static NUMBERS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin"));
static TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.tsv"));

/// How many rules there are.
pub(crate) const COUNT: usize = NUMBERS.len() / 4;

/// What a rule sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// First retransmit timer in microseconds, 1 ms to 120 s.
    pub(crate) rto_us: u64,
}

/// Words of one set of settings.
const COLUMNS: usize = 1;

fn words(bytes: &'static [u8]) -> impl ExactSizeIterator<Item = u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// The distinct settings.
pub(crate) fn settings() -> impl ExactSizeIterator<Item = Settings> {
    SETTINGS.chunks_exact(4 * COLUMNS).map(|row| {
        let mut columns = words(row);
        let mut column = || columns.next().unwrap_or_default();
        Settings { rto_us: column().into() }
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
}

impl Rule {
    /// True where the rule asks for a device: the field's name stands in no other place.
    pub(crate) fn asks_for_interface(&self) -> bool {
        self.when.contains("interface")
    }
}

/// The rules in the order of the file.
pub(crate) fn all() -> impl Iterator<Item = Rule> {
    let distinct: Vec<_> = settings().collect();
    TEXT.lines().zip(numbers()).filter_map(move |(row, number)| {
        let mut cells = row.splitn(3, '\t');
        let mut cell = || cells.next().unwrap_or_default();
        Some(Rule { name: cell(), line: cell(), when: cell(), settings: *distinct.get(number)? })
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
                ("rto_ms", json::milliseconds(rule.settings.rto_us)),
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
            crate::print(&format_args!(
                "{}: when {}, rto {}",
                rule.name,
                rule.when,
                crate::timer::spell(rule.settings.rto_us)
            ));
        }
    }
    ExitCode::SUCCESS
}
