//! Conditions: a field and its values, as the value of a key or within an expression.

use super::list::Lists;
use super::values::{self, Problem};
use super::{Diagnostics, habits, wrong_type};
use crate::diag::{Diagnostic, Span};
use crate::field::{Field, Kind};
use crate::files::ListFile;
use crate::parse::Written;
use crate::rule::{Condition, Formula, Pattern, Test, describe};
use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use toml::de::DeValue;

/// The text of a value, with its position.
pub(super) struct Literal<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) place: Place,
}

/// A position in the rules file, or in a list file that is named there.
pub(super) struct Place {
    pub(super) span: Span,
    pub(super) file: Option<(Arc<ListFile>, Span)>,
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        Self { span, file: None }
    }
}

impl Place {
    pub(super) fn mistake(self, message: impl Into<String>) -> Diagnostic {
        Diagnostic { file: self.file, ..Diagnostic::new(message, self.span) }
    }
}

/// The condition of a key. Its value is one value of the field, or a list of them that is not empty.
pub(super) fn condition(
    field: &Field,
    value: &Written<'_>,
    lists: &Lists<'_>,
) -> Result<Condition, Diagnostics> {
    let literals = lists.literals(field.kind, value)?;
    let (text, formula) = is_one_of(field, literals, field.kind.values().help)?;
    Ok(Condition { span: value.span(), text, formula })
}

pub(super) fn literal<'v>(kind: Kind, value: &'v Written<'_>) -> Result<Literal<'v>, Diagnostic> {
    let values = kind.values();
    let text = match (kind, value.get_ref()) {
        (_, DeValue::String(text)) => Cow::Borrowed(&**text),
        (Kind::Port(_), DeValue::Integer(number)) => {
            match u16::from_str_radix(number.as_str(), number.radix()) {
                Ok(port) => port.to_string().into(),
                Err(_) => {
                    let message = format!("no such port: {number}");
                    return Err(Diagnostic::new(message, value.span()).help(values.help));
                }
            }
        }
        _ => return Err(wrong_type(value, values.mistyped, values.help)),
    };
    Ok(Literal { text, place: value.span().into() })
}

/// The condition that the field has one of these values, in the expression language and as a formula. `help` says how
/// such values are written.
pub(super) fn is_one_of<'t>(
    field: &Field,
    literals: impl IntoIterator<Item = Result<Literal<'t>, Diagnostic>>,
    help: &str,
) -> Result<(String, Formula), Diagnostics> {
    match field.kind {
        Kind::Interface => {
            let patterns = all(literals, help, interface, |_| None)?;
            Ok(one_of(field, &patterns, [Test::Interface(patterns.clone())]))
        }
        Kind::Port(ends) => {
            let ranges = all(literals, help, values::ports, habits::port)?;
            let tests = ends.iter().map(|end| Test::Port(*end, ranges.clone()));
            Ok(one_of(field, &ranges, tests))
        }
        Kind::Address(end) => {
            let prefixes = all(literals, help, values::prefix, habits::address)?;
            Ok(one_of(field, &prefixes, [Test::Address(end, prefixes.clone())]))
        }
        Kind::Family => {
            let families = all(literals, help, values::family, |_| None)?;
            Ok(one_of(field, &families, families.iter().copied().map(Test::Family)))
        }
        Kind::Direction => {
            let directions = all(literals, help, values::direction, |_| None)?;
            Ok(one_of(field, &directions, directions.iter().copied().map(Test::Direction)))
        }
    }
}

fn one_of(
    field: &Field,
    values: &[impl Display],
    tests: impl IntoIterator<Item = Test>,
) -> (String, Formula) {
    let tests = tests.into_iter().map(Formula::Test).collect();
    (describe(field.key, values), Formula::any(tests))
}

/// A pattern that is not another tool's.
fn interface(text: &str) -> Result<Pattern, Problem> {
    let pattern = values::pattern(text)?;
    match habits::interface(text) {
        Some((message, help)) => Err((message, Some(help))),
        None => Ok(pattern),
    }
}

/// The values of all literals, or every mistake in them. `meant` helps with other tools' forms.
fn all<'t, T>(
    literals: impl IntoIterator<Item = Result<Literal<'t>, Diagnostic>>,
    help: &str,
    parse: fn(&str) -> Result<T, Problem>,
    meant: fn(&str) -> Option<String>,
) -> Result<Vec<T>, Diagnostics> {
    let mut values = Vec::new();
    let mut mistakes = Vec::new();
    for literal in literals {
        let value = literal.and_then(|Literal { text, place }| {
            parse(&text).map_err(|(message, specific)| {
                let help = meant(&text).or(specific).unwrap_or_else(|| help.into());
                place.mistake(message).help(help)
            })
        });
        match value {
            Ok(value) => values.push(value),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}
