//! Arithmetic of ports: `local_port & 1 == 0`, `remote_port - local_port == 1000`.

use super::lex::{Token, Word};
use super::{DEEPEST, Mistake, Parser};
use crate::check::values::is_number;
use crate::diag::{Diagnostic, Span};
use crate::field::{Field, Kind};
use crate::rule::{End, Fact, Formula, PortRange, Sum, Test};
use std::cmp::Ordering;

const EXAMPLE: &str = "for example: local_port & 1 == 0";

/// A sum: ports with their factors and masks, and a number.
#[derive(Default)]
struct Linear {
    ports: Vec<Part>,
    number: i64,
}

struct Part {
    ends: &'static [End],
    factor: i64,
    mask: u16,
}

impl<'t> Parser<'t> {
    /// True if arithmetic occurs in the test that begins here.
    pub(super) fn is_sum(&self) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let mut depth = 0_usize;
        for token in rest {
            match token.word {
                Word::Arithmetic(_) => return true,
                Word::Open => depth += 1,
                Word::Close if depth > 0 => depth -= 1,
                Word::Close | Word::OpenSet | Word::Name("and" | "or" | "in") => return false,
                _ => {}
            }
        }
        false
    }

    /// True if the parenthesis that begins here encloses a sum and not an expression: an operator follows it.
    pub(super) fn is_sum_in_parentheses(&self) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let mut depth = 0_usize;
        for (at, token) in rest.iter().enumerate() {
            match token.word {
                Word::Open => depth += 1,
                Word::Close if depth > 1 => depth -= 1,
                Word::Close => {
                    let next = rest.get(at + 1).map(|token| token.word);
                    return matches!(next, Some(Word::Operator(_) | Word::Arithmetic(_)));
                }
                _ if depth == 0 => return false,
                _ => {}
            }
        }
        false
    }

    /// A comparison of two sums.
    pub(super) fn sums(&mut self) -> Result<Formula, Mistake> {
        let start = self.peek().map_or(self.end, |token| token.span.start);
        let mut sum = Linear::default();
        self.sum(&mut sum, 1)?;
        let complaint = self.unexpected("expected a comparison");
        let Some(Token { word: Word::Operator(operator), .. }) = self.next() else {
            return Err(complaint.help(EXAMPLE));
        };
        self.sum(&mut sum, -1)?;
        let end = self.tokens.get(self.at.wrapping_sub(1)).map_or(self.end, |it| it.span.end);
        sum.compare(operator, start..end)
    }

    /// Parses a sum and adds it, multiplied by `sign`.
    fn sum(&mut self, sum: &mut Linear, sign: i64) -> Result<(), Mistake> {
        let mut factor = sign;
        loop {
            self.term(sum, factor)?;
            match self.peek().map(|token| token.word) {
                Some(Word::Arithmetic("+")) => factor = sign,
                Some(Word::Arithmetic("-")) => factor = -sign,
                _ => return Ok(()),
            }
            self.at += 1;
        }
    }

    fn term(&mut self, sum: &mut Linear, factor: i64) -> Result<(), Mistake> {
        if self.takes(&Word::Open) {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(self.unexpected("nested too deeply").help("at most 64 levels"));
            }
            self.sum(sum, factor)?;
            self.depth -= 1;
            return self.expect(&Word::Close, "expected `)`");
        }
        let complaint = self.unexpected("expected a port or a number");
        let Some(Token { word, span }) = self.next() else { return Err(complaint) };
        let (field, text) = match word {
            Word::Name(name) => (Some(Field::named(name).map(|field| field.kind)), *name),
            Word::Value(text) if is_numeral(text) => (None, *text),
            _ => return Err(complaint.help("spaces around `+` and `-`")),
        };
        let mask = match self.takes(&Word::Arithmetic("&")) {
            true => Some(self.number(EXAMPLE)?),
            false => None,
        };
        match field {
            Some(Some(Kind::Port(ends))) => {
                // A port has 16 bits.
                let mask = mask.map_or(u16::MAX, |mask| (mask & 0xffff) as u16);
                sum.ports.push(Part { ends, factor, mask });
            }
            Some(_) => {
                return Err(Diagnostic::new("arithmetic needs ports and numbers", span.clone())
                    .help("for example: remote_port - local_port == 1000"));
            }
            None => {
                let number = number(text, span)?;
                sum.number += factor * (number & mask.unwrap_or(i64::MAX));
            }
        }
        Ok(())
    }

    /// A number. The example is the help if there is none.
    pub(super) fn number(&mut self, example: &str) -> Result<i64, Mistake> {
        let complaint = self.unexpected("expected a number");
        match self.next() {
            Some(Token { word: Word::Value(text), span }) if is_numeral(text) => number(text, span),
            _ => Err(complaint.help(example)),
        }
    }
}

/// True for a decimal or hexadecimal number.
fn is_numeral(text: &str) -> bool {
    is_number(text) || text.starts_with("0x")
}

/// Parses a number of at most 32 bits, which keeps sums from overflowing.
fn number(text: &str, span: &Span) -> Result<i64, Mistake> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map(i64::from).map_err(|_| {
        Diagnostic::new("not a number of 32 bits", span.clone()).help("from 0 to 4294967295")
    })
}

impl Linear {
    /// The formula for comparing this sum with 0.
    fn compare(self, operator: &str, span: Span) -> Result<Formula, Mistake> {
        let orders = match operator {
            "==" | "!=" => vec![Ordering::Equal],
            "<" => vec![Ordering::Less],
            "<=" => vec![Ordering::Less, Ordering::Equal],
            ">" => vec![Ordering::Greater],
            ">=" => vec![Ordering::Equal, Ordering::Greater],
            other => unreachable!("`{other}` is no operator"),
        };
        let mistake = |message: &str, help: &str| {
            Err(Diagnostic::new(message, span.clone()).help(help.to_owned()))
        };
        let mut parts: Vec<Part> = Vec::new();
        for part in self.ports {
            match parts.iter_mut().find(|it| (it.ends, it.mask) == (part.ends, part.mask)) {
                Some(known) => known.factor += part.factor,
                None => parts.push(part),
            }
        }
        parts.retain(|part| part.factor != 0);
        let small = |part: &Part| i32::try_from(part.factor).ok().map(|it| (it, part.mask));
        let formula = match parts.as_slice() {
            [] => {
                return mistake(
                    "no port is left in this comparison",
                    "compare numbers with a port",
                );
            }
            [part] => {
                let Some(factor) = small(part) else {
                    return mistake("a number too large", "use fewer terms");
                };
                let ends = part.ends.iter();
                Formula::any(ends.map(|end| one(*end, factor, -self.number, &orders)).collect())
            }
            [one, other]
                if one.ends.len() == 1 && other.ends.len() == 1 && one.ends != other.ends =>
            {
                let (local, remote) =
                    if one.ends[0] == End::Local { (one, other) } else { (other, one) };
                let (Some(local), Some(remote)) = (small(local), small(remote)) else {
                    return mistake("a number too large", "use fewer terms");
                };
                both(local, remote, -self.number, &orders)
            }
            _ => {
                return mistake(
                    "arithmetic with too many ports",
                    "use `port` alone, or `local_port` and `remote_port` once each",
                );
            }
        };
        Ok(if operator == "!=" { Formula::Not(Box::new(formula)) } else { formula })
    }
}

/// A comparison of one port. Without a mask it is a range of ports, which the check for unreachable rules understands.
fn one(end: End, (factor, mask): (i32, u16), number: i64, orders: &[Ordering]) -> Formula {
    let none = (0, u16::MAX);
    if mask != u16::MAX {
        let part = (factor, mask);
        let (local, remote) = if end == End::Local { (part, none) } else { (none, part) };
        return both(local, remote, number, orders);
    }
    if factor < 0 {
        let orders: Vec<_> = orders.iter().rev().map(|order| order.reverse()).collect();
        return one(end, (-factor, mask), -number, &orders);
    }
    let factor = i64::from(factor);
    // The first port whose product is not below the number, and the first one whose product is above it.
    let within = number.clamp(0, factor * 65_536);
    let below = within / factor + i64::from(within % factor != 0);
    let reached = below + i64::from(below * factor == number && below < 65_536);
    let ranges = orders.iter().filter_map(|order| {
        let (start, end) = match order {
            Ordering::Less => (0, below),
            Ordering::Equal => (below, reached),
            Ordering::Greater => (reached, 65_536),
        };
        (start < end).then(|| PortRange { low: start as u16, high: (end - 1) as u16 })
    });
    let ranges: Vec<PortRange> = ranges.collect();
    match ranges.is_empty() {
        true => Formula::Any(Vec::new()),
        false => Formula::Test(Test::Port(end, ranges)),
    }
}

/// A comparison of a sum of both ports.
fn both(local: (i32, u16), remote: (i32, u16), number: i64, orders: &[Ordering]) -> Formula {
    let is_plain = (local, remote, number) == ((1, u16::MAX), (-1, u16::MAX), 0);
    // Comparisons that mean the same get the same form.
    let first = if local.0 == 0 { remote.0 } else { local.0 };
    if first < 0 {
        let negated = |(factor, mask): (i32, u16)| (-factor, mask);
        let orders: Vec<_> = orders.iter().rev().map(|order| order.reverse()).collect();
        return both(negated(local), negated(remote), -number, &orders);
    }
    let test = |order| {
        Formula::Test(match is_plain {
            true => Test::Ports(order),
            false => Test::Fact(Fact::Sum(Sum { local, remote, number, order })),
        })
    };
    match orders {
        // Negated, it is one comparison.
        [Ordering::Less, Ordering::Equal] => Formula::Not(Box::new(test(Ordering::Greater))),
        [Ordering::Equal, Ordering::Greater] => Formula::Not(Box::new(test(Ordering::Less))),
        orders => Formula::any(orders.iter().map(|order| test(*order)).collect()),
    }
}
