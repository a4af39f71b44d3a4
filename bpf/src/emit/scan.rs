//! Lists of terms as data, see scan.h.

use super::{expression, line};
use crate::matching::Matching;
use crate::plan::{Node, Plan};
use crate::space::{Dimension, Set, Side, Term};
use std::collections::HashMap;

/// The declarations, emitted once where a plan has lists.
pub(super) const HEADER: &str = include_str!("scan.h");

/// Where each list begins in the table.
pub(super) type Places = HashMap<Vec<(usize, Term)>, usize>;

/// Writes the table of all lists, and the function that looks through one; returns how long the table is.
pub(super) fn emit(out: &mut String, plan: &Plan) -> (Places, usize) {
    let mut places = Places::new();
    let mut rows: Vec<String> = Vec::new();
    let mut longest = 0;
    for node in &plan.nodes {
        if let Node::Scan(terms) = node {
            places.insert(terms.clone(), rows.len());
            let records: Vec<_> =
                terms.iter().flat_map(|(rule, term)| records(*rule, term)).collect();
            longest = longest.max(records.len());
            for (at, record) in records.iter().enumerate() {
                let end = if at + 1 == records.len() { " | END" } else { "" };
                rows.push(record.replace("@", end));
            }
        }
    }
    let count = rows.len();
    if count == 0 {
        return (places, 0);
    }
    let mask = count.next_power_of_two() - 1;
    out.push('\n');
    out.push_str(HEADER);
    line(out, format_args!("\nconst struct term terms[{}] SEC(\".rodata.tables\") = {{", mask + 1));
    for row in rows {
        line(out, format_args!("{row},"));
    }
    out.push_str("};\n");
    let device = if plan.lists.is_empty() { "" } else { ", struct device *device" };
    line(
        out,
        format_args!(
            "\nstatic __always_inline u64 scan(struct bpf_sock_ops *ctx{device}, u64 at)\n{{"
        ),
    );
    out.push_str("\tstruct facts facts = {};\n\n\tgather(ctx, &facts);\n");
    if !plan.lists.is_empty() {
        out.push_str("\tfind_device(ctx, device);\n");
        if matches!(plan.matching, Matching::Walk(_)) {
            out.push_str("\tfacts.lists = device->lists;\n");
        } else {
            for list in 0..plan.lists.len() {
                let test = expression::within(plan, Dimension::Interface(list), &Set::one(1), true);
                line(out, format_args!("\tif ({test})\n\t\tfacts.lists |= 1ull << {list};"));
            }
        }
    }
    line(
        out,
        format_args!(
            "#pragma clang loop unroll(disable)\n\tfor (int i = 0; i < {longest}; i++, at++) {{"
        ),
    );
    line(out, format_args!("\t\tconst struct term *term = &terms[at & {mask}];\n"));
    out.push_str("\t\tif (fits(term, &facts))\n\t\t\treturn term->rule;\n");
    out.push_str("\t\tif (term->bits & END)\n\t\t\tbreak;\n\t}\n\treturn NONE;\n}\n");
    (places, count)
}

/// A term as C initializers: one for each combination of its ranges. `@` is where the mark of the last goes.
fn records(rule: usize, term: &Term) -> Vec<String> {
    let bits = |dimension: Dimension, first: u32| -> u32 {
        let domain = dimension.domain();
        let set = term.bound(dimension).map_or(&domain, |set| &**set);
        (0..4)
            .filter(|value| set.contains(u128::from(*value)))
            .map(|value| 1 << (first + value))
            .sum()
    };
    let bits = bits(Dimension::Direction, 0)
        | bits(Dimension::Family, 2)
        | bits(Dimension::SameAddress, 4)
        | bits(Dimension::Ports, 6);
    let (mut matching, mut differing) = (0_u64, 0_u64);
    for (dimension, set) in term.bounds() {
        if let Dimension::Interface(list) = dimension {
            match set.contains(1) {
                true => matching |= 1 << list,
                false => differing |= 1 << list,
            }
        }
    }
    let ports = |side| ranges(term, &[Dimension::Port(side)], u128::from(u16::MAX));
    let addresses = |side| ranges(term, &[Dimension::Ipv4(side), Dimension::Ipv6(side)], u128::MAX);
    let mut records = Vec::new();
    for local in addresses(Side::Local) {
        for remote in addresses(Side::Remote) {
            for local_port in ports(Side::Local) {
                for remote_port in ports(Side::Remote) {
                    let address = |value| format!("{{{}}}", expression::words(value));
                    records.push(format!(
                        "{{{rule}, {bits}@, {{{}, {}, {}, {}}}, {{{}, {}}}, {{{}, {}}}, {matching:#x}, {differing:#x}}}",
                        local_port.0, local_port.1, remote_port.0, remote_port.1,
                        address(local.0), address(remote.0), address(local.1), address(remote.1),
                    ));
                }
            }
        }
    }
    records
}

/// The ranges of whichever of the dimensions is bounded.
fn ranges(term: &Term, dimensions: &[Dimension], most: u128) -> Vec<(u128, u128)> {
    let bound = dimensions.iter().find_map(|dimension| term.bound(*dimension));
    bound.map_or_else(|| vec![(0, most)], |set| set.ranges().to_vec())
}
