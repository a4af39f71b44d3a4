//! The fifth pass: [`Regions`] → [`Plan`], every choice about the program. Few rules become a chain of conditions in
//! the order of the file ([`chain`](mod@chain)). Many rules become tables ([`tables`](mod@tables)).

pub mod chain;
pub mod ports;
pub mod search;
pub mod tables;

use crate::check::options::Options;
use crate::diag::Diagnostic;
use crate::files::Code;
use crate::reach::Regions;
use crate::rule::{Pattern, Rule, SocketField};
use crate::setting::Settings;
use crate::space::interface::Automaton;
use crate::space::{Dimension, Set, Side, Term};
use chain::Chain;
use ports::PortTable;
use search::Lookup;
use std::collections::BTreeSet;
use tables::Tables;

/// The program.
#[derive(Debug)]
pub struct Plan {
    /// A label for each rule: `name (rules.toml:LINE)`.
    pub labels: Vec<String>,
    /// One line per rule: its conditions and settings.
    pub summaries: Vec<String>,
    /// The settings of each rule.
    pub settings: Vec<Settings>,
    /// How a connection's rule is found.
    pub decision: Decision,
    /// How the interface's name is matched. None if no rule tests it.
    pub names: Option<Names>,
    /// True if some rule tests the interface of an incoming connection.
    pub needs_arrivals: bool,
    /// True if some rule tests a number of the socket.
    pub tests_socket: bool,
    /// True if some rule tests the type of service, which a helper function reads.
    pub tests_tos: bool,
    /// The tests in C, if a rule has one.
    pub code: Option<Code>,
    /// The names of the rules. They identify learned timers.
    pub names_of_rules: Vec<String>,
    /// What is counted and measured.
    pub evidence: Evidence,
    /// How many hosts the map of estimates has room for. None if no rule learns.
    pub hosts: Option<u32>,
}

/// What is counted and measured for a rule's connections in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Only the number of connections.
    Off,
    /// Counters.
    Counters,
    /// Counters and a histogram of handshakes.
    All,
}

/// The value matches evidence.h.
const COUNTERS: usize = 6;
/// The value matches evidence.h: the sum of round trips, and one bucket per power of two of microseconds from 256 us
/// to 34 s.
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

    /// The most that fits into 4 MiB for this number of rules.
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
    /// Rules are tested one by one.
    Chain(Chain),
    /// Tables over the fields find the rule.
    Tables(Tables),
}

/// How the interface's name is matched.
#[derive(Debug)]
pub enum Names {
    /// Names and prefixes, compared one by one, per list of patterns.
    Compare(Vec<Vec<Pattern>>),
    /// Each automaton leads to a class, which has a number.
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

/// The number from each first value on. First values ascend from 0.
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
    /// True if connections are observed until the end of their handshake.
    #[must_use]
    pub fn observes(&self) -> bool {
        self.evidence != Evidence::Off || self.hosts.is_some()
    }

    /// True for a program that the kernel accepts only from a loader with CAP_PERFMON. It adds computed numbers to
    /// addresses on several paths, which the kernel refuses to other loaders because of Spectre v1
    /// (`sanitize_ptr_alu()`, kernel/bpf/verifier.c).
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
/// There are too many rules with conditions on several fields.
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
    let tested: BTreeSet<_> = rules.iter().flat_map(Rule::socket_fields).collect();
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
        tests_socket: !tested.is_empty(),
        tests_tos: tested.contains(&SocketField::Tos),
        names_of_rules: rules.iter().map(|rule| rule.name.clone()).collect(),
        evidence: Evidence::of(rules.len(), options.evidence),
        hosts: rules.iter().any(|rule| rule.settings.learned().is_some()).then_some(options.hosts),
    })
}

/// True for a term that also tests the interface of incoming connections.
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
        // The number has one bit per list.
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
