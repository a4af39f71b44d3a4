//! The first pass: text → [`Document`]. It checks TOML's grammar and the file's outline: only `[[rule]]` is allowed.

use crate::ast::{Document, Entry, Table, Value};
use crate::diag::{Diagnostic, Source, Span, nearest};
use crate::limits::{Broken, measure};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Parses the text.
///
/// # Errors
/// Mistakes of TOML's grammar (all of them, or the first of very many), top-level keys other than `[[rule]]`, no rules
/// at all, and a file that is too large.
pub fn parse<'i>(source: &Source<'i>) -> Result<Document<'i>, Vec<Diagnostic>> {
    if let Some(broken) = measure(source).map_err(|error| vec![error])? {
        return Err(mistakes(source, broken));
    }
    let (root, errors) = DeTable::parse_recoverable(source.text);
    if !errors.is_empty() {
        return Err(errors.iter().map(|error| syntax(source, error)).collect());
    }
    let mut document = Document::default();
    let mut diagnostics = Vec::new();
    for (key, value) in root.into_inner() {
        match (key.get_ref().as_ref(), value) {
            ("rule", value) => rules(value, &mut document, &mut diagnostics),
            (other, _) => diagnostics.push(unknown(other, key.span())),
        }
    }
    if document.rules.is_empty() && diagnostics.is_empty() {
        let end = source.text.len();
        diagnostics.push(
            Diagnostic::new("no rules: the program would do nothing", end..end)
                .help("write at least one: [[rule]] with `name`, a condition and `rto`"),
        );
    }
    if diagnostics.is_empty() { Ok(document) } else { Err(diagnostics) }
}

/// The first mistakes: of the text up to where they end.
fn mistakes(source: &Source<'_>, broken: Broken) -> Vec<Diagnostic> {
    let Broken { end, told, rest } = broken;
    let text = source.text.get(..end).unwrap_or(source.text);
    let errors = DeTable::parse_recoverable(text).1;
    let mut diagnostics: Vec<_> = errors.iter().map(|error| syntax(source, error)).collect();
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    diagnostics.truncate(told);
    diagnostics.push(rest);
    diagnostics
}

fn unknown(key: &str, span: Span) -> Diagnostic {
    Diagnostic::new(format!("unknown key `{key}`"), span).help(match nearest(key, ["rule"]) {
        Some(_) => "did you mean `[[rule]]`?",
        None => "a rules file contains only `[[rule]]` tables",
    })
}

fn syntax(source: &Source<'_>, error: &toml::de::Error) -> Diagnostic {
    let end = source.text.len();
    let span = error.span().unwrap_or(end..end);
    let message = error.message().trim().replace('\n', ", ");
    Diagnostic::new(format!("not TOML: {message}"), span)
}

fn rules<'i>(
    value: Spanned<DeValue<'i>>,
    document: &mut Document<'i>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let span = value.span();
    let wrong = |span: Span| {
        Diagnostic::new("`rule` is not a list of tables", span)
            .help("each rule starts with `[[rule]]`, in double brackets")
    };
    let DeValue::Array(items) = value.into_inner() else {
        diagnostics.push(wrong(span));
        return;
    };
    for item in items {
        let span = item.span();
        match item.into_inner() {
            DeValue::Table(table) => document.rules.push(Table { span, entries: entries(table) }),
            _ => diagnostics.push(wrong(span)),
        }
    }
}

fn entries(table: DeTable<'_>) -> Vec<Entry<'_>> {
    table
        .into_iter()
        .map(|(key, value)| Entry {
            key_span: key.span(),
            key: key.into_inner().into_owned(),
            value: Value { span: value.span(), value: value.into_inner() },
        })
        .collect()
}
