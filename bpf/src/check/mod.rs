//! The second pass: tables of TOML → [`Rule`]s. It checks types and ranges, and reports every mistake.

mod code;
mod condition;
mod expr;
mod habits;
pub mod learned;
mod list;
mod longest;
pub mod options;
mod setting;
mod values;

use crate::diag::{Diagnostic, Source, Span, nearest};
use crate::field::{Field, MATCH, TEST, USE, keys};
use crate::files::{Code, Files};
use crate::limits::MOST_ITEMS;
use crate::parse::{Document, Table, Written};
use crate::rule::{Condition, Rule};
use crate::setting::{Setting, Settings};
use list::Lists;
use options::Options;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use toml::Spanned;
use toml::de::DeValue;

/// The longest rule name, in bytes.
pub const NAME_MAX: usize = 63;

type Diagnostics = Vec<Diagnostic>;

/// Everything that a file says.
pub(crate) struct Checked<'t> {
    /// The rules without a mistake.
    pub(crate) rules: Vec<Rule>,
    /// The options of the file.
    pub(crate) options: Options,
    /// Every mistake.
    pub(crate) mistakes: Diagnostics,
    /// Notes on what is written and not used.
    pub(crate) notes: Diagnostics,
    /// The files that it names.
    pub(crate) files: Files<'t>,
    /// The functions that rules name.
    pub(crate) code: Option<Code>,
}

/// Checks everything.
#[must_use]
pub(crate) fn check<'t>(
    source: &Source<'_>,
    document: &'t Document<'t>,
    files: Files<'t>,
) -> Checked<'t> {
    let mut diagnostics = Vec::new();
    let options = options::options(document, &mut diagnostics);
    let functions = code::file(document, &files, &mut diagnostics);
    let lists = Lists::new(document, files, functions);
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
        let (checked, name) = check_rule(source, table, line, &lists);
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
    // With a mistake elsewhere, rules are missing.
    if diagnostics.is_empty() {
        divide(document, &mut rules, &mut diagnostics);
        if !diagnostics.is_empty() {
            // Undivided rules would be reported as unreachable.
            rules.clear();
        }
    }
    let notes = lists.unused();
    let (files, code) = lists.files();
    Checked { rules, options, mistakes: diagnostics, notes, files, code }
}

/// Divides the addresses of rules with `match = "longest"` that follow each other.
fn divide(document: &Document<'_>, rules: &mut [Rule], diagnostics: &mut Diagnostics) {
    let span = |table: &Table<'_>| Some(table.get_ref().get(MATCH.0)?.span());
    let spans: Vec<Option<Span>> = document.rules.iter().map(span).collect();
    let mut start = 0;
    for group in spans.chunk_by(|one, other| one.is_some() == other.is_some()) {
        let end = start + group.len();
        let of_group: Vec<Span> = group.iter().flatten().cloned().collect();
        if !of_group.is_empty() {
            diagnostics.extend(
                longest::divide(&mut rules[start..end], &of_group).err().unwrap_or_default(),
            );
        }
        start = end;
    }
}

/// The rule, and its name with the name's position. The name may be valid while something else is wrong.
fn check_rule(
    source: &Source<'_>,
    table: &Table<'_>,
    line: usize,
    lists: &Lists<'_>,
) -> (Result<Rule, Diagnostics>, Option<(String, Span)>) {
    let mut diagnostics = Vec::new();
    let mut name = None;
    let mut conditions: Vec<Condition> = Vec::new();
    let mut settings = Settings::default();
    // A name or a setting with a mistake is not also reported as missing.
    let (mut has_name, mut has_setting) = (false, false);
    let mut exempts = None;
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
            "when" => expr::condition(source, value, lists),
            name if name == TEST.0 => code::condition(value, &lists.functions),
            "match" => {
                diagnostics.extend(only(value, MATCH.0, "longest").err());
                continue;
            }
            "use" => {
                match only(value, USE.0, "kernel") {
                    Ok(()) => exempts = Some(value.span()),
                    Err(error) => {
                        has_setting = true;
                        diagnostics.push(error);
                    }
                }
                continue;
            }
            other => match (Field::named(other), Setting::named(other)) {
                (Some(field), _) => condition::condition(field, value, lists),
                (None, Some(setting)) => {
                    has_setting = true;
                    match setting::value(setting, value) {
                        Ok(value) => settings.set(setting, value),
                        Err(mut errors) => diagnostics.append(&mut errors),
                    }
                    continue;
                }
                (None, None) => {
                    has_setting |= habits::key(other).is_some();
                    Err(vec![unknown_key(key, value)])
                }
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
    match exempts {
        Some(exempts) if has_setting => diagnostics.push(
            Diagnostic::new("`use = \"kernel\"` in a rule with settings", exempts)
                .help("it means that the rule changes nothing: leave it out, or the settings"),
        ),
        None if !has_setting => diagnostics.push(
            Diagnostic::new("this rule sets nothing", span.clone()).help(
                "add a line such as `rto = \"20s\"`, or `use = \"kernel\"` to leave these connections alone",
            ),
        ),
        _ => {}
    }
    let rule = match &name {
        Some((name, _)) if diagnostics.is_empty() => {
            Ok(Rule { name: name.clone(), line, span, conditions, settings })
        }
        _ => Err(diagnostics),
    };
    (rule, name)
}

/// Demands the one value that a key accepts.
fn only(value: &Written<'_>, key: &str, word: &str) -> Result<(), Diagnostic> {
    let help = format!("write `{key} = \"{word}\"`");
    match value.get_ref() {
        DeValue::String(text) if text == word => Ok(()),
        DeValue::String(text) => {
            Err(Diagnostic::new(format!("unknown value \"{text}\""), value.span()).help(help))
        }
        _ => Err(wrong_type(value, format!("`{key}` is a string"), help)),
    }
}

fn unknown_key(key: &Spanned<Cow<'_, str>>, value: &Written<'_>) -> Diagnostic {
    let error = Diagnostic::new(format!("unknown key `{}`", key.get_ref()), key.span());
    if let Some(help) = habits::key(key.get_ref()) {
        return error.help(match value.get_ref() {
            DeValue::Integer(number) if key.get_ref() == "dscp" => {
                let dscp = u32::from_str_radix(number.as_str(), number.radix()).ok();
                match dscp.filter(|dscp| *dscp < 64) {
                    Some(dscp) => format!("{help}: `tos = {}`", dscp * 4),
                    None => help.into(),
                }
            }
            DeValue::String(name) if habits::tos(name).is_some() => {
                format!("{help}: `tos = {}`", habits::tos(name).unwrap_or_default())
            }
            _ => help.into(),
        });
    }
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
