//! The fourth pass. A setting without effect on the connections that a rule decides is an error. A timer that looks
//! like a mistake gets a note.

mod hazards;
mod nested;
mod ports;

use crate::check::options::Options;
use crate::diag::Diagnostic;
use crate::duration::spell;
use crate::plan::Evidence;
use crate::reach::Regions;
use crate::rule::{Rule, SocketField};
use crate::setting::{Column, MOST_COLUMNS};
use crate::space::{Dimension, Term, Terms};
use std::collections::BTreeMap;

/// The default of `net.ipv4.tcp_syn_retries`.
const SYN_RETRIES: u32 = 6;

/// The default of `net.ipv4.tcp_syn_linear_timeouts`: the number of SYN timeouts before the first doubling, from Linux
/// 6.5 on.
const LINEAR: u32 = 4;

/// `TCP_RTO_MAX` (include/net/tcp.h), microseconds.
const RTO_MAX_US: u64 = 120_000_000;

/// Usual values of CONFIG_HZ.
const USUAL_HZ: [u64; 3] = [100, 250, 1_000];

/// A `connect()` time outside of these bounds, in microseconds, gets a note. The kernel's defaults give 131 s.
const USUAL_US: std::ops::RangeInclusive<u64> = 30_000_000..=300_000_000;

/// Reports settings without effect, and returns the notes.
///
/// # Errors
/// A rule has a setting of the other end, or one for which it knows too little; a learned timer shuts out slow clients.
/// There are too many different settings.
pub fn lint(
    rules: &[Rule],
    regions: &Regions,
    options: &Options,
) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut notes = regions.notes.clone();
    for (rule, region) in rules.iter().zip(&regions.rules) {
        let is_outgoing = sends(region);
        for (setting, _) in rule.settings.iter() {
            if setting.is_outgoing_only() && !is_outgoing {
                let message = format!("`{}` in a rule for incoming connections", setting.key);
                errors.push(
                    Diagnostic::new(message, rule.span.clone())
                        .label("this host sends no SYN here")
                        .help("leave the setting out, or let the rule match outgoing ones too"),
                );
            }
        }
        notes.extend(timers(rule, is_outgoing));
        notes.extend(ports::notes(rule));
        notes.extend(nested::notes(rule));
        if is_outgoing && rule.settings.number("mark").is_some() {
            let message = format!(
                "rule `{}`: `mark` moves the SYN to another route, but the source address is already chosen",
                rule.name
            );
            notes.push(Diagnostic::new(message, rule.span.clone()).help(
                "the application's own SO_MARK or bind() chooses it, or the other route needs source NAT",
            ));
        }
        notes.extend(hazards::notes(rule, region));
        errors.extend(hazards::error(rule, region));
    }
    errors.extend(tested_and_set(rules));
    notes.extend(of_file(rules, options));
    let columns = Column::all(rules.iter().map(|rule| &rule.settings));
    if columns.len() > MOST_COLUMNS
        && let Some(last) = rules.last()
    {
        let message = "too many different congestion control algorithms";
        errors.push(Diagnostic::new(message, last.span.clone()).help("no kernel has that many"));
    }
    if errors.is_empty() { Ok(notes) } else { Err(errors) }
}

/// The program tests a connection anew at each callback, so a rule may not change what rules test.
fn tested_and_set(rules: &[Rule]) -> Vec<Diagnostic> {
    let tested: BTreeMap<SocketField, &Rule> = rules
        .iter()
        .rev()
        .flat_map(|rule| rule.socket_fields().into_iter().map(move |it| (it, rule)))
        .collect();
    let mut errors = Vec::new();
    for rule in rules {
        for (setting, _) in rule.settings.iter() {
            let changed: &[SocketField] = match setting.key {
                "mark" => &[SocketField::Mark],
                "priority" => &[SocketField::Priority],
                // ip_sock_set_tos() (net/ipv4/ip_sockglue.c) changes the priority.
                "tos" => &[SocketField::Tos, SocketField::Priority],
                _ => continue,
            };
            if let Some(other) = changed.iter().find_map(|field| tested.get(field)) {
                let message = format!(
                    "`{}` is set here and changes what rule `{}` tests",
                    setting.key, other.name
                );
                errors.push(
                    Diagnostic::new(message, rule.span.clone())
                        .other(other.span.clone(), "tested here")
                        .help("leave one of them out: a connection is tested several times in its life"),
                );
            }
        }
    }
    errors
}

/// Notes on what holds for the whole file.
fn of_file(rules: &[Rule], options: &Options) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    if let Some(span) = &options.learn
        && rules.iter().all(|rule| rule.settings.learned().is_none())
    {
        notes.push(
            Diagnostic::new("no rule learns: `[learn]` has no effect", span.clone())
                .help("a rule learns with `rto = { learn = true }`"),
        );
    }
    let kept = Evidence::of(rules.len(), options.evidence);
    let end = rules.last().map_or(0..0, |rule| rule.span.clone());
    if options.evidence && kept != Evidence::All {
        let message = match kept {
            Evidence::Counters => "too many rules to keep a histogram of each one's round trips",
            _ => "too many rules to keep evidence of each one",
        };
        notes.push(
            Diagnostic::new(message, end)
                .label("up to this rule")
                .help("evidence takes at most 4 MiB; connections are still counted"),
        );
    }
    notes
}

/// The numbers of the directions.
const OUTGOING: u128 = 0;
const INCOMING: u128 = 1;

/// True if this host sends the SYN of some of these connections.
fn sends(region: &Terms) -> bool {
    region.iter().any(|term| goes(term, OUTGOING))
}

fn goes(term: &Term, way: u128) -> bool {
    term.bound(Dimension::Direction).is_none_or(|values| values.contains(way))
}

fn timers(rule: &Rule, is_outgoing: bool) -> Vec<Diagnostic> {
    let mut notes = Vec::new();
    let number = |key| rule.settings.number(key);
    let mut note = |message: String, help: &str| {
        notes.push(Diagnostic::new(message, rule.span.clone()).help(help));
    };
    let name = &rule.name;
    let rto_max = number("rto_max").map_or(RTO_MAX_US, |ms| u64::from(ms) * 1_000);
    if let Some(rto) = number("rto").map(u64::from) {
        if rto > rto_max {
            note(
                format!(
                    "rule `{name}`: `rto` {} is limited to `rto_max` {}",
                    spell(rto),
                    spell(rto_max)
                ),
                "the kernel arms no timer above `rto_max`",
            );
        }
        let ends = number("user_timeout").or(number("connect_timeout")).is_some();
        let retries = number("syn_retries").unwrap_or(SYN_RETRIES);
        let (before, since) =
            (give_up(rto, rto_max, retries, 0), give_up(rto, rto_max, retries, LINEAR));
        let is_usual = USUAL_US.contains(&before) && USUAL_US.contains(&since);
        if is_outgoing && !ends && !is_usual {
            note(
                format!(
                    "rule `{name}`: connect() gives up after {} ({} from Linux 6.5 on) if nobody answers",
                    seconds(before),
                    seconds(since)
                ),
                "`syn_retries` limits the retransmissions of the SYN (6 by default; 6.5 adds net.ipv4.tcp_syn_linear_timeouts, 4), \
                 `connect_timeout` the total time",
            );
        }
    }
    for (setting, value) in rule.settings.iter().filter(|(setting, _)| setting.has_two_jiffies()) {
        let us = u64::from(value.number());
        let rounded = USUAL_HZ.map(|hz| (hz, in_ticks(us, hz)));
        // As `install` does, which knows HZ: differences of up to a tenth are not reported.
        if rounded.iter().any(|(_, becomes)| becomes - us > us / 10) {
            let key = setting.key;
            let becomes = rounded.map(|(hz, becomes)| format!("{} at HZ {hz}", spell(becomes)));
            note(
                format!(
                    "rule `{name}`: `{key}` {} is rounded up to ticks of the kernel",
                    spell(us)
                ),
                &format!("it becomes {}", becomes.join(", ")),
            );
        }
    }
    notes
}

/// A time in whole jiffies, at least two, in microseconds.
fn in_ticks(us: u64, hz: u64) -> u64 {
    let tick = 1_000_000 / hz;
    us.div_ceil(tick).max(2) * tick
}

/// When the kernel gives up (`tcp_write_timeout()`, net/ipv4/tcp_timer.c), microseconds: as a timer expires that is the
/// last one, those of the linear phase counted, or that is not before the time which `tcp_model_timeout()` computes from
/// the retries without a linear phase. Linux 6.18 does so within the lateness of its timer wheel.
fn give_up(rto: u64, rto_max: u64, retries: u32, linear: u32) -> u64 {
    let doublings = (rto_max / rto).max(1).ilog2();
    let model = match retries <= doublings {
        true => ((2 << retries) - 1) * rto,
        false => ((2 << doublings) - 1) * rto + u64::from(retries - doublings) * rto_max,
    };
    let (mut timer, mut expires) = (rto.min(rto_max), 0);
    for timeouts in 0..=retries + linear {
        expires += timer;
        if timeouts > 0 && expires >= model {
            break;
        }
        // The first timeout and those of the linear phase leave the timer as it is.
        if timeouts >= linear {
            timer = (timer * 2).min(rto_max);
        }
    }
    expires
}

/// A rounded time.
fn seconds(us: u64) -> String {
    match us {
        0..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..10_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_up_to_ticks() {
        assert_eq!(USUAL_HZ.map(|hz| in_ticks(9_000, hz)), [20_000, 12_000, 9_000]);
        assert_eq!(USUAL_HZ.map(|hz| in_ticks(2_000, hz)), [20_000, 8_000, 2_000]);
        assert_eq!(USUAL_HZ.map(|hz| in_ticks(40_000, hz)), [40_000; 3]);
    }

    #[test]
    fn giving_up_takes_what_the_kernel_takes() {
        let s = 1_000_000;
        // The kernel's defaults give 127 s, and 131 s from 6.5 on.
        assert_eq!(give_up(s, RTO_MAX_US, 6, 0), 127 * s);
        assert_eq!(give_up(s, RTO_MAX_US, 6, 4), 131 * s);
        assert_eq!(give_up(20 * s, RTO_MAX_US, 6, 0), 620 * s);
        // 127 retransmissions do not overflow.
        assert_eq!(give_up(120 * s, RTO_MAX_US, 127, 0), 128 * 120 * s);
        // Measured on Linux 6.18; the wheel makes long timers late.
        for (rto, rto_max, retries, us) in [
            (s, RTO_MAX_US, 1, 3 * s),
            (s, RTO_MAX_US, 2, 7 * s),
            (20 * s, RTO_MAX_US, 2, 140 * s),
            (30 * s, RTO_MAX_US, 6, 690 * s),
            (60 * s, RTO_MAX_US, 2, 300 * s),
            (2 * s, 4 * s, 6, 26 * s),
            (4 * s, 4 * s, 6, 28 * s),
            (s / 2, RTO_MAX_US, 3, 9_500_000),
        ] {
            assert_eq!(give_up(rto, rto_max, retries, 4), us, "{rto} {rto_max} {retries}");
        }
    }
}
