//! Checks of a connection that several tests share.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::harness::Skip;
use crate::harness::clock::Hz;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::has_ipv6;
use crate::harness::requests;
use crate::harness::requests::Request;
use crate::harness::sockets::Connection;
use crate::harness::sockets::canonical;
use crate::harness::wait::until;
use crate::harness::wire::Kind;
use crate::harness::wire::intervals;

/// Skips the test, or the rest of it, if the kernel has no IPv6.
pub(crate) fn need_ipv6() -> Result<()> {
    if !has_ipv6() {
        bail!(Skip::new("this kernel has no IPv6"));
    }
    Ok(())
}

/// Checks the timer of a connection, exact to the jiffy.
pub(crate) fn expect_armed(connection: &Connection, rto: Duration) -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let (armed, expected) = (hz.nearest(connection.rto()?), hz.jiffies(rto));
    ensure!(
        armed == expected,
        "the timer is {armed} jiffies ({:?}), expected {expected} ({rto:?})",
        hz.duration(armed)
    );
    Ok(())
}

/// Sends a SYN from the far side and checks the timer of its SYN-ACK.
pub(crate) fn expect_synack_timer(
    lab: &Lab,
    cable: &Cable,
    from: SocketAddr,
    to: SocketAddr,
    rto: Duration,
) -> Result<()> {
    let start = Instant::now();
    lab.syns(cable, &[(from, to)])?;
    let found = synack_timer(from, to)?;
    judge_synack_timer(found, start.elapsed(), rto)
}

/// Whether the remaining time of a SYN-ACK's timer fits `rto` after at most `elapsed`. If the timer expired before it
/// could be read, because the machine stalled, the next intervals count.
///
/// # Errors
/// Reports the expected value. It is exact to a jiffy, the file's unit and the duration of the read.
pub(crate) fn judge_synack_timer(found: Request, elapsed: Duration, rto: Duration) -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let Request { left, repeated, .. } = found;
    let intervals = intervals(Kind::SynAck, hz, rto, repeated + 1)?;
    let timer = intervals.get(repeated as usize).context("the SYN-ACK was sent too often")?;
    let (timer, end) = (hz.duration(*timer), hz.duration(intervals.iter().sum()));
    let least = end.saturating_sub(elapsed + requests::TIMER_UNIT + hz.jiffy());
    ensure!(
        left <= timer && left >= least,
        "the SYN-ACK's timer has {left:?} left after {repeated} repetitions and at most {elapsed:?}, expected \
         {least:?} to {timer:?}"
    );
    Ok(())
}

/// Waits for a half-open connection.
pub(crate) fn synack_timer(remote: SocketAddr, local: SocketAddr) -> Result<Request> {
    let mut found = None;
    until(format_args!("no half-open connection from {remote} to {local}"), || {
        found = half_open(remote, local)?;
        Ok(found.is_some())
    })?;
    found.context("no half-open connection")
}

/// Checks that a SYN from the far side gets no answer.
pub(crate) fn expect_no_synack(
    lab: &Lab,
    cable: &Cable,
    from: SocketAddr,
    to: SocketAddr,
) -> Result<()> {
    lab.syns(cable, &[(from, to)])?;
    sleep(Duration::from_millis(500));
    let found = half_open(from, to)?;
    ensure!(found.is_none(), "a half-open connection: {found:?}");
    Ok(())
}

/// A half-open connection, if it exists by now.
pub(crate) fn half_open(remote: SocketAddr, local: SocketAddr) -> Result<Option<Request>> {
    let ends = (canonical(local), canonical(remote));
    Ok(requests::pending()?.into_iter().find(|one| (one.local, one.remote) == ends))
}

/// A far-end port for an incoming connection that no other connection has used. After a listener closes, the kernel
/// keeps its half-open connections until their timers expire.
pub(crate) fn far_port() -> u16 {
    static LAST: AtomicU16 = AtomicU16::new(20_000);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
