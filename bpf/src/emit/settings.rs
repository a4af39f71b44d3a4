//! Writes what rules set.
//!
//! In a chain, each rule has a function with its values as constants. If the rule is a number, the values are in
//! tables. Rules that set only `rto` need neither.

use super::lookup::mask;
use super::writer::Writer;
use crate::plan::{Evidence, Plan};
use crate::setting::{
    ACTIVE_ESTABLISHED, CONNECT, Callback, Column, How, LISTEN, Mechanism, NEEDS_ECN,
    PASSIVE_ESTABLISHED, RETRANSMISSION, RWND_INIT, Settings, SocketOption, TIMEOUT_INIT, Value,
    When,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

/// The maximum size of the section of counters. Before Linux 5.19, a map's value has at most 4 MiB.
const MOST_COUNTERS: usize = 4 << 20;

/// What a set of rules needs.
pub(super) struct Needs {
    pub(super) columns: Vec<Column>,
    /// True if some rule sets the timer, or sets nothing and is counted there.
    has_rto: bool,
    rules: usize,
    pub(super) observes: bool,
    has_evidence: bool,
}

impl Needs {
    pub(super) fn new(plan: &Plan) -> Self {
        let is_asked = |it: &Settings| it.rto_us().is_some() || it.is_empty();
        let has_rto = plan.settings.iter().any(is_asked);
        Self {
            columns: Column::all(&plan.settings),
            has_rto,
            rules: plan.settings.len(),
            observes: plan.observes(),
            has_evidence: plan.evidence != Evidence::Off,
        }
    }

    /// True if no rule sets anything but `rto`.
    pub(super) fn only_rto(&self) -> bool {
        self.columns.is_empty()
    }

    /// True if some rule sets something on listeners.
    pub(super) fn has_listeners(&self) -> bool {
        self.columns.iter().any(|column| column.setting.is_of_listeners())
    }

    /// True if failures are in a separate map, because hits and failures are too large for one section.
    pub(super) fn counts_failures_apart(&self) -> bool {
        self.rules * (1 + self.columns.len()) * 8 > MOST_COUNTERS
    }

    /// The callbacks at which some rule sets something, in ascending order of their numbers.
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

    /// The first of these callbacks in the life of a connection (`tcp_connect()`, net/ipv4/tcp_output.c).
    pub(super) fn first(&self) -> &'static str {
        let callbacks = self.callbacks();
        let order = [CONNECT, RWND_INIT, TIMEOUT_INIT, NEEDS_ECN];
        let first = order.iter().find(|it| callbacks.contains(it));
        first.unwrap_or_else(|| unreachable!("no setting needs only {callbacks:?}")).name
    }

    /// Returns at callbacks that no rule needs. If one callback is needed, the others execute four instructions. If
    /// several are needed, callbacks beyond the last one execute four, and each gap costs one more. In larger
    /// programs, clang first saves the context for helper calls, which costs one more.
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

    /// The columns that are socket options, with their indices.
    fn options(&self) -> impl Iterator<Item = (usize, &Column, &SocketOption)> {
        let columns = self.columns.iter().enumerate();
        columns.filter_map(|(at, column)| Some((at, column, column.setting.option()?)))
    }

    /// Declares the constants of the socket options.
    fn constants(&self, out: &mut Writer) {
        let mut options: Vec<_> = self.options().map(|(_, _, option)| option).collect();
        // One option sets all algorithms, and one sets both timeouts.
        options.dedup_by_key(|option| option.name);
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

    /// Writes a function for each rule, with its values as constants.
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
            let mut cases = Cases::default();
            let counted = Moment::counted(settings);
            cases.at(counted).push(match counted {
                // This connection counts as well.
                Moment::Reply(TIMEOUT_INIT) => format!("answer(ctx, {rule})"),
                _ => format!("count({rule})"),
            });
            for (at, column) in self.columns.iter().enumerate() {
                if let Some(value) = column.value(settings) {
                    let after = settings.number("user_timeout").unwrap_or_default().to_string();
                    cases.set(&rule, at, column, [constant(value), after], None);
                }
            }
            cases.write(out);
            out.line(format_args!("}}"));
            out.line(format_args!("return 1;"));
            out.close("}");
        }
    }

    /// Writes the program that tries each option once, with the first value that a rule gives it.
    pub(super) fn probe(&self, out: &mut Writer, plan: &Plan) {
        out.empty();
        out.line(format_args!(
            "// Run once, in a cgroup of its own, to learn which settings this kernel supports. The answers are in\n\
             // the failures of the first rule: 0 for not tried, 1 for supported, 1 + errno for refused."
        ));
        out.line(format_args!("SEC(\"sockops\")\nint probe(struct bpf_sock_ops *ctx)"));
        out.open(format_args!("{{"));
        out.open(format_args!("if (FIELD(op) != {})", CONNECT.name));
        out.close_with(format_args!("return 1;"));
        for (at, column, option) in self.options() {
            let mut values = plan.settings.iter().filter_map(|it| column.value(it));
            let first = values.next().unwrap_or_else(|| unreachable!("some rule has each column"));
            let function = if option.how == How::Algorithm { "try_algorithm" } else { "try" };
            let SocketOption { level, name, how, .. } = option;
            let value = argument(*how, constant(first));
            out.line(format_args!("{function}(ctx, {at}, {level}, {name}, {value});"));
        }
        out.line(format_args!("return 1;"));
        out.close("}");
    }

    /// Writes the values of all rules as tables and the function that reads them. Equal sets of settings are stored
    /// once.
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
            "// What each rule sets besides the timer: the callbacks at which it is counted, a bit for each of its\n\
             // columns, and the values."
        ));
        out.numbers("settings_of", of_rule.len(), &of_rule);
        let has: Vec<u64> = distinct.iter().map(|it| Column::bits(&self.columns, it)).collect();
        out.words("settings_has", size, &has);
        if !self.has_evidence {
            let counted = distinct.iter().map(|it| Moment::counted(it).bits()).collect::<Vec<_>>();
            out.numbers("settings_counted_at", size, &counted);
        }
        for (at, column) in self.columns.iter().enumerate() {
            // The statement contains the name of an algorithm.
            if column.algorithm.is_empty() {
                // The 0 is never used, because `settings_has` records what a rule sets.
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
        let mut cases = Cases::default();
        if self.has_rto && !self.observes {
            cases.at(Moment::Reply(TIMEOUT_INIT)).push("answer_timed(ctx, rule)".into());
        }
        let lasting = self.columns.iter().position(|it| it.setting.key == "user_timeout");
        let after = match lasting {
            Some(at) => format!("columns >> {at} & 1 ? settings_value_{at}[its] : 0"),
            None => "0".into(),
        };
        for (at, column) in self.columns.iter().enumerate() {
            let value = match column.algorithm.as_str() {
                "" => format!("settings_value_{at}[its]"),
                name => format!("\"{name}\""),
            };
            let guard = format!("columns >> {at} & 1");
            cases.set(&"rule", at, column, [value, after.clone()], Some(guard));
        }
        cases.write(out);
        out.line(format_args!("}}"));
        out.line(format_args!("return 1;"));
        out.close("}");
    }
}

/// When a statement is executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// At the callback that the program replies to.
    Reply(Callback),
    /// At the callbacks at which such options are set.
    Options(When),
}

impl Moment {
    /// When a connection is counted for a rule: once per end, at a callback at which the rule sets something.
    fn counted(settings: &Settings) -> Self {
        let moments = settings.iter().map(|(setting, _)| match &setting.mechanism {
            Mechanism::Reply(callback) => Self::Reply(*callback),
            Mechanism::Option(option) if option.when.is_outgoing_only() => {
                Self::Options(When::Connecting)
            }
            // A setting made later counts like one that both ends have.
            Mechanism::Option(_) => Self::Options(When::Both),
        });
        // The kernel also asks for the timer at each retransmission. The program does not count those calls.
        let rank = |moment: &Self| match moment {
            Self::Reply(callback) if *callback == TIMEOUT_INIT => 0,
            Self::Options(When::Both) => 1,
            Self::Reply(_) => 2,
            Self::Options(_) => 3,
        };
        let first = moments.min_by_key(|moment| (rank(moment), *moment));
        first.unwrap_or(Self::Reply(TIMEOUT_INIT))
    }

    /// The callbacks as a bit mask.
    fn bits(self) -> u32 {
        let callbacks = match &self {
            Self::Reply(callback) => std::slice::from_ref(callback),
            Self::Options(when) => when.callbacks(),
        };
        callbacks.iter().map(|callback| 1 << callback.number).sum()
    }
}

/// The statements of the switch over callbacks, without their semicolons.
#[derive(Default)]
struct Cases(BTreeMap<Moment, Vec<String>>);

impl Cases {
    fn at(&mut self, moment: Moment) -> &mut Vec<String> {
        self.0.entry(moment).or_default()
    }

    /// Adds the statements that set one column, under a condition if there is one. The values are that of the setting,
    /// and for one that is taken back, that of the established connection.
    fn set(
        &mut self,
        rule: &dyn Display,
        at: usize,
        column: &Column,
        [value, after]: [String; 2],
        guard: Option<String>,
    ) {
        let guarded = |statement: String, callback: Option<Callback>| {
            let callback = callback.map(|it| format!("FIELD(op) == {}", it.name));
            let tests: Vec<_> = guard.clone().into_iter().chain(callback).collect();
            match tests.is_empty() {
                true => statement,
                false => format!("if ({})\n\t\t\t{statement}", tests.join(" && ")),
            }
        };
        match column.setting.mechanism {
            Mechanism::Reply(callback) => {
                let statement = guarded(format!("reply(ctx, {at}, {value})"), None);
                self.at(Moment::Reply(callback)).push(statement);
            }
            Mechanism::Option(SocketOption { level, name, how, when, .. }) => {
                let function = match how {
                    How::Number | How::TwoJiffies => "set",
                    How::Keepalive => "set_keepalive",
                    How::Algorithm => "set_algorithm",
                    How::Tos => "set_tos",
                };
                let set = |value| {
                    let value = argument(how, value);
                    format!("{function}(ctx, {rule}, {at}, {level}, {name}, {value})")
                };
                if when == When::UntilEstablished {
                    let (first, last) = (set(value), set(after));
                    self.at(Moment::Options(When::Both)).push(guarded(first, Some(CONNECT)));
                    let late = guarded(last, Some(ACTIVE_ESTABLISHED));
                    self.at(Moment::Options(When::Established)).push(late);
                } else {
                    self.at(Moment::Options(when)).push(guarded(set(value), None));
                }
            }
        }
    }

    fn write(mut self, out: &mut Writer) {
        let [outgoing, both, late, listening] =
            [When::Connecting, When::Both, When::Established, When::Listening]
                .map(|when| self.0.remove(&Moment::Options(when)).unwrap_or_default());
        for (moment, statements) in self.0 {
            if let Moment::Reply(callback) = moment {
                case(out, callback, &statements);
            }
        }
        if !listening.is_empty() {
            case(out, LISTEN, &listening);
        }
        // The case of the connecting end falls through to the settings that both ends have.
        if both.is_empty() && late.is_empty() {
            if !outgoing.is_empty() {
                case(out, CONNECT, &outgoing);
            }
            return;
        }
        open(out, CONNECT, &outgoing);
        if !outgoing.is_empty() {
            out.line(format_args!("// and what both ends have"));
        }
        out.close_more();
        if late.is_empty() {
            return case(out, PASSIVE_ESTABLISHED, &both);
        }
        open(out, PASSIVE_ESTABLISHED, &both);
        out.open(format_args!("if (FIELD(op) == {})", CONNECT.name));
        out.close_with(format_args!("break;"));
        out.line(format_args!("// and what the end of the handshake sets anew"));
        out.close_more();
        case(out, ACTIVE_ESTABLISHED, &late);
    }
}

fn open(out: &mut Writer, callback: Callback, statements: &[String]) {
    out.open(format_args!("case {}:", callback.name));
    statements.iter().for_each(|text| out.line(format_args!("{text};")));
}

fn case(out: &mut Writer, callback: Callback, statements: &[String]) {
    open(out, callback, statements);
    out.close_with(format_args!("break;"));
}

/// A value in C.
fn constant(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Name(name) => format!("\"{name}\""),
        Value::Learned(_) => unreachable!("a timer is no option"),
    }
}

/// A value in the form that `bpf_setsockopt()` takes.
fn argument(how: How, value: String) -> String {
    if how == How::TwoJiffies { format!("least({value})") } else { value }
}
