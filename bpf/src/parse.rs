//! The first pass: text → [`Document`]. It checks TOML's grammar and the file's outline: `[[rule]]`, `[lists]`,
//! `[code]`, `[learn]` and `[evidence]` are allowed.

use crate::diag::{Diagnostic, Source, Span, lines, nearest};
use crate::limits::{MOST_MISTAKES, measure};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table as written, with its position.
pub type Table<'i> = Spanned<DeTable<'i>>;

/// A file.
#[derive(Debug, Default)]
pub struct Document<'i> {
    /// A table for each `[[rule]]`, in the order of the file.
    pub rules: Vec<Table<'i>>,
    /// The other tables, with their names: `[lists]`, `[code]`, `[learn]` and `[evidence]`.
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
        let mut mistakes = grammar(source, &errors);
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
            ("code", value) => table("code", value, &mut document, &mut diagnostics),
            ("lists", value) => table("lists", value, &mut document, &mut diagnostics),
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
    match nearest(key, ["rule", "lists", "code", "learn", "evidence"]) {
        Some("rule") => error.help("did you mean `[[rule]]`?"),
        Some(name) => error.help(format!("did you mean `[{name}]`?")),
        None => error.help(
            "a rules file contains only `[[rule]]`, `[lists]`, `[code]`, `[learn]` and `[evidence]`",
        ),
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
                .help(format!("write `[{name}]`, in single brackets, and its keys below")),
        ),
    }
}

/// The mistakes of grammar. One that is explained takes the place of what else is wrong in its line.
fn grammar(source: &Source<'_>, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut explained = single_brackets(source, errors);
    let is_single = !explained.is_empty();
    let mut mistakes = Vec::new();
    for error in errors {
        let mistake = syntax(source, error);
        // In a repeated `[rule]` each key is a duplicate.
        if is_single && mistake.message.contains("duplicate key") {
            continue;
        }
        match quotes(source, &mistake.span) {
            Some(better) => explained.push(better),
            None => mistakes.push(mistake),
        }
    }
    explained.dedup_by_key(|mistake| mistake.span.clone());
    let is_other = |mistake: &Diagnostic| {
        let at = mistake.span.start;
        explained.iter().all(|it| !lines(source.text, it.span.clone()).contains(&at))
    };
    mistakes.retain(is_other);
    mistakes.append(&mut explained);
    mistakes
}

/// `[rule]` lines, if a key is a duplicate because of them.
fn single_brackets(source: &Source<'_>, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    if !errors.iter().any(|error| error.message().contains("duplicate key")) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut start = 0;
    for line in source.text.split_inclusive('\n') {
        if line.trim_end() == "[rule]" && found.len() < MOST_MISTAKES {
            found.push(single(start..start + "[rule]".len()));
        }
        start += line.len();
    }
    found
}

fn single(span: Span) -> Diagnostic {
    Diagnostic::new("`rule` is not a list of tables", span)
        .help("each rule starts with `[[rule]]`, in double brackets")
}

/// A value without quotes or with curly ones, if that is what is wrong at this position.
fn quotes(source: &Source<'_>, span: &Span) -> Option<Diagnostic> {
    const MOST: usize = 200;
    let line = lines(source.text, span.start..span.start);
    let text = source.text.get(line.clone()).filter(|text| text.len() <= MOST)?;
    let (key, value) = text.split_once('=')?;
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = key.trim();
    if name.is_empty() || !name.chars().all(is_bare) {
        return None;
    }
    let is_curly = |c: char| "“”„‟‘’‚‛«»".contains(c);
    let start = line.start + key.len() + 1 + (value.len() - value.trim_start().len());
    let written = value.trim();
    let span = start..start + written.len();
    if written.contains(is_curly) {
        let straight = written.replace(is_curly, "\"");
        return Some(
            Diagnostic::new("curly quotes", span).help(format!("write `{name} = {straight}`")),
        );
    }
    let written = written.split(" #").next().unwrap_or_default().trim_end();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.:/-%*?+@".contains(c);
    let is_unquoted = !written.is_empty() && written.chars().all(is_word);
    let meant = match written.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => "true".to_owned(),
        _ => format!("\"{written}\""),
    };
    is_unquoted.then(|| {
        Diagnostic::new("a word without quotes", start..start + written.len())
            .help(format!("write `{name} = {meant}`"))
    })
}

fn syntax(source: &Source<'_>, error: &toml::de::Error) -> Diagnostic {
    let end = source.text.len();
    let span = error.span().unwrap_or(end..end);
    let message = error.message().trim().replace('\n', ", ");
    Diagnostic::new(format!("not TOML: {message}"), span)
}

fn rules<'i>(value: Written<'i>, rules: &mut Vec<Table<'i>>, diagnostics: &mut Vec<Diagnostic>) {
    let mut wrong = |span: Span| diagnostics.push(single(span));
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
