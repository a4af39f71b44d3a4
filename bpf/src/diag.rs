//! Diagnostics: what is wrong in a rules file, where, and what to do about it, drawn as rustc would.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::ops::Range;

/// At most this many diagnostics are drawn; the rest is counted.
const MOST: usize = 50;

/// A rules file: its text, and the name to show for it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// How messages name the file, as the user named it.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a str,
}

impl Source<'_> {
    /// The line, counted from 1, that the byte offset lies in.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
    }
}

/// A range of bytes of the rules file.
pub type Span = Range<usize>;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line.
    pub message: String,
    /// Where; the caret is drawn under it.
    pub span: Span,
    /// A few words beside the caret.
    pub label: String,
    /// Another place that has to do with it, with its label.
    pub other: Option<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn new(message: impl Into<String>, span: Span) -> Self {
        Self { message: message.into(), span, label: String::new(), other: None, help: None }
    }

    /// With a few words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With a second place.
    #[must_use]
    pub fn other(mut self, span: Span, label: impl Into<String>) -> Self {
        self.other = Some((span, label.into()));
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Draws the diagnostics in the order of the file and counts them, as plain text that ends in a newline.
#[must_use]
pub fn render(source: &Source<'_>, diagnostics: &[Diagnostic]) -> String {
    let mut sorted: Vec<_> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| diagnostic.span.start);
    let mut out = String::new();
    for diagnostic in sorted.iter().take(MOST) {
        out.push_str(&draw(source, diagnostic, Level::ERROR));
        out.push_str("\n\n");
    }
    let count = sorted.len();
    let noun = if count == 1 { "error" } else { "errors" };
    out.push_str(&format!("error: {count} {noun} in {}", source.name));
    if count > MOST {
        out.push_str(&format!(", the first {MOST} shown"));
    }
    out.push('\n');
    out
}

/// Draws notes, each as plain text of several lines; at most [`MOST`] of them.
#[must_use]
pub fn render_notes(source: &Source<'_>, notes: &[Diagnostic]) -> Vec<String> {
    let mut drawn: Vec<_> =
        notes.iter().take(MOST).map(|note| draw(source, note, Level::NOTE)).collect();
    if notes.len() > MOST {
        drawn.push(format!("note: and {} more like these", notes.len() - MOST));
    }
    drawn
}

fn draw(source: &Source<'_>, diagnostic: &Diagnostic, level: Level<'_>) -> String {
    let spans = std::iter::once(&diagnostic.span).chain(diagnostic.other.iter().map(|(s, _)| s));
    let (first, last) = window(source.text, spans);
    let within = |span: &Span| clamp(source.text, span, first, last);
    let mut snippet =
        Snippet::source(&source.text[first..last]).line_start(source.line(first)).path(source.name);
    let primary = AnnotationKind::Primary.span(within(&diagnostic.span));
    snippet = snippet.annotation(match diagnostic.label.as_str() {
        "" => primary,
        label => primary.label(label),
    });
    if let Some((span, label)) = &diagnostic.other {
        snippet = snippet.annotation(AnnotationKind::Context.span(within(span)).label(label));
    }
    let mut group = Group::with_title(level.primary_title(&diagnostic.message));
    group = group.element(snippet);
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    Renderer::plain().render(&[group])
}

/// The whole lines around the spans: the drawing needs no more of a large file.
fn window<'a>(text: &str, spans: impl Iterator<Item = &'a Span>) -> (usize, usize) {
    let (mut first, mut last) = (text.len(), 0);
    for span in spans {
        first = first.min(span.start.min(text.len()));
        last = last.max(span.end.min(text.len()));
    }
    let bytes = text.as_bytes();
    let start = bytes[..first].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let end =
        bytes[last..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| last + at);
    (start, end.max(start))
}

/// The span within the window, on character boundaries, one character wide at least where there is one.
fn clamp(text: &str, span: &Span, first: usize, last: usize) -> Span {
    let boundary = |mut at: usize| {
        at = at.clamp(first, last);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    start - first..boundary(span.end).max(start) - first
}
