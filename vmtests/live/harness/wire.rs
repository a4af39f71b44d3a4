//! Retransmission schedules: expected and observed on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::sys::utsname::uname;

use super::capture::Capture;
use super::clock::DEFAULT_RTO;
use super::clock::Hz;
use super::netns::sysctl;
use super::note;
use super::sockets::canonical;

/// The permitted delay of a packet after its timer: interrupts held off, a busy virtual machine.
const SLACK: Duration = Duration::from_millis(20);
/// The number of measurements before a late packet counts as a failure. A wrong timer is late each time.
const ATTEMPTS: u32 = 20;
/// The number of measurements that may look wrong. If one processor stalls, jiffies stall too, and another processor
/// sets its timers early by that time.
const WRONG: u32 = 1;

/// The segment that is retransmitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Syn,
    SynAck,
}

/// The intervals, in jiffies, between the first `count + 1` transmissions that a timer gives on
/// this kernel, in the calling thread's network namespace.
pub(crate) fn intervals(kind: Kind, hz: Hz, rto: Duration, count: u32) -> Result<Vec<u64>> {
    let first = hz.jiffies(rto);
    let doubling = |index: u32| first << index;
    Ok(match kind {
        Kind::Syn => {
            // Since Linux 6.5, this many timeouts pass before the first doubling.
            let linear = match sysctl("ipv4/tcp_syn_linear_timeouts") {
                Some(text) => text.parse()?,
                None => 0,
            };
            // The kernel gives up after this many (linear timeouts come on top).
            let retries: u32 = match sysctl("ipv4/tcp_syn_retries") {
                Some(text) => text.parse()?,
                None => 6,
            };
            (0..count.min(retries + linear))
                .map(|index| doubling(index.saturating_sub(linear)))
                .collect()
        }
        Kind::SynAck if kernel_version()? < (5, 18) => {
            // Before Linux 5.18, a program's answer applies to the first interval only. The test waits for the kernel's
            // own second one, but no longer.
            [first, hz.jiffies(DEFAULT_RTO) << 1].into_iter().take(count as usize).collect()
        }
        Kind::SynAck => (0..count).map(doubling).collect(),
    })
}

/// The result of comparing measured intervals with the expected ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Exact,
    /// Too late, or slightly too early. A stalled machine explains both: the tick was late when the timer was set, or
    /// the packet was (a SYN-ACK leaves after its timer is set).
    Late,
    /// Much too early, or too few transmissions.
    Wrong,
}

/// Compares transmission times with intervals in jiffies. The result is exact if none is more than a jiffy early and
/// none is later than the timer wheel's step plus [`SLACK`]. More than [`SLACK`] early is wrong.
pub(crate) fn judge(hz: Hz, sent: &[Duration], expected: &[u64]) -> Verdict {
    if sent.len() <= expected.len() {
        return Verdict::Wrong;
    }
    let mut verdict = Verdict::Exact;
    for (pair, jiffies) in sent.windows(2).zip(expected) {
        let timer = hz.duration(*jiffies);
        let interval = pair[1].saturating_sub(pair[0]);
        if interval + hz.jiffy() + SLACK < timer {
            return Verdict::Wrong;
        }
        if interval + hz.jiffy() < timer || interval > timer + hz.wheel_step(*jiffies) + SLACK {
            verdict = Verdict::Late;
        }
    }
    verdict
}

/// Measures until the schedule is exact. `send` starts one connection and returns its local and remote ends. Its SYNs
/// or SYN-ACKs leave through `device`.
///
/// If a packet is late, the schedule is measured again and a note is printed: on a virtual machine that loses its
/// processors for a while, the delay is no evidence against the timer. Two measurements that are much too early are an
/// error.
pub(crate) fn expect_schedule(
    kind: Kind,
    device: &str,
    rto: Duration,
    count: u32,
    mut send: impl FnMut() -> Result<(SocketAddr, SocketAddr)>,
) -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let expected = intervals(kind, hz, rto, count)?;
    let limit = hz.duration(expected.iter().sum()) * 2 + Duration::from_secs(10);
    let mut wrong = 0;
    for _ in 0..ATTEMPTS {
        let mut capture = Capture::start(device)?;
        let ends = send()?;
        let sent = transmissions(&mut capture, kind, ends, expected.len() + 1, limit)?;
        let times = describe(&sent);
        match judge(hz, &sent, &expected) {
            Verdict::Exact => return Ok(()),
            Verdict::Late => {
                note(format!("measured anew, {kind:?} came late or a little early: {times}"));
            }
            Verdict::Wrong if wrong < WRONG => {
                wrong += 1;
                note(format!("measured anew, {kind:?} seemed wrong: {times}"));
            }
            Verdict::Wrong => {
                let timers = expected.iter().map(|jiffies| hz.duration(*jiffies));
                bail!("{kind:?} of {ends:?} at {times} s, expected intervals {:?}", {
                    timers.collect::<Vec<_>>()
                })
            }
        }
    }
    bail!("{kind:?} was not in time {ATTEMPTS} times; see the notes")
}

/// The times of the first `count` transmissions from one end to the other end.
pub(crate) fn transmissions(
    capture: &mut Capture,
    kind: Kind,
    (local, remote): (SocketAddr, SocketAddr),
    count: usize,
    limit: Duration,
) -> Result<Vec<Duration>> {
    let (local, remote) = (canonical(local), canonical(remote));
    let mut times = Vec::new();
    capture.until(limit, |seen| {
        times = seen
            .iter()
            .filter(|one| one.outgoing && one.segment.syn)
            .filter(|one| one.segment.ack == (kind == Kind::SynAck))
            .filter(|one| one.segment.source == local && one.segment.destination == remote)
            .map(|one| one.at)
            .collect();
        times.len() >= count
    })?;
    Ok(times)
}

/// The major and minor version of the running kernel.
pub(crate) fn kernel_version() -> Result<(u32, u32)> {
    let name = uname()?;
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(['.', '-', '+']);
    let mut next = || numbers.next()?.parse().ok();
    next().zip(next()).with_context(|| format!("cannot read the kernel version `{release}`"))
}

fn describe(sent: &[Duration]) -> String {
    let start = sent.first().copied().unwrap_or_default();
    let times: Vec<String> =
        sent.iter().map(|at| format!("{:.3}", at.saturating_sub(start).as_secs_f64())).collect();
    times.join(" ")
}
