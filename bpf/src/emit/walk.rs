//! Rules as data, see walk.h.

use super::{bits, expression, line, side, table};
use crate::matching::Matching;
use crate::plan::Plan;
use crate::plan::walk::{Axis, Entry, Group, Layout, Scale, Stage, Target, Test, Walk};
use crate::space::{Dimension, Set};

/// As in walk.h.
pub(super) const ANSWER: usize = 0x100_0000;

/// True where an IPv6 address is looked up.
pub(super) fn asks_ipv6(walk: &Walk) -> bool {
    looks_up(walk, |dimension| matches!(dimension, Dimension::Ipv6(_)))
}

/// True where an address is looked up.
pub(super) fn has_address_table(walk: &Walk) -> bool {
    looks_up(walk, |dimension| matches!(dimension, Dimension::Ipv4(_) | Dimension::Ipv6(_)))
}

fn looks_up(walk: &Walk, wanted: fn(Dimension) -> bool) -> bool {
    let mut classes = walk.axes.values().flat_map(|scale| &scale.classes);
    classes.any(|(dimension, starts)| starts.len() > 1 && wanted(*dimension))
}

/// Writes the statements that return the number of the rule; the data goes among the tables.
pub(super) fn emit(out: &mut String, tables: &mut table::Tables, plan: &Plan, walk: &Walk) {
    let none = plan.labels.len();
    let values = facts(out, tables, walk);
    let mut is_first = true;
    for (number, stage) in walk.stages.iter().enumerate().filter(|(_, it)| !it.groups.is_empty()) {
        let has_lists = number > 0;
        if has_lists {
            lists(out, plan, stage, is_first);
        }
        let data = Data { number, stage, layout: &walk.layout, has_lists, none };
        data.tests(&mut tables.text);
        for group in &stage.groups {
            let found = match &group.entry {
                Entry::Bits(bits) => bits::emit(tables, walk, bits, &values, none),
                _ => data.group(out, tables, walk, group),
            };
            match is_first {
                true => line(out, format_args!("\tu64 found = {found};")),
                false => line(out, format_args!("\tfound = first_of(found, {found});")),
            }
            is_first = false;
        }
    }
    out.push_str("\n\treturn found - ANSWER;\n");
}

/// Everything that tests ask but the lists of interfaces.
/// Returns the value of each.
fn facts(out: &mut String, tables: &mut table::Tables, walk: &Walk) -> Vec<(Axis, String)> {
    let mut values = Vec::new();
    let mut parts = [String::new(), String::new()];
    for (axis, scale) in &walk.axes {
        match axis {
            Axis::Port(end) => {
                let name = format!("{}_port", side(*end));
                let value = match scale.classes.first() {
                    Some((dimension, starts)) => tables.look_up(*dimension, starts.clone()),
                    None => expression::value(Dimension::Port(*end)),
                };
                line(out, format_args!("\tu64 {name} = {value};"));
                values.push((*axis, name));
            }
            Axis::Address(end) => {
                let name = format!("{}_at", side(*end));
                line(out, format_args!("\tu64 {name};"));
                for (part, (dimension, starts)) in parts.iter_mut().zip(&scale.classes) {
                    let value = match starts.as_slice() {
                        [(_, only)] => only.to_string(),
                        _ => tables.look_up(*dimension, starts.clone()),
                    };
                    line(part, format_args!("\t\t{name} = {value};"));
                }
                values.push((*axis, name));
            }
            Axis::Family => {
                out.push_str("\tu64 family;\n");
                for (part, value) in parts.iter_mut().zip([0, 1]) {
                    line(part, format_args!("\t\tfamily = {value};"));
                }
                values.push((*axis, "family".into()));
            }
            Axis::Direction => values.push((*axis, "(u64)is_incoming(ctx)".into())),
            Axis::SameAddress => values.push((*axis, "(u64)same_address(ctx)".into())),
            Axis::Ports => {
                // 0 below, 1 equal, 2 above, as differences of small numbers are negative or not.
                let (local, remote) = ("FIELD(local_port)", "HOST(remote_port)");
                line(out, format_args!("\tu64 above = {local} - {remote}, below = -above;"));
                values.push((*axis, "(1 + (below >> 63) - (above >> 63))".into()));
            }
            Axis::List(list) => values.push((*axis, format!("(lists >> {list} & 1)"))),
        }
    }
    let [ipv4, ipv6] = parts;
    if !ipv4.is_empty() {
        line(out, format_args!("\n\tif (is_ipv4(ctx)) {{\n{ipv4}\t}} else {{\n{ipv6}\t}}"));
    }
    // Bits need no words.
    let has_tests = walk.stages.iter().any(|stage| !stage.tests.is_empty());
    let words = if has_tests { walk.layout.words } else { 0 };
    for (word, name) in WORDS.iter().enumerate().take(words) {
        let places = walk.layout.places.iter().filter(|place| place.word == word);
        let fields = places.filter_map(|place| {
            let (_, value) = values.iter().find(|(axis, _)| *axis == place.axis)?;
            Some(if place.shift == 0 {
                value.clone()
            } else {
                format!("{value} << {}", place.shift)
            })
        });
        let fields: Vec<_> = fields.collect();
        let text = if fields.is_empty() { "0".into() } else { fields.join(" | ") };
        // The verifier is to forget by which way it knows them.
        line(out, format_args!("\tu64 {name} = opaque(ctx, {text});"));
    }
    values
}

const WORDS: [&str; 2] = ["word", "other"];

/// Which lists the device's name matches, unless no rule that asks could come first.
fn lists(out: &mut String, plan: &Plan, stage: &Stage, is_first: bool) {
    let rules = stage.tests.iter().flat_map(|test| [test.hit, test.miss]);
    let rules = rules.filter_map(|target| match target {
        Target::Rule(rule) => Some(rule),
        _ => None,
    });
    let of_bits = stage.groups.iter().filter_map(|group| match &group.entry {
        Entry::Bits(bits) => bits.blocks.first()?.rules.first().copied(),
        _ => None,
    });
    let first = rules.chain(of_bits).min().unwrap_or_default();
    out.push_str("\tu64 lists = 0;\n\n");
    if first > 0 && !is_first {
        line(out, format_args!("\tif (found < ANSWER + {first})\n\t\treturn found - ANSWER;"));
    }
    out.push_str("\tfind_device(ctx, device);\n");
    if matches!(plan.matching, Matching::Walk(_)) {
        out.push_str("\tlists = opaque(ctx, device->lists);\n");
        return;
    }
    for list in 0..plan.lists.len() {
        let test = expression::within(plan, Dimension::Interface(list), &Set::one(1), true);
        line(out, format_args!("\tlists = opaque(ctx, lists | (u64)({test}) << {list});"));
    }
}

/// The data of a stage.
struct Data<'w> {
    number: usize,
    stage: &'w Stage,
    layout: &'w Layout,
    has_lists: bool,
    /// What stands for no rule.
    none: usize,
}

impl Data<'_> {
    /// A test's place in bytes, or an answer.
    fn place(&self, target: Target) -> u32 {
        let place = match target {
            Target::Nothing => ANSWER + self.none,
            Target::Rule(rule) => ANSWER + rule,
            Target::Test(at) => at * self.bytes(),
        };
        place as u32
    }

    fn bytes(&self) -> usize {
        self.layout.bytes(self.has_lists)
    }

    /// Places of tests are below this, and a multiple of 8.
    fn mask(&self) -> usize {
        ((self.stage.tests.len() * self.bytes()).next_power_of_two() - 1) & !7
    }

    /// The tests, and the walk along them.
    fn tests(&self, out: &mut String) {
        let (number, words) = (self.number, self.layout.words);
        if self.stage.tests.is_empty() {
            return;
        }
        let bounds = 2 * words + if self.has_lists { 2 } else { 0 };
        line(
            out,
            format_args!("\nstruct test_{number} {{\n\tu64 bounds[{bounds}];\n\tu32 next[2];\n}};"),
        );
        let count = self.mask() / self.bytes() + 2;
        line(
            out,
            format_args!(
                "\nconst struct test_{number} tests_{number}[{count}] SEC(\".rodata.tests\") = {{"
            ),
        );
        for test in &self.stage.tests {
            let bounds: Vec<_> = self.bounds(test).iter().map(|it| format!("{it:#x}")).collect();
            let (hit, miss) = (self.place(test.hit), self.place(test.miss));
            line(out, format_args!("{{{{{}}},{{{hit},{miss}}}}},", bounds.join(",")));
        }
        out.push_str("};\n");
        let names = [&WORDS[..words], if self.has_lists { &["lists"] } else { &[] }].concat();
        let parameters: String = names.iter().map(|name| format!(", u64 {name}")).collect();
        line(
            out,
            format_args!(
                "\nstatic __always_inline u64 walk_{number}(u64 at, int longest{parameters})\n{{"
            ),
        );
        out.push_str("#pragma clang loop unroll(disable)\n");
        out.push_str("\tfor (int i = 0; i < longest && at < ANSWER; i++) {\n");
        out.push_str("\t\tconst void *test;\n\t\tu64 inside, miss;\n\n");
        line(out, format_args!("\t\tBOUND(at, {:#x});", self.mask()));
        line(out, format_args!("\t\ttest = (const void *)tests_{number} + at;"));
        out.push_str("\t\tinside = guards_within(test, word);\n");
        if words > 1 {
            out.push_str("\t\tinside &= guards_within(test + 16, other);\n");
        }
        line(out, format_args!("\t\tmiss = missed(inside, {:#x}ull);", self.layout.guards));
        let at = 16 * words;
        if self.has_lists {
            line(out, format_args!("\t\tmiss |= differs(test + {at}, lists);"));
        }
        let at = self.bytes() - 8;
        line(out, format_args!("\t\tat = *(const u32 *)(test + {at} + miss);\n\t}}"));
        out.push_str("\treturn at;\n}\n");
    }

    fn bounds(&self, test: &Test) -> Vec<u64> {
        let mut words = vec![[0_u64; 2]; self.layout.words];
        for place in &self.layout.places {
            let all = (0, (1 << place.width) - 1);
            let found = test.bounds.iter().find(|(axis, ..)| *axis == place.axis);
            let (low, high) = found.map_or(all, |(_, low, high)| (*low, *high));
            words[place.word][0] |= u64::from(low) << place.shift;
            words[place.word][1] |= u64::from(high) << place.shift;
        }
        let guards = self.layout.guards;
        let mut bounds: Vec<u64> =
            words.iter().flat_map(|it| [it[0].wrapping_sub(guards), it[1] | guards]).collect();
        if self.has_lists {
            let (mut wanted, mut cares) = (0, 0);
            for (axis, low, _) in &test.bounds {
                if let Axis::List(list) = axis {
                    cares |= 1 << list;
                    wanted |= u64::from(*low) << list;
                }
            }
            bounds.extend([wanted, cares]);
        }
        bounds
    }

    /// One walk, as an expression.
    fn group(
        &self,
        out: &mut String,
        tables: &mut table::Tables,
        walk: &Walk,
        group: &Group,
    ) -> String {
        let start = match &group.entry {
            Entry::At(target) => self.place(*target).to_string(),
            Entry::By(axis, targets) => {
                let starts: Vec<_> =
                    targets.iter().map(|(start, target)| (*start, self.place(*target))).collect();
                let name = match axis {
                    Axis::Port(end) => format!("{}_port", side(*end)),
                    Axis::Address(end) => format!("{}_at", side(*end)),
                    _ => String::new(),
                };
                self.start(out, tables, walk.axes.get(axis), *axis, &name, &starts)
            }
            Entry::Bits(_) => String::new(),
        };
        let names: String =
            WORDS[..self.layout.words].iter().map(|name| format!(", {name}")).collect();
        let lists = if self.has_lists { ", lists" } else { "" };
        match group.longest {
            0 => start,
            longest => format!("walk_{}({start}, {longest}{names}{lists})", self.number),
        }
    }

    /// Where a walk begins, by an axis.
    fn start(
        &self,
        out: &mut String,
        tables: &mut table::Tables,
        scale: Option<&Scale>,
        axis: Axis,
        name: &str,
        starts: &[(u32, u32)],
    ) -> String {
        let Some(scale) = scale else { return "ANSWER + NONE".into() };
        if let (Axis::Port(end), true) = (axis, scale.classes.is_empty()) {
            let starts = starts.iter().map(|(start, place)| (u128::from(*start), *place)).collect();
            return tables.look_up(Dimension::Port(end), starts);
        }
        let mut all = Vec::with_capacity(scale.count as usize);
        for (at, (start, place)) in starts.iter().enumerate() {
            let end = starts.get(at + 1).map_or(scale.count, |(next, _)| *next);
            all.extend((*start..end).map(|_| *place));
        }
        let mask = all.len().next_power_of_two() - 1;
        all.resize(mask + 1, self.place(Target::Nothing));
        let array = tables.array("starts", &all);
        line(out, format_args!("\tBOUND({name}, {mask:#x});"));
        format!("{array}[{name}]")
    }
}
