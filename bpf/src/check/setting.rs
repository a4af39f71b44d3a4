//! The values of settings.

use super::{duration, wrong_type};
use crate::ast::Value as Written;
use crate::diag::Diagnostic;
use crate::duration::spell;
use crate::setting::{ALGORITHM_MAX, Form, Setting, Value};
use std::ops::RangeInclusive;
use toml::de::DeValue;

/// The value as passed to the kernel.
pub(super) fn value(setting: Setting, written: &Written<'_>) -> Result<Value, Diagnostic> {
    let spec = setting.spec();
    match &spec.form {
        Form::Duration(range, unit) => time(written, spec.key, range, *unit),
        Form::Number(range, of) => {
            let number = number(written, spec.key, range, of)?;
            if setting == Setting::Tos && number & 3 != 0 {
                return Err(Diagnostic::new("`tos` with bits of ECN", written.span.clone())
                    .label("the two lowest bits belong to ECN")
                    .help(format!(
                        "TCP sets them itself (RFC 3168): write `tos = {:#x}`",
                        number & !3
                    )));
            }
            Ok(Value::Number(number))
        }
        Form::True => match written.value {
            DeValue::Boolean(true) => Ok(Value::Number(1)),
            DeValue::Boolean(false) => Err(Diagnostic::new(
                format!("`{}` accepts only `true`", spec.key),
                written.span.clone(),
            )
            .help("leave the line out: the kernel decides what no rule sets")),
            _ => Err(wrong_type(
                written,
                &format!("`{}` accepts only `true`", spec.key),
                format!("write `{} = true`", spec.key),
            )),
        },
        Form::Algorithm => algorithm(written),
    }
}

fn time(
    written: &Written<'_>,
    key: &str,
    range: &RangeInclusive<u64>,
    unit: u64,
) -> Result<Value, Diagnostic> {
    let us = duration::microseconds(written, key, range)?;
    if !us.is_multiple_of(unit) {
        let unit = spell(unit);
        return Err(Diagnostic::new(
            format!("`{key}` is not a multiple of {unit}"),
            written.span.clone(),
        )
        .help(format!("the kernel counts it in steps of {unit}")));
    }
    Ok(Value::Number(u32::try_from(us / unit).unwrap_or(u32::MAX)))
}

fn number(
    written: &Written<'_>,
    key: &str,
    range: &RangeInclusive<u32>,
    of: &str,
) -> Result<u32, Diagnostic> {
    let (low, high) = (range.start(), range.end());
    let of = if of.is_empty() { String::new() } else { format!(" {of}") };
    let help = format!("a whole number from {low} to {high}{of}");
    let DeValue::Integer(integer) = &written.value else {
        return Err(wrong_type(written, &format!("`{key}` is a number"), help));
    };
    let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            Diagnostic::new(format!("`{key}` out of range"), written.span.clone()).help(help)
        })
}

fn algorithm(written: &Written<'_>) -> Result<Value, Diagnostic> {
    let help = "the name of an algorithm, at most 15 characters: \"cubic\", \"bbr\", \"reno\"";
    let DeValue::String(name) = &written.value else {
        return Err(wrong_type(written, "`congestion` is a string", help));
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || name.len() > ALGORITHM_MAX || !name.bytes().all(is_plain) {
        return Err(Diagnostic::new(
            format!("not the name of an algorithm: \"{name}\""),
            written.span.clone(),
        )
        .help(help));
    }
    Ok(Value::Name(name.to_string()))
}
