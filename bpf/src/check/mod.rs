//! The second pass: tables of TOML → [`Rule`]s. It checks types and ranges, and reports every mistake.

mod condition;
mod expr;
pub mod learned;
pub mod options;
mod setting;
mod values;

use crate::diag::{Diagnostic, Source, Span, nearest};
use crate::field::{Field, keys};
use crate::limits::MOST_ITEMS;
use crate::parse::{Document, Table, Written};
use crate::rule::{Condition, Rule};
use crate::setting::{Setting, Settings};
use options::Options;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use toml::Spanned;
use toml::de::DeValue;

/// The longest rule name, in bytes.
pub const NAME_MAX: usize = 63;

type Diagnostics = Vec<Diagnostic>;

/// Checks everything: the rules without a mistake, the options of the file, and every mistake.
#[must_use]
pub fn check(source: &Source<'_>, document: &Document<'_>) -> (Vec<Rule>, Options, Diagnostics) {
    let mut diagnostics = Vec::new();
    let options = options::options(document, &mut diagnostics);
    let mut rules = Vec::new();
    let mut names: HashMap<String, Span> = HashMap::new();
    let mut items = 0;
    let (mut offset, mut line) = (0, 1);
    for table in &document.rules {
        // Counting from the top for each rule would take too long.
        let passed = source.text.as_bytes().get(offset..table.span().start);
        let passed = passed.unwrap_or_else(|| unreachable!("an array of tables ascends"));
        line += passed.iter().filter(|&&byte| byte == b'\n').count();
        offset = table.span().start;
        let (checked, name) = check_rule(source, table, line);
        if let Some((name, span)) = name {
            match names.entry(name) {
                Entry::Occupied(first) => diagnostics.push(
                    Diagnostic::new(format!("two rules named `{}`", first.key()), span)
                        .other(first.get().clone(), "the first")
                        .help("give each rule its own name"),
                ),
                Entry::Vacant(place) => {
                    place.insert(span);
                }
            }
        }
        match checked {
            Ok(rule) => {
                items += rule.conditions.iter().map(|it| it.formula.items()).sum::<usize>();
                if items > MOST_ITEMS {
                    // All later rules would repeat this report.
                    diagnostics.push(
                        Diagnostic::new(format!("more than {MOST_ITEMS} list items"), rule.span)
                            .label("up to this rule")
                            .help("use prefixes, ranges and globs"),
                    );
                    break;
                }
                rules.push(rule);
            }
            Err(mut errors) => diagnostics.append(&mut errors),
        }
    }
    (rules, options, diagnostics)
}

/// The rule, and its name with the name's position. The name may be valid while something else is wrong.
fn check_rule(
    source: &Source<'_>,
    table: &Table<'_>,
    line: usize,
) -> (Result<Rule, Diagnostics>, Option<(String, Span)>) {
    let mut diagnostics = Vec::new();
    let mut name = None;
    let mut conditions: Vec<Condition> = Vec::new();
    let mut settings = Settings::default();
    // A name or a setting with a mistake is not also reported as missing.
    let (mut has_name, mut has_setting) = (false, false);
    for (key, value) in table.get_ref() {
        let condition = match key.get_ref().as_ref() {
            "name" => {
                has_name = true;
                match check_name(value) {
                    Ok(text) => name = Some((text, value.span())),
                    Err(error) => diagnostics.push(error),
                }
                continue;
            }
            "when" => expr::condition(source, value),
            other => match (Field::named(other), Setting::named(other)) {
                (Some(field), _) => condition::condition(field, value),
                (None, Some(setting)) => {
                    has_setting = true;
                    match setting::value(setting, value) {
                        Ok(value) => settings.set(setting, value),
                        Err(mut errors) => diagnostics.append(&mut errors),
                    }
                    continue;
                }
                (None, None) => Err(vec![unknown_key(key)]),
            },
        };
        match condition {
            Ok(condition) => conditions.push(condition),
            Err(mut errors) => diagnostics.append(&mut errors),
        }
    }
    let span = table.span();
    if !has_name {
        diagnostics.push(
            Diagnostic::new("this rule has no name", span.clone())
                .help("add a line such as `name = \"lora\"`"),
        );
    }
    if !has_setting {
        diagnostics.push(
            Diagnostic::new("this rule sets nothing", span.clone())
                .help("add a line such as `rto = \"20s\"`"),
        );
    }
    let rule = match &name {
        Some((name, _)) if diagnostics.is_empty() => {
            Ok(Rule { name: name.clone(), line, span, conditions, settings })
        }
        _ => Err(diagnostics),
    };
    (rule, name)
}

fn unknown_key(key: &Spanned<Cow<'_, str>>) -> Diagnostic {
    let error = Diagnostic::new(format!("unknown key `{}`", key.get_ref()), key.span());
    let known: Vec<_> = keys().map(|(key, _)| key).collect();
    if learned::KEYS.contains(&key.get_ref().as_ref()) {
        return error.help("it belongs to `rto`: `rto = { learn = true }`");
    }
    match nearest(key.get_ref(), known.iter().copied()) {
        Some(known) => error.help(format!("did you mean `{known}`?")),
        None => error.help(format!("a rule may have: {}", known.join(", "))),
    }
}

fn check_name(value: &Written<'_>) -> Result<String, Diagnostic> {
    let help = "a name is `[a-z0-9][a-z0-9_-]*`, at most 63 characters";
    let DeValue::String(text) = value.get_ref() else {
        return Err(wrong_type(value, "a name is a string", help));
    };
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.len() <= NAME_MAX
        && text.bytes().next().is_some_and(lower)
        && text.bytes().all(|byte| lower(byte) || byte == b'_' || byte == b'-');
    if fits {
        Ok(text.to_string())
    } else {
        Err(Diagnostic::new("not a rule name", value.span()).help(help))
    }
}

fn wrong_type(
    value: &Written<'_>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Diagnostic {
    let kind = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Diagnostic::new(message, value.span()).label(format!("this is {kind}")).help(help)
}
