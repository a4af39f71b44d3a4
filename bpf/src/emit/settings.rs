//! What rules set → statements.
//!
//! In a chain each rule has a function with its values as constants; where the rule is a number, the values are tables.
//! Rules that set nothing but `rto` need neither.

use super::lookup::mask;
use super::writer::Writer;
use crate::plan::{Evidence, Plan};
use crate::setting::{
    ACTIVE_ESTABLISHED, CONNECT, Callback, Column, How, Mechanism, NEEDS_ECN, PASSIVE_ESTABLISHED,
    RETRANSMISSION, RWND_INIT, Settings, SocketOption, TIMEOUT_INIT, Value, When,
};
use std::collections::{BTreeSet, HashMap};

/// Bytes of the counters, a section: a map's value has at most 4 MiB before Linux 5.19.
const MOST_COUNTERS: usize = 4 << 20;

/// What a set of rules needs.
pub(super) struct Needs {
    pub(super) columns: Vec<Column>,
    has_rto: bool,
    rules: usize,
    pub(super) observes: bool,
    has_evidence: bool,
}

impl Needs {
    pub(super) fn new(plan: &Plan) -> Self {
        let has_rto = plan.settings.iter().any(|settings| settings.rto_us().is_some());
        Self {
            columns: Column::all(&plan.settings),
            has_rto,
            rules: plan.settings.len(),
            observes: plan.observes(),
            has_evidence: plan.evidence != Evidence::Off,
        }
    }

    /// True where all rules set `rto` and nothing else.
    pub(super) fn only_rto(&self) -> bool {
        self.columns.is_empty()
    }

    /// True where failures are a map of their own: hits and failures would be too much for a section.
    pub(super) fn counts_failures_apart(&self) -> bool {
        self.rules * (1 + self.columns.len()) * 8 > MOST_COUNTERS
    }

    /// The callbacks, in the order of their numbers.
    fn callbacks(&self) -> Vec<Callback> {
        let timeout = self.has_rto.then_some(TIMEOUT_INIT);
        let observed = [TIMEOUT_INIT, ACTIVE_ESTABLISHED, PASSIVE_ESTABLISHED];
        let observed = observed.iter().filter(|_| self.observes);
        let gave_up = self.has_evidence.then_some(RETRANSMISSION);
        let others = self.columns.iter().flat_map(|column| match &column.setting.mechanism {
            Mechanism::Reply(callback) => std::slice::from_ref(callback),
            Mechanism::Option(option) => option.when.callbacks(),
        });
        let own = timeout.iter().chain(observed).chain(&gave_up);
        own.chain(others).copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The first callback that a connection comes by, among those that are needed (`tcp_connect()`,
    /// net/ipv4/tcp_output.c).
    pub(super) fn first(&self) -> &'static str {
        let callbacks = self.callbacks();
        let order = [CONNECT, RWND_INIT, TIMEOUT_INIT, NEEDS_ECN];
        let first = order.iter().find(|it| callbacks.contains(it));
        first.unwrap_or_else(|| unreachable!("no setting needs only {callbacks:?}")).name
    }

    /// The statement that leaves callbacks alone that no rule needs. With one comparison that is four instructions;
    /// where several callbacks are needed, those beyond the last one take four, and each gap one more. In larger
    /// programs clang saves the context over calls of helpers before all that: one more.
    pub(super) fn gate(&self, out: &mut Writer) {
        let callbacks = self.callbacks();
        let last = callbacks.last().unwrap_or_else(|| unreachable!("every rule sets something"));
        if callbacks.len() == 1 {
            out.open(format_args!("if (FIELD(op) != {})", last.name));
        } else {
            let mut tests = vec![format!("op > {}", last.name)];
            let is_gap = |number: &u32| callbacks.iter().all(|it| it.number != *number);
            let gaps = (1..last.number).rev().filter(is_gap);
            tests.extend(gaps.map(|number| format!("one_by_one(op) == {number}")));
            out.line(format_args!("u64 op = callback();"));
            out.empty();
            out.open(format_args!("if ({})", tests.join(" || ")));
        }
        out.close_with(format_args!("return 1;"));
        out.empty();
    }

    /// The columns that are options, with their numbers.
    fn options(&self) -> impl Iterator<Item = (usize, &Column, &SocketOption)> {
        let columns = self.columns.iter().enumerate();
        columns.filter_map(|(at, column)| Some((at, column, column.setting.option()?)))
    }

    /// The columns that are replies, with their numbers and callbacks.
    fn replies(&self) -> impl Iterator<Item = (usize, &Column, Callback)> {
        let columns = self.columns.iter().enumerate();
        columns.filter_map(|(at, column)| match column.setting.mechanism {
            Mechanism::Reply(callback) => Some((at, column, callback)),
            Mechanism::Option(_) => None,
        })
    }

    /// The numbers of the options.
    fn constants(&self, out: &mut Writer) {
        let mut options: Vec<_> = self.options().map(|(_, _, option)| option).collect();
        // Several algorithms are one option.
        options.dedup();
        if options.is_empty() {
            return;
        }
        out.empty();
        out.open(format_args!("enum {{"));
        for SocketOption { name, number, number_on_mips, .. } in options {
            match number == number_on_mips {
                true => out.line(format_args!("{name} = {number},")),
                false => out.line(format_args!("{name} = MIPS_OR({number_on_mips:#x}, {number}),")),
            }
        }
        out.close("};");
    }

    /// Each rule's function, where its values are constants.
    pub(super) fn functions(&self, out: &mut Writer, plan: &Plan) {
        self.constants(out);
        for (rule, settings) in plan.settings.iter().enumerate() {
            out.empty();
            out.line(format_args!("// {}: {settings}", plan.labels[rule]));
            out.line(format_args!(
                "static __always_inline int set_{rule}(struct bpf_sock_ops *ctx)"
            ));
            out.open(format_args!("{{"));
            out.line(format_args!("switch (FIELD(op)) {{"));
            if settings.rto_us().is_some() {
                out.open(format_args!("case {}:", TIMEOUT_INIT.name));
                out.close_with(format_args!("return answer(ctx, {rule});"));
            }
            let counted = counted_at(settings);
            let count = |callbacks: &[Callback]| {
                let here = counted == callbacks;
                here.then(|| format!("count({rule})")).into_iter()
            };
            for (at, column, callback) in self.replies() {
                if let Some(value) = column.value(settings) {
                    let reply = format!("reply(ctx, {at}, {})", value.number());
                    case(out, callback, count(&[callback]).chain([reply]));
                }
            }
            let mut statements = Statements::default();
            // Of these two at most one is not empty.
            statements.both.extend(count(When::Both.callbacks()));
            statements.outgoing.extend(count(When::Connecting.callbacks()));
            for (at, column, option) in self.options() {
                if let Some(value) = column.value(settings) {
                    statements.add(option, set(rule, at, option, argument(option, value)));
                }
            }
            statements.write(out);
            out.line(format_args!("}}"));
            out.line(format_args!("return 1;"));
            out.close("}");
        }
    }

    /// The program that tries each option once, with the first value that a rule gives it.
    pub(super) fn probe(&self, out: &mut Writer, plan: &Plan) {
        out.empty();
        out.line(format_args!(
            "// Run once, in a cgroup of its own, to learn which settings this kernel takes; its answers are\n\
             // in the failures of the first rule: 0 for what was not tried, 1 for yes, 1 + errno for no."
        ));
        out.line(format_args!("SEC(\"sockops\")\nint probe(struct bpf_sock_ops *ctx)"));
        out.open(format_args!("{{"));
        out.open(format_args!("if (FIELD(op) != {})", CONNECT.name));
        out.close_with(format_args!("return 1;"));
        for (at, column, option) in self.options() {
            let mut values = plan.settings.iter().filter_map(|it| column.value(it));
            let first = values.next().unwrap_or_else(|| unreachable!("some rule has each column"));
            let function = if option.how == How::Algorithm { "try_algorithm" } else { "try" };
            let SocketOption { level, name, .. } = option;
            let value = argument(option, first);
            out.line(format_args!("{function}(ctx, {at}, {level}, {name}, {value});"));
        }
        out.line(format_args!("return 1;"));
        out.close("}");
    }

    /// The values of all rules as tables, each distinct set of settings once, and the function that sets by them.
    pub(super) fn table(&self, out: &mut Writer, plan: &Plan) {
        let mut distinct: Vec<&Settings> = Vec::new();
        let mut known: HashMap<String, u32> = HashMap::new();
        let number = |settings| {
            let key = format!("{settings}");
            *known.entry(key).or_insert_with(|| {
                distinct.push(settings);
                distinct.len() as u32 - 1
            })
        };
        let of_rule: Vec<u32> = plan.settings.iter().map(number).collect();
        let size = mask(distinct.len()) + 1;
        self.constants(out);
        out.empty();
        out.line(format_args!(
            "// What each rule sets besides the timer: at which callbacks it is counted, a bit for each column\n\
             // that it has, and the values."
        ));
        out.numbers("settings_of", of_rule.len(), &of_rule);
        let has: Vec<u64> = distinct.iter().map(|it| Column::bits(&self.columns, it)).collect();
        out.words("settings_has", size, &has);
        if !self.has_evidence {
            let bits = |callbacks: &[Callback]| callbacks.iter().map(|it| 1 << it.number).sum();
            let counted: Vec<u32> = distinct.iter().map(|it| bits(counted_at(it))).collect();
            out.numbers("settings_counted_at", size, &counted);
        }
        for (at, column) in self.columns.iter().enumerate() {
            // The name of an algorithm is a part of the statement.
            if column.algorithm.is_empty() {
                // What a rule does not set is not read: `settings_has` comes first.
                let value = |it: &&Settings| column.value(it).map_or(0, Value::number);
                let values: Vec<u32> = distinct.iter().map(value).collect();
                out.numbers(&format!("settings_value_{at}"), size, &values);
            }
        }
        out.function(format_args!(
            "static __always_inline int set_number(struct bpf_sock_ops *ctx, u64 rule)"
        ));
        out.line(format_args!("u64 op = FIELD(op), its, columns;"));
        out.empty();
        out.line(format_args!("asm volatile(\"\" : \"+r\"(rule)); // as in answer_number()"));
        out.open(format_args!("if (rule >= RULES)"));
        out.close_with(format_args!("return 1;"));
        out.line(format_args!("its = settings_of[rule];"));
        out.line(format_args!("BOUND(its, {:#x});", size - 1));
        out.line(format_args!("columns = settings_has[its];"));
        if !self.has_evidence {
            out.open(format_args!(
                "if ((u64)settings_counted_at[its] >> op & 1 && !(op == BPF_SOCK_OPS_TIMEOUT_INIT && FIELD(total_retrans)))"
            ));
            out.close_with(format_args!("count(rule);"));
        }
        out.line(format_args!("switch (op) {{"));
        if self.has_rto && !self.observes {
            case(out, TIMEOUT_INIT, ["answer_timed(ctx, rule)".into()]);
        }
        let guarded = |at: usize, text: String| format!("if (columns >> {at} & 1)\n\t\t\t{text}");
        let value = |at: usize| format!("settings_value_{at}[its]");
        for (at, _, callback) in self.replies() {
            let reply = format!("reply(ctx, {at}, {})", value(at));
            case(out, callback, [guarded(at, reply)]);
        }
        let mut statements = Statements::default();
        for (at, column, option) in self.options() {
            let value = match option.how {
                How::Algorithm => format!("\"{}\"", column.algorithm),
                How::TwoJiffies => format!("least({})", value(at)),
                How::Number | How::Keepalive | How::Tos => value(at),
            };
            statements.add(option, guarded(at, set("rule", at, option, value)));
        }
        statements.write(out);
        out.line(format_args!("}}"));
        out.line(format_args!("return 1;"));
        out.close("}");
    }
}

/// The callbacks at which a connection is counted for a rule. Each end comes by exactly one of them, once, and the rule
/// sets something for whichever end.
fn counted_at(settings: &Settings) -> &'static [Callback] {
    if settings.rto_us().is_some() {
        return &[TIMEOUT_INIT];
    }
    let mechanisms = || settings.iter().map(|(setting, _)| &setting.mechanism);
    let of_both = |it: &Mechanism| match it {
        Mechanism::Option(option) => option.when != When::Connecting,
        Mechanism::Reply(_) => false,
    };
    if mechanisms().any(of_both) {
        return When::Both.callbacks();
    }
    let replies = mechanisms().filter_map(|it| match it {
        Mechanism::Reply(callback) => Some(callback),
        Mechanism::Option(_) => None,
    });
    replies.min().map_or(When::Connecting.callbacks(), std::slice::from_ref)
}

/// A case of the switch over callbacks; its statements are without the semicolon.
fn case(out: &mut Writer, callback: Callback, statements: impl IntoIterator<Item = String>) {
    out.open(format_args!("case {}:", callback.name));
    statements.into_iter().for_each(|text| out.line(format_args!("{text};")));
    out.close_with(format_args!("break;"));
}

/// Statements that set options, by the callback at which they are set, without the semicolon.
#[derive(Default)]
struct Statements {
    /// [`When::Connecting`].
    outgoing: Vec<String>,
    /// [`When::Both`].
    both: Vec<String>,
    /// [`When::Established`].
    late: Vec<String>,
}

impl Statements {
    fn add(&mut self, option: &SocketOption, statement: String) {
        match option.when {
            When::Connecting => self.outgoing.push(statement),
            When::Both => self.both.push(statement),
            When::Established => self.late.push(statement),
        }
    }

    /// Cases that fall through to what both ends have.
    fn write(self, out: &mut Writer) {
        let Self { outgoing, both, late } = self;
        if both.is_empty() && late.is_empty() {
            if !outgoing.is_empty() {
                case(out, CONNECT, outgoing);
            }
            return;
        }
        out.open(format_args!("case {}:", CONNECT.name));
        outgoing.iter().for_each(|text| out.line(format_args!("{text};")));
        if !outgoing.is_empty() {
            out.line(format_args!("// and what both ends have"));
        }
        out.close_more();
        if late.is_empty() {
            return case(out, PASSIVE_ESTABLISHED, both);
        }
        out.open(format_args!("case {}:", PASSIVE_ESTABLISHED.name));
        both.iter().for_each(|text| out.line(format_args!("{text};")));
        out.open(format_args!("if (FIELD(op) == {})", CONNECT.name));
        out.close_with(format_args!("break;"));
        out.line(format_args!("// and what the end of the handshake sets anew"));
        out.close_more();
        case(out, ACTIVE_ESTABLISHED, late);
    }
}

/// A value, as an argument.
fn argument(option: &SocketOption, value: &Value) -> String {
    match (option.how, value) {
        (How::TwoJiffies, Value::Number(number)) => format!("least({number})"),
        (_, Value::Number(number)) => number.to_string(),
        (_, Value::Name(name)) => format!("\"{name}\""),
        (_, Value::Learned(_)) => unreachable!("a timer is no option"),
    }
}

/// Sets one column; without the semicolon.
fn set(
    rule: impl std::fmt::Display,
    at: usize,
    SocketOption { level, name, how, .. }: &SocketOption,
    value: String,
) -> String {
    let function = match how {
        How::Number | How::TwoJiffies => "set",
        How::Keepalive => "set_keepalive",
        How::Algorithm => "set_algorithm",
        How::Tos => "set_tos",
    };
    format!("{function}(ctx, {rule}, {at}, {level}, {name}, {value})")
}
