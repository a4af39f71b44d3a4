//! Tests: a field, an operator and an operand, with their types.

use super::lex::{Token, Word};
use super::{Mistake, Parser};
use crate::check::{address, interface, port};
use crate::diag::{Diagnostic, nearest};
use crate::rule::{Direction, End, Family, Formula, Pattern, PortRange, Prefix, Test};
use std::cmp::Ordering;

/// A field of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Interface,
    /// Either end's.
    Port,
    OnePort(End),
    Address(End),
    Family,
    Direction,
}

const FIELDS: [(&str, Field); 8] = [
    ("interface", Field::Interface),
    ("port", Field::Port),
    ("local_port", Field::OnePort(End::Local)),
    ("remote_port", Field::OnePort(End::Remote)),
    ("local", Field::Address(End::Local)),
    ("remote", Field::Address(End::Remote)),
    ("family", Field::Family),
    ("direction", Field::Direction),
];

impl Field {
    fn named(name: &str) -> Option<Self> {
        FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }

    /// What it is, for messages.
    fn kind(self) -> &'static str {
        match self {
            Self::Interface => "an interface",
            Self::Port | Self::OnePort(_) => "a port",
            Self::Address(_) => "an address",
            Self::Family => "a family",
            Self::Direction => "a direction",
        }
    }

    /// How a value of it is written.
    fn example(self) -> &'static str {
        match self {
            Self::Interface => "an interface is quoted: interface == \"ax0\"",
            Self::Port | Self::OnePort(_) => "a port is a number from 0 to 65535",
            Self::Address(_) => "an address or prefix is not quoted: remote == 44.0.0.0/8",
            Self::Family => "write family == \"ipv4\" or family == \"ipv6\"",
            Self::Direction => "write direction == \"outgoing\" or direction == \"incoming\"",
        }
    }
}

impl Parser<'_> {
    pub(super) fn test(&mut self) -> Result<Formula, Mistake> {
        let complaint = self.unexpected("expected a test, such as port == 80");
        let Some(Token { word: Word::Name(name), span }) = self.next() else {
            return Err(complaint);
        };
        let Some(field) = Field::named(name) else {
            return Err(unknown_field(name, span.clone()));
        };
        if self.takes(&Word::Name("in")) {
            return self.set(field);
        }
        let complaint = self.unexpected("expected a comparison or `in`");
        match self.next() {
            Some(Token { word: Word::Operator(operator), .. }) => {
                let ordered = !matches!(*operator, "==" | "!=");
                if ordered && !matches!(field, Field::Port | Field::OnePort(_)) {
                    let message =
                        format!("`{operator}` orders ports only: this is {}", field.kind());
                    return Err(
                        Diagnostic::new(message, span.clone()).help("use `==`, `!=` or `in`")
                    );
                }
                self.operand(field, operator)
            }
            _ => Err(complaint.help("for example: port == 80, port in {80, 8000-8999}")),
        }
    }

    fn operand(&mut self, field: Field, operator: &str) -> Result<Formula, Mistake> {
        let complaint = self.unexpected("expected something to compare with");
        let Some(token) = self.next() else { return Err(complaint) };
        if let Word::Name(name) = token.word {
            let Some(other) = Field::named(name) else {
                return Err(Diagnostic::new(format!("unknown word `{name}`"), token.span.clone())
                    .help(field.example()));
            };
            return compare(field, operator, other).map_err(|(message, help)| {
                Diagnostic::new(message, token.span.clone()).help(help)
            });
        }
        if let Word::Value(text) = token.word
            && matches!(field, Field::Port | Field::OnePort(_))
            && text.contains('-')
        {
            return Err(Diagnostic::new("a range cannot be an operand", token.span.clone())
                .help(format!("write `in {{{text}}}`")));
        }
        let item = item(field, token)?;
        Ok(match (operator, item) {
            ("==", item) => tests(field, vec![item]),
            ("!=", item) => not(tests(field, vec![item])),
            (_, Item::Port(range)) => ordered(field, operator, range.low),
            // Refused above.
            (_, _) => Formula::Any(Vec::new()),
        })
    }

    fn set(&mut self, field: Field) -> Result<Formula, Mistake> {
        self.expect(&Word::OpenSet, "expected `{`")
            .map_err(|it| it.help("for example: port in {80, 443}"))?;
        let mut items = Vec::new();
        loop {
            let complaint = self.unexpected("expected an item");
            let Some(token) = self.next() else { return Err(complaint) };
            if token.word == Word::CloseSet && items.is_empty() {
                return Err(Diagnostic::new(
                    "an empty set: nothing can match it",
                    token.span.clone(),
                ));
            }
            items.push(item(field, token)?);
            if self.takes(&Word::CloseSet) {
                return Ok(tests(field, items));
            }
            self.expect(&Word::Comma, "expected `,` or `}`")?;
        }
    }
}

fn unknown_field(name: &str, span: std::ops::Range<usize>) -> Mistake {
    let error = Diagnostic::new(format!("unknown field `{name}`"), span);
    match nearest(name, FIELDS.iter().map(|(known, _)| *known)) {
        Some(known) => error.help(format!("did you mean `{known}`?")),
        None => {
            let names: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
            error.help(format!("the fields are {}", names.join(", ")))
        }
    }
}

/// A literal with its type.
enum Item {
    Port(PortRange),
    Address(Prefix),
    Interface(Pattern),
    Family(Family),
    Direction(Direction),
}

fn item(field: Field, token: &Token<'_>) -> Result<Item, Mistake> {
    let wrong = |what: &str| {
        let message = format!("{} can't be compared with {what}", field.kind());
        Diagnostic::new(message, token.span.clone()).help(field.example())
    };
    let bad = |(message, help): (String, Option<String>)| {
        Diagnostic::new(message, token.span.clone())
            .help(help.unwrap_or_else(|| field.example().into()))
    };
    match (field, token.word) {
        (Field::Port | Field::OnePort(_), Word::Value(text)) => {
            if address::parse(text).is_ok() && text.contains(['.', ':']) {
                return Err(wrong("an address"));
            }
            port::parse(text).map(Item::Port).map_err(bad)
        }
        (Field::Address(_), Word::Value(text)) => {
            if text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong("a number"));
            }
            address::parse(text).map(Item::Address).map_err(bad)
        }
        (Field::Interface, Word::Quoted(text)) => match interface::problem(text) {
            None => Ok(Item::Interface(Pattern(text.into()))),
            Some(problem) => Err(bad((format!("invalid interface name: {problem}"), None))),
        },
        (Field::Family, Word::Quoted("ipv4")) => Ok(Item::Family(Family::Ipv4)),
        (Field::Family, Word::Quoted("ipv6")) => Ok(Item::Family(Family::Ipv6)),
        (Field::Direction, Word::Quoted("outgoing")) => Ok(Item::Direction(Direction::Outgoing)),
        (Field::Direction, Word::Quoted("incoming")) => Ok(Item::Direction(Direction::Incoming)),
        (Field::Family | Field::Direction, Word::Quoted(text)) => {
            Err(bad((format!("unknown value \"{text}\""), None)))
        }
        (_, Word::Quoted(_)) => Err(wrong("a quoted word")),
        (_, Word::Value(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(wrong("a number"))
        }
        (_, Word::Value(text)) if address::parse(text).is_ok() => Err(wrong("an address")),
        (_, Word::Value(text)) => Err(wrong(&format!("`{text}`"))),
        (_, Word::Name(name)) => Err(wrong(&format!("`{name}`"))),
        _ => Err(Diagnostic::new("expected a value", token.span.clone()).help(field.example())),
    }
}

/// The field is one of the items.
fn tests(field: Field, items: Vec<Item>) -> Formula {
    let (mut ports, mut prefixes, mut patterns, mut rest) = (vec![], vec![], vec![], vec![]);
    for item in items {
        match item {
            Item::Port(range) => ports.push(range),
            Item::Address(prefix) => prefixes.push(prefix),
            Item::Interface(pattern) => patterns.push(pattern),
            Item::Family(family) => rest.push(Formula::Test(Test::Family(family))),
            Item::Direction(direction) => rest.push(Formula::Test(Test::Direction(direction))),
        }
    }
    match field {
        Field::Port => either_port(ports),
        Field::OnePort(end) => Formula::Test(Test::Port(end, ports)),
        Field::Address(end) => Formula::Test(Test::Address(end, prefixes)),
        Field::Interface => Formula::Test(Test::Interface(patterns)),
        Field::Family | Field::Direction => Formula::Any(rest),
    }
}

/// Either end has one of the ports.
pub(in crate::check) fn either_port(ranges: Vec<PortRange>) -> Formula {
    let of = |end| Formula::Test(Test::Port(end, ranges.clone()));
    Formula::Any(vec![of(End::Local), of(End::Remote)])
}

/// An order that no port satisfies is an empty range.
fn ordered(field: Field, operator: &str, port: u16) -> Formula {
    let range = match operator {
        "<" => port.checked_sub(1).map(|high| (0, high)),
        "<=" => Some((0, port)),
        ">" => port.checked_add(1).map(|low| (low, u16::MAX)),
        _ => Some((port, u16::MAX)),
    };
    match range {
        Some((low, high)) => tests(field, vec![Item::Port(PortRange { low, high })]),
        None => Formula::Any(Vec::new()),
    }
}

/// Two fields; the message and the help if they can't be compared.
fn compare(left: Field, operator: &str, right: Field) -> Result<Formula, (String, String)> {
    let ends = |left: End, operator: &str, right: End| match (left, right) {
        (End::Local, End::Remote) => Ok(operator.to_string()),
        // Mirrored: remote < local is local > remote.
        (End::Remote, End::Local) => {
            Ok(operator.replace('<', "#").replace('>', "<").replace('#', ">"))
        }
        _ => Err(("a field compared with itself".to_string(), "name the other end".to_string())),
    };
    match (left, right) {
        (Field::OnePort(left), Field::OnePort(right)) => {
            let operator = ends(left, operator, right)?;
            let holds: &[Ordering] = match operator.as_str() {
                "==" => &[Ordering::Equal],
                "!=" => &[Ordering::Less, Ordering::Greater],
                "<" => &[Ordering::Less],
                "<=" => &[Ordering::Less, Ordering::Equal],
                ">" => &[Ordering::Greater],
                _ => &[Ordering::Equal, Ordering::Greater],
            };
            let tests = holds.iter().map(|ordering| Formula::Test(Test::Ports(*ordering)));
            Ok(Formula::Any(tests.collect()))
        }
        (Field::Address(left), Field::Address(right)) => {
            let same = Formula::Test(Test::SameAddress);
            match ends(left, operator, right)?.as_str() {
                "==" => Ok(same),
                _ => Ok(not(same)),
            }
        }
        (Field::Port | Field::OnePort(_), Field::Port | Field::OnePort(_)) => Err((
            "`port` means either end and can't be compared with a field".into(),
            "compare `local_port` with `remote_port`".into(),
        )),
        _ if left == right => Err(("a field compared with itself".into(), left.example().into())),
        _ => Err((
            format!("{} can't be compared with {}", left.kind(), right.kind()),
            left.example().into(),
        )),
    }
}

fn not(formula: Formula) -> Formula {
    Formula::Not(Box::new(formula))
}
