//! The third pass: typed rules → [`Regions`], the connections that each rule decides. A rule that can never match, or
//! is unreachable because earlier ones always win, is a mistake. A list item that earlier rules hide gets a note.
//!
//! There are no false alarms. A rule is reported as unreachable if an earlier rule contains it, or if several earlier
//! rules that differ from it in one dimension together take all of its values there. The same test applies to what such
//! rules leave of it. Two cases are not found: rules that cover it only together and differ in several dimensions, and
//! whatever follows from comparisons between two fields.

mod taken;

use crate::diag::Diagnostic;
use crate::rule::{Condition, Formula, Rule, Test};
use crate::space::{
    Budget, Dimension, Interfaces, MOST_TERMS, Set, Term, Terms, addresses, port_set, prefix_set,
    terms,
};
use std::rc::Rc;
use taken::Taken;

/// The rules as regions of the space of connections.
#[derive(Debug)]
pub struct Regions {
    /// For each rule, in order.
    pub rules: Vec<Terms>,
    /// What [`Dimension::Interface`] counts.
    pub interfaces: Interfaces,
    /// List items that can never match.
    pub notes: Vec<Diagnostic>,
}

/// The maximum number of unreachable rules to explain.
const EXPLAINED: usize = 20;

/// The earlier rules that are tried one by one to explain an unreachable rule.
const MOST_TRIED: usize = 5_000;

/// Hidden items that a note spells out.
const SPELLED: usize = 4;

/// Finds the regions.
///
/// # Errors
/// Rules that can never match, that can never be reached, or that have too many cases.
pub fn reach(rules: &[Rule]) -> Result<Regions, Vec<Diagnostic>> {
    let interfaces = Interfaces::new(rules).map_err(|error| vec![error])?;
    let mut regions = Vec::with_capacity(rules.len());
    let mut budget = Budget::default();
    for rule in rules {
        let all = Formula::All(rule.conditions.iter().map(|it| it.formula.clone()).collect());
        // One report is enough: the rules that follow may have no budget left.
        let terms = terms(&all, &interfaces, &mut budget);
        regions.push(terms.ok_or_else(|| vec![too_many_cases(rule)])?);
    }
    let parts: Vec<_> = regions.iter().map(|terms| parts(terms)).collect();
    let taken = [0, 1].map(|family| {
        let terms = parts.iter().map(|parts| parts[family].as_slice());
        Taken::new(addresses(family as u128), terms.enumerate())
    });
    let mut diagnostics = Vec::new();
    let mut explained = 0;
    for (at, rule) in rules.iter().enumerate() {
        if parts[at].iter().all(Vec::is_empty) {
            diagnostics.push(never_matches(rule, &interfaces));
        } else if is_taken(&taken, &parts[at], at) {
            explained += 1;
            let winners = match explained {
                0..=EXPLAINED => winners(&parts, at),
                _ => Vec::new(),
            };
            diagnostics.push(never_reached(rules, at, &winners));
        }
    }
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let hidden = |(at, rule)| hidden_items(rule, at, &taken, &interfaces);
    let notes = rules.iter().enumerate().skip(1).flat_map(hidden).collect();
    Ok(Regions { rules: regions, interfaces, notes })
}

fn too_many_cases(rule: &Rule) -> Diagnostic {
    Diagnostic::new("this rule has too many cases", rule.span.clone()).help(format!(
        "at most {MOST_TERMS} after expanding `or`, and fewer where lists are long: split it into several rules"
    ))
}

/// The terms of one family each, without the family; no impossible ones.
fn parts(terms: &[Term]) -> [Terms; 2] {
    [0, 1].map(|family| terms.iter().filter_map(|term| part(term, family)).collect())
}

fn part(term: &Term, family: u128) -> Option<Term> {
    let families = term.bound(Dimension::Family);
    if families.is_some_and(|families| !families.contains(family)) {
        return None;
    }
    let all = Rc::new(addresses(family));
    let mut part = term.without(Dimension::Family);
    for (dimension, set) in term.bounds() {
        if matches!(dimension, Dimension::Address(_)) {
            let inside = set.and(&all);
            part = match inside == *all {
                true => part.without(dimension),
                false => part.replacing(dimension, Rc::new(inside))?,
            };
        }
    }
    Some(part)
}

fn is_taken(taken: &[Taken; 2], parts: &[Terms; 2], at: usize) -> bool {
    let mut pairs = taken.iter().zip(parts);
    pairs.all(|(taken, terms)| terms.iter().all(|term| taken.contains(term, at)))
}

fn never_matches(rule: &Rule, interfaces: &Interfaces) -> Diagnostic {
    let message = "this rule can never match";
    let help = "its conditions must all match at once: leave one out, or split it into two rules";
    let impossible = |formula: Formula| {
        let terms = terms(&formula, interfaces, &mut Budget::default()).unwrap_or_default();
        parts(&terms).iter().all(Vec::is_empty)
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

/// The earlier rules that together take all of this one, reduced by dropping one after the other.
fn winners(parts: &[[Terms; 2]], at: usize) -> Vec<usize> {
    let asked = &parts[at];
    let take_all = |rules: &[usize]| {
        let taken = [0, 1].map(|family| {
            let terms = rules.iter().map(|rule| (*rule, parts[*rule][family].as_slice()));
            Taken::new(addresses(family as u128), terms)
        });
        is_taken(&taken, asked, at)
    };
    let meets = |earlier: &usize| {
        let mut families = asked.iter().zip(&parts[*earlier]);
        families.any(|(asked, other)| asked.iter().any(|a| other.iter().any(|b| a.meets(b))))
    };
    let mut rules: Vec<_> = (0..at).filter(meets).take(MOST_TRIED).collect();
    if let Some(one) = rules.iter().find(|earlier| take_all(&[**earlier])) {
        return vec![*one];
    }
    if rules.len() <= 64 {
        for rule in rules.clone() {
            let without: Vec<_> = rules.iter().copied().filter(|it| *it != rule).collect();
            if take_all(&without) {
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
        [] => error.help("earlier rules always win: move it up or remove it"),
        [one] => error
            .label("unreachable")
            .other(rules[*one].span.clone(), format!("{} always wins", quoted(one)))
            .help(format!("move it above {} or remove it", quoted(one))),
        [first, rest @ ..] => {
            let mut names: Vec<_> = rest.iter().take(4).map(quoted).collect();
            if rest.len() > 4 {
                names.push(format!("{} more", rest.len() - 4));
            }
            let label = format!("{} wins, or {}", quoted(first), names.join(", or "));
            error
                .label("unreachable")
                .other(rules[*first].span.clone(), label)
                .help("together these rules always win: move it up or remove it")
        }
    }
}

/// Notes on list items that earlier rules take, if the rule itself is reachable. Globs of interfaces are not checked.
fn hidden_items(
    rule: &Rule,
    at: usize,
    taken: &[Taken; 2],
    interfaces: &Interfaces,
) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    for (number, condition) in rule.conditions.iter().enumerate() {
        let items = items(condition, interfaces);
        if items.len() < 2 {
            continue;
        }
        let others = rule.conditions.iter().enumerate().filter(|(other, _)| *other != number);
        let others = Formula::All(others.map(|(_, it)| it.formula.clone()).collect());
        // The whole rule has been expanded, and this is less.
        let Some(others) = terms(&others, interfaces, &mut Budget::default()) else { continue };
        let others = self::parts(&others);
        let hidden = |bounds: &[(Dimension, Rc<Set>)]| {
            let parts = [0, 1].map(|family| -> Terms {
                let bounds = bounds.iter().map(|(at, set)| match at {
                    Dimension::Address(_) => (*at, Rc::new(set.and(&addresses(family)))),
                    _ => (*at, Rc::clone(set)),
                });
                let bounds: Vec<_> = bounds.collect();
                let with = |term: &Term| -> Terms {
                    bounds.iter().filter_map(|(at, set)| term.with(*at, set)).collect()
                };
                others[family as usize].iter().flat_map(with).collect()
            });
            !parts.iter().all(Vec::is_empty) && is_taken(taken, &parts, at)
        };
        let hidden: Vec<_> =
            items.iter().filter(|it| hidden(&it.1)).map(|it| format!("`{}`", it.0)).collect();
        if hidden.is_empty() {
            continue;
        }
        let more = match hidden.len().checked_sub(SPELLED) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        let few: Vec<_> = hidden.into_iter().take(SPELLED).collect();
        let message = format!("rule `{}`: {}{more} can never match", rule.name, few.join(", "));
        notes.push(
            Diagnostic::new(message, condition.span.clone())
                .label("in this list")
                .help("earlier rules always win there: remove the item or move the rule up"),
        );
    }
    notes
}

/// The items of a plain list: the text of each, and its bounds, one of which must match.
type Item = (String, Vec<(Dimension, Rc<Set>)>);

fn items(condition: &Condition, interfaces: &Interfaces) -> Vec<Item> {
    let tests: Vec<&Test> = match &condition.formula {
        Formula::Test(test) => vec![test],
        // A port at either end.
        Formula::Any(parts) => {
            let tests = parts.iter().filter_map(|part| match part {
                Formula::Test(test @ Test::Port(..)) => Some(test),
                _ => None,
            });
            tests.collect()
        }
        _ => Vec::new(),
    };
    let Some(first) = tests.first() else { return Vec::new() };
    let sides = || {
        tests.iter().filter_map(|test| match test {
            Test::Port(end, ranges) => Some((Dimension::Port((*end).into()), ranges)),
            _ => None,
        })
    };
    match first {
        Test::Port(_, ranges) if sides().all(|(_, it)| it == ranges) => {
            let item = |range| {
                let set = Rc::new(port_set(&[range]));
                (range.to_string(), sides().map(|(at, _)| (at, Rc::clone(&set))).collect())
            };
            ranges.iter().map(|range| item(*range)).collect()
        }
        Test::Address(end, prefixes) => {
            let at = Dimension::Address((*end).into());
            let set = |prefix| vec![(at, Rc::new(prefix_set(&[prefix])))];
            prefixes.iter().map(|prefix| (prefix.to_string(), set(*prefix))).collect()
        }
        Test::Interface(patterns) => {
            let (at, _) = interfaces.classes(patterns);
            let automaton = interfaces.automaton_of(interfaces.number(patterns));
            let class = |name: &str| interfaces.automata[automaton].class(name.as_bytes()) as u128;
            let names = patterns.iter().filter(|pattern| !pattern.is_glob());
            names
                .map(|name| (name.0.clone(), vec![(at, Rc::new(Set::one(class(&name.0))))]))
                .collect()
        }
        _ => Vec::new(),
    }
}
