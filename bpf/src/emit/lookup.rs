//! Writes the tables of ports and addresses (table.h).

use super::writer::Writer;
use crate::plan::Table;
use crate::plan::ports::PortTable;
use crate::plan::search::{Key, Lookup, Search};
use crate::space::Side;
use std::fmt::Write as _;

/// Steps of a search that are verified on all ways, before these are joined.
const JOINED: u32 = 5;

/// The farthest that a load reaches from its register.
const FARTHEST: usize = i16::MAX as usize;

/// The tables that have been written.
#[derive(Debug, Default)]
pub(super) struct Lookups<'p> {
    /// Tables of ports. Both ends use the same one if their values are equal.
    ports: Vec<&'p PortTable>,
    addresses: usize,
}

/// The expression for a port in host byte order.
pub(super) fn host_word(side: Side) -> String {
    match side {
        Side::Local => "FIELD(local_port)".into(),
        Side::Remote => "HOST(remote_port)".into(),
    }
}

/// The mask for an index into that many entries. A masked index stays within the array, which the verifier sees without a
/// comparison.
pub(super) fn mask(count: usize) -> usize {
    count.next_power_of_two() - 1
}

impl<'p> Lookups<'p> {
    /// Writes a table and its function. Returns the call for a connection.
    pub(super) fn function(&mut self, out: &mut Writer, table: &'p Table) -> String {
        match table {
            Table::Port(side, table) => format!("{}({})", self.port(out, table), host_word(*side)),
            Table::Address(side, lookups) => {
                let [v4, v6] = self.address(out, *side, lookups);
                format!("(is_ipv4(ctx) ? {v4} : {v6})")
            }
        }
    }

    /// Writes the table of a port. Returns the name of its function.
    pub(super) fn port(&mut self, out: &mut Writer, table: &'p PortTable) -> String {
        let known = self.ports.iter().position(|it| *it == table);
        let name = format!("ports_{}", known.unwrap_or(self.ports.len()));
        if known.is_some() {
            return name;
        }
        self.ports.push(table);
        let PortTable { bits, directory, pages } = table;
        out.numbers(&format!("{name}_pages"), pages.len(), pages);
        if directory.is_empty() {
            out.function(format_args!("static __always_inline u64 {name}(u64 port)"));
            out.line(format_args!("return {name}_pages[port & {:#x}];", pages.len() - 1));
            out.close("}");
            return name;
        }
        out.numbers(&format!("{name}_directory"), directory.len(), directory);
        out.empty();
        out.line(format_args!("// Pages of {} ports, those that are alike once.", 1 << bits));
        out.line(format_args!("static __always_inline u64 {name}(u64 port)"));
        out.open(format_args!("{{"));
        let last = directory.len() - 1;
        out.line(format_args!("u64 page = {name}_directory[port >> {bits} & {last:#x}];"));
        let last = (1 << bits) - 1;
        out.line(format_args!("u64 at = page << {bits} | (port & {last:#x});"));
        out.empty();
        out.line(format_args!("BOUND(at, {:#x});", pages.len() - 1));
        out.line(format_args!("return {name}_pages[at];"));
        out.close("}");
        name
    }

    /// Writes the tables of an address. Returns the calls for connections of either family.
    pub(super) fn address(
        &mut self,
        out: &mut Writer,
        side: Side,
        [v4, v6]: &[Lookup; 2],
    ) -> [String; 2] {
        let side = side.name();
        let v4 = match v4 {
            Lookup::Constant(only) => only.to_string(),
            _ => format!("{}(HOST({side}_ip4), 0)", self.lookup(out, v4)),
        };
        let v6 = match v6 {
            Lookup::Constant(only) => only.to_string(),
            _ => format!("{}(HALF({side}_ip6, 0), HALF({side}_ip6, 2))", self.lookup(out, v6)),
        };
        [v4, v6]
    }

    /// Writes a table. Returns the name of its function, which takes an address's upper and lower word.
    fn lookup(&mut self, out: &mut Writer, lookup: &Lookup) -> String {
        let parts = match lookup {
            Lookup::Constant(_) | Lookup::Search(_) => Vec::new(),
            Lookup::Lower(_, _, table) => vec![self.lookup(out, table)],
            Lookup::Split(_, parts) => parts.iter().map(|it| self.lookup(out, it)).collect(),
        };
        let name = format!("addresses_{}", self.addresses);
        self.addresses += 1;
        if let Lookup::Search(search) = lookup {
            arrays(out, &name, search);
        }
        out.function(format_args!("static __always_inline u64 {name}(u64 word, u64 low)"));
        match lookup {
            Lookup::Constant(only) => out.line(format_args!("return {only};")),
            Lookup::Split((high, low), _) => {
                let [below, above] = &parts[..] else { unreachable!("a cut makes two parts") };
                let condition = match low {
                    0 => format!("word < {high:#x}"),
                    _ => format!("word < {high:#x} || (word == {high:#x} && low < {low:#x})"),
                };
                out.open(format_args!("if ({condition})"));
                out.close_with(format_args!("return {below}(word, low);"));
                out.line(format_args!("return {above}(word, low);"));
            }
            Lookup::Lower(upper, [below, above], _) => {
                out.open(format_args!("if (word != {upper:#x})"));
                out.close_with(format_args!("return word < {upper:#x} ? {below} : {above};"));
                out.line(format_args!("return {}(low, 0);", parts[0]));
            }
            Lookup::Search(search) => steps(out, &name, search),
        }
        out.close("}");
        name
    }
}

/// The type of a key in C.
fn kind(key: Key) -> &'static str {
    match key {
        Key::Ipv4 => "u32",
        Key::Half => "u64",
        Key::Whole => "struct address",
    }
}

fn arrays(out: &mut Writer, name: &str, search: &Search) {
    out.numbers(&format!("{name}_root"), search.root.len(), &search.root);
    if search.steps == 0 {
        return;
    }
    let last = search.keys.len() - 1;
    let mut keys = search.keys.clone();
    // No value is above, and the greatest one finds the last number there.
    keys.resize(keys.len() + search.behind(), u128::MAX);
    let size = search.reached() + search.behind();
    let spell = |out: &mut String, key: &u128| {
        // Writing to a String can't fail.
        let _ = match search.key {
            Key::Ipv4 => write!(out, "{}", *key as u32),
            Key::Half => write!(out, "{:#x}", *key as u64),
            Key::Whole => write!(out, "{{{:#x},{:#x}}}", (key >> 64) as u64, *key as u64),
        };
    };
    out.array(kind(search.key), search.key.bytes(), &format!("{name}_keys"), size, &keys, spell);
    let mut values = search.values.clone();
    values.resize(values.len() + search.behind(), search.values[last]);
    out.numbers(&format!("{name}_values"), search.reached(), &values);
}

fn steps(out: &mut Writer, name: &str, search: &Search) {
    let [before, after] = search.outside;
    let Search { first, span, shift, .. } = search;
    out.line(format_args!("u64 at = word - {first:#x};"));
    out.empty();
    // One subtraction checks both ends: an address below the first boundary wraps around.
    out.open(format_args!("if (at > {span:#x})"));
    match before == after {
        true => out.close_with(format_args!("return {before};")),
        false => {
            out.close_with(format_args!("return word < {first:#x} ? {before} : {after};"));
        }
    }
    if *shift > 0 {
        out.line(format_args!("at >>= {shift};"));
    }
    // The comparison above bounds the index.
    if search.steps == 0 {
        return out.line(format_args!("return {name}_root[at];"));
    }
    out.line(format_args!("at = {name}_root[at];"));
    let size = search.key.bytes();
    out.line(format_args!("BOUND(at, {:#x});", search.reached() - 1));
    out.line(format_args!("const void *key = &{name}_keys[at];"));
    let is_far = |step: u32| (size << step) + 8 > FARTHEST;
    let there = is_far(search.steps - 1) && search.key == Key::Whole;
    out.line(format_args!("u64 probe{};", if there { ", there" } else { "" }));
    out.empty();
    for step in (0..search.steps).rev() {
        let (bytes, far) = (size << step, if is_far(step) { "LONG_" } else { "" });
        match search.key {
            Key::Whole => out.line(format_args!("{far}STEP_ADDRESS(word, low, {bytes});")),
            key => out.line(format_args!("{far}STEP({}, word, {bytes});", kind(key))),
        }
        if (search.steps - step).is_multiple_of(JOINED) && step > 0 {
            out.line(format_args!("JOIN({name}_keys, {:#x});", (search.reached() - 1) * size));
        }
    }
    out.line(format_args!("at = DISTANCE({name}_keys) >> {};", size.ilog2()));
    out.line(format_args!("BOUND(at, {:#x});", search.reached() - 1));
    out.line(format_args!("return {name}_values[at];"));
}
