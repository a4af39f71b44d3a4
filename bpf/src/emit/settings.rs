//! What rules set → statements.
//!
//! In a chain each rule has a function with its values as constants; where the rule is a number, the values are tables.
//! Rules that set nothing but `rto` need neither.

use super::lookup::mask;
use super::writer::Writer;
use crate::plan::Plan;
use crate::setting::{Column, Mechanism, Setting, Settings, Value};
use std::collections::HashMap;

/// Bytes of the counters, a section: a map's value has at most 4 MiB before Linux 5.19.
const MOST_COUNTERS: usize = 4 << 20;

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
    rules: usize,
}

impl Needs {
    pub(super) fn new(plan: &Plan) -> Self {
        let has_rto = plan.settings.iter().any(|settings| settings.rto_us().is_some());
        Self { columns: Column::all(&plan.settings), has_rto, rules: plan.settings.len() }
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
    pub(super) fn gate(&self, out: &mut Writer) {
        let callbacks = self.callbacks();
        if let [only] = callbacks[..] {
            out.open(format_args!("if (FIELD(op) != {})", constant(only)));
        } else {
            let last =
                *callbacks.last().unwrap_or_else(|| unreachable!("every rule sets something"));
            let mut tests = vec![format!("op > {}", constant(last))];
            let gaps = (1..last.1).rev().filter(|op| callbacks.iter().all(|it| it.1 != *op));
            tests.extend(gaps.map(|op| format!("one_by_one(op) == {op}")));
            out.line(format_args!("u64 op = callback();"));
            out.empty();
            out.open(format_args!("if ({})", tests.join(" || ")));
        }
        out.close_with(format_args!("return 1;"));
        out.empty();
    }

    /// Each rule's function, where its values are constants.
    pub(super) fn functions(&self, out: &mut Writer, plan: &Plan) {
        for (rule, settings) in plan.settings.iter().enumerate() {
            out.empty();
            out.line(format_args!("// {}: {settings}", plan.labels[rule]));
            out.line(format_args!(
                "static __always_inline int set_{rule}(struct bpf_sock_ops *ctx)"
            ));
            out.open(format_args!("{{"));
            out.line(format_args!("switch (FIELD(op)) {{"));
            if settings.rto_us().is_some() {
                out.open(format_args!("case {}:", constant(TIMEOUT)));
                out.close_with(format_args!("return answer(ctx, {rule});"));
            }
            let counts = |callback| match Counts::of(settings) == callback {
                true => vec![format!("count({rule})")],
                false => Vec::new(),
            };
            for (setting, callback) in [(Setting::InitialRwnd, RWND), (Setting::Ecn, ECN)] {
                if let Some(value) = settings.get(setting) {
                    let mut statements = counts(Counts::At(callback));
                    let at = self.place(setting);
                    statements.push(format!("reply(ctx, {at}, {})", value.number()));
                    case(out, callback, &statements);
                }
            }
            let options = self.options().filter_map(|(at, column)| {
                let number = column.value(settings)?.number().to_string();
                Some((column, statement(&rule.to_string(), at, column, &number)))
            });
            // Of these two at most one is not empty.
            let counts = [counts(Counts::Options), counts(Counts::At(CONNECT))].concat();
            set_options(out, counts, When::sort(options));
            out.line(format_args!("}}"));
            out.line(format_args!("return 1;"));
            out.close("}");
        }
    }

    /// Columns that are options.
    fn options(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.setting.is_option())
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
        out.open(format_args!("if (FIELD(op) != BPF_SOCK_OPS_TCP_CONNECT_CB)"));
        out.close_with(format_args!("return 1;"));
        for (at, column) in self.options() {
            let mut values = plan.settings.iter().filter_map(|it| column.value(it));
            let first = values.next().unwrap_or_else(|| unreachable!("some rule has each column"));
            match first {
                Value::Name(name) => {
                    out.line(format_args!("try_algorithm(ctx, {at}, \"{name}\");"));
                }
                Value::Number(number) => {
                    let (level, option) = option(column);
                    let value = least(column, &number.to_string());
                    out.line(format_args!("try(ctx, {at}, {level}, {option}, {value});"));
                }
            }
        }
        out.line(format_args!("return 1;"));
        out.close("}");
    }

    /// Of a setting that is no option.
    fn place(&self, setting: Setting) -> usize {
        let place = self.columns.iter().position(|it| it.setting == setting);
        place.unwrap_or_else(|| unreachable!("{setting:?} is set, so it has a column"))
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
        out.empty();
        out.line(format_args!(
            "// What each rule sets besides the timer: at which callbacks it is counted, a bit for each column\n\
             // that it has, and the values."
        ));
        out.numbers("settings_of", of_rule.len(), &of_rule);
        let has: Vec<u64> = distinct.iter().map(|it| Column::bits(&self.columns, it)).collect();
        out.words("settings_has", size, &has);
        let counted: Vec<u32> = distinct.iter().map(|it| Counts::of(it).callbacks()).collect();
        out.numbers("settings_counted_at", size, &counted);
        for (at, column) in self.columns.iter().enumerate() {
            let value = |it: &&Settings| column.value(it).map_or(0, Value::number);
            let values: Vec<u32> = distinct.iter().map(value).collect();
            out.numbers(&format!("settings_value_{at}"), size, &values);
        }
        let value = |at: usize| format!("settings_value_{at}[its]");
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
        out.open(format_args!(
            "if ((u64)settings_counted_at[its] >> op & 1 && !(op == BPF_SOCK_OPS_TIMEOUT_INIT && FIELD(total_retrans)))"
        ));
        out.close_with(format_args!("count(rule);"));
        out.line(format_args!("switch (op) {{"));
        if self.has_rto {
            case(out, TIMEOUT, &["answer_timed(ctx, rule)".into()]);
        }
        let guarded = |at: usize, text: String| format!("if (columns >> {at} & 1)\n\t\t\t{text}");
        for (setting, callback) in [(Setting::InitialRwnd, RWND), (Setting::Ecn, ECN)] {
            if self.columns.iter().any(|it| it.setting == setting) {
                let at = self.place(setting);
                let text = format!("reply(ctx, {at}, {})", value(at));
                case(out, callback, &[guarded(at, text)]);
            }
        }
        let options = self
            .options()
            .map(|(at, column)| (column, guarded(at, statement("rule", at, column, &value(at)))));
        set_options(out, Vec::new(), When::sort(options));
        out.line(format_args!("}}"));
        out.line(format_args!("return 1;"));
        out.close("}");
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

    /// A bit for each callback.
    fn callbacks(&self) -> u32 {
        match self {
            Self::At((_, number)) => 1 << number,
            Self::Options => 1 << CONNECT.1 | 1 << PASSIVE.1,
        }
    }
}

/// A case of the switch over callbacks; its statements are without the semicolon.
fn case(out: &mut Writer, callback: Callback, texts: &[String]) {
    out.open(format_args!("case {}:", constant(callback)));
    statements(out, texts);
    out.close_with(format_args!("break;"));
}

fn statements(out: &mut Writer, texts: &[String]) {
    texts.iter().for_each(|text| out.line(format_args!("{text};")));
}

/// Cases for options, each where the kernel first takes it for good; `counts` is where those of both ends are.
fn set_options(out: &mut Writer, counts: Vec<String>, when: When) {
    let When { outgoing, both, late } = when;
    match (outgoing.is_empty(), both.is_empty() && late.is_empty()) {
        (true, true) => return,
        (false, true) => return case(out, CONNECT, &[counts, outgoing].concat()),
        (_, false) => {}
    }
    out.open(format_args!("case {}:", constant(CONNECT)));
    statements(out, &outgoing);
    if !outgoing.is_empty() {
        out.line(format_args!("// and what both ends have"));
    }
    out.close_more();
    let both = [counts, both].concat();
    if late.is_empty() {
        return case(out, PASSIVE, &both);
    }
    out.open(format_args!("case {}:", constant(PASSIVE)));
    statements(out, &both);
    out.open(format_args!("if (FIELD(op) == {})", constant(CONNECT)));
    out.close_with(format_args!("break;"));
    out.line(format_args!("// and what the end of the handshake sets anew"));
    out.close_more();
    case(out, ACTIVE, &late);
}

/// What is set where the connection is established, of outgoing ones too. `tcp_init_transfer()` (net/ipv4/tcp_input.c;
/// seen on 6.18) sets the congestion window just before it calls these callbacks. An algorithm starts as soon as it is
/// set, and dctcp becomes plain Reno where ECN is not agreed on by then (`dctcp_init()`, net/ipv4/tcp_dctcp.c).
fn is_late(column: &Column) -> bool {
    matches!(column.setting, Setting::InitialCwnd | Setting::Congestion)
}

/// Statements that set options, by the callback at which they are set.
#[derive(Default)]
struct When {
    /// At `TCP_CONNECT_CB`, and at no other.
    outgoing: Vec<String>,
    /// There, and where an incoming connection is established.
    both: Vec<String>,
    /// Where either is established.
    late: Vec<String>,
}

impl When {
    fn sort<'c>(columns: impl Iterator<Item = (&'c Column, String)>) -> Self {
        let mut when = Self::default();
        for (column, text) in columns {
            match (is_late(column), column.setting.spec().outgoing_only) {
                (true, _) => when.late.push(text),
                (false, true) => when.outgoing.push(text),
                (false, false) => when.both.push(text),
            }
        }
        when
    }
}

/// Level and option of a column that is one.
fn option(column: &Column) -> (&'static str, &'static str) {
    match column.setting.spec().mechanism {
        Mechanism::Option(level, option) => (level, option),
        Mechanism::Reply(callback) => unreachable!("it is a reply to {callback}"),
    }
}

/// The value, but not below what the kernel takes.
fn least(column: &Column, value: &str) -> String {
    match column.setting {
        Setting::RtoMin | Setting::DelackMax => format!("least({value})"),
        _ => value.to_string(),
    }
}

/// Sets one column; without the semicolon.
fn statement(rule: &str, at: usize, column: &Column, value: &str) -> String {
    match column.setting {
        Setting::Congestion => {
            format!("set_algorithm(ctx, {rule}, {at}, \"{}\")", column.algorithm)
        }
        Setting::Tos => format!("set_tos(ctx, {rule}, {at}, {value})"),
        other => {
            let is_keepalive = matches!(
                other,
                Setting::KeepaliveIdle | Setting::KeepaliveInterval | Setting::KeepaliveCount
            );
            let function = if is_keepalive { "set_keepalive" } else { "set" };
            let (level, option) = option(column);
            let value = least(column, value);
            format!("{function}(ctx, {rule}, {at}, {level}, {option}, {value})")
        }
    }
}
