//! The rules inside this binary, and `set-rto rules` that prints them.

use crate::json;
use std::process::ExitCode;

/// SHA-256 of the rules file that this binary was built from.
pub(crate) const DIGEST: &str = env!("SET_RTO_DIGEST");

/// Written by the rule compiler: a line for each rule, parted by tabs.
const TABLE: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.tsv"));

/// One rule, as far as the loader has to know it.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Its line in the rules file, from 1.
    pub(crate) line: &'static str,
    /// First retransmit timer in microseconds, 1 ms to 120 s.
    pub(crate) rto_us: u64,
    /// The conditions in the expression language.
    pub(crate) when: &'static str,
}

impl Rule {
    /// True where the rule asks for a device: the field's name stands in no other place.
    pub(crate) fn asks_for_interface(&self) -> bool {
        self.when.contains("interface")
    }
}

/// The rules in the order of the file.
pub(crate) fn all() -> impl Iterator<Item = Rule> {
    TABLE.lines().map(|row| {
        let mut cells = row.splitn(4, '\t');
        let mut cell = || cells.next().unwrap_or_default();
        let (name, line, rto) = (cell(), cell(), cell());
        Rule { name, line, rto_us: rto.parse().unwrap_or_default(), when: cell() }
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
                ("rto_ms", json::milliseconds(rule.rto_us)),
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
                crate::timer::spell(rule.rto_us)
            ));
        }
    }
    ExitCode::SUCCESS
}
