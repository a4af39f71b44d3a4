//! Prefixes of a list that lie within others of it.

use crate::diag::Diagnostic;
use crate::rule::{Prefix, Rule, Test};

/// The notes for a rule: one for each condition.
pub(super) fn notes(rule: &Rule) -> Vec<Diagnostic> {
    let note = |condition: &crate::rule::Condition| {
        let mut nested = Vec::new();
        condition.formula.each(&mut |test| {
            if let Test::Address(_, prefixes) = test
                && prefixes.len() > 1
            {
                of(prefixes, &mut nested);
            }
        });
        let (inner, outer) = nested.first()?;
        let message = match nested.len() {
            1 => format!("{inner} of this list lies within {outer}"),
            count => {
                format!("{count} prefixes of this list lie within others: {inner} within {outer}")
            }
        };
        Some(
            Diagnostic::new(message, condition.span.clone())
                .help("leave the longer ones out: they change nothing"),
        )
    };
    rule.conditions.iter().filter_map(note).collect()
}

/// Collects prefixes, each with one that contains it.
fn of(prefixes: &[Prefix], nested: &mut Vec<(Prefix, Prefix)>) {
    let key = |prefix: &Prefix| match *prefix {
        Prefix::V4(address, length) => (false, u128::from(address.to_bits()) << 96, length),
        Prefix::V6(address, length) => (true, address.to_bits(), length),
    };
    let mut sorted = prefixes.to_vec();
    sorted.sort_by_key(key);
    // In this order the outermost prefix comes first, and everything within it follows directly.
    let mut outer: Option<Prefix> = None;
    for prefix in sorted {
        let contains = |outer: &Prefix| {
            let (of, start, length) = key(outer);
            let (family, address, _) = key(&prefix);
            of == family && (start ^ address).leading_zeros() >= u32::from(length)
        };
        match outer.filter(contains) {
            Some(outer) => nested.push((prefix, outer)),
            None => outer = Some(prefix),
        }
    }
}
