//! What rules must set besides timers, at each callback of a connection's life.

use super::check::{Seen, layout, method, other};
use super::connection::Connection;
use super::hazards::hazards;
use super::image::Image;
use super::kernel::{Assignment, Method, REFUSAL, refuses};
use super::model::{Direction, Family, Rule, Rules};
use super::oracle::decide;
use super::random::Random;
use super::runner::{Load, Outcome, Runner, TIMER};
use super::settings::*;
use std::collections::{BTreeMap, BTreeSet};

/// The callbacks of a connection before its first data, in the kernel's order.
fn life(direction: Direction) -> &'static [u32] {
    match direction {
        Direction::Outgoing => &[CONNECT, RWND_INIT, TIMEOUT_INIT, NEEDS_ECN, ACTIVE_ESTABLISHED],
        Direction::Incoming => &[RWND_INIT, NEEDS_ECN, TIMEOUT_INIT, PASSIVE_ESTABLISHED],
    }
}

/// The properties of a rule set.
struct Expectation<'r> {
    rules: &'r Rules,
    /// The settings that may be refused, in the order of the counters.
    kinds: Vec<(usize, &'static str)>,
    load: Load,
    big_endian: bool,
}

/// The required effects of a callback. Its result must be 1 as well.
#[derive(Debug, PartialEq, Eq)]
struct Effect {
    reply: Option<u32>,
    /// Sorted.
    assignments: Vec<Assignment>,
    counted: Vec<(usize, u64)>,
}

impl<'r> Expectation<'r> {
    fn new(rules: &'r Rules, big_endian: bool, random: &mut Random) -> Self {
        let all = rules.rules.iter().flat_map(|rule| rule.settings.iter().map(Setting::kind));
        let kinds: Vec<_> = all.collect::<BTreeSet<_>>().into_iter().collect();
        let untimed = |(at, rule): (usize, &Rule)| rule.rto.is_none().then_some(at);
        let load = Load {
            without: if random.percent(60) { 0 } else { random.next() & random.next() },
            two_jiffies_us: *random.pick(&[2_000, 8_000, 20_000]),
            untimed: rules.rules.iter().enumerate().filter_map(untimed).collect(),
            method: method(rules),
            first: None,
            layout: layout(rules),
            offsets: None,
        };
        let mut expectation = Self { rules, kinds, load, big_endian };
        let needed = expectation.needed();
        let life = life(Direction::Outgoing);
        expectation.load.first = life.iter().find(|op| needed.contains(op)).copied();
        expectation
    }

    /// Callbacks at which some rule does something.
    fn needed(&self) -> BTreeSet<u32> {
        let mut needed = BTreeSet::new();
        for rule in &self.rules.rules {
            needed.extend((rule.rto.is_some() || rule.exempts()).then_some(TIMEOUT_INIT));
            for setting in &rule.settings {
                match setting.told() {
                    Told::Reply(op) => _ = needed.insert(op),
                    Told::Until(..) => needed.extend([CONNECT, ACTIVE_ESTABLISHED]),
                    Told::Listener(..) => needed.extend([CONNECT, PASSIVE_ESTABLISHED, LISTEN]),
                    _ if setting.is_outgoing_only() => _ = needed.insert(CONNECT),
                    _ => {
                        needed.extend([CONNECT, PASSIVE_ESTABLISHED]);
                        needed.extend(setting.is_late().then_some(ACTIVE_ESTABLISHED));
                    }
                }
            }
        }
        needed
    }

    /// Each kind's place.
    fn column(&self, setting: &Setting) -> usize {
        self.kinds.iter().position(|kind| *kind == setting.kind()).expect("a known kind")
    }

    fn failure(&self, rule: usize, column: usize) -> usize {
        self.rules.rules.len() + rule * self.kinds.len() + column
    }

    fn number(&self, value: u64) -> Vec<u8> {
        let value = u32::try_from(value).expect("32 bits");
        if self.big_endian { value.to_be_bytes().into() } else { value.to_le_bytes().into() }
    }

    /// The options of a setting.
    fn options(&self, setting: &Setting, family: Family) -> Vec<Assignment> {
        let option = |(level, option): (u32, u32), value: u64| {
            Assignment(level.into(), option.into(), self.number(value))
        };
        let value = setting.value;
        match setting.told() {
            Told::Reply(_) => Vec::new(),
            Told::Option(level, name) | Told::Until(level, name) | Told::Listener(level, name) => {
                vec![option((level, name), value)]
            }
            Told::Least(level, name) => {
                vec![option((level, name), value.max(self.load.two_jiffies_us.into()))]
            }
            Told::Keepalive(level, name) => {
                vec![option(KEEPALIVE, 1), option((level, name), value)]
            }
            Told::Algorithm(level, name) => {
                let mut bytes = setting.name.as_bytes().to_vec();
                bytes.resize(16, 0);
                vec![Assignment(level.into(), name.into(), bytes)]
            }
            Told::Tos => match family {
                Family::Ipv4 => vec![option((0, 1), value)],
                Family::Ipv6 => vec![option((41, 67), value)],
            },
        }
    }

    /// True if the rule counts the connection, at one callback of its life.
    fn counts(rule: &Rule, connection: &Connection, op: u32) -> bool {
        let replies = |wanted: u32| rule.settings.iter().any(|it| it.told() == Told::Reply(wanted));
        let has_both = rule.settings.iter().any(|it| it.is_option() && !it.is_outgoing_only());
        match () {
            // The kernel calls again at each retransmission.
            () if rule.rto.is_some() || rule.exempts() => {
                let is_first = !connection.is_full() || connection.socket.retransmits == 0;
                op == TIMEOUT_INIT && is_first
            }
            () if has_both => matches!(op, CONNECT | PASSIVE_ESTABLISHED),
            () if replies(RWND_INIT) => op == RWND_INIT,
            () if replies(NEEDS_ECN) => op == NEEDS_ECN,
            () => op == CONNECT,
        }
    }

    fn effect(&self, at: Option<usize>, connection: &Connection, op: u32) -> Effect {
        let mut effect = Effect { reply: None, assignments: Vec::new(), counted: Vec::new() };
        let Some(at) = at else { return effect };
        let rule = &self.rules.rules[at];
        if op == TIMEOUT_INIT && rule.rto.is_some() {
            effect.reply = Some(TIMER + at as u32);
        }
        if Self::counts(rule, connection, op) {
            effect.counted.push((at, 1));
        }
        let is_outgoing = connection.direction == Direction::Outgoing;
        let mut failures = BTreeMap::new();
        let assign =
            |setting: &Setting, column, effect: &mut Effect, failures: &mut BTreeMap<_, _>| {
                for assignment in self.options(setting, connection.family()) {
                    let Assignment(level, option, _) = assignment;
                    if refuses(connection.socket.refusals, level, option) {
                        *failures.entry(self.failure(at, column)).or_default() += 1;
                    }
                    effect.assignments.push(assignment);
                }
            };
        for setting in &rule.settings {
            let column = self.column(setting);
            if self.load.without >> column & 1 == 1 {
                continue;
            }
            match setting.told() {
                Told::Reply(wanted) if wanted == op => effect.reply = Some(setting.value as u32),
                Told::Reply(_) => {}
                Told::Listener(..) if op == LISTEN => {
                    assign(setting, column, &mut effect, &mut failures);
                }
                Told::Listener(..) => {}
                _ if setting.is_outgoing_only() && !is_outgoing => {}
                Told::Until(..) if !matches!(op, CONNECT | ACTIVE_ESTABLISHED) => {}
                Told::Until(..) => {
                    let lasting = |it: &&Setting| SPECS[it.at].0 == "user_timeout";
                    let lasting = rule.settings.iter().find(lasting).map_or(0, |it| it.value);
                    let value = if op == CONNECT { setting.value } else { lasting };
                    let told = Setting { value, ..setting.clone() };
                    assign(&told, column, &mut effect, &mut failures);
                }
                _ if op == if setting.is_late() { ACTIVE_ESTABLISHED } else { CONNECT }
                    || op == PASSIVE_ESTABLISHED =>
                {
                    assign(setting, column, &mut effect, &mut failures);
                }
                _ => {}
            }
        }
        effect.assignments.sort();
        effect.counted.extend(failures);
        effect
    }
}

/// The observed effects.
fn effect(outcome: Outcome, before: u32) -> Effect {
    let mut assignments = outcome.log.assignments;
    assignments.sort();
    let reply = (outcome.reply != before).then_some(outcome.reply);
    Effect { reply, assignments, counted: outcome.counted }
}

/// The instructions of a callback that no rule needs: four, one more if the context is saved over calls, and one more
/// for each callback below the last needed one that no rule needs either.
fn most(needed: &BTreeSet<u32>, op: u32) -> u64 {
    let last = needed.last().copied().unwrap_or_default();
    let gaps = (1..last).filter(|op| !needed.contains(op)).count() as u64;
    5 + if op > last || needed.len() == 1 { 0 } else { gaps }
}

/// Compiles and runs a set of rules that set more than timers.
pub(crate) fn run(
    rules: &Rules,
    object: &[u8],
    big_endian: bool,
    samples: &[Connection],
    hit: &mut [bool],
    seen: &mut Seen,
) -> Result<(), String> {
    let mut random = Random(rules.style ^ 0x10ad);
    let expectation = Expectation::new(rules, big_endian, &mut random);
    let image = Image::read(object, big_endian);
    let found = hazards(image.program.instructions());
    if !found.is_empty() {
        return Err(format!("hazards: {found:?}"));
    }
    let asks_device = image.section(".maps").is_some();
    let mut runner = Runner::loaded(image, big_endian, &expectation.load)?;
    seen.seconded += usize::from(runner.has_second());
    seen.set += 1;
    let Load { method, layout, .. } = &expectation.load;
    let is_narrow = asks_device && layout.is_narrow() && *method == Method::Route;
    seen.narrow.0 += usize::from(is_narrow);
    if !expectation.kinds.is_empty() {
        probe(&expectation, object, random.pick(samples))?;
    }
    let needed = expectation.needed();
    let mut ask = |connection: &Connection, rule, op, seen: &mut Seen| {
        // Replies of other programs; none that could be ours.
        let before = if random.percent(50) { 0 } else { 0x1234_5678 };
        if !needed.contains(&op) {
            let most = most(&needed, op);
            return other(&mut runner, connection, op, before, most).map(|()| None);
        }
        let fail = |what: String| {
            format!("callback {op}: {what}, expected rule {rule:?} for {connection:?}")
        };
        let (outcome, steps) = runner.run(connection, op, before).map_err(fail)?;
        if outcome.value != 1 {
            return Err(fail(format!("it returned {}", outcome.value)));
        }
        if !asks_device && !outcome.log.calls.is_empty() {
            return Err(fail(format!("helpers were called: {:?}", outcome.log.calls)));
        }
        let expected = expectation.effect(rule, connection, op);
        let found = effect(outcome, before);
        if found != expected {
            return Err(fail(format!("{found:?} instead of {expected:?}")));
        }
        seen.worst = seen.worst.max(steps);
        seen.assigned += found.assignments.len();
        seen.denied += found.counted.iter().filter(|(at, _)| *at >= rules.rules.len()).count();
        Ok(Some(found))
    };
    for (number, connection) in samples.iter().enumerate() {
        let rule = decide(rules, connection);
        let ops = life(connection.direction);
        seen.runs += 1;
        if let Some(rule) = rule {
            hit[rule] = true;
            seen.decided += 1;
            seen.narrow.1 += usize::from(is_narrow);
        }
        if number % 4 != 0 {
            ask(connection, rule, ops[number / 4 % ops.len()], seen)?;
            continue;
        }
        let (mut hits, mut is_changed) = (0, false);
        for op in ops.iter().copied() {
            let Some(effect) = ask(connection, rule, op, seen)? else { continue };
            is_changed |= effect.reply.is_some() || !effect.assignments.is_empty();
            hits += effect.counted.iter().filter(|(at, _)| *at < rules.rules.len()).count();
        }
        if hits > 1 || (is_changed && hits == 0) {
            return Err(format!("counted {hits} times: {connection:?}"));
        }
        let listener = connection.listener(number);
        if let Some(effect) = ask(&listener, decide(rules, &listener), LISTEN, seen)? {
            seen.listeners += usize::from(!effect.assignments.is_empty());
        }
        seen.lives += 1;
        seen.changed += usize::from(is_changed);
        let mut again = connection.clone();
        again.socket.retransmits = 1 + number as u32 % 3;
        ask(&again, rule, TIMEOUT_INIT, seen)?;
        // The other callbacks that there are, and some that are to come.
        let idle: Vec<u32> = (1..24).filter(|op| !needed.contains(op)).collect();
        ask(connection, None, idle[number / 4 % idle.len()], seen)?;
    }
    Ok(())
}

/// The program that tries the options: each kind once, with its first value. The results are in the first rule's
/// counters.
fn probe(
    expectation: &Expectation<'_>,
    object: &[u8],
    connection: &Connection,
) -> Result<(), String> {
    let Expectation { rules, load, big_endian, .. } = expectation;
    let image = Image::program(object, *big_endian, Some("probe"));
    let found = hazards(image.program.instructions());
    if !found.is_empty() {
        return Err(format!("hazards of the probe: {found:?}"));
    }
    let mut connection = connection.clone();
    connection.direction = Direction::Outgoing;
    let mut expected = Effect { reply: None, assignments: Vec::new(), counted: Vec::new() };
    for (column, kind) in expectation.kinds.iter().enumerate() {
        let mut all = rules.rules.iter().flat_map(|rule| &rule.settings);
        let first = all.find(|it| it.kind() == *kind).expect("a kind of some rule");
        // `tos` as IPv4 has it, keepalive without the switch.
        let Some(assignment) = expectation.options(first, Family::Ipv4).pop() else { continue };
        let is_refused = refuses(connection.socket.refusals, assignment.0, assignment.1);
        let answer = if is_refused { 1 + REFUSAL } else { 1 };
        expected.counted.push((expectation.failure(0, column), answer));
        expected.assignments.push(assignment);
    }
    expected.assignments.sort();
    let mut runner = Runner::loaded(image, *big_endian, load)?;
    let (outcome, _) = runner.run(&connection, CONNECT, 0)?;
    let value = outcome.value;
    let found = effect(outcome, 0);
    if value != 1 || found != expected {
        return Err(format!("the probe: {value}, {found:?} instead of {expected:?}"));
    }
    for op in (0..24).filter(|op| *op != CONNECT) {
        // Its cost does not matter: it is attached briefly, in its own cgroup.
        other(&mut runner, &connection, op, 0, 100)?;
    }
    Ok(())
}
