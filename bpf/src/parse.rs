//! The first pass: text → [`Document`]. It checks TOML's grammar and the file's outline: `[[rule]]`, `[learn]` and
//! `[evidence]` are allowed.

use crate::diag::{Diagnostic, Source, Span, nearest};
use crate::limits::{MOST_MISTAKES, measure};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table as written, and its place.
pub type Table<'i> = Spanned<DeTable<'i>>;

/// A file.
#[derive(Debug, Default)]
pub struct Document<'i> {
    /// A table for each `[[rule]]`, in the order of the file.
    pub rules: Vec<Table<'i>>,
    /// `[learn]` and `[evidence]`, with their names.
    pub tables: Vec<(&'static str, Table<'i>)>,
}

/// A value as written, with its position.
pub type Written<'i> = Spanned<DeValue<'i>>;

/// Parses the text.
///
/// # Errors
/// Mistakes of TOML's grammar (all of them, or the first of very many), top-level keys other than `[[rule]]`, a file
/// without rules, and a file that is too large.
pub fn parse<'i>(source: &Source<'i>) -> Result<Document<'i>, Vec<Diagnostic>> {
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
    let mut document = Document::default();
    let mut diagnostics = Vec::new();
    for (key, value) in root.into_inner() {
        match (key.get_ref().as_ref(), value) {
            ("rule", value) => rules(value, &mut document.rules, &mut diagnostics),
            ("learn", value) => table("learn", value, &mut document, &mut diagnostics),
            ("evidence", value) => table("evidence", value, &mut document, &mut diagnostics),
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

fn unknown(key: &str, span: Span) -> Diagnostic {
    let error = Diagnostic::new(format!("unknown key `{key}`"), span);
    match nearest(key, ["rule", "learn", "evidence"]) {
        Some("rule") => error.help("did you mean `[[rule]]`?"),
        Some(name) => error.help(format!("did you mean `[{name}]`?")),
        None => error.help("a rules file contains only `[[rule]]`, `[learn]` and `[evidence]`"),
    }
}

fn table<'i>(
    name: &'static str,
    value: Written<'i>,
    document: &mut Document<'i>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => document.tables.push((name, Spanned::new(span, table))),
        _ => diagnostics.push(
            Diagnostic::new(format!("`{name}` is not a table"), span)
                .help(format!("write `[{name}]`, in single brackets, and its key below")),
        ),
    }
}

fn syntax(source: &Source<'_>, error: &toml::de::Error) -> Diagnostic {
    let end = source.text.len();
    let span = error.span().unwrap_or(end..end);
    let message = error.message().trim().replace('\n', ", ");
    Diagnostic::new(format!("not TOML: {message}"), span)
}

fn rules<'i>(value: Written<'i>, rules: &mut Vec<Table<'i>>, diagnostics: &mut Vec<Diagnostic>) {
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
            DeValue::Table(table) => rules.push(Spanned::new(span, table)),
            _ => wrong(span),
        }
    }
}
