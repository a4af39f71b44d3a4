//! Named lists (`[lists]`) and lists in files (`{ file = "nets.txt", column = 2 }`).

use super::code::Functions;
use super::condition::{Literal, Place, literal};
use super::{Diagnostics, habits, wrong_type};
use crate::diag::{Diagnostic, Span, nearest};
use crate::field::Kind;
use crate::files::{Code, Files, ListFile};
use crate::limits::MOST_ITEMS;
use crate::parse::{Document, Written};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// The keys of the table that names a file.
const KEYS: [&str; 2] = ["file", "column"];

const HELP: &str =
    "write { file = \"nets.txt\" }, with `column = 2` for the second word of each line";

/// The maximum number of mistakes that are reported of one file.
const MOST_MISTAKES: usize = 20;

/// The texts of values, or what is wrong with each.
pub(super) type Literals<'v> = Vec<Result<Literal<'v>, Diagnostic>>;

/// Lists and functions that values may refer to.
pub(super) struct Lists<'t> {
    files: Files<'t>,
    pub(super) functions: Functions,
    named: BTreeMap<&'t str, &'t Written<'t>>,
    used: RefCell<BTreeSet<String>>,
}

impl<'t> Lists<'t> {
    /// The lists of a rules file. Items are checked where a list is used, because the field there decides what is valid.
    pub(super) fn new(document: &'t Document<'t>, files: Files<'t>, functions: Functions) -> Self {
        let tables = document.tables.iter().filter(|(name, _)| *name == "lists");
        let entries = tables.flat_map(|(_, table)| table.get_ref().iter());
        let named = entries.map(|(name, value)| (name.get_ref().as_ref(), value)).collect();
        Self { files, functions, named, used: RefCell::default() }
    }

    /// The files, and the functions if a rule names one.
    pub(super) fn files(self) -> (Files<'t>, Option<Code>) {
        (self.files, self.functions.into_inner().filter(|code| !code.tests.is_empty()))
    }

    /// Notes on lists that no expression names.
    pub(super) fn unused(&self) -> Diagnostics {
        let used = self.used.borrow();
        let unused = self.named.iter().filter(|(name, _)| !used.contains(**name));
        let note = |(name, value): (&&str, &&Written<'_>)| {
            Diagnostic::new(format!("no rule uses the list `{name}`"), value.span())
                .help(format!("an expression names it: remote in @{name}"))
        };
        unused.map(note).collect()
    }

    /// The value of a list of `[lists]`.
    pub(super) fn named(&self, name: &str) -> Result<&'t Written<'t>, String> {
        let names = || self.named.keys().copied();
        if let Some(value) = self.named.get(name) {
            self.used.borrow_mut().insert(name.to_owned());
            return Ok(value);
        }
        Err(match nearest(name, names()) {
            Some(known) => format!("did you mean `@{known}`?"),
            None if self.named.is_empty() => {
                format!("add a table: [lists], and below it {name} = [\"44.0.0.0/9\"]")
            }
            None => format!("the lists are {}", names().collect::<Vec<_>>().join(", ")),
        })
    }

    /// The literals of a value or of a list. Reads the files that it names.
    pub(super) fn literals<'v>(
        &self,
        kind: Kind,
        value: &'v Written<'_>,
    ) -> Result<Literals<'v>, Diagnostics> {
        let takes_list = kind.values().takes_list;
        let items = match value.get_ref() {
            DeValue::Array(items) if takes_list => items,
            _ => std::slice::from_ref(value),
        };
        if items.is_empty() {
            return Err(vec![
                Diagnostic::new("an empty list: this rule could never match", value.span())
                    .help("leave the condition out to match everything"),
            ]);
        }
        let mut literals = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) if takes_list => {
                    literals.extend(self.file(kind, table, item)?);
                }
                _ => literals.push(literal(kind, item)),
            }
        }
        Ok(literals)
    }

    fn file(
        &self,
        kind: Kind,
        table: &DeTable<'_>,
        written: &Written<'_>,
    ) -> Result<Literals<'static>, Diagnostics> {
        let mut mistakes = Vec::new();
        let (mut name, mut column) = (None, None);
        for (key, value) in table {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("file", DeValue::String(text)) => name = Some(text),
                ("file", _) => {
                    mistakes.push(wrong_type(value, "the name of a file is a string", HELP));
                }
                ("column", DeValue::Integer(number)) => {
                    let number = usize::from_str_radix(number.as_str(), number.radix());
                    match number.ok().filter(|number| (1..=100).contains(number)) {
                        Some(number) => column = Some(number),
                        None => mistakes.push(
                            Diagnostic::new("`column` out of range", value.span())
                                .help("a whole number from 1 to 100"),
                        ),
                    }
                }
                ("column", _) => mistakes.push(wrong_type(value, "`column` is a number", HELP)),
                (other, _) => {
                    let mistake = Diagnostic::new(format!("unknown key `{other}`"), key.span());
                    mistakes.push(match nearest(other, KEYS) {
                        Some(known) => mistake.help(format!("did you mean `{known}`?")),
                        None => mistake.help(HELP),
                    });
                }
            }
        }
        let Some(name) = name.filter(|_| mistakes.is_empty()) else {
            if mistakes.is_empty() {
                mistakes.push(Diagnostic::new("a list without `file`", written.span()).help(HELP));
            }
            return Err(mistakes);
        };
        let file = match name.contains(char::is_control) {
            // build.rs prints the name in a line that cargo reads.
            true => Err("a control character in its name".into()),
            false => self.files.read(name),
        };
        let file = file.map_err(|error| {
            let message = format!("cannot read the list {name}: {error}");
            vec![
                Diagnostic::new(message, written.span())
                    .help("its path is relative to the rules file"),
            ]
        })?;
        items(kind, &file, column, &written.span())
    }
}

/// The items of a file, one on each line.
fn items(
    kind: Kind,
    file: &Arc<ListFile>,
    column: Option<usize>,
    span: &Span,
) -> Result<Literals<'static>, Diagnostics> {
    let mut literals = Vec::new();
    let mut wrong = 0;
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let text = line.strip_prefix('\u{feff}').filter(|_| start == 0).unwrap_or(line);
        let skipped = start + line.len() - text.len();
        start += line.len();
        let text = text.split('#').next().unwrap_or_default();
        let is_between = |c: char| c.is_whitespace() || c == ',' || c == ';';
        let mut words = text.split(is_between).filter(|word| !word.is_empty());
        let count = words.clone().count();
        if count == 0 {
            continue;
        }
        let place = |within: Span| {
            let within = skipped + within.start..skipped + within.end;
            Place { span: span.clone(), file: Some((Arc::clone(file), within)) }
        };
        let whole = || {
            let from = text.len() - text.trim_start().len();
            place(from..text.trim_end().len())
        };
        let word = match column {
            None if count > 1 => Err(whole().mistake(format!("{count} words in a line")).help(
                format!("write `column = 1` beside `file = \"{}\"`, or another number", file.name),
            )),
            Some(column) if count < column => {
                Err(whole().mistake(format!("no column {column} in this line")))
            }
            column => Ok(words.nth(column.unwrap_or(1) - 1).unwrap_or_default()),
        };
        wrong += usize::from(word.is_err());
        // The caller refuses lists with more items than that.
        if wrong > MOST_MISTAKES || literals.len() > MOST_ITEMS {
            break;
        }
        literals.push(word.map(|word| {
            let at = word.as_ptr() as usize - text.as_ptr() as usize;
            let short = match kind {
                Kind::Address(_) => habits::short_prefix(word),
                _ => None,
            };
            let text = short.unwrap_or_else(|| word.to_owned()).into();
            Literal { text, place: place(at..at + word.len()) }
        }));
    }
    if literals.is_empty() {
        let message = format!("the list {} has no items", file.name);
        return Err(vec![
            Diagnostic::new(message, span.clone()).help("write one item in each line"),
        ]);
    }
    Ok(literals)
}
