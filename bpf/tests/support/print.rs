//! A model as the text of a rules file, in one of the many ways to write it.

use super::WITHOUT_EVIDENCE;
use super::model::*;
use super::random::Random;
use super::settings::duration;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The text and where each rule begins in it.
pub(crate) struct Printed {
    pub(crate) text: String,
    pub(crate) starts: Vec<usize>,
}

impl Printed {
    /// The rule that a place in the text belongs to.
    pub(crate) fn rule_at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }
}

/// The name of a rule in the text.
pub(crate) fn name(index: usize) -> String {
    format!("r{index}")
}

pub(crate) fn print(rules: &Rules) -> Printed {
    let mut random = Random(rules.style);
    let mut printed = Printed { text: String::new(), starts: Vec::new() };
    let line_end = if random.percent(10) { "\r\n" } else { "\n" };
    for (index, rule) in rules.rules.iter().enumerate() {
        if random.percent(10) {
            printed.text.push_str("# a comment: [[rule]] \"'");
            printed.text.push_str(line_end);
        }
        printed.starts.push(printed.text.len());
        let mut lines = vec![format!("name = \"{}\"", name(index))];
        lines.extend(rule.rto.map(|us| format!("rto = \"{}\"", duration(us, &mut random))));
        lines.extend(rule.exempts().then(|| "use = \"kernel\"".to_owned()));
        lines.extend(rule.settings.iter().map(|it| it.line(&mut random)));
        lines.extend(rule.conditions.iter().map(|it| condition(it, &mut random, line_end)));
        for at in 1..lines.len() {
            if random.percent(30) {
                lines.swap(at, random.below(at + 1));
            }
        }
        let header = *random.pick(&["[[rule]]", "[[rule]]", "[[ rule ]]", "  [[rule]] # one"]);
        for line in std::iter::once(header).chain(lines.iter().map(String::as_str)) {
            printed.text.push_str(line);
            printed.text.push_str(line_end);
        }
        if random.percent(50) {
            printed.text.push_str(line_end);
        }
    }
    printed.text.push_str(WITHOUT_EVIDENCE);
    printed
}

fn condition(condition: &Condition, random: &mut Random, line_end: &str) -> String {
    let (key, items): (_, Vec<String>) = match condition {
        Condition::Interface(patterns) => {
            ("interface", patterns.iter().map(|it| quote(it, random)).collect())
        }
        Condition::Port(which, items) => {
            (port_key(*which), items.iter().map(|it| port_item(*it, random)).collect())
        }
        Condition::Address(side, items) => {
            (side_key(*side), items.iter().map(|it| format!("\"{}\"", net(*it, random))).collect())
        }
        Condition::Family(it) => return format!("family = \"{}\"", family(*it)),
        Condition::Direction(it) => return format!("direction = '{}'", direction(*it)),
        Condition::When(expression) => return when(expression, random, line_end),
    };
    if items.len() == 1 && random.percent(70) {
        return format!("{key} = {}", items[0]);
    }
    match random.below(3) {
        0 => format!("{key}=[{}]", items.join(",")),
        1 => format!("{key} = [ {} ]", items.join(", ")),
        _ => format!(
            "{key} = [{line_end}\t{}, # last{line_end}]",
            items.join(&format!(",{line_end}\t"))
        ),
    }
}

fn port_key(which: Which) -> &'static str {
    match which {
        Which::Either => "port",
        Which::One(Side::Local) => "local_port",
        Which::One(Side::Remote) => "remote_port",
    }
}

fn side_key(side: Side) -> &'static str {
    match side {
        Side::Local => "local",
        Side::Remote => "remote",
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outgoing => "outgoing",
        Direction::Incoming => "incoming",
    }
}

fn port_item(Ports(low, high): Ports, random: &mut Random) -> String {
    match random.below(8) {
        _ if low != high => format!("\"{low}-{high}\""),
        0 => format!("\"{low}\""),
        1 => format!("'{low}-{high}'"),
        2 => format!("0x{low:X}"),
        _ => low.to_string(),
    }
}

fn net(net: Net, random: &mut Random) -> String {
    match net {
        Net::V4(address, length) => {
            let dotted = Ipv4Addr::from_bits(address);
            match random.below(12) {
                0 => format!("::ffff:{dotted}/{}", length + 96),
                1 => format!("::ffff:{:x}:{:x}/{}", address >> 16, address & 0xffff, length + 96),
                2 if length == 32 => format!("::FFFF:{dotted}"),
                3.. if length == 32 => dotted.to_string(),
                _ => format!("{dotted}/{length}"),
            }
        }
        Net::V6(address, length) => {
            let address = Ipv6Addr::from_bits(address);
            let text = match random.below(4) {
                0 => address.segments().map(|it| format!("{it:04x}")).join(":"),
                1 => address.to_string().to_uppercase(),
                _ => address.to_string(),
            };
            if length == 128 && random.percent(70) { text } else { format!("{text}/{length}") }
        }
    }
}

/// A TOML string.
fn quote(text: &str, random: &mut Random) -> String {
    match random.below(4) {
        0 if !text.contains('\'') => format!("'{text}'"),
        1 if text.is_ascii() => {
            format!("\"\\u{:04x}{}\"", u32::from(text.as_bytes()[0]), &text[1..])
        }
        _ => format!("\"{text}\""),
    }
}

fn when(expression: &Expression, random: &mut Random, line_end: &str) -> String {
    let mut words = Vec::new();
    write(expression, 0, &mut words, random);
    let is_long = random.percent(30);
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        let touches = |word: &str| word.starts_with(['(', ')', '{', '}', ',', '=', '!', '<', '>']);
        let is_free = at == 0 || touches(word) || touches(&words[at - 1]);
        match random.below(12) {
            _ if at == 0 => {}
            0..4 if is_free => {}
            4 => text.push_str("  "),
            5 if is_long => text.push_str(line_end),
            6 if is_long => text.push('\t'),
            _ => text.push(' '),
        }
        text.push_str(word);
    }
    let has_single = text.contains('\'');
    match (is_long, random.below(2)) {
        (true, 0) if !has_single => format!("when = '''{line_end}{text} '''"),
        (true, _) => format!("when = \"\"\"{text} \"\"\""),
        (false, 0) if !has_single => format!("when = '{text}'"),
        (false, _) => format!("when = \"{}\"", text.replace('"', "\\\"")),
    }
}

/// Binding: 0 for `or`, 1 for `and`, 2 for what `not` takes.
fn write(expression: &Expression, level: u8, words: &mut Vec<String>, random: &mut Random) {
    let own = match expression {
        Expression::Any(parts) if parts.len() > 1 => 0,
        Expression::All(parts) if parts.len() > 1 => 1,
        _ => 2,
    };
    let enclosed = own < level || random.percent(8);
    if enclosed {
        words.push("(".into());
    }
    match expression {
        Expression::Any(parts) | Expression::All(parts) => {
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    words.push(if own == 0 { "or" } else { "and" }.into());
                }
                // A lone part is written as itself, where an `and` within an `and` needs no parentheses either.
                let inner = if parts.len() == 1 { level } else { own };
                let inner = if enclosed && parts.len() == 1 { 0 } else { inner };
                write(part, inner, words, random);
            }
        }
        Expression::Not(inner) => {
            words.push("not".into());
            write(inner, 2, words, random);
        }
        Expression::Test(it) => test(it, words, random),
    }
    if enclosed {
        words.push(")".into());
    }
}

fn test(test: &Test, words: &mut Vec<String>, random: &mut Random) {
    let equal = |equal: Equal| if equal == Equal::Is { "==" } else { "!=" }.to_string();
    let quoted = |text: &str| format!("\"{text}\"");
    let range = |Ports(low, high): &Ports| {
        if low == high { low.to_string() } else { format!("{low}-{high}") }
    };
    let (field, items): (_, Vec<String>) = match test {
        Test::Port(which, operator, number) => {
            words.extend([port_key(*which).into(), sign(*operator).into(), number.to_string()]);
            return;
        }
        Test::PortOf(side, operator) => {
            let mut ends = ["local_port", "remote_port"].map(String::from);
            if *side == Side::Remote {
                ends.reverse();
            }
            let [one, other] = ends;
            words.extend([one, sign(*operator).into(), other]);
            return;
        }
        Test::Masked(which, mask, operator, number) => {
            let mask = match random.below(2) {
                0 => format!("{mask:#x}"),
                _ => mask.to_string(),
            };
            let key = port_key(*which).to_owned();
            let sum = [key, "&".into(), mask];
            let encloses = random.percent(30);
            words.extend(encloses.then(|| "(".to_owned()));
            words.extend(sum);
            words.extend(encloses.then(|| ")".to_owned()));
            words.extend([sign(*operator).into(), number.to_string()]);
            return;
        }
        Test::Sum(side, adds, operator, number) => {
            let mut ends = ["local_port", "remote_port"].map(String::from);
            if *side == Side::Remote {
                ends.reverse();
            }
            let [one, other] = ends;
            let between = if *adds { "+" } else { "-" };
            words.extend([one, between.into(), other]);
            // A number below zero is written on the other side.
            if *number < 0 || (*number <= 100_000 && random.percent(30)) {
                words.extend(["+".into(), (100_000 - number).to_string()]);
                words.extend([sign(*operator).into(), "100000".into()]);
            } else {
                words.extend([sign(*operator).into(), number.to_string()]);
            }
            return;
        }
        Test::Socket(of, mask, operator, number) => {
            words.push(socket_key(*of).into());
            if let Some(mask) = mask {
                words.extend(["&".into(), format!("{mask:#x}")]);
            }
            words.extend([sign(*operator).into(), number.to_string()]);
            return;
        }
        Test::SocketIn(of, items) => {
            (socket_key(*of), items.iter().map(ToString::to_string).collect())
        }
        Test::AddressOf(side, is) => {
            let mut ends = ["local", "remote"].map(String::from);
            if *side == Side::Remote {
                ends.reverse();
            }
            let [one, other] = ends;
            words.extend([one, equal(*is), other]);
            return;
        }
        Test::Address(side, is, one) => {
            words.extend([side_key(*side).into(), equal(*is), net(*one, random)]);
            return;
        }
        Test::Interface(is, pattern) => {
            words.extend(["interface".into(), equal(*is), quoted(pattern)]);
            return;
        }
        Test::Family(is, it) => {
            words.extend(["family".into(), equal(*is), quoted(family(*it))]);
            return;
        }
        Test::Direction(is, it) => {
            words.extend(["direction".into(), equal(*is), quoted(direction(*it))]);
            return;
        }
        Test::PortIn(which, items) => (port_key(*which), items.iter().map(range).collect()),
        Test::AddressIn(side, items) => {
            (side_key(*side), items.iter().map(|it| net(*it, random)).collect())
        }
        Test::InterfaceIn(patterns) => {
            ("interface", patterns.iter().map(|it| quoted(it)).collect())
        }
        Test::FamilyIn(items) => ("family", items.iter().map(|it| quoted(family(*it))).collect()),
        Test::DirectionIn(items) => {
            ("direction", items.iter().map(|it| quoted(direction(*it))).collect())
        }
    };
    words.extend([field, "in", "{"].map(String::from));
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            words.push(",".into());
        }
        words.push(item);
    }
    words.push("}".into());
}

fn socket_key(of: SocketNumber) -> &'static str {
    match of {
        SocketNumber::Mark => "mark",
        SocketNumber::Priority => "priority",
        SocketNumber::Tos => "tos",
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "==",
        Operator::NotEqual => "!=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
    }
}
