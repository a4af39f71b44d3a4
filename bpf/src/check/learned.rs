//! `rto = { learn = true, … }`: a timer that is learned.

use super::setting::time;
use super::wrong_type;
use crate::diag::{Diagnostic, nearest};
use crate::duration::spell;
use crate::parse::Written;
use crate::setting::Learned;
use std::ops::RangeInclusive;
use toml::de::{DeTable, DeValue};

/// The keys of the table.
pub const KEYS: [&str; 4] = ["learn", "start", "min", "max"];

/// Defaults of [`Learned`], microseconds. As Linux does: no timer is shorter unless the rule says so (RFC 6298, 2.1).
const START_US: u32 = 1_000_000;
const MIN_US: u32 = 1_000_000;
/// RFC 6298, 2.5.
const MAX_US: u32 = 60_000_000;

const HELP: &str =
    "write `rto = { learn = true }`, with `start`, `min` and `max` as needed: `start = \"20s\"`";

/// The timer, or every mistake. `range`: of each bound, microseconds.
pub(super) fn value(
    table: &DeTable<'_>,
    written: &Written<'_>,
    range: &RangeInclusive<u64>,
) -> Result<Learned, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut has_learn = false;
    let mut bounds = [None, None, None];
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match (KEYS.iter().position(|known| *known == name), value.get_ref()) {
            (Some(0), DeValue::Boolean(true)) => has_learn = true,
            (Some(0), DeValue::Boolean(false)) => {
                has_learn = true;
                errors.push(
                    Diagnostic::new("`learn` accepts only `true`", value.span())
                        .help("for a timer that does not change, write `rto = \"20s\"`"),
                );
            }
            (Some(0), _) => {
                has_learn = true;
                errors.push(wrong_type(value, "`learn` accepts only `true`", HELP));
            }
            (Some(at), _) => match time(value, name, range, 1) {
                Ok(us) => bounds[at - 1] = Some((us, value.span())),
                Err(error) => errors.push(error),
            },
            (None, _) => {
                let error = Diagnostic::new(format!("unknown key `{name}`"), key.span());
                errors.push(match nearest(name, KEYS) {
                    Some(known) => error.help(format!("did you mean `{known}`?")),
                    None => error.help(HELP),
                });
            }
        }
    }
    if !has_learn {
        errors.push(
            Diagnostic::new("`rto` is a table without `learn = true`", written.span()).help(HELP),
        );
    }
    if errors.is_empty() {
        within(bounds, written).map_err(|error| vec![error])
    } else {
        Err(errors)
    }
}

/// The bounds in their order: `start`, `min` and `max` where they are given, with their places.
fn within(
    bounds: [Option<(u32, crate::diag::Span)>; 3],
    written: &Written<'_>,
) -> Result<Learned, Diagnostic> {
    let [start, min, max] = bounds;
    let us = |bound: &Option<(u32, _)>, default| bound.as_ref().map_or(default, |(us, _)| *us);
    let (low, high) = (us(&min, MIN_US), us(&max, MAX_US));
    let place = |bound: Option<(u32, crate::diag::Span)>| bound.map_or(written.span(), |it| it.1);
    let said = |us: u32, is_default: bool| {
        let note = if is_default { " (the default)" } else { "" };
        format!("{}{note}", spell(us.into()))
    };
    let (low_said, high_said) = (said(low, min.is_none()), said(high, max.is_none()));
    if low > high {
        let message = format!("`min` {low_said} is above `max` {high_said}");
        return Err(Diagnostic::new(message, place(max.or(min)))
            .help("the learned timer stays between the two"));
    }
    let first = us(&start, START_US.clamp(low, high));
    if !(low..=high).contains(&first) {
        let message = format!("`start` is not between `min` {low_said} and `max` {high_said}");
        return Err(Diagnostic::new(message, place(start))
            .help("`start` is the timer of the first connection: change it, or the bound"));
    }
    Ok(Learned { start: first, min: low, max: high })
}
