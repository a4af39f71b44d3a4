//! Writes the tables and the function that searches them (table.h).

use super::lookup::{Lookups, host_word, mask};
use super::settings::Needs;
use super::writer::Writer;
use crate::plan::tables::{Block, Input, Key, List, Record, Stage, Tables};
use crate::plan::{Plan, Table};
use crate::space::{Dimension, Side};
use std::fmt::Write as _;

/// The bit in a record's rule that marks the last record of a list. It matches table.h.
const LAST: u32 = 1 << 31;

/// The de Bruijn sequence of table.h.
const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;

/// The positions of bits, for `first_bit`.
fn place_of(bit: usize) -> usize {
    ((u64::MAX >> (63 - bit)).wrapping_mul(SEQUENCE) >> 58) as usize
}

/// Writes the tables and the program.
pub(super) fn emit(out: &mut Writer, plan: &Plan, tables: &Tables, needs: &Needs) {
    let body = Body { tables, none: plan.labels.len() };
    let mut decision = Writer::default();
    body.decide(out, &mut decision, plan.names.is_some());
    out.header(decision.finish().trim_start_matches('\n'));
    if needs.observes {
        return super::chain::observed(out, plan, needs, plan.names.is_some());
    }
    if !needs.only_rto() {
        needs.table(out, plan);
    }
    out.function(format_args!("SEC(\"sockops\")\nint set_rto(struct bpf_sock_ops *ctx)"));
    needs.gate(out);
    let device = plan.names.is_some();
    if device {
        out.line(format_args!("struct device found = {{}}, *device = &found;"));
        out.empty();
    }
    out.line(format_args!("ctx = over_calls(ctx);"));
    let answer = if needs.only_rto() { "answer_number" } else { "set_number" };
    let device = if device { ", device" } else { "" };
    out.line(format_args!("return {answer}(ctx, rule_of(ctx{device}));"));
    out.close("}");
}

struct Body<'t> {
    tables: &'t Tables,
    /// The number that stands for no rule.
    none: usize,
}

impl Body<'_> {
    /// Writes tables and functions to `out`, and the function that calls them to `main`.
    fn decide(&self, out: &mut Writer, main: &mut Writer, has_device: bool) {
        let device = if has_device { ", struct device *device" } else { "" };
        main.function(format_args!(
            "static __always_inline u64 rule_of(struct bpf_sock_ops *ctx{device})"
        ));
        match self.tables.otherwise {
            Some(rule) => main.line(format_args!("u64 found = {rule};")),
            None => main.line(format_args!("u64 found;")),
        }
        self.values(out, main);
        let [plain, by_interface] = &self.tables.stages;
        let has_found = self.tables.otherwise.is_some();
        let mut state = State { has_found, bounded: Vec::new(), count: 0 };
        self.stage(out, main, plain, &mut state);
        if let Some(first) = by_interface.first {
            main.empty();
            if state.has_found {
                main.line(format_args!("found = opaque(ctx, found);"));
            }
            if plain.first.is_some_and(|plain| plain < first) {
                main.open(format_args!("if (found < {first})"));
                main.close_with(format_args!("return found;"));
            }
            let fields = self.tables.inputs.iter().filter_map(|field| match field.key {
                Key::Interface(automaton) => Some(automaton),
                _ => None,
            });
            let automata: Vec<usize> = fields.collect();
            for it in &automata {
                main.line(format_args!("u64 interface_{it} = 0;"));
            }
            main.empty();
            main.open(format_args!("if (find_device(ctx, device)) {{"));
            for it in &automata {
                main.line(format_args!("interface_{it} = names_{it}(device->name);"));
            }
            main.close("}");
            for it in &automata {
                main.line(format_args!("interface_{it} = opaque(ctx, interface_{it});"));
            }
            self.stage(out, main, by_interface, &mut state);
        }
        main.line(format_args!("return found;"));
        main.close("}");
    }

    /// The numbers of all fields but the interface's.
    fn values(&self, out: &mut Writer, main: &mut Writer) {
        let mut lookups = Lookups::default();
        let mut families = [Vec::new(), Vec::new()];
        let mut rest = Vec::new();
        for field in &self.tables.inputs {
            match (&field.key, &field.table) {
                (Key::Port(side), table) => {
                    let name = side.name();
                    main.line(format_args!("u64 {name}_port = {};", host_word(*side)));
                    match table {
                        Some(Table::Port(_, table)) => {
                            let function = lookups.port(out, table);
                            let number = number_of(field);
                            rest.push(format!("u64 {number} = {function}({name}_port);"));
                        }
                        Some(Table::Address(..)) => unreachable!("a port has a table of ports"),
                        None => {}
                    }
                }
                (Key::Address(side), Some(Table::Address(_, table))) => {
                    let calls = lookups.address(out, *side, table);
                    main.line(format_args!("u64 {};", number_of(field)));
                    for (family, call) in families.iter_mut().zip(calls) {
                        family.push(format!("{} = {call};", number_of(field)));
                    }
                }
                (Key::Small(dimensions), _) => {
                    if dimensions.contains(&Dimension::Family) {
                        main.line(format_args!("u64 family;"));
                        families[0].push("family = 0;".into());
                        families[1].push("family = 1;".into());
                    }
                    rest.push(format!("u64 others = {};", small(dimensions)));
                }
                (Key::Fact(fact), _) => {
                    let number = super::fact::number(fact, host_word);
                    rest.push(format!("u64 {} = {number};", compared(field)));
                }
                (Key::Interface(_), _) => {}
                (Key::Address(_), _) => unreachable!("an address is looked up in a table"),
            }
        }
        let [v4, v6] = families;
        if !v4.is_empty() {
            main.empty();
            main.open(format_args!("if (is_ipv4(ctx)) {{"));
            v4.iter().for_each(|line| main.line(format_args!("{line}")));
            main.close("} else {");
            main.open_more();
            v6.iter().for_each(|line| main.line(format_args!("{line}")));
            main.close("}");
        }
        rest.iter().for_each(|line| main.line(format_args!("{line}")));
    }

    fn stage(&self, out: &mut Writer, main: &mut Writer, stage: &Stage, state: &mut State) {
        for single in &stage.singles {
            let field = &self.tables.inputs[single.input];
            let value = number_of(field);
            let rule = match &single.rules {
                None => value,
                Some(rules) => {
                    let array = state.array(out, "rules", rules);
                    state.bound(main, &value, rules.len());
                    format!("{array}[{value}]")
                }
            };
            state.found(main, &rule);
        }
        for list in &stage.lists {
            let call = self.list(out, main, list, state);
            state.found(main, &call);
        }
        for block in &stage.blocks {
            let call = self.block(out, main, block, state);
            state.found(main, &call);
        }
    }

    /// Writes the records and the function that searches them. Returns the call of the function.
    fn list(&self, out: &mut Writer, main: &mut Writer, list: &List, state: &mut State) -> String {
        let name = state.name("list");
        let count = list.inputs.len();
        let bounds = || list.records.iter().flat_map(|it| &it.bounds);
        let is_wide = bounds().any(|bound| bound.1 != u32::MAX && bound.1 > u32::from(u16::MAX));
        let (kind, width, most) =
            if is_wide { ("u32", 4, u32::MAX) } else { ("u16", 2, u32::from(u16::MAX)) };
        // The alignment of a record is 4.
        let bytes = (2 * count * width + 4).next_multiple_of(4);
        out.empty();
        out.line(format_args!(
            "struct {name} {{\n\t{kind} bounds[{}];\n\tu32 rule;\n}};",
            2 * count
        ));
        let spell = |out: &mut String, record: &Record| {
            out.push_str("{{");
            for (low, high) in &record.bounds {
                // The first value, and the number of values after it.
                let _ = write!(out, "{low},{},", (*high).min(most) - low);
            }
            let last = if record.is_last { LAST } else { 0 };
            let _ = write!(out, "}},{}}}", record.rule | last);
        };
        // A record may begin anywhere within the masked bytes, so the array has room for one more.
        let bound = mask(list.records.len() * bytes) & !3;
        let size = bound / bytes + 2;
        let records = format!("{name}_records");
        out.array(&format!("struct {name}"), bytes, &records, size, &list.records, spell);
        let starts: Vec<u32> = list.starts.iter().map(|start| start * bytes as u32).collect();
        out.numbers(&format!("{name}_starts"), mask(starts.len()) + 1, &starts);
        let values: Vec<String> =
            list.inputs.iter().map(|at| compared(&self.tables.inputs[*at])).collect();
        let parameters: String = values.iter().map(|value| format!(", u64 {value}")).collect();
        out.function(format_args!("static __always_inline u64 {name}(u64 at{parameters})"));
        let tests = values.iter().enumerate();
        let tests: Vec<String> =
            tests.map(|(at, value)| format!("WITHIN(it->bounds, {}, {value})", 2 * at)).collect();
        let longest = list.longest;
        out.line(format_args!("LIST({name}, {longest}, {bound:#x}, {});", tests.join(" && ")));
        out.close("}");
        let key = number_of(&self.tables.inputs[list.key]);
        state.bound(main, &key, starts.len());
        let arguments: String = values.iter().map(|value| format!(", {value}")).collect();
        format!("{name}({name}_starts[{key}]{arguments})")
    }

    /// Writes the rows and the function that ANDs them. Returns the call of the function.
    fn block(
        &self,
        out: &mut Writer,
        main: &mut Writer,
        block: &Block,
        state: &mut State,
    ) -> String {
        let name = state.name("bits");
        let mut arguments = Vec::new();
        let mut bounds = Vec::new();
        for (at, of_input) in block.inputs.iter().enumerate() {
            let rows = format!("{name}_rows_{at}");
            let words: Vec<u64> = of_input.rows.iter().flatten().copied().collect();
            // A row begins at any word. There is room for another row after the last one.
            let bound = mask(words.len() * 8) & !7;
            out.words(&rows, bound / 8 + block.words, &words);
            bounds.push(bound);
            let number = number_of(&self.tables.inputs[of_input.input]);
            let count = of_input.row_of.len();
            let is_row = of_input.row_of.iter().enumerate().all(|(at, row)| at as u32 == *row);
            arguments.push(match is_row {
                true => number,
                false => {
                    let array = state.array(out, "rows", &of_input.row_of);
                    state.bound(main, &number, count);
                    format!("{array}[{number}]")
                }
            });
        }
        let mut rules = vec![self.none as u32; block.words * 64];
        for (at, rule) in block.rules.iter().enumerate() {
            rules[at / 64 * 64 + place_of(at % 64)] = *rule;
        }
        out.numbers(&format!("{name}_rules"), mask(rules.len()) + 1, &rules);
        let parameters: Vec<_> = (0..bounds.len()).map(|at| format!("u64 row_{at}")).collect();
        out.function(format_args!("static __always_inline u64 {name}({})", parameters.join(", ")));
        out.line(format_args!("u64 left, at;"));
        out.empty();
        for (at, bound) in bounds.iter().enumerate() {
            out.line(format_args!("row_{at} *= {};", block.words * 8));
            out.line(format_args!("BOUND(row_{at}, {bound:#x});"));
        }
        for word in 0..block.words {
            let row = |at| format!("ROW_WORD({name}_rows_{at}, row_{at}, {})", word * 8);
            let parts: Vec<_> = (0..bounds.len()).map(row).collect();
            out.line(format_args!("BITS({}, {});", word * 64, parts.join(" & ")));
        }
        out.line(format_args!("return NONE;"));
        out.line(format_args!("found:"));
        out.line(format_args!("at += first_bit(left);"));
        out.line(format_args!("BOUND(at, {:#x});", mask(rules.len())));
        out.line(format_args!("return {name}_rules[at];"));
        out.close("}");
        format!("{name}({})", arguments.join(", "))
    }
}

/// Names that are already in use.
struct State {
    /// True if a rule may already have been found.
    has_found: bool,
    /// Numbers that are already bounded.
    bounded: Vec<String>,
    count: usize,
}

impl State {
    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}_{}", self.count - 1)
    }

    /// Adds an expression that yields a rule.
    fn found(&mut self, main: &mut Writer, rule: &str) {
        match std::mem::replace(&mut self.has_found, true) {
            true => main.line(format_args!("found = earlier(found, {rule});")),
            false => main.line(format_args!("found = {rule};")),
        }
    }

    /// Bounds a number for arrays with this many values. All arrays of a field have the same size.
    fn bound(&mut self, main: &mut Writer, number: &str, count: usize) {
        if !self.bounded.iter().any(|it| it == number) {
            self.bounded.push(number.to_owned());
            main.line(format_args!("BOUND({number}, {:#x});", mask(count)));
        }
    }

    /// Writes an array indexed by a number. Returns its name.
    fn array(&mut self, out: &mut Writer, kind: &str, values: &[u32]) -> String {
        let name = self.name(kind);
        out.numbers(&name, mask(values.len()) + 1, values);
        name
    }
}

/// The variable of a field's number.
fn number_of(input: &Input) -> String {
    match (&input.key, &input.table) {
        (Key::Port(side), Some(_)) => format!("{}_port_number", side.name()),
        _ => compared(input),
    }
}

/// The variable with which records are compared.
fn compared(input: &Input) -> String {
    match &input.key {
        Key::Port(side) => format!("{}_port", side.name()),
        Key::Address(Side::Local) => "local".into(),
        Key::Address(Side::Remote) => "remote".into(),
        Key::Small(_) => "others".into(),
        Key::Fact(fact) => super::fact::name(fact),
        Key::Interface(automaton) => format!("interface_{automaton}"),
    }
}

/// Combines the values of the small dimensions into one number.
fn small(dimensions: &[Dimension]) -> String {
    let mut weight = 1;
    let mut terms = Vec::new();
    for dimension in dimensions {
        let value = match dimension {
            Dimension::Direction => "(u64)is_incoming(ctx)",
            Dimension::Family => "family",
            Dimension::SameAddress => "(u64)same_address(ctx)",
            Dimension::PortOrder => "order(FIELD(local_port), HOST(remote_port))",
            other => unreachable!("{other:?} is a field of its own"),
        };
        terms.push(match weight {
            1 => value.to_owned(),
            _ => format!("{weight} * {value}"),
        });
        weight *= dimension.last() + 1;
    }
    match terms.as_slice() {
        [one] => one.clone(),
        // The verifier must forget the path on which it learned the values.
        many => format!("opaque(ctx, {})", many.join(" + ")),
    }
}
