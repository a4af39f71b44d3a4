//! The tests' model of a rule set.

use super::settings::Setting;

/// Rules in order.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    /// Determines spellings and layout of the text.
    pub(crate) style: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Condition>,
    /// Microseconds.
    pub(crate) rto: Option<u64>,
    /// The others.
    pub(crate) settings: Vec<Setting>,
}

impl Rule {
    /// True if it matches and changes nothing: `use = "kernel"`.
    pub(crate) fn exempts(&self) -> bool {
        self.rto.is_none() && self.settings.is_empty()
    }
}

/// Each kind at most once in a rule.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Interface(Vec<String>),
    Port(Which, Vec<Ports>),
    Address(Side, Vec<Net>),
    Family(Family),
    Direction(Direction),
    When(Expression),
}

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Test(Test),
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// A port and a number.
    Port(Which, Operator, u16),
    PortIn(Which, Vec<Ports>),
    /// The ports of both ends.
    PortOf(Side, Operator),
    /// A port and a mask, and a number.
    Masked(Which, u16, Operator, u16),
    /// The one end's port plus or minus the other's, and a number.
    Sum(Side, bool, Operator, i64),
    Address(Side, Equal, Net),
    AddressIn(Side, Vec<Net>),
    /// The addresses of both ends.
    AddressOf(Side, Equal),
    /// A number of the socket, perhaps a mask, and a number.
    Socket(SocketNumber, Option<u32>, Operator, u32),
    SocketIn(SocketNumber, Vec<u32>),
    Interface(Equal, String),
    InterfaceIn(Vec<String>),
    Family(Equal, Family),
    FamilyIn(Vec<Family>),
    Direction(Equal, Direction),
    DirectionIn(Vec<Direction>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Local,
    Remote,
}

/// The index of the number in [`super::connection::Connection::numbers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketNumber {
    Mark,
    Priority,
    Tos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Either,
    One(Side),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Outgoing,
    Incoming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equal {
    Is,
    IsNot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// From the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports(pub(crate) u16, pub(crate) u16);

/// Address and length; bits beyond the length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    V4(u32, u8),
    V6(u128, u8),
}

impl Net {
    /// First and last address.
    pub(crate) fn range4(address: u32, length: u8) -> (u32, u32) {
        (address, address | u32::MAX.checked_shr(length.into()).unwrap_or(0))
    }

    /// First and last address.
    pub(crate) fn range6(address: u128, length: u8) -> (u128, u128) {
        (address, address | u128::MAX.checked_shr(length.into()).unwrap_or(0))
    }
}

impl Expression {
    /// All tests in it.
    pub(crate) fn tests<'e>(&'e self, into: &mut Vec<&'e Test>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|it| it.tests(into)),
            Self::Not(inner) => inner.tests(into),
            Self::Test(test) => into.push(test),
        }
    }
}
