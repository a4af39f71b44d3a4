//! The rules' durations in effect: jiffies, notes about rounding, counters.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::policy::rto_in;
use super::support::synack_timer;
use crate::harness::capture::Capture;
use crate::harness::clock::Hz;
use crate::harness::lab::Lab;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wire::Kind;
use crate::harness::wire::transmissions;

const RULES: &str = include_str!("../rules/wire.toml");

/// Rules of `wire.toml` and their ports.
const TIMERS: [(&str, u16); 7] = [
    ("quick", 2001),
    ("slower", 2002),
    ("least", 2010),
    ("odd", 2011),
    ("fraction", 2012),
    ("minutes", 2013),
    ("most", 2014),
];

tests! {
    timer_is_exact_to_the_jiffy: 60,
    install_tells_of_coarse_rounding: 60,
    hits_count_connections_not_retransmissions: 60,
}

/// TCP_INFO, and the output of `status` and `try`.
fn timer_is_exact_to_the_jiffy() -> Result<()> {
    let set_rto = SetRto::of("wire")?;
    let hz = Hz::of_this_kernel()?;
    let (_lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let status = set_rto.status()?;
    ensure!(status.json["hz"] == hz.get(), "hz is not {}: {status:?}", hz.get());
    for (rule, port) in TIMERS {
        let rto = rto_in(RULES, rule)?;
        let expected = hz.jiffies(rto);
        let armed = first_timer(cable.remote4(port))?;
        ensure!(hz.nearest(armed) == expected, "{rule}: {armed:?}, expected {expected} jiffies");
        let entry = status.rule(rule)?;
        ensure!(entry["rto_jiffies"] == expected, "{rule}: expected {expected} in {entry}");
        let milliseconds = entry["rto_ms"].as_f64().context("rto_ms")?;
        ensure!((milliseconds / 1e3 - rto.as_secs_f64()).abs() < 1e-9, "{rule}: rto_ms in {entry}");
        // A timer this short may double before `try` can read it.
        if expected > 10 {
            let said = set_rto.try_to(cable.remote4(port))?;
            let words = format!("({expected} jiffies at HZ {})", hz.get());
            ensure!(said.contains(&words), "`try` says `{said}`, expected `{words}`");
        }
    }
    Ok(())
}

/// The timer of a SYN's first transmission, even if it expires before it can be read.
fn first_timer(remote: SocketAddr) -> Result<Duration> {
    for _ in 0..100 {
        let connection = Connection::open(remote)?;
        let rto = connection.rto()?;
        if connection.retransmits()? == 0 {
            return Ok(rto);
        }
    }
    bail!("each of 100 SYNs to {remote} was sent again before its timer could be read")
}

/// `install` names exactly the rules whose timer the tick lengthens by more than 10 %.
fn install_tells_of_coarse_rounding() -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let output = SetRto::of("wire")?.ok(&["install"])?;
    for (rule, _) in TIMERS {
        let asked = rto_in(RULES, rule)?;
        let given = hz.duration(hz.jiffies(asked));
        let coarse = given.saturating_sub(asked) * 10 > asked;
        let told = output
            .stderr
            .lines()
            .any(|line| line.starts_with("set-rto: ") && line.contains(&format!("`{rule}`")));
        ensure!(told == coarse, "{asked:?} becomes {given:?}; told of it: {told}; {output}");
    }
    Ok(())
}

/// Each connection counts once, however often its SYN or SYN-ACK is sent.
fn hits_count_connections_not_retransmissions() -> Result<()> {
    let set_rto = SetRto::of("wire")?;
    let (lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let connection = Connection::open(cable.remote4(2001))?;
    let end = Instant::now() + Duration::from_secs(10);
    while connection.retransmits()? < 6 {
        ensure!(Instant::now() < end, "only {} retransmissions", connection.retransmits()?);
        sleep(Duration::from_millis(10));
    }
    let hits = set_rto.status()?.hits("quick")?;
    ensure!(hits == 1, "one outgoing connection with 6 retransmissions: {hits} hits");
    drop(connection);

    let (from, to) = (cable.remote4(4000), SocketAddr::new(cable.here4(), 2001));
    let _listener = listen(to, None)?;
    let mut capture = Capture::start(&cable.name)?;
    lab.syns(&cable, &[(from, to)])?;
    synack_timer(from, to)?;
    // The client retransmits its SYN, too.
    lab.syns(&cable, &[(from, to)])?;
    let limit = Duration::from_secs(30);
    let sent = transmissions(&mut capture, Kind::SynAck, (to, from), 4, limit)?.len();
    ensure!(sent >= 4, "only {sent} SYN-ACKs");
    let hits = set_rto.status()?.hits("quick")?;
    ensure!(hits == 2, "one more incoming connection with {sent} SYN-ACKs: {hits} hits");

    for count in 3..=12 {
        drop(Connection::open(cable.remote4(2001))?);
        let hits = set_rto.status()?.hits("quick")?;
        ensure!(hits == count, "connection {count}: {hits} hits");
    }
    Ok(())
}
