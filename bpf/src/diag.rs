//! Diagnostics: what is wrong in a rules file, where, and what to do about it, in the style of rustc.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::ops::Range;

/// At most this many diagnostics are drawn; the others are counted.
const MOST: usize = 50;

/// At most this many notes are drawn: they are unsolicited.
const MOST_NOTES: usize = 10;

/// The maximum number of bytes of the file in one drawing.
const MOST_DRAWN: usize = 50_000;

/// The number of bytes drawn before and after a place in a longer line.
const AROUND: usize = 60;

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

/// The known word that was probably meant. Words of very different lengths are not compared: the distance takes time
/// and memory in proportion to the product of the lengths, and a file may contain a word of megabytes.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let most = |known: &str| known.len().div_ceil(3);
    let is_near = |known: &&str| known.len().abs_diff(word.len()) <= most(known);
    let distance = |known| strsim::damerau_levenshtein(&word.to_lowercase(), known);
    let near = known.into_iter().filter(is_near).map(|known| (distance(known), known));
    near.min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= most(known))
        .map(|(_, known)| known)
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
    /// A short label beside the caret.
    pub label: String,
    /// A related place, with its label.
    pub other: Option<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn new(message: impl Into<String>, span: Span) -> Self {
        Self { message: message.into(), span, label: String::new(), other: None, help: None }
    }

    /// With a short label beside the caret.
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

/// Draws notes, each as plain text of several lines; at most [`MOST_NOTES`] of them.
#[must_use]
pub fn render_notes(source: &Source<'_>, notes: &[Diagnostic]) -> Vec<String> {
    let mut drawn: Vec<_> =
        notes.iter().take(MOST_NOTES).map(|note| draw(source, note, Level::NOTE)).collect();
    if notes.len() > MOST_NOTES {
        let more = notes.len() - MOST_NOTES;
        drawn.push(format!("note: and {more} more like these"));
    }
    drawn
}

/// A message may quote a word of megabytes.
fn brief(message: &str) -> String {
    const MOST_CHARACTERS: usize = 300;
    match message.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

fn draw(source: &Source<'_>, diagnostic: &Diagnostic, level: Level<'_>) -> String {
    let mut group = Group::with_title(level.primary_title(brief(&diagnostic.message)));
    let mark = |kind: AnnotationKind, span: Span, label: &str| match label {
        "" => kind.span(span),
        label => kind.span(span).label(label.to_owned()),
    };
    let primary = |within| mark(AnnotationKind::Primary, within, &diagnostic.label);
    let text = source.text;
    let window = window(text, &diagnostic.span, diagnostic.other.as_ref().map(|(span, _)| span));
    let snippet = Snippet::source(&text[window.clone()]).line_start(source.line(window.start));
    let annotation = primary(clamp(text, &diagnostic.span, &window));
    if window.start > 0 && text.as_bytes()[window.start - 1] != b'\n' {
        // For a piece of a line, columns are counted from its start.
        let span = clamp(text, &diagnostic.span, &(0..text.len()));
        let line = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let column = text[line..span.start].chars().count() + 1;
        let origin = Origin::path(source.name).line(source.line(span.start)).char_column(column);
        group = group.element(origin).element(snippet.annotation(annotation));
    } else {
        let mut snippet = snippet.path(source.name).annotation(annotation);
        if let Some((span, label)) =
            diagnostic.other.as_ref().filter(|(span, _)| window.contains(&span.start))
        {
            let span = clamp(text, span, &window);
            snippet = snippet.annotation(mark(AnnotationKind::Context, span, label));
        }
        group = group.element(snippet);
    }
    if let Some((span, label)) =
        diagnostic.other.as_ref().filter(|(span, _)| !window.contains(&span.start))
    {
        let window = self::window(text, span, None);
        let annotation = mark(AnnotationKind::Context, clamp(text, span, &window), label);
        let snippet = Snippet::source(&text[window.clone()]).line_start(source.line(window.start));
        group = group.element(snippet.path(source.name).annotation(annotation));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    Renderer::plain().render(&[group])
}

/// The whole lines around the span, also those of the other place if it is near, or a piece of a very long line. The
/// window is limited because drawing visits every byte.
fn window(text: &str, span: &Span, other: Option<&Span>) -> Span {
    let lines = |from: usize, to: usize| {
        let (from, to) = (from.min(text.len()), to.min(text.len()));
        let start = text.as_bytes()[..from].iter().rposition(|&byte| byte == b'\n');
        let end = text.as_bytes()[to..].iter().position(|&byte| byte == b'\n');
        start.map_or(0, |at| at + 1)..end.map_or(text.len(), |at| to + at)
    };
    let first = other.map_or(span.start, |other| span.start.min(other.start));
    let last = other.map_or(span.end, |other| span.end.max(other.end));
    let own = lines(span.start, span.end.max(span.start));
    [lines(first, last.max(first)), own]
        .into_iter()
        .find(|window| window.len() <= MOST_DRAWN)
        .unwrap_or_else(|| {
            let all = 0..text.len();
            let from = span.start.saturating_sub(AROUND);
            let to = span.end.min(span.start.saturating_add(AROUND)).saturating_add(AROUND);
            clamp(text, &(from..to), &all)
        })
}

/// The span within the window, on character boundaries, counted from where the window begins.
fn clamp(text: &str, span: &Span, window: &Span) -> Span {
    let boundary = |at: usize| {
        let mut at = at.clamp(window.start, window.end);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    start - window.start..boundary(span.end).max(start) - window.start
}
