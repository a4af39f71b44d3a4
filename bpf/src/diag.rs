//! Diagnostics: what is wrong in a rules file, where, and what to do about it, in the style of rustc.

use crate::files::ListFile;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::ops::Range;
use std::sync::Arc;

/// At most this many diagnostics are drawn; the others are counted.
const MOST: usize = 50;

/// At most this many notes are drawn. Nobody asked for them.
const MOST_NOTES: usize = 10;

/// The maximum number of bytes of the file in one snippet.
const MOST_DRAWN: usize = 50_000;

/// The number of bytes drawn before and after a position in a longer line.
const AROUND: usize = 60;

/// A rules file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The name of the file in messages, as the user gave it.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a str,
}

impl Source<'_> {
    /// The line of a byte offset, counted from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
    }
}

/// The known word that was probably meant. Words of very different lengths are not compared: time and memory grow with
/// the product of the lengths, and a file may contain a word of megabytes.
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
    /// One line that says what is wrong.
    pub message: String,
    /// Where the caret is drawn.
    pub span: Span,
    /// A short label beside the caret.
    pub label: String,
    /// A related position, with its label.
    pub other: Option<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
    /// The list file that the mistake is in, and where. The span then is where the rules file names it.
    pub file: Option<(Arc<ListFile>, Span)>,
}

impl Diagnostic {
    /// A mistake at a position.
    pub fn new(message: impl Into<String>, span: Span) -> Self {
        Self {
            message: message.into(),
            span,
            label: String::new(),
            other: None,
            help: None,
            file: None,
        }
    }

    /// With a short label beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With a related position.
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

/// Draws the errors in the order of the file and counts them. The text ends in a newline.
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

/// Draws notes, at most [`MOST_NOTES`] of them. Each has several lines.
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
    let Source { text, .. } = *source;
    let Diagnostic { span, label, other, .. } = diagnostic;
    let mut group = Group::with_title(level.primary_title(brief(&diagnostic.message)));
    let named = "named here".to_owned();
    let mut places = vec![match &diagnostic.file {
        None => (AnnotationKind::Primary, clamp(text, span), label),
        Some((file, at)) => {
            let source = Source { name: &file.name, text: &file.text };
            let place = (AnnotationKind::Primary, clamp(&file.text, at), label);
            group = element(group, source, window(&file.text, place.1.clone()), &[place]);
            (AnnotationKind::Context, clamp(text, span), &named)
        }
    }];
    let mut whole = span.clone();
    if let Some((span, label)) = other {
        places.push((AnnotationKind::Context, clamp(text, span), label));
        whole = whole.start.min(span.start)..whole.end.max(span.end);
    }
    // Positions that are far apart get a snippet each.
    let whole = lines(text, clamp(text, &whole));
    let is_near = whole.len() <= MOST_DRAWN;
    for places in places.chunks(if is_near { 2 } else { 1 }) {
        let window = if is_near { whole.clone() } else { window(text, places[0].1.clone()) };
        group = element(group, *source, window, places);
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    Renderer::plain().render(&[group])
}

/// Adds a piece of the text with its places.
fn element<'t>(
    mut group: Group<'t>,
    source: Source<'t>,
    window: Span,
    places: &[(AnnotationKind, Span, &String)],
) -> Group<'t> {
    let Source { name, text } = source;
    let mut snippet = Snippet::source(&text[window.clone()]).line_start(source.line(window.start));
    let start = places[0].1.start;
    let line = lines(text, start..start).start;
    if line < window.start {
        // The renderer would count the column from the start of the piece.
        let column = text[line..start].chars().count() + 1;
        let origin = Origin::path(name).line(source.line(start)).char_column(column);
        group = group.element(origin);
    } else {
        snippet = snippet.path(name);
    }
    for (kind, span, label) in places {
        let end = span.end.clamp(window.start, window.end);
        let annotation = kind.span(span.start - window.start..end - window.start);
        snippet = snippet.annotation(match label.as_str() {
            "" => annotation,
            label => annotation.label(label.to_owned()),
        });
    }
    group.element(snippet)
}

/// The whole lines around a span.
pub(crate) fn lines(text: &str, span: Span) -> Span {
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
    start..end
}

/// The lines around a span, or a piece of a very long line. Drawing visits every byte.
fn window(text: &str, span: Span) -> Span {
    let whole = lines(text, span.clone());
    if whole.len() <= MOST_DRAWN {
        return whole;
    }
    let end = span.end.min(span.start + AROUND);
    clamp(text, &(span.start.saturating_sub(AROUND)..end + AROUND))
}

/// The part of the span that is in the text, on character boundaries.
fn clamp(text: &str, span: &Span) -> Span {
    let boundary = |at: usize| {
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    start..boundary(span.end).max(start)
}
