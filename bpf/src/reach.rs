//! The third pass: typed rules → [`Regions`]. Which connections each rule decides; a rule that can never hold,
//! or never comes to its turn because earlier ones always win, is a mistake.
//!
//! Sound: no false alarm. Complete but for comparisons between two fields, which are taken for independent
//! of the fields, and for what dozens of overlapping globs match together.

use crate::diag::Diagnostic;
use crate::rule::{Formula, Pattern, Rule};
use crate::space::{Cover, Dimension, MOST_TERMS, Names, Set, Term, Terms, terms};
use std::rc::Rc;

/// The rules as regions of the space of connections.
#[derive(Debug)]
pub struct Regions {
    /// For each rule, in order.
    pub rules: Vec<Terms>,
    /// The lists of interface patterns, which [`Dimension::Interface`] counts.
    pub lists: Vec<Vec<Pattern>>,
}

/// Stands for the device's name as a whole; its values are [`Names`]' kinds.
const NAME: Dimension = Dimension::Interface(usize::MAX);

/// So many different interface conditions there may be: each is a bit of a word in tables.
pub const MOST_LISTS: usize = 64;

/// How many unreachable rules are explained.
const EXPLAINED: usize = 20;

/// Finds the regions.
///
/// # Errors
/// Rules that can never hold, that can never be reached, or that are too entangled.
pub fn reach(rules: &[Rule]) -> Result<Regions, Vec<Diagnostic>> {
    let mut lists = Vec::new();
    let mut regions = Vec::with_capacity(rules.len());
    let mut diagnostics = Vec::new();
    for rule in rules {
        let parts = rule.conditions.iter().map(|it| it.formula.clone()).collect();
        match terms(&Formula::All(parts), &mut lists) {
            Some(_) if lists.len() > MOST_LISTS => {
                // One is enough: all that follow would say the same.
                return Err(vec![
                    Diagnostic::new(
                        format!("more than {MOST_LISTS} different interface conditions"),
                        rule.span.clone(),
                    )
                    .label("this one is too many")
                    .help("use globs, or the same list in several rules"),
                ]);
            }
            Some(terms) => regions.push(terms),
            None => {
                regions.push(Vec::new());
                diagnostics.push(
                    Diagnostic::new("this rule has too many cases", rule.span.clone()).help(
                        format!(
                            "at most {MOST_TERMS} after expanding `or`: make several rules of it"
                        ),
                    ),
                );
            }
        }
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let names = Names::new(&lists);
    let mut covers = [Cover::default(), Cover::default()];
    let mut explained = 0;
    for (at, rule) in rules.iter().enumerate() {
        let parts = parts(&regions[at], names.as_ref());
        if parts.iter().all(Vec::is_empty) {
            diagnostics.push(never_holds(rule, names.as_ref(), &mut lists));
            continue;
        }
        let domain = |dimension| domain(dimension, names.as_ref());
        let covered = covers
            .iter()
            .zip(&parts)
            .all(|(cover, terms)| terms.iter().all(|term| cover.contains(term, &domain)));
        if covered {
            explained += 1;
            let winners = match explained {
                0..=EXPLAINED => winners(&regions, at, names.as_ref()),
                _ => Vec::new(),
            };
            diagnostics.push(never_reached(rules, at, &winners));
            continue;
        }
        for (cover, terms) in covers.iter_mut().zip(&parts) {
            terms.iter().for_each(|term| cover.add(term));
        }
    }
    if diagnostics.is_empty() { Ok(Regions { rules: regions, lists }) } else { Err(diagnostics) }
}

fn domain(dimension: Dimension, names: Option<&Names>) -> Set {
    match (dimension, names) {
        (NAME, Some(names)) => names.domain(),
        _ => dimension.domain(),
    }
}

/// The terms of one family each, without the family; the patterns as one dimension; no impossible ones.
fn parts(terms: &[Term], names: Option<&Names>) -> [Terms; 2] {
    [0, 1].map(|family| {
        let within = terms.iter().filter(|term| {
            term.bound(Dimension::Family).is_none_or(|families| families.contains(family))
        });
        let within = within.map(|term| term.without(Dimension::Family));
        within.filter_map(|term| join_names(&term, names)).collect()
    })
}

fn join_names(term: &Term, names: Option<&Names>) -> Option<Term> {
    // Where the kinds are unknown, the lists stay apart: less is found, nothing is wrong.
    let Some(names) = names else { return Some(term.clone()) };
    let mut joined = term.clone();
    for (dimension, set) in term.bounds() {
        if let Dimension::Interface(list) = dimension {
            let mut kinds = Set::default();
            for value in [0, 1].into_iter().filter(|value| set.contains(*value)) {
                kinds = kinds.or(&names.kinds(list, value));
            }
            joined = joined.without(dimension).with(NAME, &Rc::new(kinds))?;
        }
    }
    Some(joined)
}

fn never_holds(rule: &Rule, names: Option<&Names>, lists: &mut Vec<Vec<Pattern>>) -> Diagnostic {
    let message = "this rule can never hold";
    let help = "its conditions must hold together: leave one out, or make two rules of it";
    let mut impossible = |formula: Formula| {
        let terms = terms(&formula, lists).unwrap_or_default();
        parts(&terms, names).iter().all(Vec::is_empty)
    };
    let conditions = &rule.conditions;
    for condition in conditions {
        if impossible(condition.formula.clone()) {
            return Diagnostic::new(message, condition.span.clone())
                .label("nothing satisfies this")
                .help("a condition that is always false makes the rule useless");
        }
    }
    for (at, later) in conditions.iter().enumerate() {
        for earlier in &conditions[..at] {
            let both = Formula::All(vec![earlier.formula.clone(), later.formula.clone()]);
            if impossible(both) {
                return Diagnostic::new(message, later.span.clone())
                    .label("this")
                    .other(earlier.span.clone(), "contradicts this")
                    .help(help);
            }
        }
    }
    Diagnostic::new(message, rule.span.clone())
        .label("these conditions contradict each other")
        .help(help)
}

/// The earlier rules that together take all of this one: as few as dropping one after the other leaves.
fn winners(regions: &[Terms], at: usize, names: Option<&Names>) -> Vec<usize> {
    let asked = parts(&regions[at], names);
    let domain = |dimension| domain(dimension, names);
    let cover_all = |rules: &[usize]| {
        let mut covers = [Cover::default(), Cover::default()];
        for rule in rules {
            for (cover, terms) in covers.iter_mut().zip(&parts(&regions[*rule], names)) {
                terms.iter().for_each(|term| cover.add(term));
            }
        }
        let mut pairs = covers.iter().zip(&asked);
        pairs.all(|(cover, terms)| terms.iter().all(|term| cover.contains(term, &domain)))
    };
    if let Some(one) = (0..at).find(|earlier| cover_all(&[*earlier])) {
        return vec![one];
    }
    let meets = |earlier: &usize| {
        let other = parts(&regions[*earlier], names);
        asked
            .iter()
            .zip(&other)
            .any(|(asked, other)| asked.iter().any(|a| other.iter().any(|b| a.and(b).is_some())))
    };
    let mut rules: Vec<_> = (0..at).filter(meets).collect();
    if rules.len() <= 64 {
        for rule in rules.clone() {
            let without: Vec<_> = rules.iter().copied().filter(|it| *it != rule).collect();
            if cover_all(&without) {
                rules = without;
            }
        }
    }
    rules
}

fn never_reached(rules: &[Rule], at: usize, winners: &[usize]) -> Diagnostic {
    let rule = &rules[at];
    let message = format!("rule `{}` can never be reached", rule.name);
    let error = Diagnostic::new(message, rule.span.clone());
    let quoted = |at: &usize| format!("`{}`", rules[*at].name);
    match winners {
        [] => error.help("earlier rules always win: move it up, or leave it out"),
        [one] => error
            .label("never asked")
            .other(rules[*one].span.clone(), format!("{} always wins", quoted(one)))
            .help(format!("move it above {}, or leave it out", quoted(one))),
        [first, rest @ ..] => {
            let mut names: Vec<_> = rest.iter().take(4).map(quoted).collect();
            if rest.len() > 4 {
                names.push(format!("{} more", rest.len() - 4));
            }
            let label = format!("{} wins, or {}", quoted(first), names.join(", or "));
            error
                .label("never asked")
                .other(rules[*first].span.clone(), label)
                .help("together these rules always win: move it up, or leave it out")
        }
    }
}
