//! Every setting that `samples.rs` does not cover, read from the sockets of both ends or from the wire.

use std::io::Read as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::samples::AT_ONCE;
use super::samples::OTHER;
use super::samples::first_window;
use super::samples::install;
use super::samples::lab;
use super::samples::refusals;
use super::samples::sent;
use crate::harness::Skip;
use crate::harness::capture::Capture;
use crate::harness::capture::Seen;
use crate::harness::clock::Hz;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::sysctl;
use crate::harness::netns::write_sysctl;
use crate::harness::note;
use crate::harness::pair;
use crate::harness::pair::BOTH;
use crate::harness::pair::Direction;
use crate::harness::pair::Opt;
use crate::harness::pair::Pair;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wait::until;
use crate::harness::wire::Kind;
use crate::harness::wire::transmissions;

tests! {
    setting_syn_retries: 60,
    setting_rto_min: 60,
    setting_delack_max: 60,
    setting_rto_max: 60,
    setting_user_timeout: 60,
    setting_keepalive: 60,
    setting_thin_linear_timeouts: 60,
    setting_notsent_lowat: 60,
    setting_max_pacing_rate: 60,
    setting_mark: 60,
    setting_mark_routes_the_syn: 60,
    setting_priority: 60,
    setting_priority_beside_tos: 60,
    setting_ecn: 60,
    setting_congestion_with_ecn: 60,
    setting_initial_rwnd: 60,
    setting_below_two_ticks_is_said: 60,
    settings_of_one_client_only: 60,
    settings_count_connections_once: 60,
}

pub(super) const fn tcp(option: libc::c_int) -> Opt {
    Opt(libc::IPPROTO_TCP, option)
}

pub(super) const fn socket(option: libc::c_int) -> Opt {
    Opt(libc::SOL_SOCKET, option)
}

/// linux/tcp.h, Linux 6.15 and newer.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Checks options at both ends of connections in both directions. Without a rule their values must differ.
pub(super) fn options(rule: &str, port: u16, expected: &[(Opt, u32)]) -> Result<()> {
    let set_rto = install("settings", rule)?;
    let (lab, cable) = lab()?;
    for way in BOTH {
        let pair = Pair::open(&lab, &cable, way, port)?;
        let other = Pair::open(&lab, &cable, way, OTHER)?;
        for &(option, expected) in expected {
            for end in [&pair.here, &pair.there] {
                let value = pair::number(end, option)?;
                ensure!(value == expected, "{way:?}, {option:?}: {value}, not {expected}");
            }
            let value = pair::number(&other.here, option)?;
            ensure!(value != expected, "{way:?}, {option:?}: {value} without a rule, too");
        }
    }
    let hits = set_rto.status()?.hits(rule)?;
    ensure!(hits == 4, "two connections with both ends here are 4, not {hits} hits");
    Ok(())
}

/// The option, and the resulting number of SYNs.
fn setting_syn_retries() -> Result<()> {
    install("settings", "syn-retries")?;
    // Since 6.5, this many linear timeouts precede the doubling.
    if sysctl("ipv4/tcp_syn_linear_timeouts").is_some() {
        write_sysctl("ipv4/tcp_syn_linear_timeouts", "0")?;
    }
    let (_lab, cable) = Lab::with_cable()?;
    let remote = cable.remote4(5000);
    let mut capture = Capture::start(&cable.name)?;
    let connection = Connection::open(remote)?;
    let count = pair::number(&connection, tcp(libc::TCP_SYNCNT))?;
    ensure!(count == 2, "TCP_SYNCNT is {count}");
    let ends = (connection.local()?, remote);
    // SYNs are sent at 0, 50 and 150 ms. The connection is given up at 350 ms, when a fourth would follow.
    const CLOSED: u8 = 7;
    until("the connection is not given up", || {
        Ok(pair::tcp_info(&connection, 0)?.to_ne_bytes()[0] == CLOSED)
    })?;
    let sent = transmissions(&mut capture, Kind::Syn, ends, 4, AT_ONCE)?;
    ensure!(sent.len() == 3, "{} SYNs, not the first and two more: {sent:?}", sent.len());
    Ok(())
}

/// The timer of an established connection once its round-trip time is known.
fn setting_rto_min() -> Result<()> {
    install("settings", "rto-min")?;
    let (lab, cable) = lab()?;
    for (port, is_meant) in [(5001, true), (OTHER, false)] {
        for way in BOTH {
            let range = if is_meant { 40..=110 } else { 195..=1000 };
            let mut attempts = 0..20;
            loop {
                let (rto, trip) = settled_timer(&lab, &cable, way, port)?;
                if range.contains(&rto.as_millis()) {
                    break;
                }
                // There is no sample if a SYN was retransmitted (RFC 6298 section 5.7).
                let is_disturbed = trip.is_zero() || trip > Duration::from_millis(2);
                let is_last = attempts.next().is_none();
                ensure!(is_disturbed && !is_last, "{way:?}, port {port}: {rto:?} after {trip:?}");
                note(format!("{way:?}, port {port}: {rto:?} after {trip:?}, on a busy machine"));
            }
        }
    }
    Ok(())
}

/// The timer, and the sum of the round-trip time and its variation on which it is based.
fn settled_timer(
    lab: &Lab,
    cable: &Cable,
    way: Direction,
    port: u16,
) -> Result<(Duration, Duration)> {
    let mut pair = Pair::open(lab, cable, way, port)?;
    if way == Direction::Incoming {
        // The first sample precedes the callback. Later ones replace it.
        pair.here.set_nodelay(true)?;
        pair.there.set_nodelay(true)?;
        for _ in 0..100 {
            pair.here.write_all(b"a")?;
            pair.there.read_exact(&mut [0])?;
            pair.there.write_all(b"b")?;
            pair.here.read_exact(&mut [0])?;
        }
    }
    const RTT: usize = 68;
    const RTTVAR: usize = 72;
    let microseconds =
        |field| Ok::<_, anyhow::Error>(u64::from(pair::tcp_info(&pair.here, field)?));
    let trip = microseconds(RTT)? + microseconds(RTTVAR)?;
    Ok((Duration::from_micros(microseconds(pair::RTO)?), Duration::from_micros(trip)))
}

/// The delay of an ACK that waits for data to carry it.
fn setting_delack_max() -> Result<()> {
    install("settings", "delack-max")?;
    let hz = Hz::of_this_kernel()?;
    let (lab, cable) = lab()?;
    // 10 ms or two jiffies, plus at most one jiffy from the timer wheel (calc_index(), kernel/time/timer.c). A slow
    // machine takes a moment to send after the tick. Without a rule the delay is TCP_ATO_MIN, which is 40 ms.
    let jiffies = hz.jiffies(Duration::from_millis(10)).max(2) + 1;
    let expected = hz.duration(jiffies) + Duration::from_millis(2);
    for way in BOTH {
        let least = Duration::from_millis(40).saturating_sub(hz.jiffy());
        // A busy machine is late now and then. A wrong delay is wrong each time.
        for (port, right) in
            [(OTHER, least..=Duration::from_secs(1)), (5002, Duration::from_millis(4)..=expected)]
        {
            let is_right = |waits: &Duration| right.contains(waits);
            let mut waited = Vec::new();
            while !waited.last().is_some_and(is_right) {
                ensure!(waited.len() < 20, "{way:?}, port {port}: ACKs wait {waited:?}");
                // Start each one at a different point between two ticks, so that not all start right after one.
                let pause = Duration::from_micros(5000 + 300 * waited.len() as u64);
                waited.push(delayed_ack(&lab, &cable, way, port, pause)?);
            }
        }
    }
    Ok(())
}

fn delayed_ack(
    lab: &Lab,
    cable: &Cable,
    way: Direction,
    port: u16,
    pause: Duration,
) -> Result<Duration> {
    let mut pair = Pair::open(lab, cable, way, port)?;
    // Simulate data in both directions, so that an ACK is not sent at once.
    pair::set(&pair.here, tcp(libc::TCP_QUICKACK), 0)?;
    sleep(pause);
    let mut capture = Capture::start(&cable.name)?;
    pair.there.write_all(b"data")?;
    let own = pair.here.local_addr()?.port();
    let is_ack = |one: &&Seen| one.outgoing && one.segment.source.port() == own;
    let limit = Duration::from_secs(10);
    let seen = capture.until(limit, |seen| seen.iter().any(|one| is_ack(&one)))?;
    // The far side may retransmit its data first.
    let data = seen.iter().find(|one| !one.outgoing && one.segment.data == 4);
    let ack = seen.iter().find(is_ack);
    let times = data.zip(ack).with_context(|| format!("no data and ACK: {seen:?}"))?;
    Ok(times.1.at.saturating_sub(times.0.at))
}

fn setting_rto_max() -> Result<()> {
    options("rto-max", 5003, &[(tcp(TCP_RTO_MAX_MS), 2500)])
}

fn setting_user_timeout() -> Result<()> {
    options("user-timeout", 5004, &[(tcp(libc::TCP_USER_TIMEOUT), 12_345)])
}

/// The options, keepalive itself, and the first probe.
fn setting_keepalive() -> Result<()> {
    let expected = [
        (socket(libc::SO_KEEPALIVE), 1),
        (tcp(libc::TCP_KEEPIDLE), 1),
        (tcp(libc::TCP_KEEPINTVL), 60),
        (tcp(libc::TCP_KEEPCNT), 77),
    ];
    options("keepalive", 5005, &expected)?;
    let (lab, cable) = second_lab()?;
    for way in BOTH {
        let mut capture = Capture::start(&cable.name)?;
        let pair = Pair::open(&lab, &cable, way, 5005)?;
        let ends = (pair.here.local_addr()?.port(), pair.here.peer_addr()?.port());
        // Count what is sent after the handshake and half a second of silence.
        let count = |seen: &[Seen]| {
            let (Some(first), silence) = (seen.first(), Duration::from_millis(500)) else {
                return 0;
            };
            let sent = seen.iter().filter(|one| one.outgoing && one.at > first.at + silence);
            let ports = |one: &Seen| (one.segment.source.port(), one.segment.destination.port());
            sent.filter(|one| ports(one) == ends).count()
        };
        capture.until(Duration::from_secs(10), |seen| count(seen) > 0)?;
        let seen = capture.until(Duration::from_millis(800), |_| false)?;
        // The far end also probes and gets an answer, so there are at most two segments.
        let probes = count(seen);
        ensure!((1..=2).contains(&probes), "{way:?}: {probes} segments in silence: {seen:?}");
    }
    Ok(())
}

fn setting_thin_linear_timeouts() -> Result<()> {
    options("thin", 5006, &[(tcp(libc::TCP_THIN_LINEAR_TIMEOUTS), 1)])
}

fn setting_notsent_lowat() -> Result<()> {
    options("lowat", 5007, &[(tcp(libc::TCP_NOTSENT_LOWAT), 123_456)])
}

fn setting_max_pacing_rate() -> Result<()> {
    // If the kernel returns 64 bits, the value is in the first four bytes of the option on little-endian machines and
    // in the last four on big-endian ones.
    if cfg!(all(target_endian = "big", target_pointer_width = "64")) {
        note("left out: the option's upper half on this machine");
        return Ok(());
    }
    options("pacing", 5008, &[(socket(libc::SO_MAX_PACING_RATE), 3_000_000_000)])
}

fn setting_mark() -> Result<()> {
    options("mark", 5009, &[(socket(libc::SO_MARK), 0x8000_0123)])
}

/// `ip rule` with a mark routes even the SYN through another device.
fn setting_mark_routes_the_syn() -> Result<()> {
    const TABLE: u8 = 100;
    install("settings", "mark")?;
    let (mut lab, cable) = Lab::with_cable()?;
    let second = lab.lay("vb")?;
    let anywhere = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 };
    rtnetlink::add_route_in(TABLE, anywhere, Ipv4Addr::new(10, 20, 2, 254).into(), "vb")?;
    rtnetlink::route_by_mark(0x8000_0123, TABLE)?;
    for (port, device) in [(5009, &second), (OTHER, &cable)] {
        for one in [&cable, &second] {
            let remote = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
            let seen = sent(one, AT_ONCE, || Connection::open(remote).map(drop))?;
            let syns = seen.iter().filter(|it| it.segment.destination == remote).count();
            let expected = usize::from(one.name == device.name);
            ensure!(syns == expected, "port {port}: {syns} SYNs by {}", one.name);
        }
    }
    Ok(())
}

/// The kernel's minimum is two ticks. `install` reports the effective value of anything smaller.
fn setting_below_two_ticks_is_said() -> Result<()> {
    let set_rto = SetRto::of("settings")?;
    // Older kernels do not support another rule's setting.
    let output = set_rto.ok(&["install", "--partial"])?;
    let hz = set_rto.status()?.json["hz"].as_u64().context("no HZ")?;
    let is_said = output.stderr.contains("`least`: rto_min 2 ms becomes");
    ensure!(is_said == (hz < 1000), "at HZ {hz}: {output}");
    ensure!(!output.stderr.contains("`rto-min`: rto_min") || hz < 50, "at HZ {hz}: {output}");
    Ok(())
}

fn setting_priority() -> Result<()> {
    options("priority", 5010, &[(socket(libc::SO_PRIORITY), 5)])
}

/// The kernel derives a priority from the type of service, but the rule's priority takes precedence. Both ends use
/// IPv4, because many kernels let no program set the type of service of an IPv6 socket with mapped addresses.
fn setting_priority_beside_tos() -> Result<()> {
    const TOS: Opt = Opt(libc::IPPROTO_IP, libc::IP_TOS);
    install("settings", "priority-tos")?;
    let (lab, cable) = lab()?;
    for way in BOTH {
        let to = match way {
            Direction::Outgoing => cable.there4(),
            Direction::Incoming => cable.here4(),
        };
        let any = Ipv4Addr::UNSPECIFIED.into();
        let pair = Pair::open_from_listener(&lab, way, (to, 5015).into(), any)?;
        for end in [&pair.here, &pair.there] {
            let values = (pair::number(end, socket(libc::SO_PRIORITY))?, pair::number(end, TOS)?);
            ensure!(values == (5, 32), "{way:?}: priority and type of service are {values:?}");
        }
    }
    Ok(())
}

/// The SYN requests ECN and the SYN-ACK accepts it, although the sysctl turns it off.
fn setting_ecn() -> Result<()> {
    install("settings", "ecn")?;
    let (lab, cable) = lab()?;
    write_sysctl("ipv4/tcp_ecn", "0")?;
    lab.far(|| write_sysctl("ipv4/tcp_ecn", "0"))?;
    for way in BOTH {
        for (port, is_meant) in [(5011, true), (OTHER, false)] {
            let mut capture = Capture::start(&cable.name)?;
            drop(Pair::open(&lab, &cable, way, port)?);
            let mut asks = None;
            let mut agrees = None;
            capture.until(Duration::from_secs(1), |seen| {
                for segment in seen.iter().map(|one| one.segment).filter(|it| it.syn) {
                    let flags = (segment.ece, segment.cwr);
                    *(if segment.ack { &mut agrees } else { &mut asks }) = Some(flags);
                }
                agrees.is_some()
            })?;
            let expected = (Some((is_meant, is_meant)), Some((is_meant, false)));
            let found = (asks, agrees);
            ensure!(found == expected, "{way:?}, port {port}: {found:?}, not {expected:?}");
        }
    }
    Ok(())
}

/// An algorithm that checks at its start what the handshake negotiated.
fn setting_congestion_with_ecn() -> Result<()> {
    const CONGESTION: Opt = Opt(libc::IPPROTO_TCP, libc::TCP_CONGESTION);
    let known = sysctl("ipv4/tcp_available_congestion_control").context("no algorithms")?;
    if !known.split_whitespace().any(|name| name == "dctcp") {
        bail!(Skip::new("this kernel has no dctcp"));
    }
    let set_rto = install("settings", "dctcp")?;
    let (lab, cable) = lab()?;
    for way in BOTH {
        for (port, is_meant) in [(5014, true), (OTHER, false)] {
            let pair = Pair::open(&lab, &cable, way, port)?;
            for end in [&pair.here, &pair.there] {
                let name = pair::name(end, CONGESTION)?;
                ensure!((name == "dctcp") == is_meant, "{way:?}, port {port}: {name}");
            }
        }
    }
    ensure!(refusals(&set_rto, "dctcp", "congestion \"dctcp\"")? == 0, "the kernel refused it");
    Ok(())
}

/// A window far below the default, as the only setting of a rule.
fn setting_initial_rwnd() -> Result<()> {
    let set_rto = install("settings", "small-window")?;
    let lab = lab()?;
    for way in BOTH {
        let (window, mss) = first_window(&lab, way, 5013)?;
        ensure!(window == 10 * mss, "{way:?}: window {window}, segments of {mss}");
        let (window, mss) = first_window(&lab, way, OTHER)?;
        ensure!(window > 20 * mss, "{way:?}: window {window} without a rule");
    }
    let hits = set_rto.status()?.hits("small-window")?;
    ensure!(hits == 4, "two connections with both ends here are 4, not {hits} hits");
    Ok(())
}

/// A lab beside one that may not be quite gone.
pub(super) fn second_lab() -> Result<(Lab, Cable)> {
    let mut lab = Lab::new()?;
    let cable = lab.lay_again("vb", 2)?;
    lab.settle(&cable)?;
    Ok((lab, cable))
}

/// A rule for one client sets nothing on the listener, so the next client's connection does not inherit it.
fn settings_of_one_client_only() -> Result<()> {
    let set_rto = install("settings", "one-client")?;
    let (lab, cable) = lab()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, OTHER))?;
    let end: SocketAddr = (cable.here4(), OTHER).into();
    let count = tcp(libc::TCP_KEEPCNT);
    let priority = socket(libc::SO_PRIORITY);
    let default = pair::number(&listener, count)?;
    for (port, is_meant) in [(5999, false), (5012, true), (5998, false)] {
        // On the far side this port is not remote, so no rule matches there. Here it is the client's port.
        let _client = lab.far(|| bound_client(cable.there4(), port, end))?;
        let (accepted, from) = listener.accept()?;
        ensure!(from.port() == port, "another client: {from}");
        let expected = if is_meant { (99, 3) } else { (default, 0) };
        let found = (pair::number(&accepted, count)?, pair::number(&accepted, priority)?);
        ensure!(found == expected, "client {from}: {found:?}, not {expected:?}");
    }
    let own = (pair::number(&listener, count)?, pair::number(&listener, priority)?);
    ensure!(own == (default, 0), "the listener has {own:?}");
    let hits = set_rto.status()?.hits("one-client")?;
    ensure!(hits == 1, "one connection: {hits} hits");
    Ok(())
}

/// A connection from a given port.
fn bound_client(local: IpAddr, port: u16, remote: SocketAddr) -> Result<Connection> {
    let local = Some(SocketAddr::new(local, port));
    let from = crate::harness::sockets::From { local, device: None };
    let connection = Connection::open_from(from, remote)?;
    // The handshake is complete by the time the other end first checks for it.
    Ok(connection)
}

/// A rule without `rto` also counts each connection once, however often its SYN or SYN-ACK is sent.
fn settings_count_connections_once() -> Result<()> {
    let set_rto = install("settings", "priority")?;
    let (lab, cable) = lab()?;
    let hits = |rule| set_rto.status()?.hits(rule);
    // A SYN that is retransmitted.
    let connection = Connection::open(cable.remote4(5010))?;
    let window = Connection::open(cable.remote4(5013))?;
    let end = Instant::now() + Duration::from_secs(10);
    while connection.retransmits()?.min(window.retransmits()?) < 2 {
        ensure!(Instant::now() < end, "the SYNs are not sent again");
        sleep(Duration::from_millis(10));
    }
    for rule in ["priority", "small-window"] {
        let count = hits(rule)?;
        ensure!(count == 1, "{rule}: one outgoing connection: {count} hits");
    }
    // A half-open connection is counted when the kernel requests its timer, although it has no socket for options
    // yet. It is not counted again when it is accepted.
    let _listener = listen((Ipv4Addr::UNSPECIFIED, 5010).into(), None)?;
    lab.syns(&cable, &[(cable.remote4(3000), (cable.here4(), 5010).into())])?;
    sleep(AT_ONCE);
    let before = hits("priority")?;
    ensure!(before == 2, "a half-open connection: {before} hits");
    drop(_listener);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 5010))?;
    let end: SocketAddr = (cable.here4(), 5010).into();
    let there = lab.far(|| TcpStream::connect(end).context("cannot connect"))?;
    let here = listener.accept()?.0;
    drop((there, here));
    let count = hits("priority")?;
    ensure!(count == 4, "and both ends of another: {count} hits");
    ensure!(refusals(&set_rto, "priority", "priority")? == 0, "refusals of what was set");
    Ok(())
}
