//! C expressions: a dimension has one of these values.

use super::side;
use crate::matching::Matching;
use crate::plan::Plan;
use crate::rule::Pattern;
use crate::space::{Dimension, Set, Side};

/// How many terms an expression for the set has.
pub(super) fn terms(dimension: Dimension, set: &Set) -> usize {
    match dimension {
        Dimension::Ipv4(_) => set.ranges().iter().map(|range| prefixes(*range, 32).len()).sum(),
        Dimension::Ipv6(_) => set.ranges().len() * 2,
        _ => set.ranges().len(),
    }
}

/// True exactly for the values of the set. `device_known`: the device has been looked for on the way here.
pub(super) fn within(plan: &Plan, dimension: Dimension, set: &Set, device_known: bool) -> String {
    let one = |yes: &str| if set.contains(1) { yes.to_string() } else { format!("!{yes}") };
    match dimension {
        Dimension::Direction => one("is_incoming(ctx)"),
        Dimension::Family if set.contains(0) => "is_ipv4(ctx)".into(),
        Dimension::Family => "!is_ipv4(ctx)".into(),
        Dimension::SameAddress => one("same_address(ctx)"),
        Dimension::Ports => {
            let operator = match [set.contains(0), set.contains(1), set.contains(2)] {
                [true, false, false] => "<",
                [true, true, false] => "<=",
                [false, true, false] => "==",
                [false, true, true] => ">=",
                [false, false, true] => ">",
                _ => "!=",
            };
            format!("FIELD(local_port) {operator} HOST(remote_port)")
        }
        Dimension::Interface(list) => {
            let found = interfaces(plan, list, device_known);
            if set.contains(1) { found } else { format!("!({found})") }
        }
        Dimension::Port(_) => {
            or(set.ranges().iter().map(|range| numbers(&value(dimension), *range, 0xffff)))
        }
        Dimension::Ipv4(end) => or(set.ranges().iter().flat_map(|range| ipv4(end, *range))),
        Dimension::Ipv6(end) => or(set.ranges().iter().map(|range| ipv6(end, *range))),
    }
}

/// The value of a numeric dimension, host byte order.
pub(super) fn value(dimension: Dimension) -> String {
    match dimension {
        Dimension::Port(Side::Local) => "FIELD(local_port)".into(),
        Dimension::Port(Side::Remote) => "HOST(remote_port)".into(),
        Dimension::Ipv4(end) => format!("HOST({}_ip4)", side(end)),
        Dimension::Ipv6(end) => format!("{}_ip6(ctx)", side(end)),
        Dimension::Ports => "0".into(),
        Dimension::Direction => "is_incoming(ctx)".into(),
        Dimension::Family => "!is_ipv4(ctx)".into(),
        Dimension::SameAddress => "same_address(ctx)".into(),
        Dimension::Interface(_) => "0".into(),
    }
}

/// True for values below the limit.
pub(super) fn below(dimension: Dimension, limit: u128) -> String {
    match dimension {
        Dimension::Ipv4(end) => {
            format!("HOST({}_ip4) < {}", side(end), address4(limit))
        }
        Dimension::Ipv6(end) => format!("below({}_ip6(ctx), {})", side(end), words(limit)),
        _ => format!("{} < {limit}", value(dimension)),
    }
}

/// The two halves of an IPv6 address as C constants.
pub(super) fn words(address: u128) -> String {
    let (high, low) = (address >> 64, address & u128::from(u64::MAX));
    format!("0x{high:016x}, 0x{low:016x}")
}

/// `a || b`, in parentheses where there are several, a line for each.
fn or(terms: impl Iterator<Item = String>) -> String {
    let terms: Vec<_> = terms.collect();
    terms.join(" ||\n\t    ")
}

fn numbers(field: &str, (low, high): (u128, u128), most: u128) -> String {
    match (low, high) {
        _ if low == high && field == "HOST(remote_port)" => format!("remote_port_is({low})"),
        _ if low == high => format!("{field} == {low}"),
        (0, _) => format!("{field} <= {high}"),
        _ if high == most => format!("{field} >= {low}"),
        _ => format!("within({field}, {low}, {high})"),
    }
}

/// A range as prefixes, (address, length) each, ascending.
fn prefixes((mut low, high): (u128, u128), width: u32) -> Vec<(u128, u32)> {
    let mut list = Vec::new();
    loop {
        // The longest run that starts here on its own boundary and does not pass the end.
        let aligned = low.trailing_zeros().min(width);
        let fitting = (high - low).checked_add(1).map_or(width, u128::ilog2);
        let host_bits = aligned.min(fitting);
        list.push((low, width - host_bits));
        match low.checked_add(1_u128.checked_shl(host_bits).unwrap_or(0)) {
            Some(next) if next > low && next <= high => low = next,
            _ => return list,
        }
    }
}

fn ipv4(end: Side, range: (u128, u128)) -> Vec<String> {
    let field = format!("FIELD({}_ip4)", side(end));
    let parts = prefixes(range, 32);
    // A few prefixes are read more easily; many are a range after all.
    if parts.len() > 3 {
        let (low, high) = (address4(range.0), address4(range.1));
        return vec![format!("within(HOST({}_ip4), {low}, {high})", side(end))];
    }
    let part = |(address, length): (u128, u32)| {
        let [.., a, b, c, d] = address.to_be_bytes();
        match length {
            0 => "1".into(),
            32 => format!("{field} == IPV4({a}, {b}, {c}, {d})"),
            _ => format!("({field} & PREFIX({length})) == IPV4({a}, {b}, {c}, {d})"),
        }
    };
    parts.into_iter().map(part).collect()
}

fn address4(address: u128) -> String {
    format!("0x{address:08x}")
}

fn ipv6(end: Side, range: (u128, u128)) -> String {
    let [(address, length)] = prefixes(range, 128)[..] else {
        let address = format!("{}_ip6(ctx)", side(end));
        let lower = format!("!below({address}, {})", words(range.0));
        return match range.1.checked_add(1) {
            None => lower,
            Some(next) if range.0 == 0 => format!("below({address}, {})", words(next)),
            Some(next) => format!("({lower} && below({address}, {}))", words(next)),
        };
    };
    let mut terms = Vec::new();
    for word in 0..4_u32 {
        let bits = length.saturating_sub(word * 32).min(32);
        let value = address >> (96 - 32 * word) & u128::from(u32::MAX);
        let field = format!("FIELD({}_ip6[{word}])", side(end));
        match bits {
            0 => break,
            32 => terms.push(format!("{field} == NET32(0x{value:08x})")),
            _ => terms.push(format!("({field} & PREFIX({bits})) == NET32(0x{value:08x})")),
        }
    }
    match terms.as_slice() {
        [] => "1".into(),
        [one] => one.clone(),
        many => format!("({})", many.join(" && ")),
    }
}

fn interfaces(plan: &Plan, list: usize, device_known: bool) -> String {
    let patterns = &plan.lists[list];
    // Any device at all will do.
    if patterns.iter().any(|Pattern(text)| text.bytes().all(|byte| byte == b'*')) {
        return if device_known { "device->found > 0" } else { "find_device(ctx, device)" }.into();
    }
    let names = match &plan.matching {
        Matching::Walk(_) => format!("in_list(device, {list} /* {} */)", told(patterns)),
        Matching::Compare => {
            let names: Vec<_> = patterns.iter().map(interface).collect();
            match names.as_slice() {
                [one] => one.clone(),
                many => format!("({})", many.join(" ||\n\t     ")),
            }
        }
    };
    if device_known { names } else { format!("find_device(ctx, device) &&\n\t    {names}") }
}

/// For a comment.
fn told(patterns: &[Pattern]) -> String {
    const FEW: usize = 4;
    let few: Vec<_> = patterns.iter().take(FEW).map(|it| it.0.as_str()).collect();
    let more = if patterns.len() > FEW { ", …" } else { "" };
    few.join(", ") + more
}

/// A name, or a prefix: all that is compared.
fn interface(Pattern(text): &Pattern) -> String {
    match text.trim_end_matches('*') {
        name if name.len() == text.len() => format!("named(device, \"{text}\")"),
        start => format!("starts_with(device, \"{start}\")"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_prefixes() {
        assert_eq!(prefixes((0, 255), 8), [(0, 0)]);
        assert_eq!(prefixes((1, 6), 8), [(1, 8), (2, 7), (4, 7), (6, 8)]);
        assert_eq!(prefixes((255, 255), 8), [(255, 8)]);
        assert_eq!(prefixes((0, u128::MAX), 128), [(0, 0)]);
        assert_eq!(prefixes((u128::MAX, u128::MAX), 128), [(u128::MAX, 128)]);
    }
}
