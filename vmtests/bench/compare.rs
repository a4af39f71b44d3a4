//! Compares the times of two programs on a machine with other load.
//!
//! The two take turns in the order A B B A: slow changes (clock rate, caches, load) affect both alike. Each item is
//! compared only with itself, and medians are taken of the ratios. A disturbed turn counts as one turn, however long
//! the disturbance was.

use crate::row::median;

/// A ratio, and its bounds with a confidence of 99 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) middle: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Two-sided, of a normal distribution.
const CONFIDENCE_99: f64 = 2.576;

/// The ratio of one turn: the median over its items. All four blocks have the same items in the same order.
pub(crate) fn turn(base: [&[f64]; 2], own: [&[f64]; 2]) -> Option<f64> {
    let items = base[0].iter().zip(base[1]).zip(own[0].iter().zip(own[1]));
    median(items.map(|((a, d), (b, c))| (b * c / (a * d)).sqrt()).collect())
}

/// The median of the turns. The bounds come from order statistics, which require no particular distribution. Returns
/// `None` for fewer than 20 turns.
pub(crate) fn estimate(turns: &[f64]) -> Option<Estimate> {
    let mut sorted = turns.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let outside = (count / 2.0 - CONFIDENCE_99 * count.sqrt() / 2.0).floor();
    if sorted.len() < 20 {
        return None;
    }
    let at = outside.max(0.0) as usize;
    let (low, high) = (*sorted.get(at)?, *sorted.get(sorted.len() - 1 - at)?);
    Some(Estimate { middle: median(sorted)?, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn slow_changes_cancel_out() {
        // Items of very different cost: ours are 1 % slower, and all grow by 10 % from one block to the next.
        let block = |at: i32, factor: f64| -> Vec<f64> {
            (1..25).map(|item| f64::from(item) * factor * 1.1_f64.powi(at)).collect()
        };
        let (base, own) = ([block(0, 1.0), block(3, 1.0)], [block(1, 1.01), block(2, 1.01)]);
        let ratio = turn([&base[0], &base[1]], [&own[0], &own[1]]).expect("items");
        assert!((ratio - 1.01).abs() < 1e-9, "{ratio}");
    }

    #[test]
    fn the_bounds_hold_for_disturbed_turns() {
        let mut random = Random::of("turns");
        let mut held = 0;
        for _ in 0..500 {
            // Ratios around 1.015. Every tenth one is far off, to one side.
            let one = |random: &mut Random| {
                let noise = (random.below(1_001) as f64 - 500.0) / 10_000.0;
                if random.percent(10) { 4.0 } else { 1.015 + noise }
            };
            let turns: Vec<f64> = (0..200).map(|_| one(&mut random)).collect();
            let Estimate { middle, low, high } = estimate(&turns).expect("200 turns");
            assert!(low <= middle && middle <= high);
            // A tenth of outliers above moves the median up: to the 55.6th percentile of the rest.
            held += usize::from((low..=high).contains(&(1.015 + 0.1 * (0.5 / 0.9 - 0.5))));
        }
        assert!((488..=500).contains(&held), "{held} of 500");
    }

    #[test]
    fn few_turns_say_nothing() {
        assert_eq!(estimate(&[1.0; 19]), None);
        assert!(estimate(&[1.0; 20]).is_some());
    }
}
