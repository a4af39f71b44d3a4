//! Sets of numbers as sorted, disjoint ranges that do not touch.

/// A set of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Set {
    /// First and last value of each range.
    ranges: Vec<(u128, u128)>,
}

impl Set {
    /// The numbers from `low` to `high`, both included.
    #[must_use]
    pub fn range(low: u128, high: u128) -> Self {
        Self { ranges: vec![(low, high)] }
    }

    /// One number.
    #[must_use]
    pub fn one(value: u128) -> Self {
        Self::range(value, value)
    }

    /// Ranges in any order, overlapping or not.
    #[must_use]
    pub fn from_ranges(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self { ranges: merged }
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    /// True for the set of nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if the value is in it.
    #[must_use]
    pub fn contains(&self, value: u128) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= value);
        after > 0 && self.ranges[after - 1].1 >= value
    }

    /// What is in one or both.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self::from_ranges([self.ranges.as_slice(), other.ranges.as_slice()].concat())
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        // A small set against a large one: only the part of the large one that it meets.
        let (small, large) = match self.ranges.len() <= other.ranges.len() {
            true => (self, other),
            false => (other, self),
        };
        let mut ranges = Vec::new();
        for &(low, high) in &small.ranges {
            let from = large.ranges.partition_point(|range| range.1 < low);
            for &(l, h) in large.ranges[from..].iter().take_while(|range| range.0 <= high) {
                ranges.push((l.max(low), h.min(high)));
            }
        }
        Self { ranges }
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        for &(low, high) in &self.ranges {
            let mut next = Some(low);
            let from = other.ranges.partition_point(|range| range.1 < low);
            for &(l, h) in other.ranges[from..].iter().take_while(|range| range.0 <= high) {
                if let Some(start) = next.filter(|&start| start < l) {
                    ranges.push((start, l - 1));
                }
                next = h.checked_add(1);
            }
            if let Some(start) = next.filter(|&start| start <= high) {
                ranges.push((start, high));
            }
        }
        Self { ranges }
    }

    /// True if all of this one is in the other.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.ranges.iter().all(|&(low, high)| {
            let at = other.ranges.partition_point(|range| range.1 < low);
            other.ranges.get(at).is_some_and(|range| range.0 <= low && high <= range.1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All subsets of 0..6 against each other, by looking at every value.
    #[test]
    fn as_sets_of_values() {
        let of = |bits: u32| {
            Set::from_ranges((0..6).filter(|i| bits >> i & 1 == 1).map(|i| (i, i)).collect())
        };
        for a in 0..64_u32 {
            for b in 0..64_u32 {
                let (x, y) = (of(a), of(b));
                assert_eq!(x.or(&y), of(a | b));
                assert_eq!(x.and(&y), of(a & b));
                assert_eq!(x.minus(&y), of(a & !b));
                assert_eq!(x.is_within(&y), a & !b == 0);
            }
            assert!((0..6).all(|i| of(a).contains(i) == (a >> i & 1 == 1)));
        }
    }

    #[test]
    fn the_ends_of_the_numbers() {
        let all = Set::range(0, u128::MAX);
        assert_eq!(all.minus(&Set::one(0)), Set::range(1, u128::MAX));
        assert_eq!(all.minus(&Set::one(u128::MAX)), Set::range(0, u128::MAX - 1));
        assert!(all.minus(&all).is_empty());
        assert_eq!(all.or(&Set::one(u128::MAX)), all);
    }
}
