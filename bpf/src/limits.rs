//! Limits on the size of a rules file. They are checked before anything is built, so any file costs at most seconds and
//! a few hundred megabytes. Clang and the kernel accept whatever these limits allow.

use crate::diag::{Diagnostic, Source, Span};
use crate::files::MOST_BYTES;
use toml_parser::ErrorSink;
use toml_parser::ParseError;
use toml_parser::decoder::Encoding;
use toml_parser::lexer::TokenKind;
use toml_parser::parser::{EventReceiver, RecursionGuard, parse_document};

/// The maximum number of rules of a file. Before Linux 5.19 a program's counters have 4 MiB, 8 bytes for each rule.
pub const MOST_RULES: usize = 1 << 16;

/// The maximum number of items in the lists and sets of all rules together. Clang took 8 to 12 s for 250,000 random
/// addresses, and 60 s and 2.6 GB for a million.
pub const MOST_ITEMS: usize = 300_000;

/// The maximum number of tokens of a file, blanks and comments included, and of an expression.
pub(crate) const MOST_WORDS: usize = 3_000_000;

/// The maximum number of keys of a rule. The language has fewer.
const MOST_KEYS: usize = 64;

/// The maximum number of parts of a dotted key. Each part would be a nested table.
const MOST_PARTS: usize = 32;

/// The maximum depth of lists in lists, which is the TOML parser's own.
const DEEPEST: u32 = 80;

/// The number of mistakes of grammar that are reported. The others are counted.
pub(crate) const MOST_MISTAKES: usize = 40;

/// A text with more mistakes of grammar than are reported.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Where the last mistake that is reported ends.
    pub(crate) end: usize,
    /// The report on the others.
    pub(crate) rest: Diagnostic,
}

/// Checks the limits. Returns [`Broken`] if only the text up to its end should be parsed.
///
/// # Errors
/// The first limit that is exceeded.
pub(crate) fn measure(source: &Source<'_>) -> Result<Option<Broken>, Diagnostic> {
    let size = source.text.len();
    if size > MOST_BYTES {
        let message = format!("a file of {size} bytes: the limit is {MOST_BYTES}");
        return Err(Diagnostic::new(message, 0..0).help("use prefixes, ranges and globs"));
    }
    // The parser would report each of them.
    let is_control = |byte: u8| matches!(byte, 0..=8 | 11 | 12 | 14..=31 | 127);
    let bytes = source.text.bytes().enumerate();
    let mut controls = bytes.filter(|(_, byte)| is_control(*byte)).map(|(at, _)| at);
    if let Some(first) = controls.next() {
        let count = 1 + controls.count();
        if count > MOST_MISTAKES {
            let message = format!("not TOML: {count} control characters");
            return Err(Diagnostic::new(message, first..first + 1).label("the first"));
        }
    }
    let text = toml_parser::Source::new(source.text);
    let mut tokens = Vec::new();
    let mut parts = 0;
    for token in text.lex() {
        match token.kind() {
            TokenKind::Dot => parts += 1,
            TokenKind::Newline | TokenKind::Equals | TokenKind::Comma => parts = 0,
            _ => {}
        }
        let here = || token.span().start()..token.span().end();
        if parts > MOST_PARTS {
            let message = format!("a key of more than {MOST_PARTS} parts");
            return Err(Diagnostic::new(message, here()).help("a rule's keys have no dots"));
        }
        if tokens.len() == MOST_WORDS {
            let message = format!("more than {MOST_WORDS} words and symbols");
            return Err(Diagnostic::new(message, here()).help("use prefixes, ranges and globs"));
        }
        tokens.push(token);
    }
    let mut outline = Outline::default();
    let mut mistakes = Mistakes::default();
    let mut guard = RecursionGuard::new(&mut outline, DEEPEST);
    parse_document(&tokens, &mut guard, &mut mistakes);
    if let Some(passed) = outline.passed {
        return Err(passed);
    }
    Ok(mistakes.broken())
}

/// Counts tables and keys.
#[derive(Default)]
struct Outline {
    tables: usize,
    keys: usize,
    passed: Option<Diagnostic>,
}

impl Outline {
    fn table(&mut self, span: toml_parser::Span) {
        self.tables += 1;
        self.keys = 0;
        if self.tables > MOST_RULES {
            self.pass(span, format!("more than {MOST_RULES} rules"), "use lists within a rule");
        }
    }

    fn pass(&mut self, span: toml_parser::Span, message: String, help: &str) {
        let new = || Diagnostic::new(message, span.start()..span.end()).help(help);
        self.passed.get_or_insert_with(new);
    }
}

impl EventReceiver for Outline {
    fn std_table_open(&mut self, span: toml_parser::Span, _: &mut dyn ErrorSink) {
        self.table(span);
    }

    fn array_table_open(&mut self, span: toml_parser::Span, _: &mut dyn ErrorSink) {
        self.table(span);
    }

    fn simple_key(&mut self, span: toml_parser::Span, _: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.keys += 1;
        if self.keys > MOST_KEYS {
            self.pass(
                span,
                format!("more than {MOST_KEYS} keys in one rule"),
                "a rule starts with `[[rule]]`",
            );
        }
    }
}

/// Counts the mistakes of grammar.
#[derive(Default)]
struct Mistakes {
    /// The positions of the first ones.
    first: Vec<Span>,
    more: usize,
}

impl ErrorSink for Mistakes {
    fn report_error(&mut self, error: ParseError) {
        if self.first.len() > MOST_MISTAKES {
            self.more += 1;
        } else if let Some(span) = error.unexpected().or(error.context()) {
            self.first.push(span.start()..span.end());
        }
    }
}

impl Mistakes {
    /// Returns [`Broken`] if there are more mistakes than are reported.
    fn broken(mut self) -> Option<Broken> {
        let next = self.first.get(MOST_MISTAKES).cloned()?;
        self.first.truncate(MOST_MISTAKES);
        let end = self.first.iter().map(|span| span.end).max()?;
        let message = format!("not TOML: {} more mistakes from here on", self.more + 1);
        let start = next.start.max(end);
        let rest = Diagnostic::new(message, start..next.end.max(start));
        Some(Broken { end, rest })
    }
}
