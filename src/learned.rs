//! What the program has learned: the map of hosts, and the timer that follows from an estimate. It matches
//! bpf/src/emit/learn.h.

use crate::bpf;
use crate::error::{Context as _, Result, hint};
use crate::rules;
use crate::shared::{self, Estimate, Peers, Shape};
use libbpf_rs::libbpf_sys as sys;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;

/// The map, which is also the suffix of its pins' names. The number is the version of its layout.
pub(crate) const MAP: &str = "learned";
pub(crate) const PIN: &str = "learned1";

/// Each processor may keep 128 free entries to itself (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.c).
const FOR_EACH_PROCESSOR: u32 = 256;

/// The margin doubles after 2^9 seconds (units of about a second) without a sample.
const AGE_SHIFT: u32 = 9;
const MOST_AGE: u32 = 16;

/// Estimates count time in units of 2^shift jiffies, the power of two nearest to a second.
pub(crate) fn shift(hz: u32) -> u32 {
    (2 * u64::from(hz) * u64::from(hz)).ilog2() / 2
}

/// The number of hosts that the map has room for on this machine: the rules set it, and many processors raise it.
pub(crate) fn hosts() -> Result<u32> {
    // SAFETY: no arguments.
    let processors = unsafe { sys::libbpf_num_possible_cpus() };
    // Otherwise a negative errno.
    let processors =
        u32::try_from(processors).map_err(|_| Errno::from_raw(processors.wrapping_neg()));
    let processors = processors.context("count the processors", "is /sys mounted?")?;
    let least = processors.saturating_mul(FOR_EACH_PROCESSOR);
    Ok(rules::HOSTS.map_or(least, |hosts| hosts.max(least)))
}

/// The shape of one of our maps with this layout. The size is not compared.
pub(crate) fn is_ours(shape: Shape) -> bool {
    let Shape { kind, key_size, value_size, .. } = shape;
    let sizes = (size_of::<Peers>() as u32, size_of::<Estimate>() as u32);
    (kind, (key_size, value_size)) == (sys::BPF_MAP_TYPE_LRU_HASH, sizes)
}

/// The estimate for a host, or for all hosts of a rule in one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// None for all hosts.
    pub(crate) host: Option<IpAddr>,
    /// A hash of the rule's name; the last bit is set for incoming connections.
    pub(crate) rule: u64,
    pub(crate) estimate: Estimate,
}

/// All estimates. `room` is the number of hosts that the map has room for.
pub(crate) fn all(map: BorrowedFd<'_>, room: u32) -> Result<Vec<Known>> {
    const WHAT: &str = "read what was learned";
    let mut all = Vec::new();
    let keys = bpf::keys::<{ size_of::<Peers>() }>(map, room as usize);
    for key in keys.context(WHAT, hint::ROOT)? {
        let Some(value) = value(map, &key).context(WHAT, hint::ROOT)? else { continue };
        let (Some((peers, _)), Some((estimate, _))) =
            (shared::read::<Peers>(&key), shared::read::<Estimate>(&value))
        else {
            unreachable!("the arrays have the sizes of the structures");
        };
        let host = Some(Ipv6Addr::from(peers.host).to_canonical());
        let [high, low] = peers.rule.map(u64::from);
        let host = host.filter(|_| peers.host != [0; 16]);
        all.push(Known { host, rule: high << 32 | low, estimate });
    }
    Ok(all)
}

/// Copies the entries of one map to another.
pub(crate) fn copy(from: BorrowedFd<'_>, room: u32, to: BorrowedFd<'_>) -> Result<()> {
    const WHAT: &str = "keep what was learned";
    let keys = bpf::keys::<{ size_of::<Peers>() }>(from, room as usize);
    for key in keys.context(WHAT, hint::AGAIN)? {
        if let Some(value) = value(from, &key).context(WHAT, hint::AGAIN)? {
            bpf::update(to, &key, &value).context(WHAT, hint::AGAIN)?;
        }
    }
    Ok(())
}

/// An entry as bytes; None if the kernel has evicted it since the keys were read.
fn value(map: BorrowedFd<'_>, key: &[u8]) -> nix::Result<Option<[u8; size_of::<Estimate>()]>> {
    let mut value = [0; size_of::<Estimate>()];
    match bpf::look_up(map, key, &mut value) {
        Ok(()) => Ok(Some(value)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The time in units of estimates. Jiffies start five minutes before they wrap at 32 bits (`INITIAL_JIFFIES`,
/// include/linux/jiffies.h), then advance with the monotonic clock.
pub(crate) fn now(hz: u32) -> Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the clock", hint::AGAIN)?;
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let jiffies = (1_u64 << 32) - 300 * u64::from(hz) + seconds * u64::from(hz);
    Ok((jiffies >> shift(hz)) as u32)
}

impl Estimate {
    /// Seconds since the last sample.
    pub(crate) fn age_s(&self, now: u32, hz: u32) -> u64 {
        // The two clocks may differ by one unit.
        let units = u64::from(now.saturating_sub(self.when));
        (units << shift(hz)) / u64::from(hz)
    }

    pub(crate) fn srtt_us(&self) -> u32 {
        self.srtt8 >> 3
    }

    pub(crate) fn rttvar_us(&self) -> u32 {
        self.rttvar4 >> 2
    }

    /// The timer that the program sets now, in microseconds.
    pub(crate) fn timer_us(&self, settings: &rules::Settings, now: u32) -> u64 {
        let age = now.saturating_sub(self.when) >> AGE_SHIFT;
        let srtt = u64::from(self.srtt_us());
        let margin = u64::from(self.rttvar4).max(srtt / 2);
        let mut timer = srtt + margin;
        if timer < settings.rto_us {
            timer = (srtt + (margin << age.min(MOST_AGE))).min(settings.rto_us);
        }
        timer.clamp(settings.min_us, settings.max_us)
    }
}

/// The key of a rule's name in the map: 64-bit FNV-1a without the bit of the direction. It matches emit/mod.rs.
pub(crate) fn identity(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash & !1
}
