//! Part of the fourth pass: lists of interface patterns → how a device's name is matched.

use crate::diag::Diagnostic;
use crate::rule::{Pattern, Rule};
use crate::space::automaton::{Automaton, Listed};
use std::collections::BTreeMap;

/// How a program finds out which lists a name matches.
#[derive(Debug, Clone, Default)]
pub enum Matching {
    /// Names and prefixes, compared one by one where they are asked for.
    #[default]
    Compare,
    /// All lists at once, as soon as the device is found: what any of these says.
    Walk(Vec<Automaton>),
}

/// Names and prefixes that are compared one by one: two to six instructions each.
const FEW: usize = 8;

/// Entries of an automaton, 4 bytes each, before its states are joined. Where all patterns together need more, several
/// automata share them.
const MOST_ENTRIES: usize = 1 << 16;

/// Automata of a program; each takes a walk along the 16 bytes of a name at most.
const MOST_AUTOMATA: usize = 16;

/// Bytes of all together: a map's value has at most 4 MiB before Linux 5.19.
const MOST_BYTES: usize = 4 << 20;

/// Chooses.
///
/// # Errors
/// Patterns that no few automata can tell apart.
pub fn matching(rules: &[Rule], lists: &[Vec<Pattern>]) -> Result<Matching, Diagnostic> {
    let mut bits: BTreeMap<&str, u64> = BTreeMap::new();
    for (list, patterns) in lists.iter().enumerate() {
        for Pattern(text) in patterns {
            *bits.entry(text).or_default() |= 1_u64.checked_shl(list as u32).unwrap_or(0);
        }
    }
    let is_simple = |text: &&str| !text.contains('?') && !text.trim_end_matches('*').contains('*');
    if bits.len() <= FEW && bits.keys().all(is_simple) {
        return Ok(Matching::Compare);
    }
    // What begins with letters parts soon, so it goes together.
    let mut patterns: Vec<Listed<'_>> = bits.into_iter().collect();
    patterns.sort_by_key(|(text, _)| text.starts_with(['*', '?']));
    let mut automata = Vec::new();
    match divide(&patterns, &mut automata) {
        Some(()) if automata.iter().map(bytes).sum::<usize>() <= MOST_BYTES => {
            Ok(Matching::Walk(automata))
        }
        _ => Err(entangled(rules)),
    }
}

/// Automata for all patterns; None if there would be too many.
fn divide(patterns: &[Listed<'_>], automata: &mut Vec<Automaton>) -> Option<()> {
    if automata.len() == MOST_AUTOMATA {
        return None;
    }
    if let Some(one) = Automaton::new(patterns, MOST_ENTRIES) {
        automata.push(one);
        return Some(());
    }
    let (one, other) = patterns.split_at(patterns.len() / 2);
    if one.is_empty() {
        return None;
    }
    divide(one, automata)?;
    divide(other, automata)
}

/// As they stand in the program.
fn bytes(it: &Automaton) -> usize {
    let round = usize::next_power_of_two;
    it.classes.len() * 2 + round(it.entries.len()) * 4 + round(it.results.len()) * 8
}

fn entangled(rules: &[Rule]) -> Diagnostic {
    let span = rules.first().map_or(0..0, |rule| rule.span.clone());
    Diagnostic::new("the interface patterns from here on are too many to be told apart", span)
        .label("thousands of names, or dozens of globs that begin with `*` and stand in lists of their own")
        .help("use fewer lists, or globs that begin with letters, as `ax*` does")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lists: &[&[&str]]) -> Matching {
        let list = |texts: &&[&str]| texts.iter().map(|text| Pattern((*text).into())).collect();
        let lists: Vec<_> = lists.iter().map(list).collect();
        matching(&[], &lists).expect("few patterns")
    }

    #[test]
    fn a_few_names_are_compared() {
        assert!(matches!(chosen(&[]), Matching::Compare));
        assert!(matches!(chosen(&[&["ax0", "tnc*", "*"], &["ax0", "b**"]]), Matching::Compare));
        assert!(matches!(chosen(&[&["a*0"]]), Matching::Walk(_)));
        let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        assert!(matches!(chosen(&[&nine]), Matching::Walk(_)));
        assert!(matches!(chosen(&[&nine[..8]]), Matching::Compare));
    }

    #[test]
    fn what_multiplies_is_divided() {
        let texts: Vec<_> = (b'a'..b'a' + 26).map(|it| format!("*{}*", char::from(it))).collect();
        let lists: Vec<Vec<_>> = texts.iter().map(|it| vec![Pattern(it.clone())]).collect();
        let Ok(Matching::Walk(automata)) = matching(&[], &lists) else { panic!("too many") };
        assert!((2..=6).contains(&automata.len()), "{}", automata.len());
        let name = b"eth0";
        let found = automata.iter().fold(0, |all, it| all | it.lists(name));
        assert_eq!(found, 1 << 4 | 1 << 19 | 1 << 7);
    }

    #[test]
    fn what_cannot_be_told_apart_is_said() {
        // In one list each, so that none is of no interest behind another.
        let lists: Vec<Vec<_>> = (0..64_usize)
            .map(|list| {
                let text = |at: usize| format!("*{}?{}*", (list * 64 + at) * 7919 % 9973, at);
                (0..64).map(|at| Pattern(text(at))).collect()
            })
            .collect();
        let error = matching(&[], &lists).expect_err("thousands of globs");
        assert!(error.message.contains("too many to be told apart"), "{}", error.message);
    }
}
