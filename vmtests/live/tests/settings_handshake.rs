//! Settings of the handshake and of segments, and rules that exempt: read from the sockets, or from the wire.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::samples::OTHER;
use super::samples::first_window;
use super::samples::install;
use super::samples::lab;
use super::samples::refusals;
use super::settings::options;
use super::settings::second_lab;
use super::settings::socket;
use super::settings::tcp;
use crate::harness::capture::Capture;
use crate::harness::capture::Seen;
use crate::harness::lab::Lab;
use crate::harness::pair;
use crate::harness::pair::BOTH;
use crate::harness::pair::Direction;
use crate::harness::pair::Opt;
use crate::harness::pair::Pair;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wait::until;
use crate::harness::wire::Kind;
use crate::harness::wire::transmissions;

tests! {
    setting_nodelay: 60,
    setting_window_clamp: 60,
    setting_max_segment: 60,
    setting_connect_timeout: 60,
    setting_synack_retries: 60,
    use_kernel_exempts: 60,
}

fn setting_nodelay() -> Result<()> {
    options("nodelay", 5016, &[(tcp(libc::TCP_NODELAY), 1)])
}

/// The option at both ends, and the window of the SYN.
fn setting_window_clamp() -> Result<()> {
    const CLAMP: u32 = 5_000;
    options("window-clamp", 5017, &[(tcp(libc::TCP_WINDOW_CLAMP), CLAMP)])?;
    let lab = second_lab()?;
    let (window, _) = first_window(&lab, Direction::Outgoing, 5017)?;
    ensure!(u32::from(window) <= CLAMP, "the SYN announces {window}");
    let (window, _) = first_window(&lab, Direction::Outgoing, OTHER)?;
    ensure!(u32::from(window) > CLAMP, "{window} without a rule");
    Ok(())
}

/// What the SYN announces, and the segments that are sent.
fn setting_max_segment() -> Result<()> {
    const SEGMENT: u16 = 536;
    install("settings", "max-segment")?;
    let (lab, cable) = lab()?;
    for (port, is_meant) in [(5018, true), (OTHER, false)] {
        let mut capture = Capture::start(&cable.name)?;
        let mut pair = Pair::open(&lab, &cable, Direction::Outgoing, port)?;
        pair.here.write_all(&[0; 4000])?;
        let sum = |seen: &[Seen]| {
            seen.iter().filter(|one| one.outgoing).map(|one| one.segment.data).sum::<usize>()
        };
        let seen = capture.until(Duration::from_secs(10), |seen| sum(seen) >= 4000)?;
        let syn = seen.iter().find(|one| one.segment.syn && !one.segment.ack);
        let announced =
            syn.and_then(|one| one.segment.mss).context("no SYN with a segment size")?;
        ensure!((announced == SEGMENT) == is_meant, "port {port}: the SYN announces {announced}");
        // Without timestamps, which take 12 bytes of each. The capture may see several as one.
        let window = pair::tcp_info(&pair.here, SND_MSS)?;
        ensure!((window <= SEGMENT.into()) == is_meant, "port {port}: sends segments of {window}");
    }
    Ok(())
}

/// Of TCP_INFO: the size of segments that are sent.
const SND_MSS: usize = 16;

/// How long `connect()` takes without an answer; and what is left of it when the connection is established.
fn setting_connect_timeout() -> Result<()> {
    const TIMEOUT: Opt = tcp(libc::TCP_USER_TIMEOUT);
    const SYN_SENT: u8 = 2;
    let set_rto = install("settings", "connect-timeout")?;
    let (lab, cable) = Lab::with_cable()?;
    // Nobody answers yet.
    let start = Instant::now();
    let other = Connection::open(cable.remote4(OTHER))?;
    let meant = [5019, 5020].map(|port| Connection::open(cable.remote4(port)));
    for connection in meant {
        let connection = connection?;
        let value = pair::number(&connection, TIMEOUT)?;
        ensure!(value == 1_000, "TCP_USER_TIMEOUT is {value} while connecting");
        until("the connection is not given up", || Ok(state(&connection)? != SYN_SENT))?;
        let took = start.elapsed();
        // The kernel looks when the timer fires, after 1 s and then at the latest after another.
        let usual = Duration::from_millis(900)..Duration::from_millis(2_600);
        ensure!(usual.contains(&took), "connect() took {took:?}");
    }
    ensure!(state(&other)? == SYN_SENT, "without a rule the connection was given up, too");
    lab.settle(&cable)?;
    for (port, established) in [(5019, 0), (5020, 12_345)] {
        for way in BOTH {
            let pair = Pair::open(&lab, &cable, way, port)?;
            for end in [&pair.here, &pair.there] {
                let value = pair::number(end, TIMEOUT)?;
                ensure!(value == established, "{way:?}, port {port}: established with {value}");
            }
        }
    }
    for rule in ["connect-timeout", "both-timeouts"] {
        ensure!(refusals(&set_rto, rule, "connect_timeout")? == 0, "{rule}: the kernel refused it");
    }
    Ok(())
}

fn state(socket: &Connection) -> Result<u8> {
    Ok(pair::tcp_info(socket, 0)?.to_ne_bytes()[0])
}

/// The SYN-ACKs to a client that never ends its handshake, of listeners from before and after the install.
fn setting_synack_retries() -> Result<()> {
    const PORT: u16 = 5022;
    const COUNT: Opt = tcp(libc::TCP_SYNCNT);
    let (lab, cable) = Lab::with_cable()?;
    let to: SocketAddr = (cable.here4(), PORT).into();
    let early = listen(to, None)?;
    let default = pair::number(&early, COUNT)?;
    let set_rto = install("settings", "synack-retries")?;
    let sent = |from: u16, most| {
        let from = cable.remote4(from);
        let mut capture = Capture::start(&cable.name)?;
        lab.syns(&cable, &[(from, to)])?;
        let limit = Duration::from_secs(5);
        anyhow::Ok(transmissions(&mut capture, Kind::SynAck, (to, from), most, limit)?.len())
    };
    // Before Linux 5.18 the kernel's own second interval follows, which is 2 s.
    let count = sent(4001, 3)?;
    ensure!(count == 3, "{count} SYN-ACKs of a listener from before the install");
    ensure!(pair::number(&early, COUNT)? == default, "the install has reached it");
    drop(early);
    let any = (Ipv4Addr::UNSPECIFIED, PORT).into();
    for (from, local) in [(4002, to), (4003, any)] {
        let late = listen(local, None)?;
        let found = pair::number(&late, COUNT)?;
        ensure!(found == 1, "{local}: TCP_SYNCNT of the listener is {found}");
        let count = sent(from, 3)?;
        ensure!(count == 2, "{local}: {count} SYN-ACKs, not the first and one more");
    }
    let other = listen((cable.here4(), OTHER).into(), None)?;
    ensure!(pair::number(&other, COUNT)? == default, "a listener without a rule has the setting");
    ensure!(refusals(&set_rto, "synack-retries", "synack_retries")? == 0, "the kernel refused it");
    Ok(())
}

/// A rule that exempts takes connections from later rules, changes nothing and counts.
fn use_kernel_exempts() -> Result<()> {
    let set_rto = install("settings", "not-exempt")?;
    let (lab, cable) = Lab::with_cable()?;
    let rto = Connection::open(cable.remote4(5021))?.rto()?;
    ensure!(rto == Duration::from_secs(1), "a timer of {rto:?}");
    lab.settle(&cable)?;
    let pair = Pair::open(&lab, &cable, Direction::Outgoing, 5021)?;
    for (end, expected) in [(&pair.here, 0), (&pair.there, 6)] {
        let priority = pair::number(end, socket(libc::SO_PRIORITY))?;
        ensure!(priority == expected, "a priority of {priority}, not {expected}");
    }
    for (rule, expected) in [("exempt", 2), ("not-exempt", 1)] {
        let hits = set_rto.status()?.hits(rule)?;
        ensure!(hits == expected, "{rule}: {hits} hits, not {expected}");
    }
    Ok(())
}
