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
pub(super) struct Lookups {
    /// Tables of ports. Both ends use the same one if their values are equal.
    ports: Vec<PortTable>,
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

impl Lookups {
    /// Writes a table and its function. Returns the call for a connection.
    pub(super) fn function(&mut self, out: &mut Writer, table: &Table) -> String {
        match table {
            Table::Port(side, table) => format!("{}({})", self.port(out, table), host_word(*side)),
            Table::Address(side, lookups) => {
                let [v4, v6] = self.address(out, *side, lookups);
                format!("(is_ipv4(ctx) ? {v4} : {v6})")
            }
        }
    }

    /// Writes the table of a port. Returns the name of its function.
    pub(super) fn port(&mut self, out: &mut Writer, table: &PortTable) -> String {
        let known = self.ports.iter().position(|it| it == table);
        let place = known.unwrap_or(self.ports.len());
        let name = format!("ports_{place}");
        if known.is_some() {
            return name;
        }
        self.ports.push(table.clone());
        match table {
            PortTable::Direct(all) => {
                out.numbers(&format!("{name}_all"), all.len(), all);
                out.function(format_args!("static __always_inline u64 {name}(u64 port)"));
                out.line(format_args!("return {name}_all[port & {:#x}];", all.len() - 1));
            }
            PortTable::Paged { bits, directory, pages } => {
                out.numbers(&format!("{name}_directory"), directory.len(), directory);
                out.numbers(&format!("{name}_pages"), pages.len(), pages);
                out.empty();
                out.line(format_args!(
                    "// Pages of {} ports, those that are alike once.",
                    1 << bits
                ));
                out.line(format_args!("static __always_inline u64 {name}(u64 port)"));
                out.open(format_args!("{{"));
                let last = directory.len() - 1;
                out.line(format_args!("u64 page = {name}_directory[port >> {bits} & {last:#x}];"));
                let last = (1 << bits) - 1;
                out.line(format_args!("u64 at = page << {bits} | (port & {last:#x});"));
                out.empty();
                out.line(format_args!("BOUND(at, {:#x});", pages.len() - 1));
                out.line(format_args!("return {name}_pages[at];"));
            }
        }
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
            Lookup::Split(cut, _) => {
                let [below, above] = &parts[..] else { unreachable!("a cut makes two parts") };
                out.line(format_args!(
                    "return word < {cut:#x} ? {below}(word, low) : {above}(word, low);"
                ));
            }
            Lookup::Search(search) => steps(out, &name, search),
        }
        out.close("}");
        name
    }
}

/// The last steps of a search may read this many entries past the end.
fn behind(search: &Search) -> usize {
    (1 << search.steps) - 1
}

/// Entries that a search may come to: those behind only where the last boundary's word is the greatest one, which what is
/// behind is not above.
fn reached(search: &Search) -> usize {
    let last = search.keys[search.keys.len() - 1];
    let is_greatest = match search.key {
        Key::Ipv4 => last == u128::from(u32::MAX),
        Key::Upper | Key::Whole => (last >> 64) as u64 == u64::MAX,
        Key::Lower(_) => last as u64 == u64::MAX,
    };
    search.keys.len() + if is_greatest { behind(search) } else { 0 }
}

fn arrays(out: &mut Writer, name: &str, search: &Search) {
    out.numbers(&format!("{name}_root"), search.root.len(), &search.root);
    if search.steps == 0 {
        return;
    }
    let last = search.keys.len() - 1;
    let mut keys = search.keys.clone();
    // No address is above, and the greatest one finds the last number there.
    keys.resize(keys.len() + behind(search), u128::MAX);
    let size = mask(reached(search)) + 1 + behind(search);
    let kind = match search.key {
        Key::Ipv4 => "u32",
        Key::Upper | Key::Lower(_) => "u64",
        Key::Whole => "struct address",
    };
    let spell = |out: &mut String, key: &u128| {
        // Writing to a String can't fail.
        let _ = match search.key {
            Key::Ipv4 => write!(out, "{}", *key as u32),
            Key::Upper => write!(out, "{:#x}", (key >> 64) as u64),
            Key::Lower(_) => write!(out, "{:#x}", *key as u64),
            Key::Whole => write!(out, "{{{:#x},{:#x}}}", (key >> 64) as u64, *key as u64),
        };
    };
    out.array(kind, search.key.bytes(), &format!("{name}_keys"), size, &keys, spell);
    let mut values = search.values.clone();
    values.resize(values.len() + behind(search), search.values[last]);
    out.numbers(&format!("{name}_values"), mask(values.len()) + 1, &values);
}

fn steps(out: &mut Writer, name: &str, search: &Search) {
    let [before, after] = search.outside;
    let compared = match search.key {
        Key::Lower(upper) => {
            let above = search.above;
            out.open(format_args!("if (word != {upper:#x})"));
            out.close_with(format_args!("return word < {upper:#x} ? {before} : {above};"));
            "low"
        }
        _ => "word",
    };
    let Search { first, span, shift, .. } = search;
    out.line(format_args!("u64 at = {compared} - {first:#x};"));
    out.empty();
    // One subtraction checks both ends: an address below the first boundary wraps around.
    out.open(format_args!("if (at > {span:#x})"));
    match before == after {
        true => out.close_with(format_args!("return {before};")),
        false => {
            out.close_with(format_args!("return {compared} < {first:#x} ? {before} : {after};"));
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
    out.line(format_args!("BOUND(at, {:#x});", mask(reached(search))));
    out.line(format_args!("const void *key = &{name}_keys[at];"));
    let is_far = |step: u32| (size << step) + 8 > FARTHEST;
    let there = is_far(search.steps - 1) && search.key == Key::Whole;
    out.line(format_args!("u64 probe{};", if there { ", there" } else { "" }));
    out.empty();
    for step in (0..search.steps).rev() {
        let (bytes, far) = (size << step, if is_far(step) { "LONG_" } else { "" });
        match search.key {
            Key::Whole => out.line(format_args!("{far}STEP_ADDRESS(word, low, {bytes});")),
            Key::Ipv4 => out.line(format_args!("{far}STEP(u32, {compared}, {bytes});")),
            Key::Upper | Key::Lower(_) => {
                out.line(format_args!("{far}STEP(u64, {compared}, {bytes});"));
            }
        }
        if (search.steps - step).is_multiple_of(JOINED) && step > 0 {
            out.line(format_args!("JOIN({name}_keys, {:#x});", mask(reached(search)) * size));
        }
    }
    out.line(format_args!("at = DISTANCE({name}_keys) >> {};", size.ilog2()));
    let values = mask(search.values.len() + behind(search));
    out.line(format_args!("BOUND(at, {values:#x});"));
    out.line(format_args!("return {name}_values[at];"));
}
