//! `when`: the expression language.
//!
//! ```text
//! expr    = and { "or" and }          and = not { "and" not }        not = "not" not | "(" expr ")" | test | socket
//! test    = field op operand | field "in" ( "{" item { "," item } "}" | "@" list )
//! field   = interface | port | local_port | remote_port | local | remote | family | direction
//! op      = "==" | "!=" | "<" | "<=" | ">" | ">="       (order only on ports)
//! operand = number | address | prefix | "quoted" | another field of the same type
//! sum     = term { ( "+" | "-" ) term }                  (on either side of `op`, of ports and numbers)
//! term    = ( field | number ) [ "&" number ]
//! socket  = ( mark | priority | tos ) [ "&" number ] ( op number | "in" "{" number { "," number } "}" )
//! item    = number | low-high | address | prefix | "quoted"
//! ```
//!
//! A test of `port` matches if it matches either end. `port != 80` means `not port == 80`: neither end is 80.

mod lex;
mod socket;
mod sum;
mod test;

use super::list::Lists;
use super::wrong_type;
use crate::diag::{Diagnostic, Source, Span};
use crate::parse::Written;
use crate::rule::{Condition, Formula};
use lex::{Token, Word};
use toml::de::DeValue;

/// The maximum nesting of parentheses and `not`.
const DEEPEST: usize = 64;

/// Parses and types an expression.
pub(super) fn condition(
    source: &Source<'_>,
    value: &Written<'_>,
    lists: &Lists<'_>,
) -> Result<Condition, Vec<Diagnostic>> {
    let DeValue::String(text) = value.get_ref() else {
        let help = "for example: when = \"local_port == remote_port\"";
        return Err(vec![wrong_type(value, "an expression is a string", help)]);
    };
    let place = |error| vec![Position::new(source, value, text).error(error)];
    let tokens = lex::tokens(text).map_err(place)?;
    let mut parser = Parser { tokens: &tokens, at: 0, end: text.len(), depth: 0, lists };
    let formula = parser.whole().map_err(place)?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Condition { span: value.span(), text, formula })
}

/// A mistake within an expression. Its span is counted from the start of the expression.
type Mistake = Diagnostic;

/// The position of the expression's text in the file.
struct Position {
    /// The offset in the file for each offset in the text. None if the text has escapes that are not understood.
    offsets: Option<Vec<usize>>,
    whole: Span,
}

impl Position {
    fn new(source: &Source<'_>, value: &Written<'_>, text: &str) -> Self {
        let raw = &source.text[value.span()];
        let whole = value.span();
        // There are one or three quotes, and perhaps a line break after them.
        let plain = raw.find(text).filter(|_| !text.is_empty());
        let offsets = match plain {
            Some(at) => Some((0..=text.len()).map(|offset| whole.start + at + offset).collect()),
            None => unescaped(raw, text, whole.start),
        };
        Self { offsets, whole }
    }

    fn error(&self, mistake: Mistake) -> Diagnostic {
        let at = |offset: usize| self.offsets.as_ref().and_then(|it| it.get(offset).copied());
        let span = match (at(mistake.span.start), at(mistake.span.end)) {
            (Some(start), Some(end)) => start..end,
            _ => self.whole.clone(),
        };
        Diagnostic { span, ..mistake }
    }
}

/// The offsets of a text within its escaped form (`"…"` on one line), which starts at `start`.
fn unescaped(raw: &str, text: &str, start: usize) -> Option<Vec<usize>> {
    let mut offsets = Vec::with_capacity(text.len() + 1);
    let mut at = 1;
    for c in text.chars() {
        offsets.extend((0..c.len_utf8()).map(|_| start + at));
        at += match raw.as_bytes().get(at..at + 2)? {
            [b'\\', b'u'] => 6,
            [b'\\', b'U'] => 10,
            [b'\\', b'x'] => 4,
            [b'\\', _] => 2,
            _ => c.len_utf8(),
        };
    }
    offsets.push(start + at);
    // The closing quote must follow; otherwise the offsets are wrong.
    (raw.get(at..)? == "\"").then_some(offsets)
}

/// A recursive-descent parser.
struct Parser<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
    /// The length of the text.
    end: usize,
    depth: usize,
    lists: &'t Lists<'t>,
}

impl<'t> Parser<'t> {
    fn whole(&mut self) -> Result<Formula, Mistake> {
        let formula = self.or()?;
        match self.peek() {
            None => Ok(formula),
            Some(_) => Err(self.unexpected("expected `and`, `or` or the end")),
        }
    }

    fn or(&mut self) -> Result<Formula, Mistake> {
        let mut parts = vec![self.and()?];
        while self.takes(&Word::Name("or")) {
            parts.push(self.and()?);
        }
        Ok(Formula::any(parts))
    }

    fn and(&mut self) -> Result<Formula, Mistake> {
        let mut parts = vec![self.not()?];
        while self.takes(&Word::Name("and")) {
            parts.push(self.not()?);
        }
        Ok(Formula::all(parts))
    }

    fn not(&mut self) -> Result<Formula, Mistake> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.unexpected("nested too deeply").help("at most 64 levels"));
        }
        let formula = if self.takes(&Word::Name("not")) {
            Formula::Not(Box::new(self.not()?))
        } else if self.is_sum_in_parentheses() {
            self.sums()?
        } else if self.takes(&Word::Open) {
            let inner = self.or()?;
            self.expect(&Word::Close, "expected `)`")?;
            inner
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(formula)
    }

    fn peek(&self) -> Option<&'t Token<'t>> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'t Token<'t>> {
        let token = self.peek();
        self.at += usize::from(token.is_some());
        token
    }

    fn takes(&mut self, word: &Word<'_>) -> bool {
        let found = self.peek().is_some_and(|token| token.word == *word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, word: &Word<'_>, message: &str) -> Result<(), Mistake> {
        if self.takes(word) { Ok(()) } else { Err(self.unexpected(message)) }
    }

    /// A mistake at the next token, or at the end.
    fn unexpected(&self, message: &str) -> Mistake {
        match self.peek() {
            Some(token) => Diagnostic::new(message, token.span.clone()),
            None => Diagnostic::new(
                format!("{message}, but the expression ends here"),
                self.end..self.end,
            ),
        }
    }
}
