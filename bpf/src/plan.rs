//! The third pass: [`Rule`]s → [`Plan`]: what the program tests, in which order. Emitting it takes no more thought.

use crate::check::spell_duration;
use crate::rule::{Condition, Family, Prefix, Rule};

/// The program, as a list of steps tried from the top; the first that holds answers.
#[derive(Debug)]
pub struct Plan {
    /// The rules that can be reached, in order.
    pub steps: Vec<Step>,
    /// How many rules the file has: the size of the counters and timers.
    pub rules: usize,
    /// Some step asks for a device.
    pub devices: bool,
}

/// One rule.
#[derive(Debug)]
pub struct Step {
    /// Its place in the file, from 0: the index of its counter and timer.
    pub rule: usize,
    /// What the comment above it says.
    pub comment: String,
    /// All must hold; the cheapest first.
    pub tests: Vec<Test>,
}

/// One condition, in the terms of the program's context.
#[derive(Debug)]
pub enum Test {
    /// As the rule has it.
    Condition(Condition),
    /// An address, parted by family: an IPv6 prefix that contains IPv4's corner of the address space
    /// must not match it.
    Address {
        /// The end.
        end: crate::rule::End,
        /// IPv4 alternatives: (address, length).
        v4: Vec<(u32, u8)>,
        /// IPv6 alternatives: (address, length).
        v6: Vec<(u128, u8)>,
    },
}

/// Plans the program.
#[must_use]
pub fn plan(rules: &[Rule]) -> Plan {
    let mut steps = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut conditions: Vec<_> = rule.conditions.iter().collect();
        conditions.sort_by_key(|condition| cost(condition));
        let tests: Vec<_> = conditions.into_iter().map(test).collect();
        let always = tests.is_empty();
        steps.push(Step { rule: index, comment: comment(rule), tests });
        if always {
            // Nothing below a rule without conditions can be reached.
            break;
        }
    }
    let is_device = |test: &Test| matches!(test, Test::Condition(Condition::Interface(_)));
    let devices = steps.iter().flat_map(|step| &step.tests).any(is_device);
    Plan { steps, rules: rules.len(), devices }
}

/// Loads and helper calls, roughly: what is cheap is asked first.
fn cost(condition: &Condition) -> u8 {
    match condition {
        Condition::Direction(_) => 0,
        Condition::Port(..) => 1,
        Condition::Family(_) => 2,
        Condition::Address(..) => 3,
        Condition::Interface(_) => 4,
    }
}

fn test(condition: &Condition) -> Test {
    let Condition::Address(end, prefixes) = condition else {
        return Test::Condition(condition.clone());
    };
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match *prefix {
            Prefix::V4(address, length) => v4.push((address.to_bits(), length)),
            Prefix::V6(address, length) => v6.push((address.to_bits(), length)),
        }
    }
    // A prefix of length 0 is the whole family.
    if v4.iter().any(|(_, length)| *length == 0) && v6.is_empty() {
        return Test::Condition(Condition::Family(Family::Ipv4));
    }
    if v6.iter().any(|(_, length)| *length == 0) && v4.is_empty() {
        return Test::Condition(Condition::Family(Family::Ipv6));
    }
    Test::Address { end: *end, v4, v6 }
}

fn comment(rule: &Rule) -> String {
    format!(
        "{} (rules.toml:{}): {} -> rto {}",
        rule.name,
        rule.line,
        rule.when(),
        spell_duration(rule.settings.rto_us)
    )
}
