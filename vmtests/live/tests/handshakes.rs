//! Unusual handshakes: Fast Open, SYN cookies, and SYNs with and without a linear phase.

use std::iter;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::policy::rto_in;
use crate::harness::Skip;
use crate::harness::capture::Capture;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::clock::Hz;
use crate::harness::lab::Lab;
use crate::harness::netns::sysctl;
use crate::harness::netns::write_sysctl;
use crate::harness::pair::Opt;
use crate::harness::pair::set;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wire::Kind;
use crate::harness::wire::expect_schedule;
use crate::harness::wire::intervals;
use crate::harness::wire::kernel_version;
use crate::harness::wire::transmissions;

const RULES: &str = include_str!("../rules/wire.toml");

/// The port of the rule `quick`.
const QUICK: u16 = 2001;

tests! {
    handshake_fast_open_child: 180,
    handshake_syn_cookies: 60,
    handshake_linear_timeouts: 180,
}

/// Data in the SYN: the kernel creates the connection at once. Its SYN-ACK follows the rule from 5.18 on. Older
/// kernels use a fixed second of their own and do not call the hook.
fn handshake_fast_open_child() -> Result<()> {
    /// The server accepts Fast Open (2), also for a SYN without a cookie (0x200).
    const SERVER_WITHOUT_COOKIES: &str = "514";
    let set_rto = SetRto::of("wire")?;
    let (lab, cable) = Lab::with_cable()?;
    write_sysctl("ipv4/tcp_fastopen", SERVER_WITHOUT_COOKIES)?;
    set_rto.ok(&["install"])?;
    let here: SocketAddr = (cable.here4(), QUICK).into();
    let listener = TcpListener::from(listen(here, None)?);
    set(&listener, Opt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN), 64)?;
    let asked = kernel_version()? >= (5, 18);
    let rto = if asked { rto_in(RULES, "quick")? } else { DEFAULT_RTO };
    let mut port = 4000;
    expect_schedule(Kind::SynAck, &cable.name, rto, if asked { 4 } else { 1 }, || {
        port += 1;
        let remote = cable.remote4(port);
        lab.syn_with(b"data", &cable, remote, here)?;
        Ok((here, remote))
    })?;
    let opened = u64::from(port) - 4000;
    // The read does not block, so these are all.
    let accepted = iter::from_fn(|| listener.accept().ok()).count() as u64;
    ensure!(accepted == opened, "{accepted} of {opened} connections were made by Fast Open");
    let hits = set_rto.status()?.hits("quick")?;
    let expected = if asked { opened } else { 0 };
    ensure!(hits == expected, "{opened} connections by Fast Open: {hits} hits, not {expected}");
    Ok(())
}

/// With SYN cookies the kernel keeps no state that needs a timer. It does not call the hook and sends its SYN-ACK
/// once.
fn handshake_syn_cookies() -> Result<()> {
    const ALWAYS: &str = "2";
    if sysctl("ipv4/tcp_syncookies").is_none() {
        bail!(Skip::new("this kernel has no SYN cookies"));
    }
    let set_rto = SetRto::of("wire")?;
    let (lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let here: SocketAddr = (cable.here4(), QUICK).into();
    let _listener = listen(here, None)?;
    for (cookies, port, wanted, hits) in [(ALWAYS, 4000, 1, 0), ("0", 4001, 4, 1)] {
        write_sysctl("ipv4/tcp_syncookies", cookies)?;
        let remote = cable.remote4(port);
        let mut capture = Capture::start(&cable.name)?;
        lab.syns(&cable, &[(remote, here)])?;
        // Four transmissions take 420 ms, and more on a busy machine.
        let limit = Duration::from_secs(if wanted == 1 { 3 } else { 30 });
        let sent = transmissions(&mut capture, Kind::SynAck, (here, remote), 4, limit)?.len();
        ensure!(sent == wanted, "tcp_syncookies {cookies}: {sent} SYN-ACKs, expected {wanted}");
        let counted = set_rto.status()?.hits("quick")?;
        ensure!(counted == hits, "tcp_syncookies {cookies}: {counted} hits, expected {hits}");
    }
    Ok(())
}

/// The rule's timer applies whether the kernel doubles it at once or starts with a linear phase, as it can since 6.5.
fn handshake_linear_timeouts() -> Result<()> {
    const LINEAR: &str = "ipv4/tcp_syn_linear_timeouts";
    let set_rto = SetRto::of("wire")?;
    let (_lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let (hz, rto) = (Hz::of_this_kernel()?, rto_in(RULES, "quick")?);
    let one = hz.jiffies(rto);
    let doubling = [1, 2, 4, 8, 16].map(|times| times * one);
    let linear = [1, 1, 1, 1, 1, 2, 4].map(|times| times * one);
    let has = sysctl(LINEAR).is_some();
    ensure!(has == (kernel_version()? >= (6, 5)), "{LINEAR} is there: {has}");
    let cases = if has {
        vec![(Some("0"), &doubling[..]), (Some("4"), &linear[..])]
    } else {
        vec![(None, &doubling[..])]
    };
    for (value, expected) in cases {
        if let Some(value) = value {
            write_sysctl(LINEAR, value)?;
        }
        let count = u32::try_from(expected.len())?;
        let known = intervals(Kind::Syn, hz, rto, count)?;
        ensure!(known == expected, "{LINEAR} {value:?}: the harness expects {known:?}");
        let remote = cable.remote4(QUICK);
        let mut open = Vec::new();
        expect_schedule(Kind::Syn, &cable.name, rto, count, || {
            let connection = Connection::open(remote)?;
            let local = connection.local()?;
            open.push(connection);
            Ok((local, remote))
        })?;
    }
    Ok(())
}
