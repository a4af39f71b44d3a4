//! `[learn]` and `[evidence]`: what holds for all rules.

use super::setting::number;
use super::wrong_type;
use crate::diag::{Diagnostic, Span, nearest};
use crate::parse::Document;
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// Options of the whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many hosts are remembered.
    pub hosts: u32,
    /// The place of `[learn]`, if there is one.
    pub learn: Option<Span>,
    /// True where connections are counted and measured.
    pub evidence: bool,
}

/// The default of `hosts`.
const HOSTS: u32 = 4_096;

/// A host takes 104 bytes of memory: up to 109 MB.
pub const MOST_HOSTS: RangeInclusive<u32> = 256..=1_048_576;

/// Reads the tables.
pub(super) fn options(document: &Document<'_>, errors: &mut Vec<Diagnostic>) -> Options {
    let mut options = Options { hosts: HOSTS, learn: None, evidence: true };
    let tables = document.tables.iter().filter(|(name, _)| ["learn", "evidence"].contains(name));
    for (name, table) in tables {
        let is_learn = *name == "learn";
        if is_learn {
            options.learn = Some(table.span());
        }
        let known = if is_learn { "hosts" } else { "off" };
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("hosts", _) if is_learn => match number(value, "hosts", &MOST_HOSTS, "") {
                    Ok(hosts) => options.hosts = hosts,
                    Err(error) => errors.push(error),
                },
                ("off", DeValue::Boolean(off)) if !is_learn => options.evidence = !off,
                ("off", _) if !is_learn => {
                    let help = "write `off = true`, or leave the table out";
                    errors.push(wrong_type(value, "`off` is true or false", help));
                }
                (unknown, _) => {
                    let message = format!("unknown key `{unknown}` in `[{name}]`");
                    let error = Diagnostic::new(message, key.span());
                    errors.push(match nearest(unknown, [known]) {
                        Some(known) => error.help(format!("did you mean `{known}`?")),
                        None => error.help(format!("`[{name}]` has only `{known}`")),
                    });
                }
            }
        }
    }
    options
}
