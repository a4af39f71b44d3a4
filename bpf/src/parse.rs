//! The first pass: text → [`Tables`]. It checks TOML's grammar and the file's outline: only `[[rule]]` is allowed.

use crate::diag::{Diagnostic, Source, Span, nearest};
use crate::limits::{MOST_MISTAKES, measure};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table for each `[[rule]]`, in the order of the file.
pub type Tables<'i> = Vec<Spanned<DeTable<'i>>>;

/// A value as written, with its position.
pub type Written<'i> = Spanned<DeValue<'i>>;

/// Parses the text.
///
/// # Errors
/// Mistakes of TOML's grammar (all of them, or the first of very many), top-level keys other than `[[rule]]`, a file
/// without rules, and a file that is too large.
pub fn parse<'i>(source: &Source<'i>) -> Result<Tables<'i>, Vec<Diagnostic>> {
    let broken = measure(source).map_err(|error| vec![error])?;
    let end = broken.as_ref().map_or(source.text.len(), |broken| broken.end);
    let (root, errors) = DeTable::parse_recoverable(&source.text[..end]);
    if !errors.is_empty() || broken.is_some() {
        let mut mistakes: Vec<_> = errors.iter().map(|error| syntax(source, error)).collect();
        if let Some(broken) = broken {
            mistakes.sort_by_key(|mistake| mistake.span.start);
            mistakes.truncate(MOST_MISTAKES);
            mistakes.push(broken.rest);
        }
        return Err(mistakes);
    }
    let mut tables = Vec::new();
    let mut diagnostics = Vec::new();
    for (key, value) in root.into_inner() {
        match (key.get_ref().as_ref(), value) {
            ("rule", value) => rules(value, &mut tables, &mut diagnostics),
            (other, _) => diagnostics.push(unknown(other, key.span())),
        }
    }
    if tables.is_empty() && diagnostics.is_empty() {
        let end = source.text.len();
        diagnostics.push(
            Diagnostic::new("no rules: the program would do nothing", end..end)
                .help("write at least one: [[rule]] with `name`, a condition and `rto`"),
        );
    }
    if diagnostics.is_empty() { Ok(tables) } else { Err(diagnostics) }
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

fn rules<'i>(value: Written<'i>, tables: &mut Tables<'i>, diagnostics: &mut Vec<Diagnostic>) {
    let mut wrong = |span: Span| {
        diagnostics.push(
            Diagnostic::new("`rule` is not a list of tables", span)
                .help("each rule starts with `[[rule]]`, in double brackets"),
        );
    };
    let span = value.span();
    let DeValue::Array(items) = value.into_inner() else { return wrong(span) };
    for item in items {
        let span = item.span();
        match item.into_inner() {
            DeValue::Table(table) => tables.push(Spanned::new(span, table)),
            _ => wrong(span),
        }
    }
}
