//! The property: for any rules and any connection, the compiled program gives the oracle's answer.

use super::connection::Connection;
use super::handshake;
use super::hazards::hazards;
use super::image::Image;
use super::kernel::{Log, Method};
use super::layout::Layout;
use super::model::{Direction, Rule, Rules};
use super::oracle::decide;
use super::print::{Printed, name, print};
use super::random::Random;
use super::runner::{Load, Runner};
use super::sample::Sampler;
use super::settings::{SPECS, TIMEOUT_INIT, Told};
use super::verifier::verify;
use super::{VERSION, WITHOUT_EVIDENCE, clang};
use set_rto_compiler::diag::{Diagnostic, Source, render};
use set_rto_compiler::{Policy, compile};

/// Sums of what has been tested, which show that a test covered enough.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// Rule sets that ran.
    pub(crate) sets: usize,
    pub(crate) runs: usize,
    /// The rules of those sets, and how many decided some connection.
    pub(crate) rules: usize,
    pub(crate) decisive: usize,
    /// Rules that were refused correctly.
    pub(crate) refused: usize,
    /// Sets that rbpf ran as well.
    pub(crate) seconded: usize,
    /// Connections that a rule decided.
    pub(crate) decided: usize,
    /// Sets with more than timers.
    pub(crate) set: usize,
    /// Options that were set, and those of them that were refused.
    pub(crate) assigned: usize,
    pub(crate) denied: usize,
    /// Listeners for which something was set.
    pub(crate) listeners: usize,
    /// Connections that went through all callbacks, and those for which something was set.
    pub(crate) lives: usize,
    pub(crate) changed: usize,
    /// Sets with the route method on a kernel with 4-byte pointers, and connections there that a rule decided.
    pub(crate) narrow: (usize, usize),
    /// The most instructions of a decision.
    pub(crate) worst: u64,
    /// The most instructions that the verifier processed.
    pub(crate) verified: u64,
}

/// Removes the rules that the compiler refuses, if it is right. Returns the remaining rules and the number of refused
/// ones.
pub(crate) fn settle(
    rules: &Rules,
    samples: &[Connection],
) -> Result<(Rules, Policy, usize), String> {
    let mut rules = rules.clone();
    let mut refused = 0;
    loop {
        let printed = print(&rules);
        let source = Source { name: "rules.toml", text: &printed.text };
        let errors = match compile(&source, VERSION) {
            Ok(policy) => return Ok((rules, policy, refused)),
            Err(errors) => errors,
        };
        let fail =
            |what: &str| Err(format!("{what}\n{}\n{}", render(&source, &errors), printed.text));
        let silent: Vec<_> = errors.iter().filter_map(|it| silent(it, &printed)).collect();
        if silent.len() == errors.len() {
            for (rule, direction) in silent {
                let is_meant = |connection: &&Connection| {
                    Some(connection.direction) == direction
                        && decide(&rules, connection) == Some(rule)
                };
                if let Some(connection) = samples.iter().find(is_meant) {
                    return fail(&format!("rule {rule} matches {direction:?}: {connection:?}"));
                }
                let rule = &mut rules.rules[rule];
                rule.settings.retain(|it| match direction {
                    Some(Direction::Outgoing) => !it.is_outgoing_only(),
                    _ => !matches!(it.told(), Told::Listener(..)),
                });
                rule.rto = rule.rto.or(rule.settings.is_empty().then_some(1_000_000));
            }
            continue;
        }
        let Some(mut gone) = errors.iter().map(|it| idle(it, &printed)).collect::<Option<Vec<_>>>()
        else {
            return fail("a right file is refused:");
        };
        for it in &gone {
            let decides = |connection: &&Connection| decide(&rules, connection) == Some(it.rule);
            let holds = |connection: &&Connection| {
                let alone = Rules { rules: vec![rules.rules[it.rule].clone()], style: 0 };
                decide(&alone, connection).is_some()
            };
            let wrong = match it.why {
                Why::NeverReached => samples.iter().find(decides),
                Why::NeverHolds => samples.iter().find(holds),
                Why::TooManyCases => None,
            };
            if let Some(connection) = wrong {
                return fail(&format!("rule {} is not idle, it decides {connection:?}", it.rule));
            }
        }
        gone.sort_by_key(|it| it.rule);
        gone.dedup_by_key(|it| it.rule);
        refused += gone.len();
        for it in gone.iter().rev() {
            rules.rules.remove(it.rule);
        }
        if rules.rules.is_empty() {
            // Anything, so that there is something to run.
            return Err(String::new());
        }
    }
}

/// A rule that the compiler refuses.
pub(crate) struct Idle {
    pub(crate) rule: usize,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    NeverReached,
    NeverHolds,
    TooManyCases,
}

/// The rule and the kind of a diagnostic. None if it is about something else.
pub(crate) fn idle(diagnostic: &Diagnostic, printed: &Printed) -> Option<Idle> {
    let rule = printed.rule_at(diagnostic.span.start);
    let message = diagnostic.message.as_str();
    let why = match message {
        "this rule can never match" => Why::NeverHolds,
        "this rule has too many cases" => Why::TooManyCases,
        _ if message == format!("rule `{}` can never be reached", name(rule)) => Why::NeverReached,
        _ => return None,
    };
    Some(Idle { rule, why })
}

/// A rule that has a setting of one direction, which it should not match. None: a setting of listeners, on which it
/// cannot decide.
fn silent(diagnostic: &Diagnostic, printed: &Printed) -> Option<(usize, Option<Direction>)> {
    let direction = match diagnostic.message.as_str() {
        it if it.ends_with("` in a rule for incoming connections") => Some(Direction::Outgoing),
        "`synack_retries` in a rule for outgoing connections" => Some(Direction::Incoming),
        it if it.ends_with(": `synack_retries` is set on listeners") => None,
        _ => return None,
    };
    Some((printed.rule_at(diagnostic.span.start), direction))
}

/// Compiles a rule set and runs it on this many connections.
pub(crate) fn check(rules: &Rules, count: usize, seen: &mut Seen) -> Result<(), String> {
    let mut random = Random(rules.style ^ 0x5eed);
    let sampler = Sampler::new(rules);
    let samples: Vec<_> = (0..count).map(|_| sampler.connection(&mut random)).collect();
    let (rules, policy, refused) = match settle(rules, &samples) {
        Err(nothing) if nothing.is_empty() => return Ok(()),
        settled => settled?,
    };
    let text = print(&rules).text;
    let described = |what: String| format!("{what}\n\n{text}");
    for (rule, compiled) in rules.rules.iter().zip(&policy.rules) {
        if !same(rule, compiled) {
            return Err(described(format!("{} sets {}", compiled.name, compiled.settings)));
        }
    }
    let mut hit = vec![false; rules.rules.len()];
    run(&rules, &policy.c, false, &samples, &mut hit, seen).map_err(described)?;
    // A few on a machine of the other byte order, and as the compiler describes the rules.
    match random.below(8) {
        0 => {
            let few = &samples[..count / 4];
            run(&rules, &policy.c, true, few, &mut hit, &mut Seen::default())
                .map_err(|what| described(format!("big-endian: {what}")))?;
        }
        1 => {
            let told: Vec<_> = policy.rules.iter().map(told).collect();
            let told = told.concat() + WITHOUT_EVIDENCE;
            if !told.contains('…') {
                let source = Source { name: "told.toml", text: &told };
                let policy = compile(&source, VERSION).map_err(|errors| {
                    described(format!("as described:\n{told}\n{}", render(&source, &errors)))
                })?;
                let few = &samples[..count / 4];
                let mut timed = rules.clone();
                for rule in &mut timed.rules {
                    (rule.rto, rule.settings) = (Some(1_000_000), Vec::new());
                }
                run(&timed, &policy.c, false, few, &mut hit, &mut Seen::default())
                    .map_err(|what| described(format!("as described: {what}\n{told}")))?;
            }
        }
        _ => {}
    }
    seen.sets += 1;
    seen.refused += refused;
    seen.rules += hit.len();
    seen.decisive += hit.iter().filter(|hit| **hit).count();
    Ok(())
}

/// True if the compiler understood what the rule sets.
fn same(rule: &Rule, compiled: &set_rto_compiler::rule::Rule) -> bool {
    let mut expected: Vec<_> = rule.rto.map(|us| ("rto", us, "")).into_iter().collect();
    expected.extend(rule.settings.iter().map(|it| (SPECS[it.at].0, it.value, it.name)));
    let found = compiled.settings.iter().map(|(setting, value)| match value {
        set_rto_compiler::setting::Value::Name(name) => (setting.key, 0, name.as_str()),
        other => (setting.key, u64::from(other.number()), ""),
    });
    found.eq(expected)
}

/// A rule in the words that `set-rto rules` has for it.
fn told(rule: &set_rto_compiler::rule::Rule) -> String {
    let when = rule.when();
    let when = if when == "true" { String::new() } else { format!("when = '''{when} '''\n") };
    format!("[[rule]]\nname = \"{}\"\nrto = \"1s\"\n{when}", rule.name)
}

/// How devices are found, alternating between route and address.
pub(crate) fn method(rules: &Rules) -> Method {
    if rules.style.count_ones() & 1 == 0 { Method::Route } else { Method::Address }
}

/// How the kernel lays out its structures: simply, or anyhow with pointers of 8 or of 4 bytes.
pub(crate) fn layout(rules: &Rules) -> Layout {
    let mut random = Random(rules.style ^ 0x1a07);
    match random.below(4) {
        0 => Layout::SIMPLE,
        1 => Layout::made_up(&mut random, 8),
        _ => Layout::made_up(&mut random, 4),
    }
}

fn run(
    rules: &Rules,
    c: &str,
    big_endian: bool,
    samples: &[Connection],
    hit: &mut [bool],
    seen: &mut Seen,
) -> Result<(), String> {
    let object = clang(c, big_endian)?;
    if big_endian == cfg!(target_endian = "big") {
        seen.verified = seen.verified.max(verify(&object)?);
    }
    if rules.rules.iter().any(|rule| !rule.settings.is_empty() || rule.exempts()) {
        return handshake::run(rules, &object, big_endian, samples, hit, seen);
    }
    let load = Load { method: method(rules), layout: layout(rules), ..Load::default() };
    let image = Image::read(&object, big_endian);
    let found = hazards(image.program.instructions());
    if !found.is_empty() {
        return Err(format!("hazards: {found:?}"));
    }
    let asks_device = image.section(".maps").is_some();
    let mut runner = Runner::loaded(image, big_endian, &load)?;
    seen.seconded += usize::from(runner.has_second());
    let is_narrow = asks_device && load.layout.is_narrow() && load.method == Method::Route;
    seen.narrow.0 += usize::from(is_narrow);
    for (number, connection) in samples.iter().enumerate() {
        let expected = decide(rules, connection);
        // Replies of 0 and of other programs.
        let before = if number % 2 == 0 { 0 } else { 0x1234_5678 };
        let mut steps = one(&mut runner, connection, before, expected, asks_device)?;
        if number % 4 == 0 {
            let mut again = connection.clone();
            again.socket.retransmits = 1 + number as u32 % 3;
            steps = steps.max(one(&mut runner, &again, before, expected, asks_device)?);
            other(&mut runner, connection, 2 + number as u32 / 4 % 20, before, 4)?;
        }
        seen.runs += 1;
        seen.worst = seen.worst.max(steps);
        if let Some(rule) = expected {
            hit[rule] = true;
            seen.decided += 1;
            seen.narrow.1 += usize::from(is_narrow);
        }
    }
    Ok(())
}

/// Requests the timer and compares it. Returns the steps.
pub(crate) fn one(
    runner: &mut Runner,
    connection: &Connection,
    before: u32,
    expected: Option<usize>,
    asks_device: bool,
) -> Result<u64, String> {
    let fail = |what: String| format!("{what}, expected rule {expected:?} for {connection:?}");
    let (outcome, steps) = runner.run(connection, TIMEOUT_INIT, before).map_err(fail)?;
    let is_first = !connection.is_full() || connection.socket.retransmits == 0;
    let counted: Vec<_> = expected.filter(|_| is_first).map(|rule| (rule, 1)).into_iter().collect();
    if outcome.value != 1 {
        return Err(fail(format!("it returned {}", outcome.value)));
    }
    if outcome.rule(before) != expected {
        return Err(fail(format!("rule {:?} decided", outcome.rule(before))));
    }
    if outcome.counted != counted {
        return Err(fail(format!("counted (rule, hits) {:?}", outcome.counted)));
    }
    if !asks_device && !outcome.log.calls.is_empty() {
        return Err(fail(format!("helpers were called: {:?}", outcome.log.calls)));
    }
    // The socket is read from the context at most once, because the device is searched for once.
    let looks = outcome.log.calls.iter().filter(|call| call.0 == 115).count();
    if looks > 1 {
        return Err(fail(format!(
            "the device was looked for {looks} times: {:?}",
            outcome.log.calls
        )));
    }
    Ok(steps)
}

/// A callback that no rule needs. It must change nothing and execute at most this many instructions.
pub(crate) fn other(
    runner: &mut Runner,
    connection: &Connection,
    op: u32,
    before: u32,
    most: u64,
) -> Result<(), String> {
    let fail = |what: String| format!("callback {op}: {what} for {connection:?}");
    let (outcome, steps) = runner.run(connection, op, before).map_err(fail)?;
    let nothing = outcome.value == 1
        && outcome.reply == before
        && outcome.counted.is_empty()
        && outcome.log == Log::default();
    if !nothing {
        return Err(fail(format!("{outcome:?}")));
    }
    if steps > most {
        return Err(fail(format!("{steps} instructions")));
    }
    Ok(())
}
