//! What several tests ask of a connection.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use crate::harness::Skip;
use crate::harness::clock::Hz;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::has_ipv6;
use crate::harness::requests;
use crate::harness::sockets::Connection;
use crate::harness::sockets::canonical;

/// Skips the test, or what is left of it, where the kernel has no IPv6.
pub(crate) fn need_ipv6() -> Result<()> {
    if !has_ipv6() {
        bail!(Skip::new("this kernel has no IPv6"));
    }
    Ok(())
}

/// Demands the timer a connection was given, exact to the jiffy.
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

/// Sends a SYN from the far side and demands the timer of its SYN-ACK.
pub(crate) fn expect_synack_timer(
    lab: &Lab,
    cable: &Cable,
    from: SocketAddr,
    to: SocketAddr,
    rto: Duration,
) -> Result<()> {
    let start = Instant::now();
    lab.syns(cable, &[(from, to)])?;
    let left = synack_timer(from, to)?;
    judge_synack_timer(left, start.elapsed(), rto)
}

/// Whether `left` of a timer is what remains of `rto` after at most `elapsed`.
///
/// # Errors
/// Says what was expected. Exact to a jiffy, the file's unit and the time the reading took.
pub(crate) fn judge_synack_timer(left: Duration, elapsed: Duration, rto: Duration) -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let timer = hz.duration(hz.jiffies(rto));
    let least = timer.saturating_sub(elapsed + requests::TIMER_UNIT + hz.jiffy());
    ensure!(
        left <= timer && left >= least,
        "the SYN-ACK's timer has {left:?} left, expected {least:?} to {timer:?}"
    );
    Ok(())
}

/// What is left of the SYN-ACK timer of a half-open connection, which must appear within a second.
pub(crate) fn synack_timer(remote: SocketAddr, local: SocketAddr) -> Result<Duration> {
    let ends = (canonical(local), canonical(remote));
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        if let Some(found) =
            requests::pending()?.into_iter().find(|one| (one.local, one.remote) == ends)
        {
            return Ok(found.left);
        }
        sleep(Duration::from_millis(1));
    }
    bail!("no half-open connection from {remote} to {local}: {:?}", requests::pending()?)
}
