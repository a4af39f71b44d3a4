//! The third pass: typed rules → [`Regions`], the connections that each rule decides. A rule that can never match, or
//! is unreachable because earlier ones always win, is a mistake. A list item that earlier rules hide gets a note.
//!
//! There are no false alarms. A rule is reported as unreachable if an earlier rule contains it, or if several earlier
//! rules that differ from it in one dimension together take all of its values there. The same test applies to what such
//! rules leave of it. Two cases are not found: rules that cover it only together and differ in several dimensions, and
//! whatever follows from comparisons between two fields.

mod taken;

use crate::diag::Diagnostic;
use crate::rule::{Formula, PortRange, Prefix, Rule, Test};
use crate::space::{Budget, Dimension, Interfaces, MOST_TERMS, Term, Terms, addresses, terms};
use std::collections::BTreeSet;
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

/// Earlier rules that are left out one by one to explain an unreachable rule by few of them.
const MOST_TRIED: usize = 64;

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
    let mut explained = 0..EXPLAINED;
    for (at, rule) in rules.iter().enumerate() {
        if parts[at].iter().all(Vec::is_empty) {
            diagnostics.push(never_matches(rule, &interfaces));
        } else if let Some(by) = taken_by(&taken, &parts[at], at) {
            let few = explained.next().map(|_| winners(&parts, at, by));
            diagnostics.push(never_reached(rules, at, &few.unwrap_or_default()));
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

/// The earlier rules that together take all of this one, and perhaps others; None if something is left.
fn taken_by(taken: &[Taken<'_>; 2], parts: &[Terms; 2], at: usize) -> Option<BTreeSet<usize>> {
    let mut by = BTreeSet::new();
    let mut pairs = taken.iter().zip(parts);
    pairs
        .all(|(taken, terms)| terms.iter().all(|term| taken.contains(term, at, &mut by)))
        .then_some(by)
}

fn never_matches(rule: &Rule, interfaces: &Interfaces) -> Diagnostic {
    let message = "this rule can never match";
    let help = "its conditions must all match at once: leave one out, or split it into two rules";
    let impossible = |formula: Formula| {
        let terms = terms(&formula, interfaces, &mut Budget::default());
        terms.is_some_and(|terms| parts(&terms).iter().all(Vec::is_empty))
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

/// Those of the earlier rules that are needed to take all of this one.
fn winners(parts: &[[Terms; 2]], at: usize, by: BTreeSet<usize>) -> Vec<usize> {
    let take_all = |rules: &[usize]| {
        let taken = [0, 1].map(|family| {
            let terms = rules.iter().map(|rule| (*rule, parts[*rule][family].as_slice()));
            Taken::new(addresses(family as u128), terms)
        });
        taken_by(&taken, &parts[at], at).is_some()
    };
    let mut rules: Vec<_> = by.into_iter().collect();
    if let Some(one) = rules.iter().take(MOST_TRIED).find(|rule| take_all(&[**rule])) {
        return vec![*one];
    }
    if rules.len() <= MOST_TRIED {
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
    taken: &[Taken<'_>; 2],
    interfaces: &Interfaces,
) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    for (number, condition) in rule.conditions.iter().enumerate() {
        let items = items(&condition.formula);
        if items.len() < 2 {
            continue;
        }
        let others = rule.conditions.iter().enumerate().filter(|(other, _)| *other != number);
        let others = Formula::All(others.map(|(_, it)| it.formula.clone()).collect());
        // Without the list there may be too many cases.
        let expand = |formula: &Formula| terms(formula, interfaces, &mut Budget::default());
        let Some(others) = expand(&others) else { continue };
        let is_hidden = |formula: &Formula| {
            let item = expand(formula);
            let item = item.unwrap_or_else(|| unreachable!("an item is one case, or two"));
            let both = item.iter().flat_map(|item| others.iter().filter_map(|it| it.and(item)));
            let parts = parts(&both.collect::<Vec<_>>());
            !parts.iter().all(Vec::is_empty) && taken_by(taken, &parts, at).is_some()
        };
        let hidden = items.iter().filter(|it| is_hidden(&it.1)).map(|it| format!("`{}`", it.0));
        let mut hidden: Vec<_> = hidden.collect();
        if hidden.is_empty() {
            continue;
        }
        let more = match hidden.len() {
            0..=SPELLED => String::new(),
            count => format!(" and {} more", count - SPELLED),
        };
        hidden.truncate(SPELLED);
        let message = format!("rule `{}`: {}{more} can never match", rule.name, hidden.join(", "));
        notes.push(
            Diagnostic::new(message, condition.span.clone())
                .label("in this list")
                .help("earlier rules always win there: remove the item or move the rule up"),
        );
    }
    notes
}

/// The items of a plain list: the text of each, and what it matches.
fn items(formula: &Formula) -> Vec<(String, Formula)> {
    let parts = match formula {
        // A port at either end.
        Formula::Any(parts) => parts.as_slice(),
        other => std::slice::from_ref(other),
    };
    let test = Formula::Test;
    match parts {
        [Formula::Test(Test::Address(end, prefixes))] => {
            let item = |it: &Prefix| (it.to_string(), test(Test::Address(*end, vec![*it])));
            prefixes.iter().map(item).collect()
        }
        [Formula::Test(Test::Interface(patterns))] => {
            let names = patterns.iter().filter(|pattern| !pattern.is_glob());
            names.map(|it| (it.0.clone(), test(Test::Interface(vec![it.clone()])))).collect()
        }
        [Formula::Test(Test::Port(end, ranges))] => {
            let item = |it: &PortRange| (it.to_string(), test(Test::Port(*end, vec![*it])));
            ranges.iter().map(item).collect()
        }
        [Formula::Test(Test::Port(one, ranges)), Formula::Test(Test::Port(other, same))]
            if ranges == same =>
        {
            let item = |it: &PortRange| {
                let ends = [one, other].map(|end| test(Test::Port(*end, vec![*it])));
                (it.to_string(), Formula::Any(ends.to_vec()))
            };
            ranges.iter().map(item).collect()
        }
        _ => Vec::new(),
    }
}
