//! Durations as values of keys: the type, the unit and the range.

use super::wrong_type;
use crate::ast::Value;
use crate::diag::Diagnostic;
use crate::duration::{parse, spell};
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// A duration in microseconds, within the range.
pub(super) fn microseconds(
    value: &Value<'_>,
    key: &str,
    range: &RangeInclusive<u64>,
) -> Result<u64, Diagnostic> {
    let span = || value.span.clone();
    let text = match &value.value {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            return Err(Diagnostic::new("a duration needs a unit", span())
                .label("a bare number")
                .help(format!("write `{key} = \"{number}s\"`; the units are us, ms, s and m")));
        }
        _ => {
            return Err(wrong_type(
                value,
                "a duration is a string",
                "a number and a unit: \"300ms\", \"1.5s\", \"2m\"",
            ));
        }
    };
    let us = parse(text).map_err(|help| {
        Diagnostic::new(format!("not a duration: \"{text}\""), span()).help(help)
    })?;
    if range.contains(&us) {
        Ok(us)
    } else {
        let (low, high) = (spell(*range.start()), spell(*range.end()));
        Err(Diagnostic::new(format!("`{key}` out of range: \"{text}\""), span())
            .help(format!("from {low} to {high}")))
    }
}
