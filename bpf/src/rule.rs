//! Typed rules, as the checks produce them: every value is in its range, every address in its family.

use crate::diag::Span;
use crate::setting::Settings;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One `[[rule]]`: if its conditions match, its settings apply, and no later rule is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the file: `[a-z0-9][a-z0-9_-]*`, at most 63 bytes.
    pub name: String,
    /// The line of its `[[rule]]`, counted from 1.
    pub line: usize,
    /// The position of its `[[rule]]`.
    pub span: Span,
    /// All must match. A rule without conditions matches every connection.
    pub conditions: Vec<Condition>,
    /// What it sets.
    pub settings: Settings,
}

impl Rule {
    /// The numbers of the socket that its conditions test.
    #[must_use]
    pub fn socket_fields(&self) -> BTreeSet<SocketField> {
        let mut fields = BTreeSet::new();
        for condition in &self.conditions {
            condition.formula.each(&mut |test| {
                if let Test::Fact(Fact::Socket(it)) = test {
                    fields.insert(it.of);
                }
            });
        }
        fields
    }

    /// The conditions in the expression language; `true` for none.
    #[must_use]
    pub fn when(&self) -> String {
        let texts: Vec<_> = self.conditions.iter().map(|it| it.text.clone()).collect();
        match texts.as_slice() {
            [] => "true".into(),
            [one] => one.clone(),
            many => many.iter().map(|text| parenthesize(text)).collect::<Vec<_>>().join(" and "),
        }
    }
}

/// An `or` binds less tightly than the `and` that joins the conditions.
fn parenthesize(text: &str) -> String {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if words.any(|word| word == "or") { format!("({text})") } else { text.into() }
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The position of its value in the file.
    pub span: Span,
    /// The condition in the expression language.
    pub text: String,
    /// The condition as a formula.
    pub formula: Formula,
}

/// A condition as a formula over tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    /// All match; true if there are none.
    All(Vec<Formula>),
    /// At least one matches; false if there are none.
    Any(Vec<Formula>),
    /// The inner formula does not match.
    Not(Box<Formula>),
    /// A test of the connection.
    Test(Test),
}

impl Formula {
    /// At least one part matches. A single part is returned as it is.
    #[must_use]
    pub fn any(parts: Vec<Self>) -> Self {
        Self::join(parts, Self::Any)
    }

    /// All parts match. A single part is returned as it is.
    #[must_use]
    pub fn all(parts: Vec<Self>) -> Self {
        Self::join(parts, Self::All)
    }

    fn join(mut parts: Vec<Self>, join: fn(Vec<Self>) -> Self) -> Self {
        if parts.len() == 1 { parts.remove(0) } else { join(parts) }
    }

    /// Calls `f` with each test.
    pub fn each(&self, f: &mut impl FnMut(&Test)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each(f)),
            Self::Not(inner) => inner.each(f),
            Self::Test(test) => f(test),
        }
    }

    /// The number of its tests.
    #[must_use]
    pub fn tests(&self) -> usize {
        let mut count = 0;
        self.each(&mut |_| count += 1);
        count
    }

    /// The number of items in the lists of all its tests.
    #[must_use]
    pub fn items(&self) -> usize {
        let mut count = 0;
        self.each(&mut |test| {
            count += match test {
                Test::Interface(items) => items.len(),
                Test::Port(_, items) => items.len(),
                Test::Address(_, items) => items.len(),
                _ => 1,
            };
        });
        count
    }
}

/// One test; the items of its list are alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The device that the SYN leaves or came in by.
    Interface(Vec<Pattern>),
    /// The port of one end.
    Port(End, Vec<PortRange>),
    /// The address of one end.
    Address(End, Vec<Prefix>),
    /// The packets' family.
    Family(Family),
    /// Who sends the SYN.
    Direction(Direction),
    /// The local port, compared with the remote one.
    Ports(Ordering),
    /// Both ends have the same address.
    SameAddress,
    /// A fact that the other tests neither imply nor exclude, as far as the compiler knows.
    Fact(Fact),
}

/// A fact about a connection, for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// A sum of ports.
    Sum(Sum),
    /// A number of the socket that sends the SYN. False where there is none.
    Socket(SocketNumber),
    /// What a function in C returns, by its number in [`crate::files::Code`].
    Code(u16),
}

/// A comparison of `number of the socket & mask` with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketNumber {
    /// Which number.
    pub of: SocketField,
    /// The bits that are compared.
    pub mask: u32,
    /// What it is compared with.
    pub number: u32,
    /// The socket's number is below, at or above it.
    pub order: Ordering,
}

/// What an application sets of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketField {
    /// `SO_MARK`.
    Mark,
    /// `SO_PRIORITY`.
    Priority,
    /// `IP_TOS` or `IPV6_TCLASS`, without the two bits of ECN.
    Tos,
}

/// A comparison of `local · (local port & mask) + remote · (remote port & mask)` with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sum {
    /// The factor, 0 if the port is not part of the sum, and the mask.
    pub local: (i32, u16),
    /// The same for the remote port.
    pub remote: (i32, u16),
    /// What the sum is compared with.
    pub number: i64,
    /// The sum is below, at or above it.
    pub order: Ordering,
}

impl Sum {
    /// True if these ports satisfy it.
    #[must_use]
    pub fn matches(&self, local: u16, remote: u16) -> bool {
        let part =
            |(factor, mask): (i32, u16), port: u16| i64::from(factor) * i64::from(port & mask);
        let sum = part(self.local, local) + part(self.remote, remote);
        sum.cmp(&self.number) == self.order
    }
}

/// An end of the connection, as seen from this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This host's.
    Local,
    /// The peer's.
    Remote,
}

/// Ports from `low` to `high`, both included, host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The first port.
    pub low: u16,
    /// The last port, not below `low`.
    pub high: u16,
}

/// An address prefix; bits beyond the length are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// IPv4, length 0 to 32. IPv4-mapped IPv6 prefixes end up here too.
    V4(Ipv4Addr, u8),
    /// IPv6, length 0 to 128. Never means an IPv4-mapped address, not even as `::/0`.
    V6(Ipv6Addr, u8),
}

impl Prefix {
    /// The family it belongs to.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::V4(..) => Family::Ipv4,
            Self::V6(..) => Family::Ipv6,
        }
    }
}

/// The packets' address family; an IPv4-mapped IPv6 socket sends IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Who opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// This host sends the SYN (active open).
    Outgoing,
    /// This host answers it (passive open).
    Incoming,
}

/// An interface name, at most 15 bytes, or a glob: `*` is any run of characters, `?` any single one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(pub String);

impl Pattern {
    /// True if it contains `*` or `?`.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.0.contains(['*', '?'])
    }
}

/// A description lists this many items and counts the others.
const SPELLED: usize = 8;

/// A test in the expression language: `field == item` or `field in {item, …}`.
pub(crate) fn describe<T: fmt::Display>(field: &str, items: &[T]) -> String {
    let spelled: Vec<_> = items.iter().take(SPELLED).map(ToString::to_string).collect();
    match spelled.as_slice() {
        // A range can't be an operand of `==`.
        [only] if only.starts_with('"') || !only.contains('-') => format!("{field} == {only}"),
        _ if items.len() > SPELLED => {
            let more = items.len() - SPELLED;
            format!("{field} in {{{}, … {more} more}}", spelled.join(", "))
        }
        _ => format!("{field} in {{{}}}", spelled.join(", ")),
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address, 32) => write!(f, "{address}"),
            Self::V4(address, length) => write!(f, "{address}/{length}"),
            Self::V6(address, 128) => write!(f, "{address}"),
            Self::V6(address, length) => write!(f, "{address}/{length}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "\"ipv4\"",
            Self::Ipv6 => "\"ipv6\"",
        })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outgoing => "\"outgoing\"",
            Self::Incoming => "\"incoming\"",
        })
    }
}
