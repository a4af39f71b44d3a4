//! Detection of unreachable rules is sound and complete. Small rule sets without globs and without comparisons of two
//! fields are tried on one connection of each kind that they distinguish. A rule that no connection reaches must be
//! refused, and no other rule may be.

mod support;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use set_rto_compiler::compile;
use set_rto_compiler::diag::{Source, render};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use support::VERSION;
use support::check::{Why, idle};
use support::connection::{Connection, Path, Socket};
use support::generate::small;
use support::model::*;
use support::oracle::decide;
use support::print::print;
use support::sample::unmapped;

/// Rule sets with more connections than this are skipped. Each set takes a few milliseconds.
const MOST: usize = 100_000;

/// The first value of each interval within which no rule distinguishes values.
struct Kinds {
    ports: BTreeSet<u16>,
    v4: BTreeSet<u32>,
    v6: BTreeSet<u128>,
    names: BTreeSet<String>,
}

impl Kinds {
    fn new(rules: &Rules) -> Self {
        let mut kinds = Self {
            ports: [0].into(),
            v4: [0].into(),
            // No packet has a mapped address, so an interval may begin after them.
            v6: [0, 1 << 48].into(),
            names: ["other".to_string()].into(),
        };
        let mut tests = Vec::new();
        for condition in rules.rules.iter().flat_map(|rule| &rule.conditions) {
            match condition {
                Condition::Interface(names) => kinds.names.extend(names.iter().cloned()),
                Condition::Port(_, items) => items.iter().for_each(|it| kinds.ports(*it)),
                Condition::Address(_, items) => items.iter().for_each(|it| kinds.net(*it)),
                Condition::Family(_) | Condition::Direction(_) => {}
                Condition::When(expression) => expression.tests(&mut tests),
            }
        }
        for test in tests {
            match test {
                Test::Port(_, _, number) => kinds.ports(Ports(*number, *number)),
                Test::PortIn(_, items) => items.iter().for_each(|it| kinds.ports(*it)),
                Test::Address(_, _, net) => kinds.net(*net),
                Test::AddressIn(_, items) => items.iter().for_each(|it| kinds.net(*it)),
                _ => {}
            }
        }
        kinds.v6.retain(|address| unmapped(*address) == *address);
        kinds
    }

    fn ports(&mut self, Ports(low, high): Ports) {
        self.ports.extend([Some(low), high.checked_add(1)].into_iter().flatten());
    }

    fn net(&mut self, net: Net) {
        match net {
            Net::V4(address, length) => {
                let (low, high) = Net::range4(address, length);
                self.v4.extend([Some(low), high.checked_add(1)].into_iter().flatten());
            }
            Net::V6(address, length) => {
                let (low, high) = Net::range6(address, length);
                self.v6.extend([Some(low), high.checked_add(1)].into_iter().flatten());
            }
        }
    }

    fn count(&self) -> usize {
        let addresses = self.v4.len().pow(2) + self.v6.len().pow(2);
        self.ports.len().pow(2) * addresses * (self.names.len() + 1) * 2
    }

    /// Calls `f` with one connection of each kind.
    fn each(&self, mut f: impl FnMut(&Connection)) {
        let v4: Vec<_> = self.v4.iter().map(|it| IpAddr::V4(Ipv4Addr::from_bits(*it))).collect();
        let v6: Vec<_> = self.v6.iter().map(|it| IpAddr::V6(Ipv6Addr::from_bits(*it))).collect();
        let mut connection = Connection {
            local: v4[0],
            remote: v4[0],
            local_port: 0,
            remote_port: 0,
            direction: Direction::Outgoing,
            device: None,
            socket: Socket::default(),
            path: Path::Nothing,
            numbers: [0; 3],
            decoy: Vec::new(),
        };
        let names = self.names.iter().map(|name| Some(name.clone().into_bytes()));
        for name in names.chain([None]) {
            connection.device = name;
            for direction in [Direction::Outgoing, Direction::Incoming] {
                connection.direction = direction;
                for addresses in [&v4, &v6] {
                    for local in addresses {
                        connection.local = *local;
                        for remote in addresses {
                            connection.remote = *remote;
                            for local_port in &self.ports {
                                connection.local_port = *local_port;
                                for remote_port in &self.ports {
                                    connection.remote_port = *remote_port;
                                    f(&connection);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn check(rules: &Rules, seen: &mut (usize, usize)) -> Result<(), TestCaseError> {
    let kinds = Kinds::new(rules);
    if kinds.count() > MOST {
        return Ok(());
    }
    let mut decides = vec![false; rules.rules.len()];
    let mut holds = decides.clone();
    let alone: Vec<_> =
        rules.rules.iter().map(|rule| Rules { rules: vec![rule.clone()], style: 0 }).collect();
    kinds.each(|connection| {
        if let Some(rule) = decide(rules, connection) {
            decides[rule] = true;
            holds[rule] = true;
        }
        for (rule, alone) in alone.iter().enumerate() {
            holds[rule] = holds[rule] || decide(alone, connection).is_some();
        }
    });
    let printed = print(rules);
    let source = Source { name: "rules.toml", text: &printed.text };
    let errors = compile(&source, VERSION).err().unwrap_or_default();
    let fail = |what: &str| {
        let shown = render(&source, &errors);
        TestCaseError::fail(format!(
            "{what}: decides {decides:?}, holds {holds:?}\n{shown}\n{}",
            printed.text
        ))
    };
    let mut found = vec![None; decides.len()];
    for error in &errors {
        let idle = idle(error, &printed).ok_or_else(|| fail("a right file is refused"))?;
        found[idle.rule] = Some(idle.why);
    }
    for (rule, found) in found.iter().enumerate() {
        let expected = match (holds[rule], decides[rule]) {
            (false, _) => Some(Why::NeverHolds),
            (true, false) => Some(Why::NeverReached),
            (true, true) => None,
        };
        if *found != expected {
            return Err(fail(&format!("rule {rule} is {expected:?}, found {found:?}")));
        }
    }
    seen.0 += 1;
    seen.1 += found.iter().flatten().count();
    Ok(())
}

#[test]
fn exactly_the_idle_rules_are_refused() {
    let config = Config { cases: 3_000, failure_persistence: None, ..Config::default() };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let seen = Cell::new((0, 0));
    let ran = TestRunner::new_with_rng(config, random).run(&small(), |rules| {
        let mut sums = seen.get();
        check(&rules, &mut sums)?;
        seen.set(sums);
        Ok(())
    });
    if let Err(TestError::Fail(reason, _)) = ran {
        panic!("{}", reason.message());
    }
    let (sets, idle) = seen.get();
    assert!(sets > 1_500, "only {sets} rule sets were small enough");
    assert!(idle > 200, "only {idle} rules were idle");
}

/// Sixty thousand rules, none within another. Of two more rules, ten cover the first, and all but one port of the
/// second.
#[test]
fn what_ten_of_sixty_thousand_cover() {
    let site = |at: usize| format!("remote = \"10.{}.{}.0/24\"", at >> 8, at & 255);
    let rule = |name: &str, at: usize, ports: &str| {
        format!("[[rule]]\nname = \"{name}\"\n{}\nremote_port = {ports}\nrto = \"2s\"\n", site(at))
    };
    let port = |at: usize| (1_000 + at % 10).to_string();
    let mut text: String =
        (0..60_000).map(|at| rule(&format!("r{at}"), at / 10, &port(at))).collect();
    text += &rule("covered", 777, "\"1000-1009\"");
    text += &rule("one-port-more", 4_321, "\"1000-1010\"");
    let errors = compile(&Source { name: "rules.toml", text: &text }, VERSION).expect_err("one");
    let messages: Vec<_> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["rule `covered` can never be reached"]);
}
