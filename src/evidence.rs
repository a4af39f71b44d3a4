//! Evidence: what happened to the connections of a rule. As in bpf/src/emit/evidence.h.

/// Of one rule, in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Connections.
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// After a retransmission.
    pub(crate) answered_late: u64,
    /// Of SYN or SYN-ACK.
    pub(crate) retransmissions: u64,
    /// Of `answered_late`, those whose answer took longer than the timer.
    pub(crate) needless: u64,
    pub(crate) gave_up: u64,
    /// The sum of round trips, microseconds.
    pub(crate) round_trips_us: u64,
    /// How many round trips took how long; empty if they are not kept.
    pub(crate) round_trips: Vec<u64>,
}

/// Microseconds of the first bucket; each next one is twice as long, and the last one has no end.
const FIRST_US: u64 = 256;

impl Evidence {
    /// From the counters.
    pub(crate) fn new(numbers: &[u64]) -> Self {
        let at = |at: usize| numbers.get(at).copied().unwrap_or(0);
        Self {
            asked: at(0),
            answered: at(1),
            answered_late: at(2),
            retransmissions: at(3),
            needless: at(4),
            gave_up: at(5),
            round_trips_us: at(6),
            round_trips: numbers.get(7..).unwrap_or_default().to_vec(),
        }
    }

    /// Of both directions.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let both = self.round_trips.iter().zip(&other.round_trips);
        Self {
            asked: self.asked + other.asked,
            answered: self.answered + other.answered,
            answered_late: self.answered_late + other.answered_late,
            retransmissions: self.retransmissions + other.retransmissions,
            needless: self.needless + other.needless,
            gave_up: self.gave_up + other.gave_up,
            round_trips_us: self.round_trips_us + other.round_trips_us,
            round_trips: both.map(|(one, other)| one + other).collect(),
        }
    }

    /// The end of a bucket, microseconds; None for the last one.
    pub(crate) fn end_us(&self, bucket: usize) -> Option<u64> {
        (bucket + 1 < self.round_trips.len()).then_some(FIRST_US << bucket)
    }

    /// How many round trips were measured.
    pub(crate) fn measured(&self) -> u64 {
        self.round_trips.iter().sum()
    }

    /// The round trip that so many of a hundred do not exceed, microseconds: evenly within its bucket. None if none was
    /// measured.
    pub(crate) fn quantile_us(&self, percent: u64) -> Option<u64> {
        let all = self.measured();
        let mut before = 0;
        for (bucket, &count) in self.round_trips.iter().enumerate() {
            if count > 0 && (before + count) * 100 >= all * percent {
                let end = FIRST_US << bucket;
                let start = if bucket == 0 { 0 } else { end / 2 };
                let part = (all * percent).saturating_sub(before * 100);
                return Some(start + (end - start) * part / (count * 100));
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_their_bucket() {
        let mut numbers = vec![0; 7 + 19];
        let none = Evidence::new(&numbers);
        assert_eq!((none.quantile_us(50), none.measured()), (None, 0));
        // Ten below 256 us, ninety from 1024 to 2048 us.
        (numbers[7], numbers[7 + 3]) = (10, 90);
        let some = Evidence::new(&numbers);
        assert_eq!(some.quantile_us(5), Some(128));
        assert_eq!(some.quantile_us(10), Some(256));
        assert_eq!(some.quantile_us(55), Some(1024 + 512));
        assert_eq!(some.quantile_us(100), Some(2048));
        assert_eq!(some.plus(&some).quantile_us(55), Some(1024 + 512));
        assert_eq!((some.end_us(0), some.end_us(18)), (Some(256), None));
    }
}
