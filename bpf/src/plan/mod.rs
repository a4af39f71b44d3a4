//! The fourth pass: [`Regions`] → [`Plan`]: a graph of decisions, each about one dimension of the connection.
//!
//! The terms of all rules stand in order, and the first that holds decides. A dimension is chosen, its values
//! are cut into the ranges between which nothing changes, and for each range the terms that are left are
//! planned in turn: no path tests a dimension twice, equal rests are one node, and what no path leads to is
//! never emitted.
//!
//! Terms that the dimension does not bound would have to be repeated in every range. Where that is cheap they
//! are; where it would multiply (a port at either end, ten thousand times) they are planned by themselves, and
//! the earlier of both answers counts ([`Node::First`]). So the plan grows with the rules, not with the product
//! of their conditions.
//!
//! That is for code that a person may read. Where it would be long the rules become data ([`walk`](mod@walk)).

mod divide;
pub mod walk;

use crate::diag::Diagnostic;
use crate::matching::{Matching, matching};
use crate::reach::Regions;
use crate::rule::{Pattern, Rule};
use crate::setting::Settings;
use crate::space::{Dimension, Set, Term};
use divide::{best, divide, ranges};
use std::collections::HashMap;
use std::rc::Rc;
use walk::Walk;

/// A node of the plan, by its place in [`Plan::nodes`].
pub type Id = usize;

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// No rule holds.
    Nothing,
    /// This rule decides.
    Rule(usize),
    /// By the value of a dimension: from each first value on, ascending from 0, another node. Neighbours differ.
    Choose(Dimension, Vec<(u128, Id)>),
    /// Whichever node's rule is the earlier.
    First(Id, Id),
    /// The rules are data: [`Plan::walk`].
    Walk,
}

/// The program.
#[derive(Debug)]
pub struct Plan {
    /// All nodes; one comes after those it leads to.
    pub nodes: Vec<Node>,
    /// Where to start.
    pub root: Id,
    /// For each rule what to say of it: `name (rules.toml:LINE)`.
    pub labels: Vec<String>,
    /// For each rule a line: its conditions and settings.
    pub summaries: Vec<String>,
    /// For each rule what it sets.
    pub settings: Vec<Settings>,
    /// The lists of interface patterns that [`Dimension::Interface`] counts.
    pub lists: Vec<Vec<Pattern>>,
    /// Of [`Node::Walk`].
    pub walk: Option<Walk>,
    /// How these are matched.
    pub matching: Matching,
    /// True where some rule asks for the device of an incoming connection.
    pub hears: bool,
}

/// From so many ranges on, a table is shorter and quicker than a tree: a tree of 32 takes 5 comparisons of two
/// instructions each, a table of ports 5 instructions whatever its size, and clang's time grows with the code.
pub(crate) const TABLE: usize = 32;

/// Terms that stay are repeated in this many ranges, all in all, before they are planned by themselves.
const MOST_REPEATED: usize = 64;

/// Code, in comparisons: more than this becomes data ([`walk`](mod@walk)). As code, a thousand rules of five conditions
/// each became 32,000 instructions, took clang 10 s, and the kernel's verifier followed 458,120 instructions, since it
/// follows what comes behind a decision anew for every way that leads there. Of random sets of 150 to 250 comparisons it
/// followed up to 90,000; as data 10,000.
const MOST_CODE: usize = 150;

/// The same where a rule asks for the device: a dozen ways lead through its lookup, and the verifier follows what comes
/// behind for each. Of thirteen random rules (below 150 comparisons) it had not seen the end after 1,000,000 instructions.
const MOST_CODE_WITH_DEVICE: usize = 48;

/// Terms that stand in all ranges of all divisions together, about 2 s of work.
const MOST_HOLDING: usize = 4_000_000;

/// Terms in order, with the rule that each belongs to.
pub type Terms = Vec<(usize, Term)>;

/// What tells lists of terms apart: rules, and for each bounded dimension the (shared) set's address.
type Key = Vec<(usize, Vec<(Dimension, usize)>)>;

/// Plans the program.
///
/// # Errors
/// More rules about ranges of several fields than can be told apart.
pub fn plan(rules: &[Rule], regions: &Regions) -> Result<Plan, Diagnostic> {
    let mut sets = HashMap::new();
    let mut terms = Vec::new();
    for (rule, region) in regions.rules.iter().enumerate() {
        terms.extend(region.iter().map(|term| (rule, share(term, &mut sets))));
    }
    let asks = terms.iter().any(|(_, term)| asks_for_device(term));
    let most_code = if asks { MOST_CODE_WITH_DEVICE } else { MOST_CODE };
    let mut planner = Planner { most_code, ..Planner::default() };
    let mut root = planner.build(&terms);
    let mut data = None;
    if planner.is_exhausted() {
        data = Some(walk::walk(&terms).ok_or_else(|| entangled(rules))?);
        planner = Planner::default();
        root = planner.node(Node::Walk);
    }
    Ok(Plan {
        nodes: planner.nodes,
        root,
        labels: rules
            .iter()
            .map(|rule| format!("{} (rules.toml:{})", rule.name, rule.line))
            .collect(),
        summaries: rules.iter().map(summary).collect(),
        settings: rules.iter().map(|rule| rule.settings.clone()).collect(),
        lists: regions.lists.clone(),
        walk: data,
        matching: matching(rules, &regions.lists)?,
        hears: regions.rules.iter().flatten().any(hears),
    })
}

fn asks_for_device(term: &Term) -> bool {
    term.bounds().any(|(dimension, _)| matches!(dimension, Dimension::Interface(_)))
}

/// True for a term that asks for the device of incoming connections, too.
fn hears(term: &Term) -> bool {
    asks_for_device(term) && term.bound(Dimension::Direction).is_none_or(|set| set.contains(1))
}

fn entangled(rules: &[Rule]) -> Diagnostic {
    let span = rules.first().map_or(0..0, |rule| rule.span.clone());
    Diagnostic::new("the rules from here on are too entangled", span)
        .label("thousands of them test ranges of several fields at once, and overlap")
        .help("use fewer of them, shorter lists, or single ports and prefixes")
}

fn summary(rule: &Rule) -> String {
    format!("{} -> {}", rule.when(), rule.settings)
}

/// Equal sets become one, so that comparing addresses is enough.
fn share(term: &Term, sets: &mut HashMap<Rc<Set>, Rc<Set>>) -> Term {
    term.bounds().fold(Term::default(), |shared, (dimension, set)| {
        let set = sets.entry(Rc::clone(set)).or_insert_with(|| Rc::clone(set));
        shared.replacing(dimension, Rc::clone(set)).unwrap_or_default()
    })
}

#[derive(Default)]
struct Planner {
    nodes: Vec<Node>,
    /// Comparisons that may be code.
    most_code: usize,
    /// Comparisons of all nodes.
    code: usize,
    /// Terms in all ranges of all divisions.
    holding: usize,
    known: HashMap<Node, Id>,
    planned: HashMap<Key, Id>,
    /// Keeps the sets alive whose addresses stand in keys.
    alive: Vec<Rc<Set>>,
}

impl Planner {
    /// True where the plan gets too large to be carried on.
    fn is_exhausted(&self) -> bool {
        self.code > self.most_code || self.holding > MOST_HOLDING
    }

    fn node(&mut self, node: Node) -> Id {
        if let Some(id) = self.known.get(&node) {
            return *id;
        }
        self.code += match &node {
            Node::Nothing | Node::Rule(_) | Node::Walk => 0,
            Node::First(..) => 4,
            // A list is a bit, or a few names.
            Node::Choose(Dimension::Interface(_), _) => 4,
            Node::Choose(_, arms) => arms.len().min(TABLE),
        };
        self.nodes.push(node.clone());
        self.known.insert(node, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn build(&mut self, terms: &[(usize, Term)]) -> Id {
        // Behind a term that always holds nothing is asked; of terms that are there twice the first counts.
        let last = terms.iter().position(|(_, term)| term.is_everything());
        let terms = &terms[..last.map_or(terms.len(), |last| last + 1)];
        if self.is_exhausted() {
            return self.node(Node::Nothing);
        }
        match terms.first() {
            None => return self.node(Node::Nothing),
            Some((rule, term)) if term.is_everything() => return self.node(Node::Rule(*rule)),
            Some(_) => {}
        }
        let key = key(terms);
        if let Some(id) = self.planned.get(&key) {
            return *id;
        }
        self.alive.extend(
            terms.iter().flat_map(|(_, term)| term.bounds().map(|(_, set)| Rc::clone(set))),
        );
        let id = self.split(terms);
        self.planned.insert(key, id);
        id
    }

    fn split(&mut self, terms: &[(usize, Term)]) -> Id {
        let dimension = best(terms);
        let bound = |(_, term): &&(usize, Term)| term.bound(dimension).is_some();
        let free = terms.len() - terms.iter().filter(bound).count();
        // Two or three values double or triple at most; and the families must part before the addresses.
        let few = matches!(dimension, Dimension::Family | Dimension::Direction);
        if free > 0 && !few && ranges(terms, dimension) * free > MOST_REPEATED {
            let (bound, free): (Terms, Terms) =
                terms.iter().cloned().partition(|(_, term)| term.bound(dimension).is_some());
            let (bound, free) = (self.build(&bound), self.build(&free));
            return self.node(Node::First(bound, free));
        }
        let mut built: HashMap<Vec<usize>, Id> = HashMap::new();
        let mut arms: Vec<(u128, Id)> = Vec::new();
        let domain = dimension.domain();
        let left = MOST_HOLDING.saturating_sub(self.holding);
        let Some(division) = divide(terms, dimension, left) else {
            self.holding = usize::MAX;
            return self.node(Node::Nothing);
        };
        self.holding += division.iter().map(|(_, holding)| holding.len()).sum::<usize>();
        let starts: Vec<_> = division.iter().map(|(start, _)| *start).collect();
        for (at, (start, holding)) in division.into_iter().enumerate() {
            let end = starts.get(at + 1).map_or(u128::MAX, |next| next - 1);
            if domain.is_disjoint(&Set::range(start, end)) {
                continue; // values that nothing has, such as mapped IPv6 addresses
            }
            let id = match built.get(&holding) {
                Some(id) => *id,
                None => {
                    let rest = holding.iter().map(|at| {
                        let (rule, term) = &terms[*at];
                        (*rule, term.without(dimension))
                    });
                    let id = self.build(&rest.collect::<Terms>());
                    built.insert(holding, id);
                    id
                }
            };
            if arms.last().is_none_or(|(_, last)| *last != id) {
                arms.push((start, id));
            }
        }
        match arms.as_slice() {
            [(_, only)] => *only,
            _ => self.node(Node::Choose(dimension, arms)),
        }
    }
}

fn key(terms: &[(usize, Term)]) -> Key {
    let bounds = |term: &Term| {
        term.bounds().map(|(dimension, set)| (dimension, Rc::as_ptr(set) as usize)).collect()
    };
    terms.iter().map(|(rule, term)| (*rule, bounds(term))).collect()
}

impl Plan {
    /// True where the program looks for a device.
    #[must_use]
    pub fn asks_for_device(&self) -> bool {
        self.nodes.iter().any(|node| match node {
            Node::Choose(dimension, _) => matches!(dimension, Dimension::Interface(_)),
            Node::Walk => !self.lists.is_empty(),
            _ => false,
        })
    }

    /// The first value and the node of each arm, as a set of values for each node, in order of first value.
    #[must_use]
    pub fn targets(dimension: Dimension, arms: &[(u128, Id)]) -> Vec<(Id, Set)> {
        let domain = dimension.domain();
        let mut ranges: Vec<(Id, Vec<(u128, u128)>)> = Vec::new();
        for (at, (start, id)) in arms.iter().enumerate() {
            let end = arms.get(at + 1).map_or(u128::MAX, |(next, _)| next - 1);
            match ranges.iter_mut().find(|(known, _)| known == id) {
                Some((_, list)) => list.push((*start, end)),
                None => ranges.push((*id, vec![(*start, end)])),
            }
        }
        ranges.into_iter().map(|(id, list)| (id, Set::from_ranges(list).and(&domain))).collect()
    }
}
