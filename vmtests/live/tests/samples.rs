//! The kernel's own examples of sock_ops programs (`samples/bpf/tcp_*_kern.c`), written as rules. The tests read the
//! socket or the wire and compare with a connection that no rule matches.

use std::io::Read as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::support::expect_armed;
use super::support::expect_synack_timer;
use super::support::need_ipv6;
use crate::harness::Skip;
use crate::harness::capture::Capture;
use crate::harness::capture::Seen;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::has_ipv6;
use crate::harness::netns::sysctl;
use crate::harness::netns::write_sysctl;
use crate::harness::note;
use crate::harness::packet::Segment;
use crate::harness::pair;
use crate::harness::pair::BOTH;
use crate::harness::pair::Direction;
use crate::harness::pair::Opt;
use crate::harness::pair::Pair;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wire::Kind;
use crate::harness::wire::expect_schedule;
use crate::harness::wire::kernel_version;

tests! {
    sample_synrto: 60,
    sample_rwnd: 60,
    sample_iw: 60,
    sample_cong: 60,
    sample_bufs: 60,
    sample_clamp: 60,
    sample_tos: 60,
    sample_tos_of_mapped_addresses: 60,
}

/// No rule matches this port.
pub(super) const OTHER: u16 = 7777;

/// Installs as much of a rules file as this kernel supports, and requires all settings of one of its rules.
///
/// # Errors
/// [`Skip`] if the kernel does not support one of them and is too old for it.
pub(super) fn install(rules: &str, rule: &str) -> Result<SetRto> {
    let set_rto = SetRto::of(rules)?;
    let report = set_rto.run(&["check", "--json"])?.json()?;
    let settings = report["settings"].as_array().context("no settings in the report")?;
    let mut own = settings.iter().filter(|one| one["rule"] == rule).peekable();
    ensure!(own.peek().is_some(), "no rule {rule} in {report}");
    for one in own {
        ensure!(!one["ok"].is_null(), "not tried: {one}");
        if one["ok"] == false {
            let detail = one["detail"].as_str().unwrap_or_default();
            // A distribution kernel may have more than its version suggests, but hardly less.
            let since = one["since"].as_str().and_then(|text| text.split_once('.'));
            let (major, minor) = since.context("no `since`")?;
            let is_new = kernel_version()? >= (major.parse()?, minor.parse()?);
            ensure!(!is_new, "this kernel should have it: {one}");
            bail!(Skip::new(format!("{}: {detail}", one["setting"])));
        }
    }
    set_rto.ok(&["install", "--partial"])?;
    Ok(set_rto)
}

/// A cable to a host that answers.
pub(super) fn lab() -> Result<(Lab, Cable)> {
    let (lab, cable) = Lab::with_cable()?;
    lab.settle(&cable)?;
    Ok((lab, cable))
}

/// The packets that this side sends over a cable during `work` and for `after` from then on.
pub(super) fn sent(
    cable: &Cable,
    after: Duration,
    work: impl FnOnce() -> Result<()>,
) -> Result<Vec<Seen>> {
    let mut capture = Capture::start(&cable.name)?;
    work()?;
    let seen = capture.until(after, |_| false)?;
    Ok(seen.iter().copied().filter(|one| one.outgoing).collect())
}

/// Long enough to capture what is sent immediately.
pub(super) const AT_ONCE: Duration = Duration::from_millis(60);

/// 10 ms between hosts of one /44, and the kernel's default of one second outside it.
fn sample_synrto() -> Result<()> {
    need_ipv6()?;
    let (lab, cable) = Lab::with_cable()?;
    install_samples()?;
    let ten = Duration::from_millis(10);
    let in_44 = |text: &str, port: u16| -> Result<SocketAddr> {
        Ok((text.parse::<IpAddr>()?, port).into())
    };
    let first = |end: SocketAddr, rto| {
        let connections = std::iter::repeat_with(|| Connection::open(end));
        for connection in connections.take(50) {
            let connection = connection?;
            let armed = expect_armed(&connection, rto);
            // Ten milliseconds may pass before the timer can be read.
            if connection.retransmits()? == 0 {
                return armed;
            }
        }
        bail!("each of 50 SYNs to {end} was sent again before its timer could be read")
    };
    // The address is on the link, but no host has it. The timer is armed only if a packet leaves, so send it through
    // the gateway.
    for (end, rto) in [
        (in_44("fd20:1::fffe", 4000)?, ten),
        (in_44("fd20:1::fffe", 4001)?, DEFAULT_RTO),
        (in_44("fd20:1:f::1", 4000)?, ten),
        (in_44("fd20:1:10::1", 4000)?, DEFAULT_RTO),
        (cable.remote6(4000), DEFAULT_RTO),
    ] {
        first(end, rto).with_context(|| format!("outgoing to {end}"))?;
    }
    let _listener = listen(("::".parse::<IpAddr>()?, 4000).into(), None)?;
    let to = (cable.here6(), 4000).into();
    expect_synack_timer(&lab, &cable, in_44("fd20:1:10::1", 3000)?, to, DEFAULT_RTO)?;
    let mut port = 3000;
    expect_schedule(Kind::SynAck, &cable.name, ten, 1, || {
        port += 1;
        let from = in_44("fd20:1:f::1", port)?;
        lab.syns(&cable, &[(from, to)])?;
        Ok((to, from))
    })
}

fn install_samples() -> Result<SetRto> {
    install("samples", "clamp")
}

/// The advertised window of SYN and SYN-ACK is 40 segments. Without a rule it differs.
fn sample_rwnd() -> Result<()> {
    install_samples()?;
    let lab = lab()?;
    for (way, port, is_meant) in with_and_without(4001) {
        let (window, mss) = first_window(&lab, way, port)?;
        let segments = u32::from(window) / u32::from(mss);
        let is_40 = segments == 40 && u32::from(window) == 40 * u32::from(mss);
        ensure!(is_40 == is_meant, "{way:?}, port {port}: window {window} of segments of {mss}");
    }
    Ok(())
}

/// Both directions, for a port with a rule and for a port without one.
fn with_and_without(port: u16) -> impl Iterator<Item = (Direction, u16, bool)> {
    let of_way = move |way| [(way, port, true), (way, OTHER, false)];
    BOTH.into_iter().flat_map(of_way)
}

/// The first window that this side advertises, and the segment size in which the kernel counts it.
pub(super) fn first_window(
    (lab, cable): &(Lab, Cable),
    way: Direction,
    port: u16,
) -> Result<(u16, u16)> {
    let seen = sent(cable, AT_ONCE, || Pair::open(lab, cable, way, port).map(drop))?;
    let first = seen.iter().find(|one| one.segment.syn).context("no SYN was seen")?;
    let segment = first.segment;
    ensure!(segment.ack == (way == Direction::Incoming), "{segment:?}");
    let mss = segment.mss.context("no MSS")?;
    // By then the kernel knows that each segment carries timestamps (tcp_openreq_init_rwin,
    // net/ipv4/tcp_minisocks.c).
    let stamps = if way == Direction::Incoming { 12 } else { 0 };
    Ok((segment.window, mss - stamps))
}

/// The initial window: this many segments are sent before the first ACK arrives.
fn sample_iw() -> Result<()> {
    install_samples()?;
    // Pacing and tail loss probes must not affect the measurement.
    for (name, value) in [("tcp_congestion_control", "reno"), ("tcp_early_retrans", "0")] {
        write_sysctl(&format!("ipv4/{name}"), value)?;
    }
    let lab = lab()?;
    for (way, port, is_meant) in with_and_without(4002) {
        let expected = if is_meant { 40 } else { 10 };
        let segments = first_flight(&lab, way, port, expected)?;
        ensure!(segments == expected, "{way:?}, port {port}: {segments}, not {expected} segments");
    }
    Ok(())
}

/// The number of segments sent in the first flight, given the expected number.
fn first_flight(
    (lab, cable): &(Lab, Cable),
    way: Direction,
    port: u16,
    expected: u32,
) -> Result<u32> {
    lab.mend(cable)?;
    let mut pair = Pair::open(lab, cable, way, port)?;
    pair.here.set_nonblocking(true)?;
    lab.cut(cable)?;
    const SND_MSS: usize = 16;
    let mss = pair::tcp_info(&pair.here, SND_MSS)?;
    // An earlier connection may still retransmit data.
    let ends = (pair.here.local_addr()?.port(), pair.here.peer_addr()?.port());
    let segments = |seen: &[Seen]| {
        let data = || {
            let own = seen.iter().filter(|one| one.outgoing && one.segment.data > 0);
            let own = own.map(|one| one.segment);
            own.filter(|segment| (segment.source.port(), segment.destination.port()) == ends)
        };
        let first = data().next().map(|segment| segment.sequence).unwrap_or_default();
        // Measure the distance from the first byte, so that retransmissions are not counted twice.
        let end = |segment: Segment| segment.sequence.wrapping_sub(first) + segment.data as u32;
        data().map(end).max().unwrap_or_default().div_ceil(mss)
    };
    let mut capture = Capture::start(&cable.name)?;
    // Write as much as the socket takes at once, which is more than a window.
    let _ = pair.here.write(&[0; 200_000])?;
    capture.until(Duration::from_secs(10), |seen| segments(seen) >= expected)?;
    // No further segment may follow.
    Ok(segments(capture.until(AT_ONCE * 2, |_| false)?))
}

const CONGESTION: Opt = Opt(libc::IPPROTO_TCP, libc::TCP_CONGESTION);

/// The congestion control algorithm of both ends, for the addresses of a prefix.
fn sample_cong() -> Result<()> {
    let set_rto = install("samples", "cong")?;
    let default = sysctl("ipv4/tcp_congestion_control").context("no default algorithm")?;
    if default == "reno" {
        bail!(Skip::new("this kernel's default is reno anyway"));
    }
    let (lab, cable) = lab()?;
    let families = if has_ipv6() { vec![false, true] } else { vec![false] };
    for (way, port, is_meant) in with_and_without(4003) {
        let expected = if is_meant { "reno" } else { &default };
        for is_ipv6 in &families {
            let ip = match (way, is_ipv6) {
                (Direction::Outgoing, false) => cable.there4(),
                (Direction::Outgoing, true) => cable.there6(),
                (Direction::Incoming, false) => cable.here4(),
                (Direction::Incoming, true) => cable.here6(),
            };
            let pair = Pair::open_to(&lab, way, (ip, port).into())?;
            for end in [&pair.here, &pair.there] {
                let name = pair::name(end, CONGESTION)?;
                ensure!(name == expected, "{way:?} {ip}, port {port}: {name}, not {expected}");
            }
        }
    }
    // An address outside the prefix.
    let outside = std::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 4003)));
    ensure!(outside.is_err(), "somebody listens at a port of this test");
    ensure!(set_rto.status()?.hits("cong")? == 4 * families.len() as u64, "not once for each end");
    Ok(())
}

/// 150 KB, which the kernel doubles, capped at the limit for all sockets.
fn sample_bufs() -> Result<()> {
    install("samples", "bufs")?;
    let (lab, cable) = lab()?;
    for (option, small) in [(libc::SO_SNDBUF, 30_000), (libc::SO_RCVBUF, 20_000)] {
        let option = Opt(libc::SOL_SOCKET, option);
        let largest = {
            let pair = Pair::open(&lab, &cable, Direction::Outgoing, OTHER)?;
            pair::set(&pair.here, option, 1_000_000_000)?;
            pair::number(&pair.here, option)?
        };
        for (port, expected) in [(4004, largest.min(300_000)), (4014, largest), (4024, 2 * small)] {
            for way in BOTH {
                let pair = Pair::open(&lab, &cable, way, port)?;
                let size = pair::number(&pair.here, option)?;
                ensure!(size == expected, "{option:?}, {way:?}: {size}, not {expected}");
                let other = Pair::open(&lab, &cable, way, OTHER)?;
                let size = pair::number(&other.here, option)?;
                ensure!(size != expected, "{option:?}, {way:?}: {size} without a rule");
            }
        }
    }
    Ok(())
}

/// The congestion window stays at or below 100 segments during a transfer.
fn sample_clamp() -> Result<()> {
    install_samples()?;
    write_sysctl("ipv4/tcp_congestion_control", "reno")?;
    let (lab, cable) = lab()?;
    for (way, port, is_meant) in with_and_without(4005) {
        let largest = largest_window(Pair::open(&lab, &cable, way, port)?)?;
        note(format!("{way:?}, port {port}: at most {largest} segments"));
        // Without the clamp it must grow larger, or the test proves nothing.
        ensure!((largest <= 100) == is_meant, "{way:?}, port {port}: {largest} segments");
        ensure!(largest > 10, "{way:?}, port {port}: the window never grew");
    }
    Ok(())
}

fn largest_window(mut pair: Pair) -> Result<u32> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = vec![0; 1 << 16];
            while pair.there.read(&mut bytes).is_ok_and(|count| count > 0) {}
        });
        let data = vec![0; 1 << 16];
        let mut largest = 0;
        let outcome = (0..400).try_for_each(|_| {
            pair.here.write_all(&data)?;
            largest = largest.max(pair::tcp_info(&pair.here, pair::SND_CWND)?);
            anyhow::Ok(())
        });
        pair.here.shutdown(std::net::Shutdown::Both)?;
        outcome.map(|()| largest)
    })
}

/// The setting applies to every packet from the SYN on; for an incoming connection, from the accept on.
fn sample_tos() -> Result<()> {
    install("samples", "tos")?;
    let (lab, cable) = lab()?;
    for (way, port, is_meant) in with_and_without(4006) {
        let mut ends = vec![match way {
            Direction::Outgoing => cable.there4(),
            Direction::Incoming => cable.here4(),
        }];
        if has_ipv6() {
            ends.push(match way {
                Direction::Outgoing => cable.there6(),
                Direction::Incoming => cable.here6(),
            });
        }
        for ip in ends {
            tos_on_the_wire(&lab, &cable, way, (ip, port).into(), if is_meant { 0x48 } else { 0 })?;
        }
    }
    Ok(())
}

fn tos_on_the_wire(
    lab: &Lab,
    cable: &Cable,
    way: Direction,
    end: SocketAddr,
    expected: u8,
) -> Result<()> {
    // An IPv4 connection to an IPv6 listener has a mapped address, and some kernels refuse the option on its socket.
    let any: IpAddr = match end {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let seen = sent(cable, AT_ONCE, || {
        let mut pair = Pair::open_from_listener(lab, way, end, any)?;
        Ok(pair.here.write_all(b"data")?)
    })?;
    ensure!(seen.iter().any(|one| one.segment.data > 0), "{way:?} {end}: no data in {seen:?}");
    for one in seen {
        let segment = one.segment;
        // The SYN-ACK leaves before there is a socket to set options on.
        if !(segment.syn && segment.ack) {
            ensure!(segment.tos == expected, "{way:?} {end}: {:#x}, {segment:?}", segment.tos);
        }
    }
    Ok(())
}

/// An IPv6 socket with an IPv4 connection. If the kernel refuses the setting, the refusal is counted.
fn sample_tos_of_mapped_addresses() -> Result<()> {
    need_ipv6()?;
    let set_rto = install("samples", "tos")?;
    let (lab, cable) = lab()?;
    let IpAddr::V4(there) = cable.there4() else { bail!("not IPv4") };
    let mapped: SocketAddr = (there.to_ipv6_mapped(), 4006).into();
    let pair = Pair::open_to(&lab, Direction::Outgoing, mapped)?;
    // Both ends are such sockets.
    let refused = refusals(&set_rto, "tos", "tos")?;
    drop(pair);
    // `check` has probed such a socket, too.
    let check = set_rto.ok(&["check"])?.stdout;
    let line =
        check.lines().find(|line| line.contains("`tos`: tos:")).context("no tos in check")?;
    ensure!(line.contains("mapped") == (refused > 0), "{refused} refusals, and check: {line}");
    if refused == 0 {
        return tos_on_the_wire(&lab, &cable, Direction::Outgoing, mapped, 0x48);
    }
    note("this kernel refuses IP_TOS on IPv6 sockets with mapped addresses");
    ensure!(refused == 2, "{refused} refusals for two ends");
    tos_on_the_wire(&lab, &cable, Direction::Outgoing, mapped, 0)
}

/// The number of times the kernel refused a setting of a rule, according to `status`.
pub(super) fn refusals(set_rto: &SetRto, rule: &str, setting: &str) -> Result<u64> {
    let status = set_rto.status()?;
    let refused = status.rule(rule)?["refused"].as_array().context("no refusals")?.clone();
    let own = refused.iter().find(|one| one["setting"] == setting);
    Ok(own.and_then(|one| one["times"].as_u64()).unwrap_or_default())
}
