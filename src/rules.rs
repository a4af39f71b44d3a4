//! The rules inside this binary, and `set-rto rules` that prints them.

use crate::json::{self, Json};
use crate::output;
use std::process::ExitCode;

/// The build script generates this from the rules file (`bpf/src/constants.rs`).
mod constants {
    use super::{Column, Kernel};
    include!(concat!(env!("OUT_DIR"), "/policy.rs"));
}
pub(crate) use constants::{ASKS_FOR_ARRIVALS, ASKS_FOR_INTERFACE, EVIDENCE, HOSTS};
use constants::{COLUMNS, RULES, SETTINGS, TEXT};
pub(crate) use constants::{COUNT, DIGEST, INTERFACES, KERNELS, MEMBERS, NEEDS_PERFMON, VERSION};

/// What a rule sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// First retransmit timer in microseconds, 1 ms to 120 s; 0 if it is left to the kernel.
    pub(crate) rto_us: u64,
    /// A bit for each of the [`columns`].
    pub(crate) columns: u64,
    /// Microseconds, as the next one; 0 if it is not set.
    pub(crate) rto_min_us: u64,
    pub(crate) delack_max_us: u64,
    /// The bounds of a timer that is learned, in microseconds; 0 for others. `rto_us` is the first one.
    pub(crate) min_us: u64,
    pub(crate) max_us: u64,
}

impl Settings {
    /// True for `use = "kernel"`: nothing is set.
    pub(crate) fn exempts(&self) -> bool {
        self.rto_us == 0 && self.columns == 0
    }

    /// True if the timer is learned.
    pub(crate) fn learns(&self) -> bool {
        self.max_us > 0
    }
}

/// Something that rules set besides `rto`. A kernel may lack or refuse it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) key: &'static str,
    /// The algorithm of `congestion`, otherwise empty.
    pub(crate) algorithm: &'static str,
    /// The first kernel that supports it.
    pub(crate) since: &'static str,
    /// The kernel's name for it.
    pub(crate) option: &'static str,
    pub(crate) how: How,
}

/// How a setting is passed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the rules decide which of them are constructed")]
pub(crate) enum How {
    /// As the reply to a callback, which all kernels from 5.10 on support.
    Reply,
    /// As a socket option.
    Option,
    /// `tos`, which has two options, one for each address family.
    Tos,
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.algorithm {
            "" => f.write_str(self.key),
            algorithm => write!(f, "{} \"{algorithm}\"", self.key),
        }
    }
}

/// A kernel that was given at build time.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) releases: &'static [&'static str],
    /// Bytes of a pointer.
    pub(crate) pointer: u32,
    /// Of [`MEMBERS`].
    pub(crate) offsets: &'static [u32],
}

/// All columns, by their numbers.
pub(crate) fn columns() -> impl Iterator<Item = Column> {
    COLUMNS.iter().copied()
}

/// True if some rule sets more than `rto`.
pub(crate) fn has_columns() -> bool {
    !COLUMNS.is_empty()
}

/// The distinct settings.
pub(crate) fn settings() -> impl ExactSizeIterator<Item = Settings> {
    let one = |row: &[u64]| Settings {
        rto_us: row[0],
        columns: row[1],
        rto_min_us: row[2],
        delack_max_us: row[3],
        min_us: row[4],
        max_us: row[5],
    };
    SETTINGS.chunks_exact(8).map(one)
}

/// For each rule, the index of its [`settings`].
pub(crate) fn numbers() -> impl ExactSizeIterator<Item = usize> {
    RULES.chunks_exact(4).map(|row| row[0] as usize)
}

/// One rule, for display. The loader itself needs only [`settings`] and [`numbers`]: there may be many rules.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Its line in the rules file, from 1.
    pub(crate) line: u32,
    /// The conditions in the expression language.
    pub(crate) when: &'static str,
    pub(crate) settings: Settings,
    /// The settings as written in a rules file.
    pub(crate) text: &'static str,
    /// The same as a JSON object.
    json: &'static str,
}

impl Rule {
    /// `rto` in milliseconds, null if it is left to the kernel.
    pub(crate) fn rto_json(&self) -> Json {
        let us = Some(self.settings.rto_us).filter(|&us| us > 0);
        json::option(us, json::milliseconds)
    }

    /// The settings as a JSON object.
    pub(crate) fn settings_json(&self) -> Json {
        json::plain(self.json)
    }

    /// Name, conditions and settings, separated by tabs. None of them contains a tab.
    pub(crate) fn line_of_text(&self) -> String {
        format!("{}\t{}\t{}\n", self.name, self.when, self.text)
    }

    /// The columns that the rule sets.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (usize, Column)> {
        let bits = self.settings.columns;
        columns().enumerate().filter(move |(at, _)| bits >> at & 1 == 1)
    }
}

/// The rules in the order of the file.
pub(crate) fn all() -> impl Iterator<Item = Rule> {
    let mut start = 0;
    let mut text_to = move |end: usize| {
        let text = &TEXT[start..end];
        start = end;
        text
    };
    let ends = SETTINGS.chunks_exact(8).map(|row| [row[6] as usize, row[7] as usize]);
    let texts: Vec<_> = ends.map(|ends| ends.map(&mut text_to)).collect();
    let settings: Vec<_> = settings().zip(texts).collect();
    RULES.chunks_exact(4).map(move |row| {
        let (settings, [text, json]) = settings[row[0] as usize];
        let [name, when] = [row[2], row[3]].map(|end| text_to(end as usize));
        Rule { name, line: row[1], when, settings, text, json }
    })
}

/// The rules file and the files that it names, byte for byte: what the digest covers.
static SOURCE: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.toml"));

/// `set-rto rules`.
pub(crate) fn run(as_json: bool, as_source: bool) -> ExitCode {
    if as_source {
        output::write(&SOURCE);
    } else if as_json {
        let rules = all().map(|rule| {
            json::object(&[
                ("name", json::string(rule.name)),
                ("line", json::plain(rule.line)),
                ("when", json::string(rule.when)),
                ("rto_ms", rule.rto_json()),
                ("settings", rule.settings_json()),
            ])
        });
        let object = json::object(&[
            ("version", json::string(VERSION)),
            ("digest", json::string(DIGEST)),
            ("rules", json::list(rules)),
        ]);
        output::print(&object);
    } else {
        for rule in all() {
            output::print(&format_args!("{}: when {}, {}", rule.name, rule.when, rule.text));
        }
    }
    ExitCode::SUCCESS
}
