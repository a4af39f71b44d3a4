//! Tests of `port` that are joined by `and`. Each matches either end, so `port >= 8000 and port <= 8999` also matches a
//! connection from port 40000 to 443.

use crate::diag::{Diagnostic, Span};
use crate::rule::{End, Formula, PortRange, Rule, Test, describe};
use crate::space::port_set;

/// A test of either end's port, and its place.
type Either<'r> = (&'r [PortRange], &'r Span);

/// The notes for a rule.
pub(super) fn notes(rule: &Rule) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    let mut joined = Vec::new();
    for condition in &rule.conditions {
        walk(&condition.formula, &condition.span, &mut joined, &mut notes);
    }
    notes.extend(note(&joined));
    notes
}

/// Collects the tests that must hold together with the rule's other conditions. Adds the notes for tests within an `or`.
fn walk<'r>(
    formula: &'r Formula,
    span: &'r Span,
    joined: &mut Vec<Either<'r>>,
    notes: &mut Vec<Diagnostic>,
) {
    if let Some(ranges) = either(formula) {
        joined.push((ranges, span));
        return;
    }
    match formula {
        Formula::All(parts) => parts.iter().for_each(|part| walk(part, span, joined, notes)),
        Formula::Any(parts) => {
            for part in parts {
                let mut inner = Vec::new();
                walk(part, span, &mut inner, notes);
                notes.extend(note(&inner));
            }
        }
        Formula::Not(_) | Formula::Test(_) => {}
    }
}

/// The ports, if this is a test of either end.
fn either(formula: &Formula) -> Option<&[PortRange]> {
    let Formula::Any(parts) = formula else { return None };
    match parts.as_slice() {
        [
            Formula::Test(Test::Port(End::Local, local)),
            Formula::Test(Test::Port(End::Remote, remote)),
        ] if local == remote => Some(local),
        _ => None,
    }
}

/// The note, if different ends may match the tests.
fn note(joined: &[Either<'_>]) -> Option<Diagnostic> {
    let (first, rest) = joined.split_first()?;
    let mut common = port_set(first.0);
    let mut is_implied = true;
    for (ranges, _) in rest {
        let set = port_set(ranges);
        let both = common.and(&set);
        // A test that contains the others is true for whichever end matches them.
        is_implied &= both == common || both == set;
        common = both;
    }
    if is_implied {
        return None;
    }
    let message = "`port` matches either end, and a different one may match each of these tests";
    let span = joined.iter().map(|(_, span)| *span).next_back()?.clone();
    let ranges: Vec<_> = common
        .ranges()
        .iter()
        .map(|(low, high)| PortRange { low: *low as u16, high: *high as u16 })
        .collect();
    Some(Diagnostic::new(message, span).help(match ranges.is_empty() {
        true => {
            "no port matches all of them: name the ends by `local_port` and `remote_port`".into()
        }
        false => format!("if one end is meant, write `{}`", describe("port", &ranges)),
    }))
}
