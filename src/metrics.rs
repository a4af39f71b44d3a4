//! `set-rto status --metrics`: the OpenMetrics text format, which node_exporter's textfile collector reads, too.

use crate::evidence::Evidence;
use crate::pin::Installed;
use crate::rules;
use crate::state::{DIRECTIONS, Rule};
use std::fmt::Write as _;

/// A counter: its name, what it counts, and its value.
type Counter = (&'static str, &'static str, fn(&Evidence) -> u64);

const COUNTERS: [Counter; 6] = [
    ("set_rto_connections", "Connections that a rule decided about.", |it| it.asked),
    ("set_rto_answered", "Connections that were established.", |it| it.answered),
    (
        "set_rto_answered_after_retransmission",
        "Connections that were established after a retransmission of the SYN or SYN-ACK.",
        |it| it.answered_late,
    ),
    ("set_rto_retransmissions", "Retransmissions of SYN and SYN-ACK.", |it| it.retransmissions),
    (
        "set_rto_late_answers",
        "Connections that were established later than the timer of the rule.",
        |it| it.needless,
    ),
    ("set_rto_gave_up", "Connections that were given up unanswered.", |it| it.gave_up),
];

/// All metrics. `now` is the time of estimates.
pub(crate) fn text(installed: Option<&Installed>, rules: &[Rule], now: u32) -> String {
    let mut out = String::new();
    head(&mut out, "set_rto_installed", "gauge", "1 if the rules of this binary are in effect.");
    let is_current = installed.is_some_and(Installed::is_current);
    // Writing to a String can't fail.
    let _ = writeln!(out, "set_rto_installed {}", u8::from(is_current));
    // node_exporter knows no metrics of type info.
    head(&mut out, "set_rto_build_info", "gauge", "This binary.");
    let (version, digest) = (rules::VERSION, rules::DIGEST);
    let _ = writeln!(out, "set_rto_build_info{{version=\"{version}\",digest=\"{digest}\"}} 1");
    if !is_current {
        return out + "# EOF\n";
    }
    let directed = || {
        rules.iter().flat_map(|it| {
            let both = it.evidence.iter().flatten().zip(DIRECTIONS);
            both.map(|(evidence, direction)| (labels(it, direction), evidence))
        })
    };
    if rules.iter().any(|it| it.evidence.is_some()) {
        for (name, help, value) in COUNTERS {
            head(&mut out, name, "counter", help);
            for (labels, evidence) in directed() {
                let _ = writeln!(out, "{name}_total{{{labels}}} {}", value(evidence));
            }
        }
    } else {
        head(&mut out, COUNTERS[0].0, "counter", COUNTERS[0].1);
        for it in rules {
            let _ =
                writeln!(out, "{}_total{{rule=\"{}\"}} {}", COUNTERS[0].0, it.rule.name, it.hits);
        }
    }
    if directed().any(|(_, evidence)| !evidence.round_trips.is_empty()) {
        histogram(&mut out, directed());
    }
    if rules.iter().any(|it| it.timer_us(0, now).is_some()) {
        let name = "set_rto_timer_seconds";
        head(&mut out, name, "gauge", "The timer of a host that is not known.");
        let _ = writeln!(out, "# UNIT {name} seconds");
        for it in rules {
            for (at, direction) in DIRECTIONS.iter().enumerate() {
                if let Some(us) = it.timer_us(at, now) {
                    let _ = writeln!(out, "{name}{{{}}} {}", labels(it, direction), seconds(us));
                }
            }
        }
    }
    if rules.iter().any(|it| it.rule.settings.learns()) {
        let name = "set_rto_learned_hosts";
        head(&mut out, name, "gauge", "Hosts that are remembered.");
        for it in rules.iter().filter(|it| it.rule.settings.learns()) {
            let _ = writeln!(out, "{name}{{rule=\"{}\"}} {}", it.rule.name, it.hosts.len());
        }
    }
    out + "# EOF\n"
}

/// Metadata of a family of metrics.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A rule's name needs no escapes.
fn labels(it: &Rule, direction: &str) -> String {
    format!("rule=\"{}\",direction=\"{direction}\"", it.rule.name)
}

fn histogram<'a>(out: &mut String, of: impl Iterator<Item = (String, &'a Evidence)>) {
    let name = "set_rto_handshake_seconds";
    head(out, name, "histogram", "Round trips of handshakes.");
    let _ = writeln!(out, "# UNIT {name} seconds");
    for (labels, it) in of {
        let mut sum = 0;
        for (bucket, count) in it.round_trips.iter().enumerate() {
            sum += count;
            let end = it.end_us(bucket).map_or("+Inf".into(), seconds);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {sum}");
        }
        let _ = writeln!(out, "{name}_count{{{labels}}} {sum}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", seconds(it.round_trips_us));
    }
}

/// Microseconds as seconds: `0.000256`, `20.0`.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (us, text) in [(256, "0.000256"), (20_000_000, "20.0"), (1_500_000, "1.5"), (0, "0.0")]
        {
            assert_eq!(seconds(us), text);
        }
    }
}
