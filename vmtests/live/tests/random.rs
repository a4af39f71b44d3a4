//! Random rule sets on the real kernel. Every connection must get the timer that a straightforward reading of the
//! rules gives. (Far more of them run in the compiler's own tests, in an interpreter.)

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use set_rto_compiler::compile;
use set_rto_compiler::diag::Source;
use set_rto_compiler::diag::render;
use set_rto_compiler::explain::Connection;
use set_rto_compiler::explain::decides;
use set_rto_compiler::rule::Direction;
use set_rto_compiler::rule::Formula;
use set_rto_compiler::rule::Prefix;
use set_rto_compiler::rule::Rule;
use set_rto_compiler::rule::Test;

use super::policy::Policy;
use crate::harness::netns::has_ipv6;
use crate::harness::note;
use crate::harness::sandbox;
use crate::harness::sockets::From;
use crate::harness::tests;

tests! {
    random_rules_1: 90,
    random_rules_2: 90,
    random_rules_3: 90,
    large_rules: 400,
}

/// The number of connections for each direction and rule set.
const OUTGOING: usize = 250;
const INCOMING: usize = 60;

fn random_rules_1() -> Result<()> {
    run("random-1", include_str!("../rules/random-1.toml"), 2)
}

fn random_rules_2() -> Result<()> {
    run("random-2", include_str!("../rules/random-2.toml"), 2)
}

fn random_rules_3() -> Result<()> {
    run("random-3", include_str!("../rules/random-3.toml"), 2)
}

/// Thousands of rules. This kernel loads the compiled result, which decides.
fn large_rules() -> Result<()> {
    let file = sandbox::bin_dir()?.join("large.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    run("large", text.leak(), 20)
}

/// At least one in `one_in` of the rules must decide a connection.
fn run(name: &str, text: &'static str, one_in: usize) -> Result<()> {
    let source = Source { name, text };
    let compiled = compile(&source, "0.0.0").map_err(|errors| anyhow!(render(&source, &errors)))?;
    let policy = Policy::install(name, text, &["va"])?;
    let mut ends = Ends::of(&compiled.rules);
    let mut seen = vec![0; compiled.rules.len() + 1];
    for number in 0..OUTGOING + INCOMING {
        let direction = if number < OUTGOING { Direction::Outgoing } else { Direction::Incoming };
        let (local, remote) = ends.pair();
        let connection = Connection { direction, interface: Some("va".into()), local, remote };
        let rule = decides(&compiled.rules, &connection);
        seen[rule.unwrap_or(compiled.rules.len())] += 1;
        // Names live as long as the one-shot test process.
        let expected: Option<&'static str> =
            rule.map(|at| &*Box::leak(compiled.rules[at].name.clone().into_boxed_str()));
        match direction {
            Direction::Outgoing => {
                let from = From { local: Some(local), device: None };
                policy.outgoing_from(from, remote, expected)
            }
            Direction::Incoming => policy.incoming_from(remote, local, expected),
        }
        .with_context(|| format!("{connection:?} is {expected:?}'s"))?;
    }
    let reached = seen[..compiled.rules.len()].iter().filter(|count| **count > 0).count();
    note(format!(
        "{reached} of {} rules decided, {} none",
        compiled.rules.len(),
        seen[seen.len() - 1]
    ));
    ensure!(reached * one_in >= compiled.rules.len(), "too few rules were met");
    policy.finish()
}

/// Connection ends at the boundaries of the rules' values.
struct Ends {
    ports: Vec<u16>,
    remotes: Vec<IpAddr>,
    state: u64,
}

impl Ends {
    fn of(rules: &[Rule]) -> Self {
        let mut ends = Ends { ports: vec![1024, 40000, 65535], remotes: Vec::new(), state: 7 };
        for rule in rules {
            rule.conditions.iter().for_each(|condition| ends.gather(&condition.formula));
        }
        ends.remotes.push(Ipv4Addr::new(10, 99, 7, 7).into());
        ends.remotes.push(Ipv6Addr::new(0xfd99, 0, 0, 7, 0, 0, 0, 7).into());
        ends.remotes.retain(|address| match address {
            IpAddr::V4(address) => address.octets()[0] == 10 && address.octets()[1] != 20,
            IpAddr::V6(address) => has_ipv6() && address.segments()[0] == 0xfd99,
        });
        ends
    }

    fn gather(&mut self, formula: &Formula) {
        match formula {
            Formula::All(parts) | Formula::Any(parts) => {
                parts.iter().for_each(|part| self.gather(part));
            }
            Formula::Not(part) => self.gather(part),
            Formula::Test(Test::Port(_, ranges)) => {
                for range in ranges {
                    let (low, high) = (range.low, range.high);
                    let edges = [low.saturating_sub(1), low, high, high.saturating_add(1)];
                    self.ports.extend(edges.into_iter().filter(|port| *port > 0));
                }
            }
            Formula::Test(Test::Address(_, prefixes)) => {
                // Take a few from long lists, so that they do not dominate.
                let some = prefixes.iter().step_by(1 + prefixes.len() / 64);
                some.for_each(|prefix| self.edges(*prefix));
            }
            Formula::Test(_) => {}
        }
    }

    fn edges(&mut self, prefix: Prefix) {
        match prefix {
            Prefix::V4(address, length) => {
                let low = address.to_bits();
                let high = low | u32::MAX.checked_shr(length.into()).unwrap_or(0);
                let edges = [low.wrapping_sub(1), low, high, high.wrapping_add(1)];
                self.remotes.extend(edges.map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
            }
            Prefix::V6(address, length) => {
                let low = address.to_bits();
                let high = low | u128::MAX.checked_shr(length.into()).unwrap_or(0);
                let edges = [low.wrapping_sub(1), low, high, high.wrapping_add(1)];
                self.remotes.extend(edges.map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
            }
        }
    }

    /// The numbers are the same each time, so a failure is reproducible.
    fn random(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) as usize % below
    }

    fn port(&mut self) -> u16 {
        let at = self.random(self.ports.len());
        let port = self.ports[at];
        // Any port works: nothing else runs in this namespace.
        port.max(1)
    }

    /// A local and a remote end of the same family.
    fn pair(&mut self) -> (SocketAddr, SocketAddr) {
        let at = self.random(self.remotes.len());
        let remote = self.remotes[at];
        let local: IpAddr = match remote {
            IpAddr::V4(_) => Ipv4Addr::new(10, 20, 1, 1).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd20, 1, 0, 0, 0, 0, 0, 1).into(),
        };
        ((local, self.port()).into(), (remote, self.port()).into())
    }
}
