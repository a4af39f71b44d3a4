//! Hazards of short timers, and what a listener needs against them.

use super::{INCOMING, OUTGOING, goes, seconds};
use crate::diag::Diagnostic;
use crate::duration::spell;
use crate::rule::{End, Formula, Rule, Test};
use crate::setting::Settings;
use crate::space::{Dimension, Side, Term, Terms};

/// The timer of Linux (`TCP_TIMEOUT_INIT`, include/net/tcp.h), microseconds.
const LINUX_US: u32 = 1_000_000;

/// The default of `net.ipv4.tcp_synack_retries`.
const SYNACK_RETRIES: u32 = 5;

/// A request that lasts no longer gets a note, microseconds. Linux's own lasts 63 s.
const SHORT_REQUEST_US: u64 = 10_000_000;

/// After this many SYN timeouts MPTCP falls back (`mptcp_active_detect_blackhole()`, net/mptcp/ctrl.c).
const MPTCP_TIMEOUTS: u64 = 3;

/// A setting of listeners in a rule that decides no listener, and a learned timer that would shut out slow clients
/// for good: their handshakes never complete, so they are never measured.
pub(super) fn error(rule: &Rule, region: &Terms) -> Option<Diagnostic> {
    let retries = rule.settings.number("synack_retries");
    let is_decided = region.iter().any(is_of_listeners);
    if retries.is_some() && !region.iter().any(|term| goes(term, INCOMING)) {
        let message = "`synack_retries` in a rule for outgoing connections";
        let error = Diagnostic::new(message, rule.span.clone());
        return Some(error.label("this host answers no SYN here").help("leave the setting out"));
    }
    if retries.is_some() && !is_decided {
        let place = rule.conditions.iter().find(|it| needs_peer(&it.formula));
        let message = format!("rule `{}`: `synack_retries` is set on listeners", rule.name);
        let span = place.map_or(&rule.span, |it| &it.span).clone();
        return Some(Diagnostic::new(message, span).label("unknown when a socket begins to listen").help(
            "a rule with this setting tests only `local`, `local_port`, `port`, `family` and `direction`",
        ));
    }
    let short = rule.settings.learned().filter(|it| it.min < LINUX_US)?;
    (retries.is_none() && is_decided).then(|| {
        let lasts = request_us(short.min, SYNACK_RETRIES);
        Diagnostic::new(
            format!(
                "rule `{}`: learned timers of incoming connections with `min` {} need `synack_retries`",
                rule.name,
                spell(short.min.into())
            ),
            rule.span.clone(),
        )
        .label(format!(
            "a client whose answer takes longer than {} is reset each time, and never measured",
            seconds(lasts)
        ))
        .help(format!(
            "add `synack_retries = {}`, or `direction = \"outgoing\"`, or raise `min` to 1s",
            enough(short.min)
        ))
    })
}

/// The number of retransmissions with which a request lasts about as long as Linux's own.
fn enough(timer: u32) -> u32 {
    let linux = request_us(LINUX_US, SYNACK_RETRIES);
    (SYNACK_RETRIES..).find(|it| request_us(timer, *it) >= linux).unwrap_or(127)
}

/// True if a listener can be in this part of a rule's region. It has no remote end and no interface yet.
fn is_of_listeners(term: &Term) -> bool {
    let is_known = |dimension| {
        matches!(
            dimension,
            Dimension::Direction
                | Dimension::Family
                | Dimension::Port(Side::Local)
                | Dimension::Address(Side::Local)
        )
    };
    goes(term, INCOMING) && term.bounds().all(|(dimension, _)| is_known(dimension))
}

/// True if the condition cannot match without the remote end.
fn needs_peer(formula: &Formula) -> bool {
    match formula {
        Formula::All(parts) => parts.iter().any(needs_peer),
        Formula::Any(parts) => parts.iter().all(needs_peer),
        Formula::Not(inner) => needs_peer(inner),
        Formula::Test(test) => !matches!(
            test,
            Test::Port(End::Local, _)
                | Test::Address(End::Local, _)
                | Test::Family(_)
                | Test::Direction(_)
        ),
    }
}

/// How long a request lasts: since Linux 5.18 it ends after its doubling timers (`reqsk_timer_handler()`,
/// net/ipv4/inet_connection_sock.c).
fn request_us(timer: u32, retries: u32) -> u64 {
    let timers = (0..=retries).map(|doublings| u64::from(timer) << doublings.min(32));
    timers.map(|us| us.min(super::RTO_MAX_US)).sum()
}

pub(super) fn notes(rule: &Rule, region: &Terms) -> Vec<Diagnostic> {
    let settings = &rule.settings;
    let all = [short_requests(rule, region), deferred(rule, region), multipath(rule, region)];
    if settings.rto_us().is_none() { Vec::new() } else { all.into_iter().flatten().collect() }
}

/// The timer, or the shortest one that is learned, with the name of what sets it.
fn shortest(settings: &Settings) -> Option<(u32, &'static str)> {
    let learned = settings.learned().map(|it| (it.min, "min"));
    learned.or(settings.rto_us().map(|us| (us, "rto")))
}

/// True if connections in this direction match whose peers are anywhere. Those of certain addresses are taken to be
/// near.
fn is_of_anyone(region: &Terms, way: u128) -> bool {
    let anywhere = |term: &Term| term.bound(Dimension::Address(Side::Remote)).is_none();
    region.iter().any(|term| goes(term, way) && anywhere(term))
}

fn note(rule: &Rule, (timer, key): (u32, &str), hazard: String) -> Diagnostic {
    let message = format!("rule `{}`: with `{key}` {}, {hazard}", rule.name, spell(timer.into()));
    Diagnostic::new(message, rule.span.clone())
}

/// Clients that are farther away get a reset, and a learned timer never hears of them.
fn short_requests(rule: &Rule, region: &Terms) -> Option<Diagnostic> {
    let (timer, key) = shortest(&rule.settings)?;
    let retries = rule.settings.number("synack_retries");
    let lasts = request_us(timer, retries.unwrap_or(SYNACK_RETRIES));
    if lasts >= SHORT_REQUEST_US || !is_of_anyone(region, INCOMING) {
        return None;
    }
    let hazard = format!("clients whose answer takes longer than {} are reset", seconds(lasts));
    let by = match region.iter().any(is_of_listeners) {
        true => "`synack_retries`",
        false => "the sysctl net.ipv4.tcp_synack_retries",
    };
    Some(
        note(rule, (timer, key), hazard)
            .label("incoming connections, from Linux 5.18 on")
            .help(format!("raise it, or add `direction = \"outgoing\"`, or raise {by}")),
    )
}

/// The kernel turns the seconds of TCP_DEFER_ACCEPT into a number of retransmissions at 1 s, 2 s, 4 s …
/// (`secs_to_retrans()`, net/ipv4/tcp.c).
fn deferred(rule: &Rule, region: &Terms) -> Option<Diagnostic> {
    let (timer, key) = shortest(&rule.settings).filter(|(timer, _)| *timer < LINUX_US)?;
    let times = LINUX_US / timer;
    if times < 2 || !is_of_anyone(region, INCOMING) {
        return None;
    }
    let hazard = format!("a listener's TCP_DEFER_ACCEPT lasts 1/{times} of its seconds");
    Some(
        note(rule, (timer, key), hazard)
            .label("incoming connections, from Linux 5.18 on")
            .help("without that socket option nothing changes; with it, raise its seconds"),
    )
}

fn multipath(rule: &Rule, region: &Terms) -> Option<Diagnostic> {
    let us = rule.settings.rto_us().filter(|us| *us < LINUX_US)?;
    if !is_of_anyone(region, OUTGOING) {
        return None;
    }
    let key = if rule.settings.learned().is_some() { "start" } else { "rto" };
    let hazard = format!(
        "an answer after more than {} turns MPTCP off in the network namespace for an hour",
        seconds(MPTCP_TIMEOUTS * u64::from(us))
    );
    Some(
        note(rule, (us, key), hazard)
            .label("outgoing connections of MPTCP sockets, from Linux 6.12 on")
            .help("raise it, or set the sysctl net.mptcp.blackhole_timeout to 0"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_last_for_their_timers() {
        assert_eq!(request_us(LINUX_US, SYNACK_RETRIES), 63_000_000);
        assert_eq!(request_us(10_000, 1), 30_000);
        // At most 120 s each.
        assert_eq!(request_us(120_000_000, 127), 128 * 120_000_000);
        assert_eq!((enough(LINUX_US), enough(10_000), enough(500_000)), (5, 12, 6));
    }
}
