//! Nodes → statements.
//!
//! A small plan answers in place: each leaf ends with its rule's timer. Where tables or [`Node::First`] come
//! in, functions return the number of a rule, NONE for no rule, and one place answers by number.

use super::condition::{Kind, Test};
use super::settings::Needs;
use super::{expression, line, table, walk};
use crate::plan::{Id, Node, Plan, TABLE};
use crate::space::{Dimension, Set};
use std::collections::{BTreeSet, HashMap};

/// Chains of comparisons up to so many, then a search tree.
const CHAIN: usize = 6;

/// True for a program that computes the number of the rule, or addresses in tables.
pub(super) fn computes(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| match node {
        Node::First(..) | Node::Walk => true,
        Node::Choose(dimension, arms) => wants_table(*dimension, arms.len()),
        _ => false,
    })
}

/// True for a program with tables of addresses.
pub(super) fn has_address_table(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| match node {
        Node::Choose(dimension, arms) => {
            wants_table(*dimension, arms.len()) && !matches!(dimension, Dimension::Port(_))
        }
        _ => false,
    })
}

/// All functions of the program.
pub(super) fn functions(plan: &Plan, needs: &Needs) -> String {
    let by_number = computes(plan);
    let devices = plan.asks_for_device();
    let mut out = String::new();
    let mut writer = Writer {
        plan,
        by_number,
        only_rto: needs.only_rto(),
        devices,
        tables: table::Tables::default(),
        functions: String::new(),
        known: HashMap::new(),
    };
    let root = if by_number { writer.function(plan.root) } else { String::new() };
    let mut main = String::from("\nSEC(\"sockops\")\nint set_rto(struct bpf_sock_ops *ctx)\n{\n");
    main.push_str(&needs.gate());
    // Behind the test: what no rule needs shall not pay for it.
    if devices {
        main.push_str("\tstruct device found = {}, *device = &found;\n\n");
    }
    if devices || plan.walk.is_some() {
        main.push_str("\tctx = over_calls(ctx);\n\n");
    }
    if by_number {
        let device = if devices { ", device" } else { "" };
        let answer = if needs.only_rto() { "answer_number" } else { "set_number" };
        line(&mut main, format_args!("\treturn {answer}(ctx, {root}(ctx{device}));"));
    } else {
        writer.body(&mut main, plan.root);
    }
    main.push_str("}\n");
    out.push_str(&writer.tables.text);
    out.push_str(&writer.functions);
    out.push_str(&match (needs.only_rto(), by_number) {
        (true, _) => String::new(),
        (false, true) => needs.table(plan),
        (false, false) => needs.functions(plan),
    });
    out.push_str(&main);
    if !needs.only_rto() {
        out.push_str(&needs.probe(plan));
    }
    out
}

fn wants_table(dimension: Dimension, arms: usize) -> bool {
    arms > TABLE
        && matches!(dimension, Dimension::Port(_) | Dimension::Ipv4(_) | Dimension::Ipv6(_))
}

/// The values that lead to each node, what is said in the fewest words first; of two that are as short, the one
/// without a `not`.
fn sorted(dimension: Dimension, arms: &[(u128, Id)]) -> Vec<(Id, Set)> {
    let mut targets = Plan::targets(dimension, arms);
    let negative = |set: &Set| match dimension {
        Dimension::Family => !set.contains(0),
        Dimension::Direction | Dimension::SameAddress | Dimension::Interface(_) => !set.contains(1),
        _ => false,
    };
    targets.sort_by_key(|(_, set)| (expression::terms(dimension, set), negative(set)));
    targets
}

struct Writer<'p> {
    plan: &'p Plan,
    by_number: bool,
    only_rto: bool,
    devices: bool,
    tables: table::Tables,
    functions: String,
    /// Functions that are written already.
    known: HashMap<Id, String>,
}

/// The body of one function.
#[derive(Default)]
struct Body {
    text: String,
    /// Nodes that several others lead to, to be written once, behind a label.
    labels: BTreeSet<Id>,
    written: BTreeSet<Id>,
    /// How often each node is led to within this body.
    uses: HashMap<Id, usize>,
    /// How many of its nodes ask for the device. One asks where it stands; several are gathered behind one
    /// place that finds it, so that the search is in the program once.
    device_nodes: usize,
    /// Behind that place.
    device_known: bool,
    /// Nodes to go on with behind it.
    wanted: BTreeSet<Id>,
}

impl Body {
    /// True where the device is still to be found, at a place of its own.
    fn gathers_device(&self) -> bool {
        !self.device_known && self.device_nodes > 1
    }

    /// Behind the place that finds the device, nodes are written anew.
    fn label(&self, id: Id) -> String {
        format!("{}{id}", if self.device_known { 'd' } else { 'n' })
    }
}

impl Writer<'_> {
    /// A function that returns the number of the rule; its name.
    fn function(&mut self, id: Id) -> String {
        if let Some(name) = self.known.get(&id) {
            return name.clone();
        }
        let name = format!("rule_by_{id}");
        self.known.insert(id, name.clone());
        let mut text = String::new();
        let device = if self.devices { ", struct device *device" } else { "" };
        line(
            &mut text,
            format_args!(
                "\nstatic __always_inline u64 {name}(struct bpf_sock_ops *ctx{device})\n{{"
            ),
        );
        self.body(&mut text, id);
        text.push_str("}\n");
        self.functions.push_str(&text);
        name
    }

    fn body(&mut self, out: &mut String, id: Id) {
        let mut body = Body::default();
        self.count(&mut body, id);
        let asks =
            |id: &&Id| matches!(self.plan.nodes[**id], Node::Choose(Dimension::Interface(_), _));
        body.device_nodes = body.uses.keys().filter(asks).count();
        self.node(&mut body, id, 1);
        self.labelled(&mut body);
        if !body.wanted.is_empty() {
            let text = &mut body.text;
            line(text, format_args!("\ndevice:\n\tfind_device(ctx, device);\n\tswitch (next) {{"));
            // The last of them needs no comparison. (For `__builtin_unreachable()` clang writes an endless loop.)
            let last = body.wanted.last().copied();
            for id in &body.wanted {
                let case = if Some(*id) == last { "default".into() } else { format!("case {id}") };
                line(text, format_args!("\t{case}:\n\t\tgoto d{id};"));
            }
            text.push_str("\t}\n");
            body.device_known = true;
            body.labels = body.wanted.clone();
            body.written.clear();
            self.labelled(&mut body);
        }
        // Declared at the top of the function, wherever the body begins.
        let open = out.rfind("{\n").filter(|_| !body.wanted.is_empty());
        if let Some(open) = open.map(|at| at + 2) {
            let rest = out.split_off(open);
            out.push_str("\tu64 next;\n");
            out.push_str(&rest);
        }
        out.push_str(&body.text);
    }

    /// Writes the nodes that have been named but not written; these may name others.
    fn labelled(&mut self, body: &mut Body) {
        while let Some(next) = body.labels.iter().find(|it| !body.written.contains(it)).copied() {
            body.written.insert(next);
            let label = body.label(next);
            line(&mut body.text, format_args!("\n{label}:"));
            self.here(body, next, 1);
        }
    }

    /// Counts how often each node is led to, not looking into other functions.
    fn count(&self, body: &mut Body, id: Id) {
        let uses = body.uses.entry(id).or_default();
        *uses += 1;
        if *uses > 1 {
            return;
        }
        if let Node::Choose(_, arms) = &self.plan.nodes[id] {
            let targets: BTreeSet<Id> = arms.iter().map(|(_, target)| *target).collect();
            targets.into_iter().for_each(|target| self.count(body, target));
        }
    }

    /// A node, or the way to it.
    fn node(&mut self, body: &mut Body, id: Id, depth: usize) {
        let tabs = "\t".repeat(depth);
        // A number is said as shortly as a label; an answer is several instructions.
        let is_short = match &self.plan.nodes[id] {
            Node::Nothing => true,
            Node::Rule(_) => {
                let most = if self.only_rto { 2 } else { 1 };
                self.by_number || body.uses.get(&id).is_none_or(|uses| *uses <= most)
            }
            _ => false,
        };
        let is_shared = body.uses.get(&id).is_some_and(|uses| *uses > 1)
            || (body.device_known && body.wanted.contains(&id));
        if is_shared && !is_short {
            let label = body.label(id);
            line(&mut body.text, format_args!("{tabs}goto {label};"));
            body.labels.insert(id);
        } else {
            self.here(body, id, depth);
        }
    }

    fn here(&mut self, body: &mut Body, id: Id, depth: usize) {
        let tabs = "\t".repeat(depth);
        match &self.plan.nodes[id] {
            Node::Nothing => {
                let nothing = if self.by_number { "NONE" } else { "1" };
                line(&mut body.text, format_args!("{tabs}return {nothing};"));
            }
            Node::Rule(rule) => {
                let label = &self.plan.labels[*rule];
                let answer = match self.by_number {
                    true => rule.to_string(),
                    false if self.only_rto => format!("answer(ctx, {rule})"),
                    false => format!("set_{rule}(ctx)"),
                };
                line(&mut body.text, format_args!("{tabs}return {answer}; // {label}"));
            }
            Node::Choose(Dimension::Interface(_), _) if body.gathers_device() => {
                line(&mut body.text, format_args!("{tabs}next = {id};\n{tabs}goto device;"));
                body.wanted.insert(id);
            }
            Node::First(one, other) => {
                let is_known = self.is_table(*one);
                let (one, other) = (self.function(*one), self.function(*other));
                let device = if self.devices { ", device" } else { "" };
                let mut one = format!("{one}(ctx{device})");
                if !is_known {
                    one = format!("opaque(ctx, {one})");
                }
                // One after the other: as arguments their order would be clang's choice.
                // In braces: a label or a case may stand before it.
                line(&mut body.text, format_args!("{tabs}{{\n{tabs}\tu64 rule = {one};\n"));
                let call = format!("return earlier(rule, {other}(ctx{device}));");
                line(&mut body.text, format_args!("{tabs}\t{call}\n{tabs}}}"));
            }
            Node::Walk => {
                if let Some(data) = &self.plan.walk {
                    walk::emit(&mut body.text, &mut self.tables, self.plan, data);
                }
            }
            Node::Choose(dimension, arms) => self.choose(body, id, *dimension, arms, depth),
        }
    }

    /// True for a number that comes out of a table, of which the verifier knows nothing anyway.
    fn is_table(&self, id: Id) -> bool {
        let is_leaf =
            |(_, id): &(u128, Id)| matches!(self.plan.nodes[*id], Node::Nothing | Node::Rule(_));
        match &self.plan.nodes[id] {
            Node::Choose(dimension, arms) => {
                matches!(dimension, Dimension::Port(_))
                    && wants_table(*dimension, arms.len())
                    && arms.iter().all(is_leaf)
            }
            _ => false,
        }
    }

    fn choose(
        &mut self,
        body: &mut Body,
        id: Id,
        dimension: Dimension,
        arms: &[(u128, Id)],
        depth: usize,
    ) {
        if wants_table(dimension, arms.len()) {
            return self.table(body, dimension, arms, depth);
        }
        if let Some((test, yes, no)) = self.two_ways(body, id) {
            self.branch(body, &test.text, yes, depth);
            return self.node(body, no, depth);
        }
        let targets = sorted(dimension, arms);
        let tested = &targets[..targets.len() - 1];
        let terms: usize = tested.iter().map(|(_, set)| expression::terms(dimension, set)).sum();
        if terms > CHAIN {
            return self.search(body, dimension, arms, depth);
        }
        for (id, set) in tested {
            self.branch(
                body,
                &expression::within(self.plan, dimension, set, body.device_known),
                *id,
                depth,
            );
        }
        if let Some((last, _)) = targets.last() {
            self.node(body, *last, depth);
        }
    }

    /// A node with two ways to go on as one condition; the nodes behind it that end at one of the same two
    /// places, and that nothing else leads to, become part of it.
    fn two_ways(&self, body: &Body, id: Id) -> Option<(Test, Id, Id)> {
        let Node::Choose(dimension, arms) = &self.plan.nodes[id] else { return None };
        let asks_device = matches!(dimension, Dimension::Interface(_));
        if wants_table(*dimension, arms.len()) || (asks_device && body.gathers_device()) {
            return None;
        }
        let targets = sorted(*dimension, arms);
        let [(yes, set), (no, _)] = &targets[..] else { return None };
        if expression::terms(*dimension, set) > CHAIN * 4 {
            return None;
        }
        let text = expression::within(self.plan, *dimension, set, body.device_known);
        let joins_all = asks_device && !body.device_known;
        let kind = match () {
            () if expression::terms(*dimension, set) > 1 && !joins_all => Kind::Or,
            () if joins_all => Kind::And,
            () => Kind::One,
        };
        let (mut test, mut yes, mut no) = (Test { text, kind }, *yes, *no);
        let single = |id: Id| body.uses.get(&id).is_none_or(|uses| *uses == 1);
        loop {
            if single(yes)
                && let Some((more, inner_yes, inner_no)) = self.two_ways(body, yes)
            {
                if inner_no == no {
                    (test, yes) = (test.and(more), inner_yes);
                    continue;
                }
                if inner_yes == no {
                    (test, yes) = (test.and(more.not()), inner_no);
                    continue;
                }
            }
            if single(no)
                && let Some((more, inner_yes, inner_no)) = self.two_ways(body, no)
            {
                if inner_yes == yes {
                    (test, no) = (test.or(more), inner_no);
                    continue;
                }
                if inner_no == yes {
                    (test, no) = (test.or(more.not()), inner_yes);
                    continue;
                }
            }
            return Some((test, yes, no));
        }
    }

    fn branch(&mut self, body: &mut Body, test: &str, id: Id, depth: usize) {
        let tabs = "\t".repeat(depth);
        let test = test.replace("\n\t", &format!("\n{tabs}"));
        let is_short = match &self.plan.nodes[id] {
            Node::Nothing | Node::Rule(_) => true,
            Node::First(..) | Node::Choose(..) | Node::Walk => {
                body.uses.get(&id).is_some_and(|uses| *uses > 1)
            }
        };
        let brace = if is_short { "" } else { " {" };
        line(&mut body.text, format_args!("{tabs}if ({test}){brace}"));
        self.node(body, id, depth + 1);
        if !is_short {
            line(&mut body.text, format_args!("{tabs}}}"));
        }
    }

    /// A balanced tree of comparisons.
    fn search(&mut self, body: &mut Body, dimension: Dimension, arms: &[(u128, Id)], depth: usize) {
        match arms {
            [] => {}
            [(_, only)] => self.node(body, *only, depth),
            _ => {
                let middle = arms.len() / 2;
                let tabs = "\t".repeat(depth);
                let test = expression::below(dimension, arms[middle].0);
                line(&mut body.text, format_args!("{tabs}if ({test}) {{"));
                self.search(body, dimension, &arms[..middle], depth + 1);
                line(&mut body.text, format_args!("{tabs}}}"));
                self.search(body, dimension, &arms[middle..], depth);
            }
        }
    }

    /// A table whose entries are numbers of rules, NONE, and behind that the cases of a switch.
    fn table(&mut self, body: &mut Body, dimension: Dimension, arms: &[(u128, Id)], depth: usize) {
        let none = self.plan.labels.len();
        let first_case = none + 1;
        let mut cases: Vec<Id> = Vec::new();
        let mut known: HashMap<Id, usize> = HashMap::new();
        let mut entry = |id: Id| match &self.plan.nodes[id] {
            Node::Nothing => none,
            Node::Rule(rule) => *rule,
            Node::First(..) | Node::Choose(..) | Node::Walk => {
                *known.entry(id).or_insert_with(|| {
                    cases.push(id);
                    first_case + cases.len() - 1
                })
            }
        };
        let values = arms.iter().map(|(start, id)| (*start, entry(*id) as u32)).collect();
        let call = self.tables.look_up(dimension, values);
        let tabs = "\t".repeat(depth);
        if cases.is_empty() {
            line(&mut body.text, format_args!("{tabs}return {call};"));
            return;
        }
        let text = &mut body.text;
        line(text, format_args!("{tabs}{{\n{tabs}\tu64 found = {call};\n"));
        line(text, format_args!("{tabs}\tif (found <= NONE)\n{tabs}\t\treturn found;"));
        line(&mut body.text, format_args!("{tabs}\tswitch (found) {{"));
        for (at, id) in cases.iter().enumerate() {
            line(&mut body.text, format_args!("{tabs}\tcase {}:", first_case + at));
            self.node(body, *id, depth + 2);
        }
        line(&mut body.text, format_args!("{tabs}\t}}\n{tabs}\treturn NONE;\n{tabs}}}"));
    }
}
