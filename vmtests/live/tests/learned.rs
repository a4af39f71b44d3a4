//! Learned timers, checked by the sockets' timers and by capture against an estimator written from RFC 6298; and the
//! evidence that rules keep.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::harness::Skip;
use crate::harness::clock::Hz;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::write_sysctl;
use crate::harness::note;
use crate::harness::packet;
use crate::harness::pair::Opt;
use crate::harness::pair::number;
use crate::harness::peer::Peer;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::From;
use crate::harness::sockets::listen;
use crate::harness::tests;

tests! {
    learned_outgoing_timers: 120,
    learned_timer_on_the_wire: 60,
    learned_incoming_timers: 120,
    learned_backs_off_without_timestamps: 60,
    learned_by_one_host_for_itself: 60,
    learned_hosts_at_the_limit: 120,
    learned_is_kept_and_forgotten: 120,
    learned_not_from_data: 60,
    evidence_counts: 120,
    evidence_of_one_rule_a_connection: 60,
}

/// The bounds of the rule `learns`.
const START: Duration = Duration::from_millis(400);
const MIN: Duration = Duration::from_millis(20);
const MAX: Duration = Duration::from_secs(5);

/// A port of that rule, and ports of others.
pub(super) const LEARNS: u16 = 6000;
const CAREFUL: u16 = 6100;
pub(super) const FIXED: u16 = 6200;
const OPENS: u16 = 6300;

/// RFC 6298 sections 2.2 and 2.3, in seconds. The variation decays by 1/8, and the margin is at least half the round
/// trip.
#[derive(Clone, Copy)]
struct Estimator {
    srtt: f64,
    rttvar: f64,
}

impl Estimator {
    fn after(known: Option<Self>, sample: Duration) -> Self {
        let sample = sample.as_secs_f64();
        let Some(Self { srtt, rttvar }) = known else {
            return Self { srtt: sample, rttvar: sample / 2.0 };
        };
        let error = (srtt - sample).abs();
        let gain = if error > rttvar { 0.25 } else { 0.125 };
        Self { srtt: srtt + (sample - srtt) / 8.0, rttvar: rttvar + gain * (error - rttvar) }
    }

    fn timer(self) -> Duration {
        let margin = (4.0 * self.rttvar).max(self.srtt / 2.0);
        Duration::from_secs_f64(self.srtt + margin).clamp(MIN, MAX)
    }
}

fn timer(known: Option<Estimator>) -> Duration {
    known.map_or(START, Estimator::timer)
}

/// Rounded down, plus one. The measured and computed values may differ by one jiffy.
fn expect_timer(found: Duration, expected: Duration, hz: Hz, what: &str) -> Result<()> {
    let jiffies = (expected.as_micros() as u64 * hz.get()) / 1_000_000 + 1;
    let found = hz.nearest(found);
    ensure!(
        found.abs_diff(jiffies) <= 1,
        "{what}: a timer of {found} jiffies instead of {jiffies} ({expected:?})"
    );
    Ok(())
}

/// A path to many hosts, with the rules of `learn` installed.
pub(super) fn network(rules: &str) -> Result<(SetRto, Lab, Cable, Peer)> {
    let set_rto = SetRto::of(rules)?;
    let mut lab = Lab::new()?;
    let (cable, tun) = lab.lay_tun("tun0")?;
    set_rto.ok(&["install"])?;
    Ok((set_rto, lab, cable, Peer::new(tun)))
}

/// One of many hosts behind the path.
pub(super) fn host(number: u16, port: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    (Ipv4Addr::new(10, 40, high, low), port).into()
}

/// Reads the evidence or the learned part of a rule.
pub(super) fn of_rule(set_rto: &SetRto, rule: &str, part: &str) -> Result<Value> {
    Ok(set_rto.status()?.rule(rule)?[part].clone())
}

fn counter(set_rto: &SetRto, rule: &str, direction: &str, name: &str) -> Result<u64> {
    let evidence = of_rule(set_rto, rule, "evidence")?;
    let number = evidence[direction][name].as_u64();
    number.with_context(|| format!("no {direction} {name} of {rule} in {evidence}"))
}

/// The nth connection to a host gets the timer that the estimator computes from the earlier ones. An unknown host
/// gets the timer from the first samples of all hosts.
fn learned_outgoing_timers() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    let hz = Hz::of_this_kernel()?;
    let (mut all, mut known) = (None, [None; 3]);
    let delays = [30, 31, 90, 40, 33, 150, 60, 45, 42, 41];
    let mut shortest = START;
    for (turn, delay) in delays.into_iter().enumerate() {
        for (at, known) in known.iter_mut().enumerate() {
            let after = Duration::from_millis(delay + 7 * at as u64);
            let expected = timer(known.or(all));
            let (found, sample) = peer.connect(host(at as u16 + 1, LEARNS), after)?;
            let what = format!("connection {} to host {}", turn + 1, at + 1);
            expect_timer(found, expected, hz, &what)?;
            if known.is_none() {
                all = Some(Estimator::after(all, sample));
            }
            *known = Some(Estimator::after(*known, sample));
            shortest = shortest.min(found);
        }
    }
    ensure!(shortest < START / 2, "it learned nothing: {shortest:?}");
    let (found, sample) = peer.connect(host(9, LEARNS), Duration::from_millis(30))?;
    expect_timer(found, timer(all), hz, "another host")?;
    all = Some(Estimator::after(all, sample));
    let learned = of_rule(&set_rto, "learns", "learned")?;
    ensure!(learned["hosts"] == 4, "{learned}");
    ensure!(learned["outgoing"]["samples"] == 4 && learned["incoming"].is_null(), "{learned}");
    let told = learned["outgoing"]["timer_us"].as_u64().context("no timer")?;
    let expected = timer(all).as_micros() as u64;
    ensure!(told.abs_diff(expected) < 1000, "status says {told} us, expected {expected}");
    // Without explicit bounds, a rule never retransmits earlier than Linux does.
    for _ in 0..3 {
        let (found, _) = peer.connect(host(1, CAREFUL), Duration::from_millis(5))?;
        expect_timer(found, Duration::from_secs(1), hz, "`careful`")?;
    }
    Ok(())
}

/// The learned timer, measured as the time between the first SYN and its retransmission.
fn learned_timer_on_the_wire() -> Result<()> {
    let (_set_rto, _lab, _cable, peer) = network("learn")?;
    let hz = Hz::of_this_kernel()?;
    let mut known = None;
    for _ in 0..4 {
        let (_, sample) = peer.connect(host(1, LEARNS), Duration::from_millis(60))?;
        known = Some(Estimator::after(known, sample));
    }
    let connection = Connection::open(host(1, LEARNS))?;
    let expected = connection.rto()?;
    expect_timer(expected, timer(known), hz, "the timer")?;
    let (first, second) = (peer.expect()?, peer.expect()?);
    let apart = second.at - first.at;
    let step = hz.wheel_step(hz.nearest(expected)) + hz.jiffy();
    // A busy machine sends late.
    let latest = expected + step + Duration::from_millis(200);
    ensure!(
        apart + hz.jiffy() >= expected && apart <= latest,
        "a SYN and the next one are {apart:?} apart, the timer is {expected:?}"
    );
    Ok(())
}

/// A listener learns a timer for each client, measured as the time between the SYN-ACK and its retransmission. An
/// IPv6 network counts as one client.
fn learned_incoming_timers() -> Result<()> {
    let (set_rto, _lab, cable, peer) = network("learn")?;
    let hz = Hz::of_this_kernel()?;
    let here: SocketAddr = (cable.here4(), LEARNS).into();
    let listener = listen(here, None)?;
    let mut known = None;
    let mut port = 40_000;
    // The timer of a SYN-ACK, and the sample if it is answered at once.
    let mut open = |known: &mut Option<Estimator>, delay: Option<u64>| -> Result<Duration> {
        port += 1;
        let far = host(1, port);
        peer.send(&packet::from_far((far, here), None, &[]))?;
        let first = peer.expect()?;
        if let Some(delay) = delay {
            let delay = Duration::from_millis(delay);
            thread::sleep(delay.saturating_sub(first.at.elapsed()));
            peer.send(&packet::from_far((far, here), Some(first.segment.sequence), &[]))?;
            *known = Some(Estimator::after(*known, delay));
            return Ok(delay);
        }
        let second = peer.expect()?;
        peer.send(&packet::from_far((far, here), Some(first.segment.sequence), &[]))?;
        Ok(second.at - first.at)
    };
    for delay in [60, 62, 58, 61, 60, 60] {
        open(&mut known, Some(delay))?;
    }
    let expected = timer(known);
    ensure!(expected < START / 2, "{expected:?}");
    let found = open(&mut known, None)?;
    let latest = expected + hz.wheel_step(hz.nearest(expected)) + Duration::from_millis(200);
    // The sample is the kernel's measurement and slightly longer than the delay.
    ensure!(
        found + 2 * hz.jiffy() >= expected && found <= latest,
        "a SYN-ACK and the next one are {found:?} apart, expected {expected:?}"
    );
    let learned = of_rule(&set_rto, "learns", "learned")?;
    let samples = learned["incoming"]["samples"].as_u64();
    ensure!(learned["hosts"] == 1 && samples == Some(1), "{learned}");
    drop(listener);
    Ok(())
}

/// Karn's algorithm: a handshake with a retransmission and without timestamps gives no sample, so the timer doubles.
fn learned_backs_off_without_timestamps() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    let hz = Hz::of_this_kernel()?;
    write_sysctl("ipv4/tcp_timestamps", "0")?;
    for expected in [400, 800, 1600] {
        let connection = Connection::open(host(1, LEARNS))?;
        let found = connection.rto()?;
        expect_timer(found, Duration::from_millis(expected), hz, "after a retransmission")?;
        peer.expect()?;
        let second = peer.expect()?;
        peer.answer(&second, true)?;
        peer.established(&connection)?;
    }
    let learned = of_rule(&set_rto, "learns", "learned")?;
    ensure!(learned["outgoing"].is_null(), "no sample was taken: {learned}");
    // The first sample replaces the doubled timer.
    let (_, sample) = peer.connect(host(1, LEARNS), Duration::from_millis(50))?;
    let connection = Connection::open(host(1, LEARNS))?;
    let expected = Estimator::after(None, sample).timer();
    expect_timer(connection.rto()?, expected, hz, "after a sample")?;
    Ok(())
}

/// A host that is slow, or claims to be, changes only its own timer, and that of unknown hosts by one sample.
fn learned_by_one_host_for_itself() -> Result<()> {
    let (_set_rto, _lab, _cable, peer) = network("learn")?;
    let hz = Hz::of_this_kernel()?;
    let short = Duration::from_millis(30);
    let (mut known, mut all) = (None, None);
    for at in 1..=8 {
        let (_, sample) = peer.connect(host(at, LEARNS), short)?;
        if at == 1 {
            known = Some(Estimator::after(None, sample));
        }
        all = Some(Estimator::after(all, sample));
    }
    for turn in 0..6 {
        let (_, sample) = peer.connect(host(66, LEARNS), Duration::from_millis(250))?;
        if turn == 0 {
            all = Some(Estimator::after(all, sample));
        }
    }
    let slow = Connection::open(host(66, LEARNS))?.rto()?;
    ensure!(slow > Duration::from_millis(370), "the slow host: {slow:?}");
    let (found, _) = peer.connect(host(1, LEARNS), short)?;
    peer.forget()?;
    expect_timer(found, timer(known), hz, "a known host")?;
    let found = Connection::open(host(77, LEARNS))?.rto()?;
    expect_timer(found, timer(all), hz, "a host that is not known")?;
    Ok(())
}

/// More hosts than the table holds: only the oldest are evicted.
fn learned_hosts_at_the_limit() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    let hz = Hz::of_this_kernel()?;
    let room = set_rto.status()?.json["hosts_room"].as_u64().context("no room")?;
    ensure!(room >= 256, "room for {room} hosts");
    if room > 4096 {
        anyhow::bail!(Skip::new(format!("this machine's processors need {room} hosts")));
    }
    let last = room as u16 + room as u16 / 2;
    for at in 1..=last {
        peer.connect(host(at, LEARNS), Duration::ZERO)?;
    }
    let learned = of_rule(&set_rto, "learns", "learned")?;
    let hosts = learned["hosts"].as_u64().context("no hosts")?;
    note(format_args!("{hosts} of {last} hosts are known, there is room for {room}"));
    ensure!(hosts < room && hosts > room / 4, "{hosts} hosts are known, of {room}: {learned}");
    // The entry for all hosts is in constant use, so it is not evicted.
    ensure!(learned["outgoing"]["samples"].as_u64() >= Some(u64::from(last)), "{learned}");
    let found = Connection::open(host(1, LEARNS))?.rto()?;
    expect_timer(found, MIN, hz, "a host that was forgotten")?;
    Ok(())
}

/// Learned state survives an install of other rules, of the same rules, and of another table size, but not `--forget`
/// or `remove`.
fn learned_is_kept_and_forgotten() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    let (more, plain) = (SetRto::of("learn-more")?, SetRto::of("port")?);
    for _ in 0..3 {
        peer.connect(host(1, LEARNS), Duration::from_millis(30))?;
    }
    let samples = |set_rto: &SetRto| -> Result<Option<u64>> {
        let status = set_rto.run(&["status", "--json", "--hosts", "1"])?.json()?;
        let rule = status["rules"]
            .as_array()
            .context("no rules")?
            .iter()
            .find(|it| it["name"] == "learns");
        Ok(rule.context("no rule")?["learned"]["latest"][0]["samples"].as_u64())
    };
    ensure!(samples(&set_rto)? == Some(3), "{:?}", set_rto.status()?);
    // More hosts need a map of another size.
    more.ok(&["install"])?;
    ensure!(samples(&more)? == Some(3), "lost by other rules: {:?}", more.status()?);
    let room = more.status()?.json["hosts_room"].as_u64();
    ensure!(room >= Some(2048), "{room:?}");
    peer.connect(host(1, LEARNS), Duration::from_millis(30))?;
    more.ok(&["install"])?;
    // Rules that do not learn keep the state for rules that do.
    plain.ok(&["install"])?;
    more.ok(&["install"])?;
    ensure!(samples(&more)? == Some(4), "lost by rules that do not learn: {:?}", more.status()?);
    set_rto.ok(&["install"])?;
    ensure!(samples(&set_rto)? == Some(4), "lost by less room: {:?}", set_rto.status()?);
    let dry = set_rto.ok(&["install", "--forget", "--dry-run"])?;
    ensure!(dry.stdout.contains("would replace"), "{}", dry.stdout);
    ensure!(samples(&set_rto)? == Some(4), "forgotten by a dry run");
    set_rto.ok(&["install", "--forget"])?;
    ensure!(samples(&set_rto)?.is_none(), "not forgotten: {:?}", set_rto.status()?);
    peer.connect(host(1, LEARNS), Duration::from_millis(30))?;
    set_rto.ok(&["remove"])?;
    set_rto.ok(&["install"])?;
    ensure!(samples(&set_rto)?.is_none(), "kept by remove: {:?}", set_rto.status()?);
    Ok(())
}

/// If the packet that completes a handshake carries data, the client or TCP_DEFER_ACCEPT may have waited for that
/// data.
fn learned_not_from_data() -> Result<()> {
    let (set_rto, _lab, cable, peer) = network("learn")?;
    let here: SocketAddr = (cable.here4(), LEARNS).into();
    let listener = listen(here, None)?;
    for (port, data, samples) in [(40_001, &b"data"[..], None), (40_002, &[][..], Some(1))] {
        let far = host(1, port);
        peer.send(&packet::from_far((far, here), None, &[]))?;
        let first = peer.expect()?;
        thread::sleep(Duration::from_millis(100));
        peer.send(&packet::from_far((far, here), Some(first.segment.sequence), data))?;
        thread::sleep(Duration::from_millis(50));
        let learned = of_rule(&set_rto, "learns", "learned")?;
        ensure!(learned["incoming"]["samples"].as_u64() == samples, "{data:?}: {learned}");
    }
    let answered = counter(&set_rto, "learns", "incoming", "answered")?;
    ensure!(answered == 2, "{answered} answered");
    drop(listener);
    Ok(())
}

/// The outcome of each connection of a fixed rule is counted once.
fn evidence_counts() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    // Three are answered at once.
    for _ in 0..3 {
        peer.connect(host(1, FIXED), Duration::from_millis(3))?;
    }
    // The first SYN is lost.
    let lost = Connection::open(host(1, FIXED))?;
    peer.expect()?;
    let second = peer.expect()?;
    peer.answer(&second, true)?;
    peer.established(&lost)?;
    // The answer to the first SYN arrives after the second SYN was sent.
    let late = Connection::open(host(1, FIXED))?;
    let first = peer.expect()?;
    peer.expect()?;
    thread::sleep(Duration::from_millis(90).saturating_sub(first.at.elapsed()));
    peer.answer(&first, true)?;
    peer.established(&late)?;
    let retransmits = u64::from(lost.retransmits()? + late.retransmits()?);
    peer.forget()?;
    // These get no answer.
    let silent = Connection::open(host(2, FIXED))?;
    let mut syns = 0;
    while peer.next(Duration::from_secs(2))?.is_some() {
        syns += 1;
    }
    drop(silent);
    let of = |name| counter(&set_rto, "fixed", "outgoing", name);
    for (name, expected) in [
        ("connections", 6),
        ("answered", 5),
        ("answered_after_retransmission", 2),
        ("retransmissions", retransmits + syns - 1),
        ("late", 1),
        ("gave_up", 1),
    ] {
        let found = of(name)?;
        ensure!(found == expected, "{name}: {found} instead of {expected}");
    }
    let evidence = of_rule(&set_rto, "fixed", "evidence")?;
    let buckets = evidence["outgoing"]["round_trips"].as_array().context("no histogram")?;
    let measured: u64 = buckets.iter().filter_map(|it| it["count"].as_u64()).sum();
    // With timestamps, a retransmission also gives a sample.
    ensure!(measured == 5, "{measured} of 5 round trips: {evidence}");
    ensure!(evidence["incoming"]["connections"] == 0, "{evidence}");
    let text = set_rto.ok(&["status"])?.stdout;
    ensure!(text.lines().all(|line| line.len() <= 80), "too wide for a terminal:\n{text}");
    let row = text.lines().find(|line| line.starts_with("fixed ")).context("no row")?;
    let cells: Vec<_> = row.split_whitespace().collect();
    ensure!(cells[..2] == ["fixed", "60ms"] && cells[4..6] == ["1", "1"], "{row}");
    ensure!(cells[2] == "6" && cells[3] == of("retransmissions")?.to_string(), "{row}");
    ensure!(!text.lines().any(|line| line.starts_with("never ")), "{text}");
    let all = set_rto.ok(&["status", "--all"])?.stdout;
    ensure!(all.lines().any(|line| line.starts_with("never ")), "{all}");
    let one = set_rto.ok(&["status", "fixed"])?.stdout;
    ensure!(one.contains("gave up 1 times") && one.contains('#'), "{one}");
    let metrics = set_rto.ok(&["status", "--metrics"])?.stdout;
    for line in [
        "set_rto_gave_up_total{rule=\"fixed\",direction=\"outgoing\"} 1",
        "set_rto_handshake_seconds_count{rule=\"fixed\",direction=\"outgoing\"} 5",
        "set_rto_timer_seconds{rule=\"fixed\",direction=\"outgoing\"} 0.06",
    ] {
        ensure!(metrics.lines().any(|it| it == line), "no {line} in\n{metrics}");
    }
    ensure!(metrics.ends_with("\n# EOF\n"), "{metrics}");
    let advice = set_rto.ok(&["advise"])?.stdout;
    ensure!(advice.contains("fixed (outgoing): 5 measured round trips are too few"), "{advice}");
    ensure!(advice.contains("never: no connection in "), "{advice}");
    let unknown = set_rto.run(&["status", "nobody"])?;
    ensure!(unknown.code == Some(1) && unknown.stderr.contains("nobody"), "{}", unknown.stderr);
    Ok(())
}

/// A simultaneous open, and a socket that connects to itself. The kernel completes both like incoming connections.
/// The rule that answered at the start of the connection decides all of it.
fn evidence_of_one_rule_a_connection() -> Result<()> {
    let (set_rto, _lab, cable, peer) = network("learn")?;
    let timeout = |connection: &Connection| {
        number(connection, Opt(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT))
    };
    let here: SocketAddr = (cable.here4(), OPENS).into();
    let far = host(1, 40_000);
    let connection = Connection::open_from(From { local: Some(here), device: None }, far)?;
    let syn = peer.expect()?;
    peer.send(&packet::from_far((far, here), None, &[]))?;
    peer.expect()?;
    peer.send(&packet::from_far((far, here), Some(syn.segment.sequence), &[]))?;
    peer.established(&connection)?;
    let found = timeout(&connection)?;
    ensure!(found == 31_000, "a simultaneous open has the user timeout {found}");
    drop(connection);
    let own: SocketAddr = (Ipv4Addr::LOCALHOST, OPENS).into();
    let connection = Connection::open_from(From { local: Some(own), device: None }, own)?;
    peer.established(&connection)?;
    let found = timeout(&connection)?;
    ensure!(found == 31_000, "a connection to itself has the user timeout {found}");
    let answered = counter(&set_rto, "opens", "outgoing", "answered")?;
    ensure!(answered == 2, "{answered} answered: {:?}", set_rto.status()?);
    let of_others = of_rule(&set_rto, "answers", "hits")?;
    ensure!(of_others == 0, "the other rule has {of_others} connections");
    Ok(())
}
