//! The JSON Schema of rules files, for editors that complete and check TOML.
//!
//! The schema is draft 7, which taplo and its editors read. It covers keys, types, ranges and forms. Whatever depends
//! on two places of a file (duplicate names, unreachable rules) or on arithmetic (the range of a duration, host bits of
//! a prefix) is left to the compiler.

use crate::check::NAME_MAX;
use crate::check::learned::KEYS;
use crate::check::options::MOST_HOSTS;
use crate::duration::UNITS;
use crate::field::{FIELDS, Field, Kind, MATCH, NAME, TEST, USE, WHEN};
use crate::setting::{ALGORITHM_MAX, Form, SETTINGS, Setting};

/// A list in a file.
const FILE: &str = r#""type": "object", "required": ["file"], "additionalProperties": false, "properties": {"file": {"type": "string"}, "column": {"type": "integer", "minimum": 1, "maximum": 100}}"#;

/// The schema, as the text of a file.
#[must_use]
pub fn schema() -> String {
    let name = pattern(&format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", NAME_MAX - 1));
    let test = pattern("^[A-Za-z_][A-Za-z0-9_]{0,62}$");
    let when = r#""type": "string", "minLength": 1"#.to_owned();
    let described = |setting: &Setting| {
        let since = match setting.since {
            "5.10" => String::new(),
            since => format!(" Linux {since}."),
        };
        format!("{} {}{since} ({})", setting.text, setting.form, setting.constant())
    };
    let properties = [
        property(NAME, &name),
        property(USE, r#""enum": ["kernel"]"#),
        property(MATCH, r#""enum": ["longest"]"#),
    ]
    .into_iter()
    .chain(FIELDS.iter().map(|field| property((field.key, field.text), &condition(field))))
    .chain([property(WHEN, &when), property(TEST, &test)])
    .chain(
        SETTINGS
            .iter()
            .map(|setting| property((setting.key, &described(setting)), &value(&setting.form))),
    );
    let keys = SETTINGS.iter().map(|it| it.key).chain([USE.0]);
    let settings = keys.map(|key| format!(r#"          {{"required": ["{key}"]}}"#));
    format!(
        r#"{{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "title": "Rules of set-rto",
  "description": "See set-rto-rules(5).",
  "type": "object",
  "required": ["rule"],
  "additionalProperties": false,
  "properties": {{
    "lists": {{
      "type": "object",
      "description": "Lists with names, for expressions: remote in @name.",
      "additionalProperties": {{
        "anyOf": [{{"type": ["string", "integer"]}}, {{{file}}}, {{"type": "array", "minItems": 1}}]
      }}
    }},
    "code": {{
      "type": "object",
      "description": "Tests in C.",
      "required": ["file"],
      "additionalProperties": false,
      "properties": {{"file": {{"type": "string"}}}}
    }},
    "rule": {{
      "type": "array",
      "minItems": 1,
      "items": {{
        "type": "object",
        "description": "Rules are tried from the top; the first that matches decides.",
        "required": ["{}"],
        "anyOf": [
{}
        ],
        "additionalProperties": false,
        "properties": {{
{}
        }}
      }}
    }},
    "learn": {{
      "type": "object",
      "description": "Timers that are learned.",
      "additionalProperties": false,
      "properties": {{
        "hosts": {{
          "description": "How many hosts are remembered, 4096 by default.",
          {}
        }}
      }}
    }},
    "evidence": {{
      "type": "object",
      "description": "Counters and histograms of each rule's connections.",
      "additionalProperties": false,
      "properties": {{
        "off": {{
          "description": "true: no evidence is kept.",
          "type": "boolean"
        }}
      }}
    }}
  }}
}}
"#,
        NAME.0,
        settings.collect::<Vec<_>>().join(",\n"),
        properties.collect::<Vec<_>>().join(",\n"),
        integer(*MOST_HOSTS.start(), *MOST_HOSTS.end()),
        file = FILE,
    )
}

/// The texts are ASCII, and Rust's escapes of `"` and `\` are those of JSON.
fn property((key, text): (&str, &str), rest: &str) -> String {
    format!(
        "          {key:?}: {{\n            \"description\": {text:?},\n            {rest}\n          }}"
    )
}

/// The properties of a field's value.
fn condition(field: &Field) -> String {
    let one = match field.kind {
        // What no interface can be called: `check::values`.
        Kind::Interface => pattern(r#"^[^\s/:"\\\[\]{}@]{1,31}$"#),
        Kind::Port(_) => {
            let range = pattern("^[0-9]{1,5}(-[0-9]{1,5})?$");
            format!(r#""anyOf": [{{{}}}, {{{range}}}]"#, integer(0, 65_535))
        }
        Kind::Address(_) => pattern(r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"),
        Kind::Family => r#""enum": ["ipv4", "ipv6"]"#.into(),
        Kind::Direction => r#""enum": ["outgoing", "incoming"]"#.into(),
    };
    match field.kind.values().takes_list {
        true => {
            let one = format!(r#"{{{one}}}, {{{FILE}}}"#);
            let many = format!(r#""type": "array", "minItems": 1, "items": {{"anyOf": [{one}]}}"#);
            format!(r#""anyOf": [{one}, {{{many}}}]"#)
        }
        false => one,
    }
}

/// The properties of a setting's value.
fn value(form: &Form) -> String {
    match form {
        Form::Duration(..) => duration(),
        Form::Timer(_) => {
            let bound = |key: &str| format!("\"{key}\": {{{}}}", duration());
            let bounds: Vec<_> = KEYS[1..].iter().map(|key| bound(key)).collect();
            format!(
                r#""anyOf": [{{{}}}, {{"type": "object", "required": ["learn"], "additionalProperties": false,
              "properties": {{"learn": {{"const": true}}, {}}}}}]"#,
                duration(),
                bounds.join(", ")
            )
        }
        Form::Number(range, _) => integer(*range.start(), *range.end()),
        Form::Tos => integer(0, 255) + r#", "multipleOf": 4"#,
        Form::True => r#""const": true"#.into(),
        Form::Algorithm => pattern(&format!("^[0-9A-Za-z_.-]{{1,{ALGORITHM_MAX}}}$")),
    }
}

fn duration() -> String {
    let units: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
    pattern(&format!(r"^([0-9]+(\.[0-9]+)?({}))+$", units.join("|")))
}

/// A string of this form.
fn pattern(pattern: &str) -> String {
    format!(r#""type": "string", "pattern": {pattern:?}"#)
}

fn integer(minimum: u32, maximum: u32) -> String {
    format!(r#""type": "integer", "minimum": {minimum}, "maximum": {maximum}"#)
}
