//! The sweep along a dimension: where bounds begin and end, and which apply in between.

use std::collections::BTreeSet;

/// Calls `visit` at each value where the set of bounds changes, ascending from 0, with the numbers of the bounds and
/// the sum of their hashes. Each bound is a first value, a last value and a number. A number may have several ranges,
/// which do not overlap.
pub(crate) fn sweep<N: Copy + Ord>(
    bounds: impl Iterator<Item = (u128, u128, N)>,
    last: u128,
    hash: impl Fn(N) -> u128,
    mut visit: impl FnMut(u128, &BTreeSet<N>, u128),
) {
    let mut events = Vec::new();
    for (low, high, number) in bounds {
        events.push((low, true, number));
        // A bound up to the last value never ends.
        events.extend((high < last).then(|| (high + 1, false, number)));
    }
    // Ends come before beginnings: a number may go on in its next range.
    events.sort_unstable();
    let (mut holding, mut sum) = (BTreeSet::new(), 0_u128);
    if events.first().is_none_or(|event| event.0 > 0) {
        visit(0, &holding, sum);
    }
    for same in events.chunk_by(|one, other| one.0 == other.0) {
        for &(_, begins, number) in same {
            if begins {
                holding.insert(number);
                sum = sum.wrapping_add(hash(number));
            } else {
                holding.remove(&number);
                sum = sum.wrapping_sub(hash(number));
            }
        }
        visit(same[0].0, &holding, sum);
    }
}
