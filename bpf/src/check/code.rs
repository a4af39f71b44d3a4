//! `[code]` and `test`: conditions that are functions in C.

use super::{Diagnostics, wrong_type};
use crate::diag::{Diagnostic, nearest};
use crate::files::{Code, Files};
use crate::parse::{Document, Written};
use crate::rule::{Condition, Fact, Formula, Test};
use std::cell::RefCell;
use toml::de::DeValue;

/// The maximum length of a function's name, in bytes.
const NAME_MAX: usize = 63;

const HELP: &str = "write [code], and below it file = \"tests.c\"";

/// The file of `[code]` and the functions that rules have named so far. None if there is no readable file.
pub(super) type Functions = RefCell<Option<Code>>;

/// Reads the table `[code]` and its file.
pub(super) fn file(
    document: &Document<'_>,
    files: &Files<'_>,
    diagnostics: &mut Diagnostics,
) -> Functions {
    let tables = document.tables.iter().filter(|(name, _)| *name == "code");
    let mut code = None;
    for (_, table) in tables {
        let mut has_file = false;
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("file", DeValue::String(name)) => {
                    has_file = true;
                    let read = match name.contains(['"', '\\']) || name.contains(char::is_control) {
                        true => Err("a character that is not allowed in its name".into()),
                        false => files.read(name),
                    };
                    match read {
                        Ok(file) => code = Some(Code { file, tests: Vec::new() }),
                        Err(error) => diagnostics.push(
                            Diagnostic::new(format!("cannot read {name}: {error}"), value.span())
                                .help("its path is relative to the rules file"),
                        ),
                    }
                }
                ("file", _) => {
                    has_file = true;
                    diagnostics.push(wrong_type(value, "the name of a file is a string", HELP));
                }
                (other, _) => {
                    let mistake = Diagnostic::new(format!("unknown key `{other}`"), key.span());
                    diagnostics.push(mistake.help(match nearest(other, ["file"]) {
                        Some(_) => "did you mean `file`?",
                        None => HELP,
                    }));
                }
            }
        }
        if !has_file {
            diagnostics.push(Diagnostic::new("`[code]` without `file`", table.span()).help(HELP));
        }
    }
    RefCell::new(code)
}

/// The condition that a function returns true.
pub(super) fn condition(
    value: &Written<'_>,
    functions: &Functions,
) -> Result<Condition, Diagnostics> {
    let help = "the name of a function in the file of [code]: bool odd(const struct connection *c)";
    let DeValue::String(name) = value.get_ref() else {
        return Err(vec![wrong_type(value, "a test is a string", help)]);
    };
    let mistake = |message: String| Diagnostic::new(message, value.span());
    let is_name = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(vec![mistake(format!("not the name of a function: \"{name}\"")).help(help)]);
    }
    let mut functions = functions.borrow_mut();
    let Some(code) = functions.as_mut() else {
        return Err(vec![mistake("a test without a file".into()).help(HELP)]);
    };
    let words = code.file.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if !words.clone().any(|word| word == name.as_ref()) {
        let message = format!("{} has no function `{name}`", code.file.name);
        return Err(vec![mistake(message).help(help)]);
    }
    let known = code.tests.iter().position(|test| *test == name.as_ref());
    let at = known.unwrap_or_else(|| {
        code.tests.push(name.to_string());
        code.tests.len() - 1
    });
    let at = u16::try_from(at)
        .map_err(|_| vec![mistake("too many tests".into()).help("at most 65536")])?;
    Ok(Condition {
        span: value.span(),
        text: format!("test {name}"),
        formula: Formula::Test(Test::Fact(Fact::Code(at))),
    })
}
