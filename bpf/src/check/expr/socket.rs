//! Tests of what an application has set of its socket: `mark & 0xff == 5`, `priority in {4, 6}`.

use super::lex::{Token, Word};
use super::{Mistake, Parser};
use crate::check::habits;
use crate::check::setting::without_ecn;
use crate::diag::Diagnostic;
use crate::field::SOCKET_WORDS;
use crate::rule::{Direction, Fact, Formula, SocketField, SocketNumber, Test};
use std::cmp::Ordering;

const EXAMPLE: &str = "for example: mark == 5, mark & 0xff00 == 0x100";
const EXAMPLE_OF_TOS: &str = "for example: tos == 184, tos & 0xe0 == 160";

impl Parser<'_> {
    /// The word that begins here, if it names a number of the socket.
    pub(super) fn socket_word(&self) -> Option<SocketField> {
        let Word::Name(name) = self.peek()?.word else { return None };
        SOCKET_WORDS.iter().find(|(word, _)| *word == name).map(|(_, field)| *field)
    }

    /// A test of it. It matches outgoing connections only: an answered SYN has no such socket yet.
    pub(super) fn socket(&mut self, of: SocketField) -> Result<Formula, Mistake> {
        self.next();
        let mask = match self.takes(&Word::Arithmetic("&")) {
            true => self.mask_or_number(EXAMPLE)?,
            false => u32::MAX,
        };
        let fact = |number, order| {
            let fact = Fact::Socket(SocketNumber { of, mask, number, order });
            Formula::Test(Test::Fact(fact))
        };
        let complaint = self.unexpected("expected a comparison or `in`");
        let (formula, is_negated) = match self.next() {
            Some(Token { word: Word::Name("in"), .. }) => {
                self.expect(&Word::OpenSet, "expected `{`")
                    .map_err(|it| it.help("for example: mark in {1, 2}"))?;
                let mut numbers = vec![self.number_of_socket(of)?];
                while self.takes(&Word::Comma) {
                    numbers.push(self.number_of_socket(of)?);
                }
                self.expect(&Word::CloseSet, "expected `,` or `}`")?;
                let equal = numbers.into_iter().map(|number| fact(number, Ordering::Equal));
                (Formula::any(equal.collect()), false)
            }
            Some(Token { word: Word::Operator(operator), .. }) => {
                let number = self.number_of_socket(of)?;
                let formula = match *operator {
                    "<=" => Formula::Not(Box::new(fact(number, Ordering::Greater))),
                    ">=" => Formula::Not(Box::new(fact(number, Ordering::Less))),
                    "<" => fact(number, Ordering::Less),
                    ">" => fact(number, Ordering::Greater),
                    _ => fact(number, Ordering::Equal),
                };
                (formula, *operator == "!=")
            }
            _ => return Err(complaint.help(EXAMPLE)),
        };
        let outgoing = Formula::Test(Test::Direction(Direction::Outgoing));
        let formula = Formula::All(vec![outgoing, formula]);
        Ok(if is_negated { Formula::Not(Box::new(formula)) } else { formula })
    }

    fn mask_or_number(&mut self, example: &str) -> Result<u32, Mistake> {
        let number = self.number(example)?;
        Ok(u32::try_from(number).unwrap_or_else(|_| unreachable!("{number} has 32 bits")))
    }

    /// A number to compare with.
    fn number_of_socket(&mut self, of: SocketField) -> Result<u32, Mistake> {
        if of != SocketField::Tos {
            return self.mask_or_number(EXAMPLE);
        }
        let token = self.peek();
        let meant = match token.map(|it| it.word) {
            Some(Word::Quoted(name) | Word::Value(name) | Word::Name(name)) => habits::tos(name),
            _ => None,
        };
        let example = meant.map_or(EXAMPLE_OF_TOS.into(), |tos| format!("write `tos == {tos}`"));
        let number = self.mask_or_number(&example)?;
        let span = token.map_or(self.end..self.end, |it| it.span.clone());
        if number > 255 {
            let message = "`tos` out of range";
            return Err(Diagnostic::new(message, span).help("a whole number from 0 to 255"));
        }
        without_ecn(number, span, "==")
    }
}
