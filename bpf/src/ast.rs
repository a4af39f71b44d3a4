//! A rules file as written: tables of keys and values with their spans, before any check.

use crate::diag::Span;
use toml::de::DeValue;

/// The file: its rules in order.
#[derive(Debug, Default)]
pub struct Document<'i> {
    /// One for each `[[rule]]`.
    pub rules: Vec<Table<'i>>,
}

/// One `[[rule]]`.
#[derive(Debug)]
pub struct Table<'i> {
    /// Where its header stands.
    pub span: Span,
    /// Its keys in the order of the file.
    pub entries: Vec<Entry<'i>>,
}

/// `key = value`.
#[derive(Debug)]
pub struct Entry<'i> {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Value<'i>,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Value<'i> {
    /// The value.
    pub value: DeValue<'i>,
    /// Where it stands.
    pub span: Span,
}

impl Value<'_> {
    /// Its type, in TOML's terms.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}
