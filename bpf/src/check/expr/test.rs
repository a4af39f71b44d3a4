//! Tests: a field, an operator and an operand.

use super::lex::{Token, Word};
use super::{Mistake, Parser};
use crate::check::condition::{Literal, is_one_of};
use crate::check::habits;
use crate::check::values::{is_number, ports, prefix};
use crate::diag::{Diagnostic, Span, nearest};
use crate::field::{ADDRESS, FIELDS, Field, Kind, NUMBER, QUOTED, SOCKET_WORDS};
use crate::rule::{End, Formula, Test};
use std::cmp::Ordering;

impl Parser<'_> {
    pub(super) fn test(&mut self) -> Result<Formula, Mistake> {
        if let Some(field) = self.socket_word() {
            return self.socket(field);
        }
        if self.is_sum() {
            return self.sums();
        }
        let complaint = self.unexpected("expected a test, such as port == 80");
        let (name, span) = match self.next() {
            Some(Token { word: Word::Name(name), span }) => (name, span),
            Some(Token { word: Word::Value(name), span }) if habits::key(name).is_some() => {
                (name, span)
            }
            _ => return Err(complaint),
        };
        let Some(field) = Field::named(name) else {
            let error = Diagnostic::new(format!("unknown field `{name}`"), span.clone());
            let names = FIELDS.iter().map(|field| field.key);
            let names: Vec<_> = names.chain(SOCKET_WORDS.map(|(word, _)| word)).collect();
            if let Some(help) = habits::key(name) {
                return Err(error.help(help));
            }
            return Err(error.help(match nearest(name, names.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("the fields are {}", names.join(", ")),
            }));
        };
        if self.takes(&Word::Name("in")) {
            return self.set(field);
        }
        let complaint = self.unexpected("expected a comparison or `in`");
        match self.next() {
            Some(Token { word: Word::Operator(operator), .. }) => {
                if !matches!(*operator, "==" | "!=") && !matches!(field.kind, Kind::Port(_)) {
                    let noun = field.kind.values().noun;
                    let message = format!("`{operator}` orders ports only: this is {noun}");
                    return Err(
                        Diagnostic::new(message, span.clone()).help("use `==`, `!=` or `in`")
                    );
                }
                self.operand(field, operator)
            }
            _ => Err(complaint.help("for example: port == 80, port in {80, 8000-8999}")),
        }
    }

    fn operand(&mut self, field: &Field, operator: &str) -> Result<Formula, Mistake> {
        let complaint = self.unexpected("expected something to compare with");
        let Some(token) = self.next() else { return Err(complaint) };
        let mistake =
            |message, help: String| Err(Diagnostic::new(message, token.span.clone()).help(help));
        if let Word::Name(name) = token.word {
            let Some(other) = Field::named(name) else {
                let help = field.kind.values().example;
                return mistake(format!("unknown word `{name}`"), help.into());
            };
            return compare(field, operator, other)
                .or_else(|(message, help)| mistake(message, help));
        }
        let literal = literal(field.kind, token)?;
        if matches!(field.kind, Kind::Port(_)) && literal.text.contains('-') {
            let help = format!("write `in {{{}}}`", literal.text);
            return mistake("a range cannot be an operand".into(), help);
        }
        match operator {
            "==" => one_of(field, vec![literal]),
            "!=" => Ok(not(one_of(field, vec![literal])?)),
            _ => ordered(field, operator, literal),
        }
    }

    fn set(&mut self, field: &Field) -> Result<Formula, Mistake> {
        if let Some(Token { word: Word::List(name), span }) = self.peek() {
            self.at += 1;
            return self.list(field, name, span);
        }
        self.expect(&Word::OpenSet, "expected `{`")
            .map_err(|it| it.help("for example: port in {80, 443}, or in @name of [lists]"))?;
        let mut literals = Vec::new();
        loop {
            let complaint = self.unexpected("expected an item");
            let Some(token) = self.next() else { return Err(complaint) };
            if token.word == Word::CloseSet && literals.is_empty() {
                let message = "an empty set: nothing can match it";
                return Err(Diagnostic::new(message, token.span.clone()));
            }
            literals.push(literal(field.kind, token)?);
            if self.takes(&Word::CloseSet) {
                return one_of(field, literals);
            }
            self.expect(&Word::Comma, "expected `,` or `}`")?;
        }
    }
}

impl Parser<'_> {
    /// A list of `[lists]`.
    fn list(&self, field: &Field, name: &str, span: &Span) -> Result<Formula, Mistake> {
        let here = |message: String| Diagnostic::new(message, span.clone());
        let value = self
            .lists
            .named(name)
            .map_err(|help| here(format!("unknown list `@{name}`")).help(help))?;
        let literals = self.lists.literals(field.kind, value);
        let found = literals.and_then(|it| is_one_of(field, it, field.kind.values().help));
        found.map(|(_, formula)| formula).map_err(|mut mistakes| {
            // Positions of the list are no positions of the expression.
            let Diagnostic { message, span, help, file, .. } = mistakes.swap_remove(0);
            let label = format!("in the list `{name}`");
            Diagnostic { help, file, ..here(message).other(span, label) }
        })
    }
}

/// The text of a value, if it is written as this kind of field requires.
fn literal<'t>(kind: Kind, token: &Token<'t>) -> Result<Literal<'t>, Mistake> {
    let values = kind.values();
    let span = token.span.clone();
    let (text, found) = match token.word {
        Word::Quoted(text) => (text, QUOTED.into()),
        Word::Value(text) if is_number(text) => (text, NUMBER.into()),
        Word::Value(text) if prefix(text).is_ok() => (text, ADDRESS.into()),
        Word::Value(text) | Word::Name(text) => (text, format!("`{text}`")),
        _ => return Err(Diagnostic::new("expected a value", span).help(values.example)),
    };
    // Other unquoted words may be misspelt ports or addresses, which the field's own check explains.
    let is_other = matches!(token.word, Word::Value(_)) && found.starts_with('`');
    if found == values.operand || is_other && values.operand != QUOTED {
        return Ok(Literal { text: text.into(), place: span.into() });
    }
    let message = format!("{} can't be compared with {found}", values.noun);
    Err(Diagnostic::new(message, span).help(values.example))
}

/// The formula that the field has one of the values, or the first mistake.
fn one_of(field: &Field, literals: Vec<Literal<'_>>) -> Result<Formula, Mistake> {
    let found = is_one_of(field, literals.into_iter().map(Ok), field.kind.values().example);
    found.map(|(_, formula)| formula).map_err(|mut mistakes| mistakes.swap_remove(0))
}

/// The ports below or above a port. If there are none, nothing matches.
fn ordered(field: &Field, operator: &str, literal: Literal<'_>) -> Result<Formula, Mistake> {
    let Ok(range) = ports(&literal.text) else { return one_of(field, vec![literal]) };
    let port = range.low;
    let range = match operator {
        "<" => port.checked_sub(1).map(|high| (0, high)),
        "<=" => Some((0, port)),
        ">" => port.checked_add(1).map(|low| (low, u16::MAX)),
        ">=" => Some((port, u16::MAX)),
        other => unreachable!("`{other}` is no order"),
    };
    match range {
        Some((low, high)) => {
            one_of(field, vec![Literal { text: format!("{low}-{high}").into(), ..literal }])
        }
        None => Ok(Formula::Any(Vec::new())),
    }
}

/// Compares two fields. The error is a message and a help.
fn compare(left: &Field, operator: &str, right: &Field) -> Result<Formula, (String, String)> {
    let (noun, example) = (left.kind.values().noun, left.kind.values().example);
    let itself = |help: &str| Err(("a field compared with itself".into(), help.into()));
    match (left.kind, right.kind) {
        (Kind::Port([left]), Kind::Port([right])) if left == right => itself("name the other end"),
        (Kind::Address(left), Kind::Address(right)) if left == right => {
            itself("name the other end")
        }
        (Kind::Port([end]), Kind::Port([_])) => {
            // `Test::Ports` compares the local port with the remote one.
            let (less, greater) = match end {
                End::Local => (Ordering::Less, Ordering::Greater),
                End::Remote => (Ordering::Greater, Ordering::Less),
            };
            let orders = match operator {
                "==" => vec![Ordering::Equal],
                "!=" => vec![Ordering::Less, Ordering::Greater],
                "<" => vec![less],
                "<=" => vec![less, Ordering::Equal],
                ">" => vec![greater],
                ">=" => vec![Ordering::Equal, greater],
                other => unreachable!("`{other}` is no operator"),
            };
            Ok(Formula::Any(orders.into_iter().map(Test::Ports).map(Formula::Test).collect()))
        }
        (Kind::Address(_), Kind::Address(_)) => {
            let same = Formula::Test(Test::SameAddress);
            Ok(if operator == "==" { same } else { not(same) })
        }
        (Kind::Port(_), Kind::Port(_)) => Err((
            "`port` means either end and can't be compared with a field".into(),
            "compare `local_port` with `remote_port`".into(),
        )),
        _ if left == right => itself(example),
        _ => Err((
            format!("{noun} can't be compared with {}", right.kind.values().noun),
            example.into(),
        )),
    }
}

fn not(formula: Formula) -> Formula {
    Formula::Not(Box::new(formula))
}
