//! The second pass: [`Document`] → [`Rule`]s. It checks types, ranges and families and reports every mistake.

mod address;
mod duration;
mod expr;
mod interface;
mod port;
mod setting;

use crate::ast::{Document, Entry, Table, Value};
use crate::diag::{Diagnostic, Source, Span, nearest};
use crate::limits::MOST_ITEMS;
use crate::rule::{Condition, Direction, End, Family, Formula, PortRange, Rule, Test, set};
use crate::setting::{SPECS, Setting, Settings, Value as Set};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use toml::de::DeValue;

/// Every key that a rule may have besides its settings.
pub const KEYS: [&str; 10] = [
    "name",
    "interface",
    "port",
    "local_port",
    "remote_port",
    "local",
    "remote",
    "family",
    "direction",
    "when",
];

/// The longest rule name, in bytes.
pub const NAME_MAX: usize = 63;

type Diagnostics = Vec<Diagnostic>;

/// Checks all rules: those without a mistake, and every mistake of the others.
#[must_use]
pub fn check(source: &Source<'_>, document: &Document<'_>) -> (Vec<Rule>, Diagnostics) {
    let mut diagnostics = Vec::new();
    let mut rules = Vec::new();
    let mut names: HashMap<String, Span> = HashMap::new();
    let mut lines = Lines::new(source);
    let mut items = 0;
    for table in &document.rules {
        let line = lines.at(table.span.start);
        let (checked, name) = check_rule(source, table, line);
        if let Some((name, span)) = name {
            match names.entry(name) {
                Place::Occupied(first) => diagnostics.push(
                    Diagnostic::new(format!("two rules named `{}`", first.key()), span)
                        .other(first.get().clone(), "the first")
                        .help("give each rule its own name"),
                ),
                Place::Vacant(place) => {
                    place.insert(span);
                }
            }
        }
        match checked {
            Ok(rule) => {
                items += rule.conditions.iter().map(|it| it.formula.items()).sum::<usize>();
                if items > MOST_ITEMS {
                    // One report is enough: all later rules would repeat it.
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
    (rules, diagnostics)
}

/// Line numbers for offsets that mostly ascend, without counting from the top each time.
struct Lines<'a> {
    text: &'a [u8],
    offset: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn new(source: &Source<'a>) -> Self {
        Self { text: source.text.as_bytes(), offset: 0, line: 1 }
    }

    fn at(&mut self, offset: usize) -> usize {
        if offset < self.offset {
            (self.offset, self.line) = (0, 1);
        }
        let passed = &self.text[self.offset..offset.min(self.text.len())];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count();
        self.offset = offset;
        self.line
    }
}

/// The rule, and its name with the name's place, which is valid even if something else is wrong.
fn check_rule(
    source: &Source<'_>,
    table: &Table<'_>,
    line: usize,
) -> (Result<Rule, Diagnostics>, Option<(String, Span)>) {
    let mut diagnostics = Vec::new();
    let mut name = None;
    let mut conditions: Vec<Condition> = Vec::new();
    let mut settings = Settings::default();
    for entry in &table.entries {
        let value = &entry.value;
        let mut condition = |checked: Result<Condition, Diagnostics>| match checked {
            Ok(found) => conditions.push(found),
            Err(mut errors) => diagnostics.append(&mut errors),
        };
        match entry.key.as_str() {
            "name" => match check_name(value) {
                Ok(text) => name = Some((text, value.span.clone())),
                Err(error) => {
                    diagnostics.push(error);
                    // The key exists, so it is not also reported as missing.
                    name = Some((String::new(), value.span.clone()));
                }
            },
            "interface" => condition(
                list(value, interface::pattern).map(|it| plain(value, Test::Interface(it))),
            ),
            "port" => condition(list(value, port::range).map(|ranges| either_port(value, ranges))),
            "local_port" => condition(ports(End::Local, value)),
            "remote_port" => condition(ports(End::Remote, value)),
            "local" => condition(addresses(End::Local, value)),
            "remote" => condition(addresses(End::Remote, value)),
            "family" => condition(
                word(value, &[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)])
                    .map(|it| plain(value, Test::Family(it))),
            ),
            "direction" => condition(
                word(
                    value,
                    &[("outgoing", Direction::Outgoing), ("incoming", Direction::Incoming)],
                )
                .map(|it| plain(value, Test::Direction(it))),
            ),
            "when" => condition(expr::condition(source, value)),
            key => match Setting::named(key).map(|it| (it, setting::value(it, value))) {
                Some((setting, Ok(value))) => settings.set(setting, value),
                Some((setting, Err(error))) => {
                    diagnostics.push(error);
                    // A setting exists, so the rule is not also reported as setting nothing.
                    settings.set(setting, Set::Number(0));
                }
                None => diagnostics.push(unknown_key(entry)),
            },
        }
    }
    let header = table.span.clone();
    if name.is_none() {
        diagnostics.push(
            Diagnostic::new("this rule has no name", header.clone())
                .help("add a line such as `name = \"lora\"`"),
        );
    }
    if settings.is_empty() {
        diagnostics.push(
            Diagnostic::new("this rule sets nothing", header.clone())
                .help("add a line such as `rto = \"20s\"`"),
        );
    }
    let rule = match &name {
        Some((name, _)) if diagnostics.is_empty() => {
            Ok(Rule { name: name.clone(), line, span: header, conditions, settings })
        }
        _ => Err(diagnostics),
    };
    (rule, name.filter(|(name, _)| !name.is_empty()))
}

fn unknown_key(entry: &Entry<'_>) -> Diagnostic {
    let key = &entry.key;
    let error = Diagnostic::new(format!("unknown key `{key}`"), entry.key_span.clone());
    let known: Vec<_> = KEYS.iter().copied().chain(SPECS.iter().map(|spec| spec.key)).collect();
    match nearest(key, known.iter().copied()) {
        Some(known) => error.help(format!("did you mean `{known}`?")),
        None => error.help(format!("a rule may have: {}", known.join(", "))),
    }
}

fn check_name(value: &Value<'_>) -> Result<String, Diagnostic> {
    let help = "a name is `[a-z0-9][a-z0-9_-]*`, at most 63 characters";
    let DeValue::String(text) = &value.value else {
        return Err(wrong_type(value, "a name is a string", help));
    };
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.len() <= NAME_MAX
        && text.bytes().next().is_some_and(lower)
        && text.bytes().all(|byte| lower(byte) || byte == b'_' || byte == b'-');
    if fits {
        Ok(text.to_string())
    } else {
        Err(Diagnostic::new("not a rule name", value.span.clone()).help(help))
    }
}

fn plain(value: &Value<'_>, test: Test) -> Condition {
    Condition { span: value.span.clone(), text: test.to_string(), formula: Formula::Test(test) }
}

fn either_port(value: &Value<'_>, ranges: Vec<PortRange>) -> Condition {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = set(&mut text, "port", &ranges);
    Condition { span: value.span.clone(), text, formula: expr::either_port(ranges) }
}

fn ports(end: End, value: &Value<'_>) -> Result<Condition, Diagnostics> {
    list(value, port::range).map(|ranges| plain(value, Test::Port(end, ranges)))
}

fn addresses(end: End, value: &Value<'_>) -> Result<Condition, Diagnostics> {
    list(value, address::prefix).map(|prefixes| plain(value, Test::Address(end, prefixes)))
}

/// One item, or a list of them that is not empty.
fn list<T>(
    value: &Value<'_>,
    item: impl Fn(&Value<'_>) -> Result<T, Diagnostic>,
) -> Result<Vec<T>, Diagnostics> {
    let DeValue::Array(items) = &value.value else {
        return item(value).map(|one| vec![one]).map_err(|error| vec![error]);
    };
    if items.is_empty() {
        return Err(vec![
            Diagnostic::new("an empty list: this rule could never match", value.span.clone())
                .help("leave the condition out to match everything"),
        ]);
    }
    let mut checked = Vec::with_capacity(items.len());
    let mut diagnostics = Vec::new();
    for element in items.iter() {
        // The tree is borrowed. Only scalars are copied here: a list in a list is an error anyway.
        let element = Value { span: element.span(), value: element.get_ref().clone() };
        match item(&element) {
            Ok(one) => checked.push(one),
            Err(error) => diagnostics.push(error),
        }
    }
    if diagnostics.is_empty() { Ok(checked) } else { Err(diagnostics) }
}

/// One of a few quoted words.
fn word<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Result<T, Diagnostics> {
    let names: Vec<_> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let help = format!("write {}", names.join(" or "));
    let DeValue::String(text) = &value.value else {
        return Err(vec![wrong_type(value, "expected a string", help)]);
    };
    words.iter().find(|(name, _)| name == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        vec![Diagnostic::new(format!("unknown value \"{text}\""), value.span.clone()).help(help)]
    })
}

fn wrong_type(value: &Value<'_>, message: &str, help: impl Into<String>) -> Diagnostic {
    Diagnostic::new(message, value.span.clone())
        .label(format!("this is {}", value.kind()))
        .help(help)
}
