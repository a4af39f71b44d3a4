//! The lexer of expressions: text → tokens.

use crate::diag::{Diagnostic, Span};
use crate::limits::MOST_WORDS;

/// A word of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word<'t> {
    /// A keyword or a field.
    Name(&'t str),
    /// A number, range, address or prefix, as written.
    Value(&'t str),
    /// A quoted word, without its quotes.
    Quoted(&'t str),
    /// `==`, `!=`, `<`, `<=`, `>`, `>=`
    Operator(&'t str),
    /// `+`, `-`, `&`
    Arithmetic(&'t str),
    /// `@name`, without the `@`
    List(&'t str),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `{`
    OpenSet,
    /// `}`
    CloseSet,
    /// `,`
    Comma,
}

/// A word, and its position in the expression.
#[derive(Debug, Clone)]
pub(super) struct Token<'t> {
    pub(super) word: Word<'t>,
    pub(super) span: Span,
}

/// Cuts the text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Diagnostic> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let rest = &text[at..];
        let (word, length) = word(rest, first).map_err(|(length, message, help)| {
            Diagnostic::new(message, at..at + length).help(help)
        })?;
        if tokens.len() == MOST_WORDS {
            let message = format!("more than {MOST_WORDS} words and symbols");
            return Err(
                Diagnostic::new(message, at..at + length).help("split it into several rules")
            );
        }
        tokens.push(Token { word, span: at..at + length });
        at += length;
    }
    Ok(tokens)
}

/// Reads the first word. Returns the word and its length, or the length of a mistake, a message and a help.
fn word(rest: &str, first: char) -> Result<(Word<'_>, usize), (usize, String, &'static str)> {
    let two = rest.get(..2).unwrap_or_default();
    if let "==" | "!=" | "<=" | ">=" = two {
        return Ok((Word::Operator(two), 2));
    }
    match two {
        "&&" => return Err((2, "unknown operator `&&`".into(), "write `and`")),
        "||" => return Err((2, "unknown operator `||`".into(), "write `or`")),
        _ => {}
    }
    let single = match first {
        '<' | '>' => Word::Operator(&rest[..1]),
        '(' => Word::Open,
        ')' => Word::Close,
        '{' => Word::OpenSet,
        '}' => Word::CloseSet,
        ',' => Word::Comma,
        '+' | '&' => Word::Arithmetic(&rest[..1]),
        '-' if rest[1..].starts_with(char::is_whitespace) => Word::Arithmetic(&rest[..1]),
        '"' | '\'' => {
            let inner = &rest[1..];
            return match inner.find(first) {
                Some(end) => Ok((Word::Quoted(&inner[..end]), end + 2)),
                None => Err((rest.len(), "unterminated quoted word".into(), "close the quotes")),
            };
        }
        '@' => {
            let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let length = rest[1..].find(|c| !part(c)).unwrap_or(rest.len() - 1);
            let name = &rest[1..=length];
            return match name.is_empty() {
                true => {
                    Err((1, "`@` without a name".into(), "write `in @name` for a list of [lists]"))
                }
                false => Ok((Word::List(name), length + 1)),
            };
        }
        '=' => return Err((1, "`=` is not a comparison".into(), "write `==`")),
        '!' => return Err((1, "unknown operator `!`".into(), "write `not`, or `!=`")),
        _ => {
            let part = |c: char| c.is_ascii_alphanumeric() || "_.:/-%*?".contains(c);
            let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
            if length == 0 {
                let help = "set-rto-rules(5) describes the expression language";
                return Err((first.len_utf8(), format!("unexpected character `{first}`"), help));
            }
            let text = &rest[..length];
            let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !text.contains(':');
            return Ok((if is_name { Word::Name(text) } else { Word::Value(text) }, length));
        }
    };
    Ok((single, 1))
}
