//! The sweep along a dimension: where bounds begin and end, and which apply in between.

use std::collections::BTreeSet;

/// From each first value on, ascending from 0, what `value` makes of the numbers of the bounds that lie around it, and of
/// the sum of their hashes. Neighbours differ. Each bound is a first value, a last value and a number. A number may have
/// several ranges, which do not overlap.
pub(crate) fn sweep<N: Copy + Ord, T: PartialEq>(
    bounds: impl Iterator<Item = (u128, u128, N)>,
    last: u128,
    hash: impl Fn(N) -> u128,
    mut value: impl FnMut(&BTreeSet<N>, u128) -> T,
) -> Vec<(u128, T)> {
    let mut events = Vec::new();
    for (low, high, number) in bounds {
        events.push((low, true, number));
        // A bound up to the last value never ends.
        events.extend((high < last).then(|| (high + 1, false, number)));
    }
    // Ends come before beginnings: a number may go on in its next range.
    events.sort_unstable();
    let (mut around, mut sum) = (BTreeSet::new(), 0_u128);
    let mut steps = Vec::new();
    if events.first().is_none_or(|event| event.0 > 0) {
        steps.push((0, value(&around, sum)));
    }
    for same in events.chunk_by(|one, other| one.0 == other.0) {
        for &(_, begins, number) in same {
            if begins {
                around.insert(number);
                sum = sum.wrapping_add(hash(number));
            } else {
                around.remove(&number);
                sum = sum.wrapping_sub(hash(number));
            }
        }
        steps.push((same[0].0, value(&around, sum)));
    }
    steps.dedup_by(|next, step| next.1 == step.1);
    steps
}
