//! Timers: microseconds to the kernel's jiffies.

use crate::error::{Context as _, Error, Result};
use nix::time::{ClockId, clock_getres};

/// The kernel's tick rate. `CLOCK_MONOTONIC_COARSE` ticks with it: its resolution is `TICK_NSEC`, rounded
/// from `1e9 / HZ` (`posix_get_coarse_res()`, kernel/time/posix-timers.c, 4.19 to 7.3).
///
/// # Errors
/// The clock is missing, or its resolution is outside of what kernels have (10 to 10,000 Hz).
pub(crate) fn hz() -> Result<u32> {
    const WHAT: &str = "ask the clock CLOCK_MONOTONIC_COARSE for this kernel's HZ";
    const HINT: &str = "set-rto runs on Linux only, not on an emulation of it";
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context(WHAT, HINT)?;
    rate(resolution.tv_sec(), resolution.tv_nsec()).ok_or_else(|| {
        Error::new(format!("{WHAT}: {} ns make no sense", resolution.tv_nsec()), HINT)
    })
}

fn rate(seconds: impl Into<i64>, ns: impl Into<i64>) -> Option<u32> {
    let ns = u64::try_from(ns.into()).ok().filter(|&ns| ns > 0 && seconds.into() == 0)?;
    let hz = (1_000_000_000 + ns / 2) / ns;
    u32::try_from(hz).ok().filter(|hz| (10..=10_000).contains(hz))
}

/// Jiffies for a timer: rounded up, at least 1, at most 120 s (`TCP_RTO_MAX`; kernels before 5.18 accept any
/// value, so the bound is enforced here).
pub(crate) fn jiffies(us: u64, hz: u32) -> u32 {
    let most = 120 * u64::from(hz);
    let ticks = (us * u64::from(hz)).div_ceil(1_000_000).clamp(1, most);
    u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Two jiffies in microseconds: the minimum of `rto_min` and `delack_max` (`TCP_TIMEOUT_MIN`, include/net/tcp.h).
pub(crate) fn two_jiffies_us(hz: u32) -> u32 {
    2_000_000_u32.div_ceil(hz)
}

/// The duration of the jiffies, in microseconds.
pub(crate) fn microseconds(jiffies: u32, hz: u32) -> u64 {
    u64::from(jiffies) * 1_000_000 / u64::from(hz)
}

/// Jiffies from the microseconds that the kernel reports, rounded down: 601 at HZ 300 are reported as 2,003,333 us
/// (`jiffies_to_usecs()`, kernel/time/time.c).
pub(crate) fn nearest_jiffies(us: u64, hz: u32) -> u64 {
    (us * u64::from(hz) + 500_000) / 1_000_000
}

/// A timer for display: `20 s`, `1.5 s`, `300 ms`, `250 us`.
pub(crate) fn spell(us: u64) -> String {
    let (scale, unit, width) = match us {
        0..1_000 => (1, "us", 0),
        1_000..1_000_000 => (1_000, "ms", 3),
        _ => (1_000_000, "s", 6),
    };
    let (whole, rest) = (us / scale, us % scale);
    match rest {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole}.{} {unit}", format!("{rest:0width$}").trim_end_matches('0')),
    }
}

/// The same with three digits: `9.12s`, `300ms`, `250us`. Rounds down.
pub(crate) fn rough(us: u64) -> String {
    let (scale, unit) = match us {
        0..1_000 => return format!("{us}us"),
        1_000..1_000_000 => (1_000, "ms"),
        _ => (1_000_000, "s"),
    };
    let (whole, rest) = (us / scale, us % scale * 1_000 / scale);
    let digits = match whole {
        0..10 => format!("{whole}.{:02}", rest / 10),
        10..100 => format!("{whole}.{}", rest / 100),
        _ => return format!("{whole}{unit}"),
    };
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_jiffies_are_those_that_were_set() {
        for hz in [100, 250, 300, 1000, 1024] {
            for jiffies in [1, 2, 99, 601, 36_000] {
                assert_eq!(nearest_jiffies(microseconds(jiffies, hz), hz), u64::from(jiffies));
            }
        }
    }

    #[test]
    fn jiffies_round_up_and_stay_in_range() {
        for (us, hz, ticks) in [
            (20_000_000, 250, 5000),
            (20_000_000, 100, 2000),
            (1_000, 100, 1),
            (1_000, 1000, 1),
            (1_000, 250, 1),
            (4_001, 250, 2),
            (10_000, 300, 3),
            (1, 1000, 1),
            (120_000_000, 1024, 122_880),
            (u64::from(u32::MAX), 250, 30_000),
        ] {
            assert_eq!(jiffies(us, hz), ticks, "{us} us at {hz} Hz");
        }
    }

    #[test]
    fn this_kernel_has_a_tick() {
        assert!(hz().is_ok_and(|hz| (24..=1024).contains(&hz)));
    }

    #[test]
    fn rough_for_tables() {
        for (us, text) in [
            (999, "999us"),
            (1_234, "1.23ms"),
            (10_000, "10ms"),
            (99_990, "99.9ms"),
            (999_999, "999ms"),
            (1_000_000, "1s"),
            (9_129_000, "9.12s"),
            (120_000_000, "120s"),
        ] {
            assert_eq!(rough(us), text);
        }
    }

    #[test]
    fn spelled_for_people() {
        for (us, text) in
            [(20_000_000, "20 s"), (1_500_000, "1.5 s"), (300_000, "300 ms"), (1_250, "1.25 ms")]
        {
            assert_eq!(spell(us), text);
        }
    }
}
