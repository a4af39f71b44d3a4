//! Reads the values of settings.

use super::{habits, learned, wrong_type};
use crate::diag::{Diagnostic, Span};
use crate::duration::{self, spell};
use crate::parse::Written;
use crate::setting::{ALGORITHM_MAX, Form, Setting, Value};
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// The value as passed to the kernel.
pub(super) fn value(setting: &Setting, written: &Written<'_>) -> Result<Value, Vec<Diagnostic>> {
    if let (Form::Timer(range), DeValue::Table(table)) = (&setting.form, written.get_ref()) {
        return learned::value(table, written, range).map(Value::Learned);
    }
    plain(setting, written).map_err(|error| vec![error])
}

fn plain(setting: &Setting, written: &Written<'_>) -> Result<Value, Diagnostic> {
    let key = setting.key;
    match &setting.form {
        Form::Timer(range) => time(written, key, range, 1).map(Value::Number),
        Form::Duration(range, unit) => time(written, key, range, *unit).map(Value::Number),
        Form::Number(range, of) => number(written, key, range, of).map(Value::Number),
        Form::Tos => tos(written, key).map(Value::Number),
        Form::True => {
            let message = format!("`{key}` accepts only `true`");
            match written.get_ref() {
                DeValue::Boolean(true) => Ok(Value::Number(1)),
                DeValue::Boolean(false) => Err(Diagnostic::new(message, written.span())
                    .help("leave the line out: the kernel decides what no rule sets")),
                _ => Err(wrong_type(written, message, format!("write `{key} = true`"))),
            }
        }
        Form::Algorithm => algorithm(written),
    }
}

/// A duration in the kernel's unit.
pub(super) fn time(
    written: &Written<'_>,
    key: &str,
    range: &RangeInclusive<u64>,
    unit: u64,
) -> Result<u32, Diagnostic> {
    let mistake = |message: String| Diagnostic::new(message, written.span());
    let text = match written.get_ref() {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            return Err(mistake("a duration needs a unit".into())
                .label("a bare number")
                .help(format!("write `{key} = \"{number}s\"`; {}", duration::UNITS_HELP)));
        }
        _ => return Err(wrong_type(written, "a duration is a string", duration::HELP)),
    };
    let us = duration::parse(text).map_err(|help| {
        let meant = habits::duration(text);
        mistake(format!("not a duration: \"{text}\"")).help(meant.unwrap_or(help))
    })?;
    if !range.contains(&us) {
        let help = format!("from {} to {}", spell(*range.start()), spell(*range.end()));
        return Err(mistake(format!("`{key}` out of range: \"{text}\"")).help(help));
    }
    if !us.is_multiple_of(unit) {
        let unit = spell(unit);
        return Err(mistake(format!("`{key}` is not a multiple of {unit}"))
            .help(format!("the kernel counts it in steps of {unit}")));
    }
    Ok(u32::try_from(us / unit)
        .unwrap_or_else(|_| unreachable!("the range of `{key}` fits in 32 bits")))
}

fn tos(written: &Written<'_>, key: &str) -> Result<u32, Diagnostic> {
    if let DeValue::String(name) = written.get_ref()
        && let Some(meant) = habits::tos(name)
    {
        return Err(wrong_type(written, "`tos` is a number", format!("write `tos = {meant}`")));
    }
    without_ecn(number(written, key, &(0..=255), "")?, written.span(), "=")
}

/// Refuses a value of `tos` that has bits of ECN. `equals` stands before the value.
pub(super) fn without_ecn(number: u32, span: Span, equals: &str) -> Result<u32, Diagnostic> {
    if number & 3 == 0 {
        return Ok(number);
    }
    let without = number & !3;
    let meant = match number {
        ..64 => {
            format!("`tos {equals} {without}`, or `tos {equals} {}` for DSCP {number}", number * 4)
        }
        _ => format!("`tos {equals} {without:#x}`"),
    };
    Err(Diagnostic::new("`tos` with bits of ECN", span)
        .label("the two lowest bits belong to ECN")
        .help(format!("TCP sets them itself (RFC 3168): write {meant}")))
}

pub(super) fn number(
    written: &Written<'_>,
    key: &str,
    range: &RangeInclusive<u32>,
    of: &str,
) -> Result<u32, Diagnostic> {
    let help = format!("a whole number from {} to {} {of}", range.start(), range.end());
    let help = help.trim_end();
    let DeValue::Integer(integer) = written.get_ref() else {
        return Err(wrong_type(written, format!("`{key}` is a number"), help));
    };
    // A number that does not fit here is out of range.
    let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| Diagnostic::new(format!("`{key}` out of range"), written.span()).help(help))
}

fn algorithm(written: &Written<'_>) -> Result<Value, Diagnostic> {
    let help = "the name of an algorithm, at most 15 characters: \"cubic\", \"bbr\", \"reno\"";
    let DeValue::String(name) = written.get_ref() else {
        return Err(wrong_type(written, "`congestion` is a string", help));
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > ALGORITHM_MAX || !name.bytes().all(is_plain) {
        let message = format!("not the name of an algorithm: \"{name}\"");
        return Err(Diagnostic::new(message, written.span()).help(help));
    }
    Ok(Value::Name(name.to_string()))
}
