//! `match = "longest"`: among neighbouring rules with this key the longest prefix decides, as in routing, in any order.
//! Addresses of a longer prefix are removed from the shorter ones of other rules. The rules are then disjoint, and the
//! rest of the compiler does not know about this key.

use super::Diagnostics;
use crate::diag::{Diagnostic, Span};
use crate::limits::MOST_ITEMS;
use crate::rule::{End, Formula, Prefix, Rule, Test};
use crate::space::Set;
use std::net::{Ipv4Addr, Ipv6Addr};

const HELP: &str = "a rule with `match = \"longest\"` has one condition, `remote` or `local`";

/// A prefix of a rule as a range of numbers, of 32 bits for IPv4 and 128 for IPv6.
#[derive(Clone, Copy)]
struct Owned {
    is_ipv6: bool,
    low: u128,
    length: u8,
    high: u128,
    rule: usize,
}

/// Divides the addresses among the rules of a group. The spans are those of their `match`.
pub(super) fn divide(rules: &mut [Rule], spans: &[Span]) -> Result<(), Diagnostics> {
    let mut mistakes = Vec::new();
    let mut owned = Vec::new();
    let mut known = None;
    for (at, (rule, span)) in rules.iter().zip(spans).enumerate() {
        let Some((end, prefixes)) = prefixes(rule) else {
            let message = "`match = \"longest\"` without a list of prefixes alone";
            mistakes.push(Diagnostic::new(message, span.clone()).help(HELP));
            continue;
        };
        if *known.get_or_insert(end) != end {
            let message = "`match = \"longest\"` of `remote` beside `local`";
            mistakes.push(
                Diagnostic::new(message, span.clone())
                    .help("neighbouring rules test the same end; write another rule in between"),
            );
        }
        owned.extend(prefixes.iter().map(|prefix| range(*prefix, at)));
    }
    owned.sort_by_key(|it| (it.is_ipv6, it.low, it.length, it.rule));
    for pair in owned.windows(2) {
        let [one, other] = pair else { unreachable!("a window of two") };
        let is_same =
            (one.is_ipv6, one.low, one.length) == (other.is_ipv6, other.low, other.length);
        if is_same && one.rule != other.rule {
            let prefix = pieces(one.is_ipv6, (one.low, one.high)).next();
            let prefix = prefix.map_or_else(String::new, |it| it.to_string());
            let span = |rule: usize| rules[rule].conditions[0].span.clone();
            mistakes.push(
                Diagnostic::new(format!("two rules have the prefix {prefix}"), span(other.rule))
                    .other(span(one.rule), "the first")
                    .help("neither is longer: leave one out"),
            );
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let shares = shares(&owned, rules.len());
    let mut count = 0;
    for (rule, shares) in rules.iter_mut().zip(shares) {
        let mut prefixes = Vec::new();
        for (is_ipv6, ranges) in [(false, &shares[0]), (true, &shares[1])] {
            let set = Set::from_ranges(ranges.clone());
            for range in set.ranges() {
                prefixes.extend(pieces(is_ipv6, *range));
            }
        }
        count += prefixes.len();
        if count > MOST_ITEMS {
            let message = format!("more than {MOST_ITEMS} prefixes when longer ones are cut out");
            return Err(vec![Diagnostic::new(message, rule.span.clone()).label("up to this rule")]);
        }
        let condition = &mut rule.conditions[0];
        condition.formula = match (known, prefixes.is_empty()) {
            (Some(end), false) => Formula::Test(Test::Address(end, prefixes)),
            _ => Formula::Any(Vec::new()),
        };
        condition.text.push_str(" (longest match)");
    }
    Ok(())
}

fn prefixes(rule: &Rule) -> Option<(End, &[Prefix])> {
    match rule.conditions.as_slice() {
        [one] => match &one.formula {
            Formula::Test(Test::Address(end, prefixes)) => Some((*end, prefixes)),
            _ => None,
        },
        _ => None,
    }
}

fn range(prefix: Prefix, rule: usize) -> Owned {
    let (is_ipv6, low, length, bits) = match prefix {
        Prefix::V4(address, length) => (false, u128::from(address.to_bits()), length, 32),
        Prefix::V6(address, length) => (true, address.to_bits(), length, 128),
    };
    let size = 1_u128.checked_shl(bits - u32::from(length)).map_or(u128::MAX, |size| size - 1);
    Owned { is_ipv6, low, length, high: low | size, rule }
}

/// For each rule the ranges that are its own, of IPv4 and of IPv6. Of prefixes in the order of their first address, those
/// that contain the next one are on a stack, the longest on top.
fn shares(owned: &[Owned], rules: usize) -> Vec<[Vec<(u128, u128)>; 2]> {
    let mut shares = vec![[Vec::new(), Vec::new()]; rules];
    let mut stack: Vec<Owned> = Vec::new();
    let mut from = 0;
    let mut give = |owner: &Owned, from: u128, to: Option<u128>| {
        if let Some(to) = to.filter(|to| from <= *to) {
            shares[owner.rule][usize::from(owner.is_ipv6)].push((from, to));
        }
    };
    for next in owned {
        while let Some(top) = stack.last() {
            if top.is_ipv6 == next.is_ipv6 && next.low <= top.high {
                give(top, from, next.low.checked_sub(1));
                break;
            }
            give(top, from, Some(top.high));
            from = top.high.saturating_add(1);
            stack.pop();
        }
        from = next.low;
        stack.push(*next);
    }
    while let Some(top) = stack.pop() {
        give(&top, from, Some(top.high));
        match top.high.checked_add(1) {
            Some(after) => from = after,
            // It ends at the last address, and so does every prefix that contains it.
            None => break,
        }
    }
    shares
}

/// The prefixes that make up a range.
fn pieces(is_ipv6: bool, (low, high): (u128, u128)) -> impl Iterator<Item = Prefix> {
    let bits: u32 = if is_ipv6 { 128 } else { 32 };
    let mut next = Some(low);
    std::iter::from_fn(move || {
        let low = next.filter(|low| *low <= high)?;
        let fits = |host: &u32| {
            let size = 1_u128.checked_shl(*host).map_or(u128::MAX, |size| size - 1);
            low & size == 0 && low | size <= high
        };
        let host = (0..=bits).rev().find(fits)?;
        let last = low | 1_u128.checked_shl(host).map_or(u128::MAX, |size| size - 1);
        next = last.checked_add(1);
        let length = (bits - host) as u8;
        Some(match is_ipv6 {
            true => Prefix::V6(Ipv6Addr::from_bits(low), length),
            false => Prefix::V4(Ipv4Addr::from_bits(low as u32), length),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Source;
    use crate::explain::{Connection, decides};
    use std::fmt::Write as _;
    use std::net::IpAddr;

    /// Compares the result with a search of all prefixes, for addresses at their bounds and next to them.
    #[test]
    fn as_looking_at_every_prefix() {
        // A linear congruential generator: the same numbers in every run.
        let mut state = 7_u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let mut decided = 0;
        for _ in 0..200 {
            let mut text = String::new();
            let mut nets: Vec<(u32, u32, usize)> = Vec::new();
            for rule in 0..1 + random(5) as usize {
                let mut own = Vec::new();
                for _ in 0..1 + random(4) {
                    let length = 8 + random(25);
                    let address = (10 << 24 | random(4) << 20 | random(1 << 16)) >> (32 - length);
                    let address = address << (32 - length);
                    if nets.iter().all(|it| (it.0, it.1) != (address, length)) {
                        nets.push((address, length, rule));
                        own.push(format!("\"{}/{length}\"", Ipv4Addr::from_bits(address)));
                    }
                }
                if own.is_empty() {
                    own.push(format!("\"192.0.2.{rule}\""));
                }
                let own = own.join(", ");
                let _ = write!(
                    text,
                    "[[rule]]\nname = \"r{rule}\"\nmatch = \"longest\"\nremote = [{own}]\nrto = \"1s\"\n"
                );
            }
            let source = Source { name: "rules.toml", text: &text };
            // It is an error if longer prefixes take all addresses of a rule.
            let Ok(policy) = crate::compile(&source, "0") else { continue };
            for (address, length, _) in &nets {
                let last = address | u32::MAX.checked_shr(*length).unwrap_or(0);
                for address in [*address, last, address.wrapping_sub(1), last.wrapping_add(1)] {
                    let contains =
                        |it: &&(u32, u32, usize)| (it.0 ^ address).leading_zeros() >= it.1;
                    let longest = nets.iter().filter(contains).max_by_key(|it| it.1);
                    let remote = IpAddr::V4(Ipv4Addr::from_bits(address));
                    let text = format!("outgoing 10.0.0.1:1 -> {remote}:2");
                    let connection: Connection = text.parse().expect("a connection");
                    let found = decides(&policy.rules, &connection);
                    assert_eq!(found, longest.map(|it| it.2), "{remote} in\n{}", source.text);
                    decided += usize::from(found.is_some());
                }
            }
        }
        assert!(decided > 500, "only {decided} decisions");
    }
}
