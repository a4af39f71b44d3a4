//! The fifth pass: [`Regions`] → [`Plan`]: every choice about the program. Few rules become a chain of conditions in
//! the order of the file ([`chain`](mod@chain)), many become tables ([`tables`](mod@tables)).

pub mod chain;
pub mod ports;
pub mod search;
pub mod tables;

use crate::check::options::Options;
use crate::diag::Diagnostic;
use crate::files::Code;
use crate::reach::Regions;
use crate::rule::{Pattern, Rule};
use crate::setting::Settings;
use crate::space::interface::Automaton;
use crate::space::{Dimension, Set, Side, Term};
use chain::Chain;
use ports::PortTable;
use search::Lookup;
use tables::Tables;

/// The program.
#[derive(Debug)]
pub struct Plan {
    /// A label for each rule: `name (rules.toml:LINE)`.
    pub labels: Vec<String>,
    /// For each rule a line: its conditions and settings.
    pub summaries: Vec<String>,
    /// For each rule what it sets.
    pub settings: Vec<Settings>,
    /// How a connection's rule is found.
    pub decision: Decision,
    /// How the interface's name is matched; None if no rule tests it.
    pub names: Option<Names>,
    /// True if some rule tests the interface of an incoming connection.
    pub needs_arrivals: bool,
    /// The tests in C, if a rule has one.
    pub code: Option<Code>,
    /// The names of the rules, which identify what is learned.
    pub names_of_rules: Vec<String>,
    /// What is counted and measured.
    pub evidence: Evidence,
    /// How many hosts are remembered; None if no rule learns.
    pub hosts: Option<u32>,
}

/// What is counted and measured of a rule's connections, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Only how many connections there were.
    Off,
    /// Counters.
    Counters,
    /// Counters, and how long handshakes took.
    All,
}

/// As in evidence.h.
const COUNTERS: usize = 6;
/// As in evidence.h: the sum of round trips, and a bucket for each power of two of microseconds from 256 us to 34 s.
const BUCKETS: usize = 1 + 19;

impl Evidence {
    /// 64-bit numbers for each rule and direction.
    #[must_use]
    pub fn numbers(self) -> usize {
        match self {
            Self::Off => 0,
            Self::Counters => COUNTERS,
            Self::All => COUNTERS + BUCKETS,
        }
    }

    /// As much as fits into 4 MiB, with so many rules.
    #[must_use]
    pub fn of(rules: usize, wanted: bool) -> Self {
        let fits = |numbers: usize| 2 * rules * numbers * 8 <= 4 << 20;
        match wanted {
            true if fits(Self::All.numbers()) => Self::All,
            true if fits(Self::Counters.numbers()) => Self::Counters,
            _ => Self::Off,
        }
    }
}

/// How a connection's rule is found.
#[derive(Debug)]
pub enum Decision {
    /// Rule by rule.
    Chain(Chain),
    /// By tables over the fields.
    Tables(Tables),
}

/// How the interface's name is matched.
#[derive(Debug)]
pub enum Names {
    /// Names and prefixes, compared one by one; for each list of patterns.
    Compare(Vec<Vec<Pattern>>),
    /// Each automaton leads to a class, for which there is a number.
    Automata(Vec<(Automaton, Vec<u64>)>),
}

/// A number for each value of a field.
#[derive(Debug)]
pub enum Table {
    /// Of a port.
    Port(Side, PortTable),
    /// Of an address: of IPv4 and of IPv6.
    Address(Side, [Lookup; 2]),
}

/// From each first value on, ascending from 0, a number.
pub type Steps = Vec<(u128, u32)>;

impl Table {
    /// The table of a port or an address.
    #[must_use]
    pub fn new(dimension: Dimension, steps: &Steps) -> Self {
        match dimension {
            Dimension::Port(side) => Self::Port(side, PortTable::new(steps)),
            Dimension::Address(side) => Self::Address(side, search::families(steps)),
            other => unreachable!("{other:?} has few values: it needs no table"),
        }
    }
}

impl Plan {
    /// True where connections are looked at up to the end of their handshake.
    #[must_use]
    pub fn observes(&self) -> bool {
        self.evidence != Evidence::Off || self.hosts.is_some()
    }

    /// True for a program that the kernel takes from a loader with CAP_PERFMON only: it adds computed numbers to
    /// addresses, on several paths, which is refused to others because of Spectre v1 (`sanitize_ptr_alu()`,
    /// kernel/bpf/verifier.c).
    #[must_use]
    pub fn needs_perfmon(&self) -> bool {
        let has_tables = match &self.decision {
            Decision::Chain(chain) => !chain.lookups.is_empty(),
            Decision::Tables(_) => true,
        };
        // What the code does is unknown.
        has_tables || self.code.is_some() || matches!(self.names, Some(Names::Automata(_)))
    }
}

/// Plans the program.
///
/// # Errors
/// More cases of several fields than can be told apart.
pub fn plan(
    rules: &[Rule],
    regions: &Regions,
    options: &Options,
    code: Option<Code>,
) -> Result<Plan, Diagnostic> {
    let decision = match chain::chain(rules, &regions.interfaces) {
        Some(chain) => Decision::Chain(chain),
        None => Decision::Tables(tables::tables(rules, regions)?),
    };
    Ok(Plan {
        labels: rules
            .iter()
            .map(|rule| format!("{} (rules.toml:{})", rule.name, rule.line))
            .collect(),
        summaries: rules
            .iter()
            .map(|rule| format!("{} -> {}", rule.when(), rule.settings))
            .collect(),
        settings: rules.iter().map(|rule| rule.settings.clone()).collect(),
        names: names(&decision, regions),
        code,
        decision,
        needs_arrivals: regions.rules.iter().flatten().any(needs_arrivals),
        names_of_rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        evidence: Evidence::of(rules.len(), options.evidence),
        hosts: rules.iter().any(|rule| rule.settings.learned().is_some()).then_some(options.hosts),
    })
}

/// True for a term that asks for the interface of incoming connections, too.
fn needs_arrivals(term: &Term) -> bool {
    let incoming = |set: &std::rc::Rc<Set>| set.contains(1);
    term.bounds().any(|(dimension, _)| dimension.is_interface())
        && term.bound(Dimension::Direction).is_none_or(incoming)
}

fn names(decision: &Decision, regions: &Regions) -> Option<Names> {
    let interfaces = &regions.interfaces;
    if interfaces.lists.is_empty() {
        return None;
    }
    let numbers = |it: &Automaton| match decision {
        // A bit for each list.
        Decision::Chain(_) => {
            let bits = |lists: &Vec<u32>| lists.iter().fold(0, |bits, list| bits | 1 << list);
            it.classes.iter().map(bits).collect()
        }
        Decision::Tables(_) => (0..it.classes.len() as u64).collect(),
    };
    let automata = interfaces.automata.iter().map(|it| (it.clone(), numbers(it)));
    Some(match decision {
        Decision::Chain(chain) if chain.compares_names => Names::Compare(interfaces.lists.clone()),
        _ => Names::Automata(automata.collect()),
    })
}
