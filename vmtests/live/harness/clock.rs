//! Jiffies, and the precision of kernel timers.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use nix::time::ClockId;
use nix::time::clock_getres;

/// TCP's initial timer if no program answers.
pub(crate) const DEFAULT_RTO: Duration = Duration::from_secs(1);

/// Ticks per second of the running kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hz(u64);

impl Hz {
    /// Reads HZ from the kernel: the coarse clock's resolution is one tick.
    pub(crate) fn of_this_kernel() -> Result<Self> {
        let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .context("cannot read the resolution of CLOCK_MONOTONIC_COARSE")?;
        let nanoseconds = Duration::from(tick).as_nanos() as u64;
        Ok(Hz((1_000_000_000 + nanoseconds / 2) / nanoseconds))
    }

    /// HZ as a number.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The length of one jiffy.
    pub(crate) fn jiffy(self) -> Duration {
        self.duration(1)
    }

    /// The duration of that many jiffies.
    pub(crate) fn duration(self, jiffies: u64) -> Duration {
        Duration::from_nanos(jiffies * 1_000_000_000 / self.0)
    }

    /// The number of jiffies that set-rto documents for a duration: rounded up, at least one.
    pub(crate) fn jiffies(self, duration: Duration) -> u64 {
        let ticks = (duration.as_micros() as u64 * self.0).div_ceil(1_000_000);
        ticks.max(1)
    }

    /// The number of jiffies nearest to a duration that the kernel reports.
    pub(crate) fn nearest(self, duration: Duration) -> u64 {
        (duration.as_micros() as u64 * self.0 + 500_000) / 1_000_000
    }

    /// The permitted delay of a timer of that many jiffies.
    ///
    /// The timer wheel (kernel/time/timer.c) keeps timers under 63 jiffies to one jiffy, under
    /// 504 to eight, under 4032 to 64 and so on: with HZ 250, a timer of 20 s is up to 2 s late.
    pub(crate) fn wheel_step(self, jiffies: u64) -> Duration {
        let mut step = 1;
        while jiffies >= 63 * step && step < 1 << 24 {
            step *= 8;
        }
        self.duration(step)
    }
}
