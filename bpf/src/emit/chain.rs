//! A chain of conditions: one `if` per rule.

use super::lookup::{Lookups, host_word};
use super::settings::Needs;
use super::writer::Writer;
use crate::plan::chain::{Chain, Check, Condition, Load, is_prefix};
use crate::plan::{Names, Plan};
use crate::rule::Pattern;
use crate::space::Side;

/// Writes the tables and the program.
pub(super) fn emit(out: &mut Writer, plan: &Plan, chain: &Chain, needs: &Needs) {
    let mut lookups = Lookups::default();
    let mut calls = Vec::new();
    for lists in &chain.lookups {
        calls.push(lookups.function(out, &lists.table));
    }
    let body = Body { plan, chain, calls };
    if needs.observes {
        let device = if chain.device.is_some() { ", struct device *device" } else { "" };
        out.function(format_args!(
            "static __always_inline u64 rule_of(struct bpf_sock_ops *ctx{device})"
        ));
        body.links(out, |rule| format!("return {rule};"), "return NONE;");
        return observed(out, plan, needs, chain.device.is_some());
    }
    if !needs.only_rto() {
        needs.functions(out, plan);
    }
    out.function(format_args!("SEC(\"sockops\")\nint set_rto(struct bpf_sock_ops *ctx)"));
    needs.gate(out);
    if chain.device.is_some() {
        out.line(format_args!("struct device found = {{}}, *device = &found;"));
        out.empty();
    }
    if chain.device.is_some() || plan.tests_tos {
        out.line(format_args!("ctx = over_calls(ctx);"));
    }
    let answer = |rule: usize| match needs.only_rto() {
        true => format!("return answer(ctx, {rule});"),
        false => format!("return set_{rule}(ctx);"),
    };
    body.links(out, answer, "return 1;");
}

/// The function that the kernel calls if connections are observed until the end of their handshake. `rule_of` finds
/// the rule.
pub(super) fn observed(out: &mut Writer, plan: &Plan, needs: &Needs, has_device: bool) {
    if !needs.only_rto() {
        needs.table(out, plan);
    }
    out.function(format_args!("SEC(\"sockops\")\nint set_rto(struct bpf_sock_ops *ctx)"));
    needs.gate(out);
    if has_device {
        out.line(format_args!("struct device found = {{}}, *device = &found;"));
    }
    out.line(format_args!("u64 rule;"));
    out.empty();
    out.line(format_args!("ctx = over_calls(ctx);"));
    let device = if has_device { ", device" } else { "" };
    match plan.settings.len() {
        1 => out.line(format_args!("rule = rule_of(ctx{device});")),
        // The verifier does not have to follow the rest of the program for each rule.
        _ => out.line(format_args!("rule = opaque(ctx, rule_of(ctx{device}));")),
    }
    out.open(format_args!("if (rule >= RULES)"));
    out.close_with(format_args!("return 1;"));
    if !needs.only_rto() {
        out.line(format_args!("set_number(ctx, rule);"));
    }
    out.line(format_args!("return observe(ctx, rule);"));
    out.close("}");
}

impl Body<'_> {
    /// Writes the links. `answer` gives the statement for a rule, and `otherwise` the one for no rule.
    fn links(&self, out: &mut Writer, answer: impl Fn(usize) -> String, otherwise: &str) {
        let Self { plan, chain, .. } = self;
        for load in &chain.loads {
            out.line(format_args!("u64 {} = {};", variable(*load), field(*load)));
        }
        if chain.device.is_some() || !chain.loads.is_empty() {
            out.empty();
        }
        for (at, link) in chain.links.iter().enumerate() {
            self.before(out, at);
            let answer = format!("{} // {}", answer(link.rule), plan.labels[link.rule]);
            if link.condition == Condition::All(Vec::new()) {
                // The code after this is unreachable.
                out.line(format_args!("{answer}"));
                return out.close("}");
            }
            out.open(format_args!("if ({})", self.spell(&link.condition)));
            out.close_with(format_args!("{answer}"));
        }
        out.line(format_args!("{otherwise}"));
        out.close("}");
    }
}

struct Body<'p> {
    plan: &'p Plan,
    chain: &'p Chain,
    /// The expression of each table lookup.
    calls: Vec<String>,
}

impl Body<'_> {
    /// Values that are computed before a link.
    fn before(&self, out: &mut Writer, at: usize) {
        for (lookup, lists) in self.chain.lookups.iter().enumerate() {
            if lists.before == Some(at) {
                out.line(format_args!("u64 lists_{lookup} = {};", self.calls[lookup]));
            }
        }
        let Some(device) = self.chain.device.as_ref().filter(|it| it.before == at) else { return };
        let automata = match &self.plan.names {
            Some(Names::Compare(_)) => 0,
            Some(Names::Automata(automata)) => automata.len(),
            None => unreachable!("a rule asks for the device"),
        };
        if automata > 0 {
            out.line(format_args!("u64 lists = 0;"));
            out.empty();
        }
        let found = match &device.guard {
            None => "find_device(ctx, device)".to_owned(),
            Some(guard @ Condition::Any(_)) => {
                format!("({}) &&\n\t    find_device(ctx, device)", self.spell(guard))
            }
            Some(guard) => format!("{} &&\n\t    find_device(ctx, device)", self.spell(guard)),
        };
        if automata == 0 {
            // A name that could not be read matches nothing.
            out.open(format_args!("if (!({found}))"));
            out.close_with(format_args!("device->words[0] = 0;"));
            return;
        }
        out.open(format_args!("if ({found})"));
        let calls: Vec<_> = (0..automata).map(|it| format!("names_{it}(device->name)")).collect();
        out.close_with(format_args!("lists = {};", calls.join(" | ")));
    }

    /// Writes an expression without parentheses around it.
    fn spell(&self, condition: &Condition) -> String {
        match condition {
            Condition::All(parts) if parts.is_empty() => "1".into(),
            Condition::Any(parts) if parts.is_empty() => "0".into(),
            Condition::All(parts) => self.join(parts, "&&"),
            Condition::Any(parts) => self.join(parts, "||"),
            Condition::Check(check, wanted) => self.check(check, *wanted),
        }
    }

    fn join(&self, parts: &[Condition], operator: &str) -> String {
        let part = |part: &Condition| match part {
            Condition::Check(..) => self.spell(part),
            Condition::All(_) | Condition::Any(_) => format!("({})", self.spell(part)),
        };
        parts.iter().map(part).collect::<Vec<_>>().join(&format!(" {operator}\n\t    "))
    }

    fn check(&self, check: &Check, wanted: bool) -> String {
        let maybe_not = |text: &str| if wanted { text.to_owned() } else { format!("!{text}") };
        match check {
            Check::Incoming => maybe_not("is_incoming(ctx)"),
            Check::Ipv4 => maybe_not("is_ipv4(ctx)"),
            Check::Fact(fact) => {
                let fact = super::fact::spell(fact, |side| self.value(Load::Port(side)));
                if wanted { fact } else { format!("!({fact})") }
            }
            Check::SameAddress => maybe_not("same_address(ctx)"),
            Check::PortOrder(order) => self.order(order.map(|it| it == wanted)),
            Check::Port(side, low, high) => self.port(*side, *low, *high, wanted),
            Check::Address4(side, low, high) => self.address4(*side, *low, *high, wanted),
            Check::Address6(side, low, high) => self.address6(*side, *low, *high, wanted),
            Check::Listed(dimension, bit) => {
                let lookups = &self.chain.lookups;
                let lookup = lookups.iter().position(|it| it.dimension == *dimension);
                let lookup = lookup.unwrap_or_else(|| unreachable!("{dimension:?} has lists"));
                let lists = &lookups[lookup];
                let value = match lists.before {
                    Some(_) => format!("lists_{lookup}"),
                    None => self.calls[lookup].clone(),
                };
                match lists.count {
                    1 => maybe_not(&value),
                    _ => maybe_not(&format!("({value} & {:#x})", 1_u64 << bit)),
                }
            }
            Check::Interface(list) => self.interface(*list, wanted),
            Check::AnyInterface if wanted => "device->found > 0".into(),
            Check::AnyInterface => "device->found <= 0".into(),
        }
    }

    /// The expression that loads a field.
    fn value(&self, load: Load) -> String {
        match self.chain.loads.contains(&load) {
            true => variable(load),
            false => field(load),
        }
    }

    fn order(&self, order: [bool; 3]) -> String {
        let operator = match order {
            [true, false, false] => "<",
            [true, true, false] => "<=",
            [false, true, false] => "==",
            [false, true, true] => ">=",
            [false, false, true] => ">",
            [true, false, true] => "!=",
            [all, ..] => return u8::from(all).to_string(),
        };
        let value = |side| self.value(Load::Port(side));
        format!("{} {operator} {}", value(Side::Local), value(Side::Remote))
    }

    fn port(&self, side: Side, low: u16, high: u16, wanted: bool) -> String {
        let load = Load::Port(side);
        let value = self.value(load);
        let (equal, below, above) = if wanted { ("==", "<=", ">=") } else { ("!=", ">", "<") };
        match (low, high) {
            _ if low == high && side == Side::Remote && !self.chain.loads.contains(&load) => {
                format!("{}remote_port_is({low})", if wanted { "" } else { "!" })
            }
            _ if low == high => format!("{value} {equal} {low}"),
            (0, _) => format!("{value} {below} {high}"),
            (_, u16::MAX) => format!("{value} {above} {low}"),
            _ => format!("{}within({value}, {low}, {high})", if wanted { "" } else { "!" }),
        }
    }

    fn address4(&self, side: Side, low: u32, high: u32, wanted: bool) -> String {
        let value = self.value(Load::Address4(side));
        let equal = if wanted { "==" } else { "!=" };
        let [a, b, c, d] = low.to_be_bytes();
        match prefix_length(low.into(), high.into(), 32) {
            Some(32) => format!("{value} {equal} IPV4({a}, {b}, {c}, {d})"),
            Some(length) => {
                format!("({value} & PREFIX({length})) {equal} IPV4({a}, {b}, {c}, {d})")
            }
            None => {
                let not = if wanted { "" } else { "!" };
                format!("{not}within(NET32({value}), 0x{low:08x}, 0x{high:08x})")
            }
        }
    }

    fn address6(&self, side: Side, low: u128, high: u128, wanted: bool) -> String {
        let not = if wanted { "" } else { "!" };
        let words =
            |address: u128| format!("0x{:016x}, 0x{:016x}", (address >> 64) as u64, address as u64);
        let Some(length) = prefix_length(low, high, 128) else {
            let address = format!("{}_ip6(ctx)", side.name());
            let lower = format!("!below({address}, {})", words(low));
            return match high.checked_add(1) {
                None => format!("{not}({lower})"),
                Some(next) => format!("{not}({lower} && below({address}, {}))", words(next)),
            };
        };
        let mut terms = Vec::new();
        // The last word comes first, because neighbouring addresses differ in it.
        for word in (0..length.div_ceil(32)).rev() {
            let bits = (length - word * 32).min(32);
            let number = (low >> (96 - 32 * word)) as u32;
            let value = self.value(Load::Word6(side, word));
            terms.push(match bits {
                32 => format!("{value} == NET32(0x{number:08x})"),
                _ => format!("({value} & PREFIX({bits})) == NET32(0x{number:08x})"),
            });
        }
        match terms.as_slice() {
            [] => u8::from(wanted).to_string(),
            [one] if wanted => one.clone(),
            many => format!("{not}({})", many.join(" && ")),
        }
    }

    fn interface(&self, list: usize, wanted: bool) -> String {
        let not = if wanted { "" } else { "!" };
        match &self.plan.names {
            Some(Names::Compare(lists)) => {
                let names: Vec<_> = lists[list].iter().map(name).collect();
                match names.as_slice() {
                    [one] => format!("{not}{one}"),
                    many => format!("{not}({})", many.join(" ||\n\t     ")),
                }
            }
            Some(Names::Automata(_)) => format!("{not}(lists & {:#x})", 1_u64 << list),
            None => unreachable!("a rule asks for the interface"),
        }
    }
}

/// Compares a name, or its prefix.
fn name(Pattern(text): &Pattern) -> String {
    match text.trim_end_matches('*') {
        name if name.len() == text.len() => format!("named(device, \"{text}\")"),
        start => format!("starts_with(device, \"{start}\")"),
    }
}

fn variable(load: Load) -> String {
    match load {
        Load::Port(side) => format!("{}_port", side.name()),
        Load::Address4(side) => format!("{}_ip4", side.name()),
        Load::Word6(side, word) => format!("{}_ip6_{word}", side.name()),
    }
}

fn field(load: Load) -> String {
    match load {
        Load::Port(side) => host_word(side),
        Load::Address4(side) => format!("FIELD({}_ip4)", side.name()),
        Load::Word6(side, word) => format!("FIELD({}_ip6[{word}])", side.name()),
    }
}

/// The length of the prefix that covers exactly this range.
fn prefix_length(low: u128, high: u128, width: u32) -> Option<u32> {
    let host_bits = 128 - (low ^ high).leading_zeros();
    is_prefix(low, high).then(|| width - host_bits)
}
