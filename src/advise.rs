//! `set-rto advise`: what the evidence says about the timer of each rule, one line per rule.

use crate::bpf;
use crate::error::{Context as _, Result, hint};
use crate::evidence::Evidence;
use crate::json;
use crate::pin::{self, Installed};
use crate::state::{self, DIRECTIONS, Rule};
use crate::timer::rough;
use crate::{output, status};
use nix::time::{ClockId, clock_gettime};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// With fewer answers there is no advice.
const ENOUGH: u64 = 20;

/// The shortest timer that is proposed.
const SHORTEST_US: u64 = 10_000;

/// The default timer of Linux (`TCP_TIMEOUT_INIT`, include/net/tcp.h).
const LINUX_US: u64 = 1_000_000;

/// Retransmissions of the SYN-ACK (`net.ipv4.tcp_synack_retries`): a request expires after 1 + 2 + 4 + … timers.
const REQUEST_TIMERS: u64 = 63;

/// After this many SYN timeouts MPTCP falls back, and an answer then turns it off for
/// `net.mptcp.blackhole_timeout`.
const MPTCP_TIMEOUTS: u64 = 3;

/// The advice about a rule.
struct Advice {
    rule: &'static str,
    direction: Option<&'static str>,
    /// In JSON: `fine`, `unknown`, `unused`, `change` or `refused`.
    kind: &'static str,
    /// A better timer, in microseconds.
    try_us: Option<u64>,
    text: String,
}

/// `set-rto advise`.
pub(crate) fn run(pin: &Path, as_json: bool) -> Result<ExitCode> {
    let state = pin::look_at(pin)?;
    let code = status::code(&state);
    let Some(installed) = state.in_effect().filter(|it| it.is_current()) else {
        output::note(&match code {
            status::NOT_INSTALLED => "not installed: there is no evidence",
            _ => "other rules are installed: `set-rto status` shows them",
        });
        return Ok(ExitCode::from(code));
    };
    let (rules, now) = state::rules(installed)?;
    let age_s = age_s(installed)?;
    let advice: Vec<_> = rules.iter().flat_map(|rule| of_rule(rule, now, age_s)).collect();
    if as_json {
        let items = advice.iter().map(|it| {
            json::object(&[
                ("rule", json::string(it.rule)),
                ("direction", json::option(it.direction, json::string)),
                ("kind", json::string(it.kind)),
                ("try_ms", json::option(it.try_us, json::milliseconds)),
                ("text", json::string(&it.text)),
            ])
        });
        output::print(&json::object(&[
            ("installed_s", json::plain(age_s)),
            ("advice", json::list(items)),
        ]));
        return Ok(ExitCode::SUCCESS);
    }
    for it in &advice {
        let direction = it.direction.map_or(String::new(), |name| format!(" ({name})"));
        output::print(&format_args!("{}{direction}: {}", it.rule, it.text));
    }
    if advice.iter().all(|it| it.kind == "fine") {
        output::print(&"nothing to change");
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds since the program in effect was loaded.
fn age_s(installed: &Installed) -> Result<u64> {
    const WHAT: &str = "ask how old the program is";
    let loaded = bpf::program_info(installed.program.as_fd()).context(WHAT, hint::ROOT)?.load_time;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context(WHAT, hint::AGAIN)?;
    let now = u64::try_from(now.tv_sec()).unwrap_or(0);
    Ok(now.saturating_sub(loaded / 1_000_000_000))
}

/// `3 days`, `5 hours`, `12 minutes`.
fn since(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn of_rule(it: &Rule, now: u32, age_s: u64) -> Vec<Advice> {
    let rule = it.rule.name;
    let mut all = Vec::new();
    for (column, times) in &it.refused {
        let text = format!("the kernel refused {column} {times} times of {}", it.hits);
        all.push(Advice { rule, direction: None, kind: "refused", try_us: None, text });
    }
    if it.hits == 0 {
        let text = format!("no connection in {}", since(age_s));
        all.push(Advice { rule, direction: None, kind: "unused", try_us: None, text });
        return all;
    }
    let Some(both) = &it.evidence else {
        let text = "the rules keep no evidence".into();
        all.push(Advice { rule, direction: None, kind: "unknown", try_us: None, text });
        return all;
    };
    for (direction, evidence) in both.iter().enumerate() {
        if evidence.asked + evidence.answered > 0 {
            let (kind, try_us, text) = of_direction(it, direction, evidence, now);
            let direction = Some(DIRECTIONS[direction]);
            all.push(Advice { rule, direction, kind, try_us, text });
        }
    }
    all
}

/// Returns the kind, a better timer, and the text.
fn of_direction(
    it: &Rule,
    direction: usize,
    evidence: &Evidence,
    now: u32,
) -> (&'static str, Option<u64>, String) {
    let learns = it.rule.settings.learns();
    let timer = it.timer_us(direction, now).unwrap_or(LINUX_US);
    let name = match it.rule.settings.rto_us {
        0 => format!("Linux's {}", rough(timer)),
        _ => rough(timer),
    };
    let (measured, asked) = (evidence.measured(), evidence.asked);
    let lost = asked.saturating_sub(evidence.answered);
    if evidence.answered == 0 {
        let text = match evidence.gave_up {
            0 => format!("none of {asked} connections was answered so far"),
            times => format!(
                "none of {asked} connections was answered, and {times} gave up: is {name} too short for the \
                 path, or is nobody there?"
            ),
        };
        return ("unknown", None, text);
    }
    if evidence.round_trips.is_empty() {
        return ("unknown", None, format!("the rules keep no round trips to judge {name} by"));
    }
    let (Some(most), true) = (evidence.quantile_us(95), measured >= ENOUGH) else {
        let text = format!("{measured} measured round trips are too few to judge {name}");
        return ("unknown", None, text);
    };
    let hazard = hazard(direction, timer, most);
    let within = format!("95 % of {measured} answers within {}", rough(most));
    let better = round_up(most + most / 4).max(SHORTEST_US);
    if learns {
        let late = late(evidence);
        return (
            "fine",
            None,
            format!("{within}; learned {name} from {} hosts{late}{hazard}", it.hosts.len()),
        );
    }
    if it.rule.settings.exempts() {
        return (
            "fine",
            None,
            format!("{within}; the rule leaves them to the kernel{}", late(evidence)),
        );
    }
    let learn = "or rto = { learn = true }";
    let has_retries = it.rule.columns().any(|(_, column)| column.key == "synack_retries");
    if direction == 1 && timer < LINUX_US && most > timer * REQUEST_TIMERS && !has_retries {
        let text = format!(
            "{within}, but a request ends {} after its SYN: try {}, {learn}, or `synack_retries`",
            rough(timer * REQUEST_TIMERS),
            rough(better)
        );
        return ("change", Some(better), text);
    }
    if most > timer || evidence.needless * 20 > evidence.answered {
        let text = format!(
            "{within}: {name} is too short, {} retransmissions; try {}, {learn}{hazard}",
            evidence.retransmissions,
            rough(better)
        );
        return ("change", Some(better), text);
    }
    // A timer below the default of Linux must be a deliberate choice.
    let better = if timer > LINUX_US { better.max(LINUX_US) } else { better };
    if it.rule.settings.rto_us > 0 && timer > 2 * better {
        let text = format!(
            "{within}; {name} wastes {} after each lost SYN; try {}, {learn}",
            rough(timer - better),
            rough(better)
        );
        return ("change", Some(better), text);
    }
    if evidence.gave_up * 20 > asked {
        let text = format!(
            "{within}, but {} of {asked} connections gave up: `syn_retries` or `user_timeout` may be too small",
            evidence.gave_up
        );
        return ("change", None, text);
    }
    let unanswered = if lost > 0 { format!(", {lost} unanswered") } else { String::new() };
    ("fine", None, format!("{within}; {name} fits{}{unanswered}{hazard}", late(evidence)))
}

/// What else a timer below the default does, since Linux 5.18 and 6.12.
fn hazard(direction: usize, timer: u64, most: u64) -> String {
    match direction {
        0 if timer < LINUX_US && most > timer * MPTCP_TIMEOUTS => {
            format!("; answers after {} turn MPTCP off for an hour", rough(timer * MPTCP_TIMEOUTS))
        }
        1 if timer <= LINUX_US / 2 => {
            format!("; TCP_DEFER_ACCEPT lasts 1/{} of its seconds", LINUX_US / timer.max(1))
        }
        _ => String::new(),
    }
}

fn late(evidence: &Evidence) -> String {
    match evidence.needless {
        0 => String::new(),
        times => format!(", {times} answers were later than the timer"),
    }
}

/// Rounds up to two digits.
fn round_up(us: u64) -> u64 {
    let mut unit = 1;
    while us / unit >= 100 {
        unit *= 10;
    }
    us.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Settings;

    #[test]
    fn numbers_round_up() {
        for (us, rounded) in
            [(99, 99), (101, 110), (9_100_001, 9_200_000), (12_000_000, 12_000_000)]
        {
            assert_eq!(round_up(us), rounded);
        }
    }

    /// A rule, its timer, and evidence of outgoing connections that took two seconds each.
    fn rule(settings: Settings, numbers: usize) -> Rule {
        let mut rule = crate::rules::all().next().expect("the default rules have one");
        rule.settings = settings;
        let mut counters = vec![0; numbers];
        // 100 connections, all answered; some of them after a retransmission that was too early.
        counters[..5].copy_from_slice(&[100, 100, 50, 50, 50]);
        if let Some(bucket) = counters.get_mut(7 + 13) {
            *bucket = 100;
        }
        Rule {
            rule,
            jiffies: 0,
            hits: 100,
            refused: Vec::new(),
            left_out: Vec::new(),
            evidence: Some([Evidence::new(&counters), Evidence::new(&vec![0; numbers])]),
            learned: [None, None],
            hosts: Vec::new(),
        }
    }

    const NOTHING: Settings =
        Settings { rto_us: 0, columns: 0, rto_min_us: 0, delack_max_us: 0, min_us: 0, max_us: 0 };

    #[test]
    fn exempt_rules_get_no_timer() {
        let kinds = |settings| {
            let advice = of_rule(&rule(settings, 7 + 19), 0, 0);
            advice.iter().map(|it| (it.kind, it.try_us.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(kinds(NOTHING), [("fine", false)]);
        // A rule that sets something else could set a timer, too.
        assert_eq!(kinds(Settings { columns: 1, ..NOTHING }), [("change", true)]);
        assert_eq!(kinds(Settings { rto_us: 1_000_000, ..NOTHING }), [("change", true)]);
    }

    #[test]
    fn evidence_without_round_trips_is_not_little_evidence() {
        let it = rule(Settings { rto_us: 1_000_000, ..NOTHING }, 7);
        let advice = of_rule(&it, 0, 0);
        assert_eq!(advice.len(), 1);
        assert_eq!((advice[0].kind, advice[0].try_us), ("unknown", None));
        assert_eq!(advice[0].text, "the rules keep no round trips to judge 1s by");
        let both = it.both().expect("there is evidence");
        assert_eq!((both.asked, both.quantile_us(50)), (100, None));
    }

    #[test]
    fn hazards_are_those_of_short_timers() {
        assert_eq!(hazard(0, 100_000, 300_000), "");
        assert!(hazard(0, 100_000, 300_001).contains("after 300ms turn MPTCP off"));
        assert!(hazard(1, 10_000, 0).contains("1/100 of its seconds"));
        for direction in [0, 1] {
            assert_eq!(hazard(direction, LINUX_US, 60_000_000), "");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        for (seconds, text) in
            [(59, "0 minutes"), (61, "1 minute"), (7_300, "2 hours"), (200_000, "2 days")]
        {
            assert_eq!(since(seconds), text);
        }
    }
}
