//! What rules set → statements.
//!
//! Where rules are decided in place, each has a function with its values as constants; where the decision is a
//! number, the values are a table. Rules that set nothing but `rto` need neither.

use super::line;
use crate::plan::Plan;
use crate::setting::{Mechanism, Setting, Settings, Value};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// One thing to set that may be missing in a kernel, or fail: a setting other than `rto`, and for `congestion`
/// one of the algorithms. Bits of 64-bit words stand for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// The setting.
    pub setting: Setting,
    /// The algorithm, of `congestion`.
    pub algorithm: String,
}

/// At most so many columns.
pub const MOST_COLUMNS: usize = 64;

/// Whatever these rules set besides `rto`, in a fixed order.
#[must_use]
pub fn columns<'s>(rules: impl IntoIterator<Item = &'s Settings>) -> Vec<Column> {
    let all = rules.into_iter().flat_map(|settings| settings.iter().filter_map(column));
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

fn column((setting, value): (Setting, &Value)) -> Option<Column> {
    let algorithm = match value {
        Value::Name(name) => name.clone(),
        Value::Number(_) => String::new(),
    };
    (setting != Setting::Rto).then_some(Column { setting, algorithm })
}

/// A bit for each of the columns that these settings have.
#[must_use]
pub fn bits(settings: &Settings, columns: &[Column]) -> u64 {
    let has = |column: &Column| {
        settings.get(column.setting).is_some_and(|value| matches_column(column, value))
    };
    columns.iter().enumerate().fold(0, |bits, (at, column)| bits | u64::from(has(column)) << at)
}

/// A callback (`BPF_SOCK_OPS_…`, include/uapi/linux/bpf.h): its name without that, and its number.
type Callback = (&'static str, u32);
const TIMEOUT: Callback = ("TIMEOUT_INIT", 1);
const RWND: Callback = ("RWND_INIT", 2);
const CONNECT: Callback = ("TCP_CONNECT_CB", 3);
const ACTIVE: Callback = ("ACTIVE_ESTABLISHED_CB", 4);
const PASSIVE: Callback = ("PASSIVE_ESTABLISHED_CB", 5);
const ECN: Callback = ("NEEDS_ECN", 6);

/// In C.
fn constant((name, _): Callback) -> String {
    format!("BPF_SOCK_OPS_{name}")
}

/// What a set of rules needs.
pub(super) struct Needs {
    pub(super) columns: Vec<Column>,
    has_rto: bool,
}

impl Needs {
    pub(super) fn new(plan: &Plan) -> Self {
        let has_rto = plan.settings.iter().any(|settings| settings.rto_us().is_some());
        Self { columns: columns(&plan.settings), has_rto }
    }

    /// True where all rules set `rto` and nothing else.
    pub(super) fn only_rto(&self) -> bool {
        self.columns.is_empty()
    }

    /// The callbacks, in the order of their numbers.
    fn callbacks(&self) -> Vec<Callback> {
        let any = |wanted: fn(&Column) -> bool| self.columns.iter().any(wanted);
        [
            (TIMEOUT, self.has_rto),
            (RWND, any(|it| it.setting == Setting::InitialRwnd)),
            (CONNECT, any(|it| it.setting.is_option())),
            (ACTIVE, any(is_late)),
            (PASSIVE, any(|it| it.setting.is_option() && !it.setting.spec().outgoing_only)),
            (ECN, any(|it| it.setting == Setting::Ecn)),
        ]
        .into_iter()
        .filter_map(|(callback, is_needed)| is_needed.then_some(callback))
        .collect()
    }

    /// The first callback that a connection comes by, among those that are needed (`tcp_connect()`,
    /// net/ipv4/tcp_output.c).
    pub(super) fn first(&self) -> String {
        let callbacks = self.callbacks();
        let is_needed = |it: &Callback| callbacks.contains(it);
        constant(
            [CONNECT, RWND, TIMEOUT, ECN, ACTIVE].into_iter().find(is_needed).unwrap_or(TIMEOUT),
        )
    }

    /// The statement that leaves callbacks alone that no rule needs. With one comparison that is four instructions;
    /// where several callbacks are needed, those beyond the last one take four, and each gap one more. In larger
    /// programs clang saves the context over calls of helpers before all that: one more.
    pub(super) fn gate(&self) -> String {
        let callbacks = self.callbacks();
        if let [only] = callbacks[..] {
            let only = constant(only);
            return format!("\tif (FIELD(op) != {only})\n\t\treturn 1;\n\n");
        }
        let last = callbacks.last().copied().unwrap_or(TIMEOUT);
        let mut tests = vec![format!("op > {}", constant(last))];
        let gaps = (1..last.1).rev().filter(|op| callbacks.iter().all(|(_, known)| known != op));
        tests.extend(gaps.map(|op| format!("one_by_one(op) == {op}")));
        let tests = tests.join(" || ");
        format!("\tu64 op = callback();\n\n\tif ({tests})\n\t\treturn 1;\n\n")
    }

    /// Each rule's function, where its values are constants.
    pub(super) fn functions(&self, plan: &Plan) -> String {
        let mut out = String::new();
        for (rule, settings) in plan.settings.iter().enumerate() {
            line(&mut out, format_args!("\n// {}: {settings}", plan.labels[rule]));
            line(
                &mut out,
                format_args!("static __always_inline int set_{rule}(struct bpf_sock_ops *ctx)\n{{"),
            );
            line(&mut out, format_args!("\tswitch (FIELD(op)) {{"));
            if settings.rto_us().is_some() {
                line(
                    &mut out,
                    format_args!("\tcase {}:\n\t\treturn answer(ctx, {rule});", constant(TIMEOUT)),
                );
            }
            let counted = format!("count({rule})");
            let counts = |callback| match Counts::of(settings) == callback {
                true => format!("\t\t{counted};\n"),
                false => String::new(),
            };
            let value = |setting| settings.get(setting);
            let number = |setting| value(setting).map_or(0, Value::number);
            let mut cases = Cases { out: &mut out };
            for (setting, callback) in [(Setting::InitialRwnd, RWND), (Setting::Ecn, ECN)] {
                if value(setting).is_some() {
                    let at = self.place(setting, "");
                    let counts = counts(Counts::At(callback));
                    let statement = format!("reply(ctx, {at}, {})", number(setting));
                    cases.case(callback, &counts, &[statement]);
                }
            }
            let options = self.columns.iter().enumerate().filter(|(_, column)| {
                value(column.setting).is_some_and(|value| {
                    column.setting.is_option() && matches_column(column, value)
                })
            });
            let options = When::sort(options);
            let rule_text = rule.to_string();
            let statements = |columns: Vec<(usize, &Column)>| -> Vec<String> {
                let one = |(at, column): (usize, &Column)| {
                    statement(&rule_text, at, column, &number(column.setting).to_string())
                };
                columns.into_iter().map(one).collect()
            };
            // Of these two at most one is not empty.
            let counts = counts(Counts::Options) + &counts(Counts::At(CONNECT));
            cases.options(&counts, options.map(statements));
            out.push_str("\t}\n\treturn 1;\n}\n");
        }
        out
    }

    /// The program that tries each option once, with the first value that a rule gives it.
    pub(super) fn probe(&self, plan: &Plan) -> String {
        let mut out = String::from(
            "\n// Run once, in a cgroup of its own, to learn which settings this kernel takes; its answers are\n\
             // in the failures of the first rule: 0 for what was not tried, 1 for yes, 1 + errno for no.\n\
             SEC(\"sockops\")\nint probe(struct bpf_sock_ops *ctx)\n{\n\
             \tif (FIELD(op) != BPF_SOCK_OPS_TCP_CONNECT_CB)\n\t\treturn 1;\n",
        );
        for (at, column) in self.columns.iter().enumerate() {
            let Mechanism::Option(level, option) = column.setting.spec().mechanism else {
                continue;
            };
            let mut values = plan.settings.iter().filter_map(|it| it.get(column.setting));
            let call = match values.find(|value| matches_column(column, value)) {
                Some(Value::Name(name)) => format!("try_algorithm(ctx, {at}, \"{name}\")"),
                Some(Value::Number(number)) => {
                    let least = matches!(column.setting, Setting::RtoMin | Setting::DelackMax);
                    let value = if least { format!("least({number})") } else { number.to_string() };
                    format!("try(ctx, {at}, {level}, {option}, {value})")
                }
                None => continue,
            };
            line(&mut out, format_args!("\t{call};"));
        }
        out.push_str("\treturn 1;\n}\n");
        out
    }

    fn place(&self, setting: Setting, algorithm: &str) -> usize {
        let is_it = |it: &Column| it.setting == setting && it.algorithm == algorithm;
        self.columns.iter().position(is_it).unwrap_or_default()
    }

    /// The values of all rules as a table, and the function that sets by it.
    pub(super) fn table(&self, plan: &Plan) -> String {
        let mut out = String::from(
            "\n// What each rule sets besides the timer: at which callbacks it is counted, a bit for each\n\
             // column that it has, and the values.\n\
             static const struct settings {\n\tu64 has;\n\tu32 counted_at;\n\tu32 values[COLUMNS];\n\
             } settings[RULES] SEC(\".rodata.settings\") = {\n",
        );
        for settings in &plan.settings {
            let has = bits(settings, &self.columns);
            let mut values = Vec::new();
            for column in &self.columns {
                let value = settings.get(column.setting);
                let value = value.filter(|value| matches_column(column, value));
                values.push(value.map_or(0, Value::number).to_string());
            }
            let counted_at = match Counts::of(settings) {
                Counts::At(callback) => format!("1 << {}", constant(callback)),
                Counts::Options => {
                    format!("1 << {} | 1 << {}", constant(CONNECT), constant(PASSIVE))
                }
            };
            line(
                &mut out,
                format_args!("\t{{{has:#x}, {counted_at}, {{{}}}}},", values.join(", ")),
            );
        }
        out.push_str("};\n");
        out.push_str(
            "\nstatic __always_inline int set_number(struct bpf_sock_ops *ctx, u64 rule)\n{\n\
             \tconst struct settings *its;\n\tu64 op = FIELD(op);\n\n\
             \tif (rule >= RULES)\n\t\treturn 1;\n\
             \tits = &settings[rule];\n\
             \tif (its->counted_at >> op & 1 && !(op == BPF_SOCK_OPS_TIMEOUT_INIT && FIELD(total_retrans)))\n\
             \t\tcount(rule);\n\
             \tswitch (op) {\n",
        );
        if self.has_rto {
            line(
                &mut out,
                format_args!(
                    "\tcase {}:\n\t\tanswer_timed(ctx, rule);\n\
                     \t\tbreak;",
                    constant(TIMEOUT)
                ),
            );
        }
        let guarded = |at: usize, text: String| format!("if (its->has >> {at} & 1)\n\t\t\t{text}");
        let mut cases = Cases { out: &mut out };
        for (setting, callback) in [(Setting::InitialRwnd, RWND), (Setting::Ecn, ECN)] {
            if self.columns.iter().any(|it| it.setting == setting) {
                let at = self.place(setting, "");
                let text = format!("reply(ctx, {at}, its->values[{at}])");
                cases.case(callback, "", &[guarded(at, text)]);
            }
        }
        let options = self.columns.iter().enumerate().filter(|(_, it)| it.setting.is_option());
        let options = When::sort(options);
        let statements = |columns: Vec<(usize, &Column)>| -> Vec<String> {
            let one = |(at, column): (usize, &Column)| {
                guarded(at, statement("rule", at, column, &format!("its->values[{at}]")))
            };
            columns.into_iter().map(one).collect()
        };
        cases.options("", options.map(statements));
        out.push_str("\t}\n\treturn 1;\n}\n");
        out
    }
}

fn matches_column(column: &Column, value: &Value) -> bool {
    match value {
        Value::Name(name) => *name == column.algorithm,
        Value::Number(_) => true,
    }
}

/// Where a connection is counted for a rule: once, at a callback that comes once, and at which the rule sets
/// something for whichever end.
#[derive(PartialEq, Eq)]
enum Counts {
    At(Callback),
    /// Where options of both ends are set.
    Options,
}

impl Counts {
    fn of(settings: &Settings) -> Self {
        let of_both = |setting: Setting| setting.is_option() && !setting.spec().outgoing_only;
        if settings.rto_us().is_some() {
            Self::At(TIMEOUT)
        } else if settings.iter().any(|(setting, _)| of_both(setting)) {
            Self::Options
        } else if settings.get(Setting::InitialRwnd).is_some() {
            Self::At(RWND)
        } else if settings.get(Setting::Ecn).is_some() {
            Self::At(ECN)
        } else {
            Self::At(CONNECT)
        }
    }
}

/// The cases of a switch over callbacks.
struct Cases<'o> {
    out: &'o mut String,
}

impl Cases<'_> {
    fn case(&mut self, callback: Callback, counts: &str, statements: &[String]) {
        line(self.out, format_args!("\tcase {}:", constant(callback)));
        self.out.push_str(counts);
        self.statements(statements);
        self.out.push_str("\t\tbreak;\n");
    }

    fn statements(&mut self, statements: &[String]) {
        for statement in statements {
            line(self.out, format_args!("\t\t{statement};"));
        }
    }

    /// Options, each where the kernel first takes it for good.
    fn options(&mut self, counts: &str, options: When<Vec<String>>) {
        let When { outgoing, both, late } = &options;
        match (outgoing.as_slice(), both.as_slice(), late.as_slice()) {
            ([], [], []) => {}
            (_, [], []) => self.case(CONNECT, counts, outgoing),
            _ => {
                line(self.out, format_args!("\tcase {}:", constant(CONNECT)));
                self.statements(outgoing);
                if !outgoing.is_empty() {
                    self.out.push_str("\t\t// and what both ends have\n");
                }
                if late.is_empty() {
                    return self.case(PASSIVE, counts, both);
                }
                line(self.out, format_args!("\tcase {}:", constant(PASSIVE)));
                self.out.push_str(counts);
                self.statements(both);
                line(
                    self.out,
                    format_args!(
                        "\t\tif (FIELD(op) == {})\n\t\t\tbreak;\n\t\t// and what the end of the handshake sets anew",
                        constant(CONNECT)
                    ),
                );
                self.case(ACTIVE, "", late);
            }
        }
    }
}

/// What is set where the connection is established, of outgoing ones too. `tcp_init_transfer()` (net/ipv4/tcp_input.c;
/// seen on 6.18) sets the congestion window just before it calls these callbacks. An algorithm starts as soon as it is
/// set, and dctcp becomes plain Reno where ECN is not agreed on by then (`dctcp_init()`, net/ipv4/tcp_dctcp.c).
fn is_late(column: &Column) -> bool {
    matches!(column.setting, Setting::InitialCwnd | Setting::Congestion)
}

/// Options by the callback at which they are set.
struct When<T> {
    /// At `TCP_CONNECT_CB`, and at no other.
    outgoing: T,
    /// There, and where an incoming connection is established.
    both: T,
    /// Where either is established.
    late: T,
}

impl<'c> When<Vec<(usize, &'c Column)>> {
    fn sort(columns: impl Iterator<Item = (usize, &'c Column)>) -> Self {
        let (late, early): (Vec<_>, Vec<_>) = columns.partition(|(_, column)| is_late(column));
        let is_outgoing = |(_, column): &(usize, &Column)| column.setting.spec().outgoing_only;
        let (outgoing, both) = early.into_iter().partition(is_outgoing);
        Self { outgoing, both, late }
    }
}

impl<T> When<T> {
    fn map<U>(self, make: impl Fn(T) -> U) -> When<U> {
        When { outgoing: make(self.outgoing), both: make(self.both), late: make(self.late) }
    }
}

/// Sets one column; without the semicolon.
fn statement(rule: &str, at: usize, column: &Column, value: &str) -> String {
    let Mechanism::Option(level, option) = column.setting.spec().mechanism else {
        return String::new();
    };
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = match column.setting {
        Setting::Congestion => {
            write!(text, "set_algorithm(ctx, {rule}, {at}, \"{}\")", column.algorithm)
        }
        Setting::Tos => write!(text, "set_tos(ctx, {rule}, {at}, {value})"),
        other => {
            let is_least = matches!(other, Setting::RtoMin | Setting::DelackMax);
            let value = if is_least { format!("least({value})") } else { value.to_string() };
            let is_keepalive = matches!(
                other,
                Setting::KeepaliveIdle | Setting::KeepaliveInterval | Setting::KeepaliveCount
            );
            let function = if is_keepalive { "set_keepalive" } else { "set" };
            write!(text, "{function}(ctx, {rule}, {at}, {level}, {option}, {value})")
        }
    };
    text
}
