//! What a rule can test. [`FIELDS`] has one entry for each field, which is a key of a rule and a word of expressions.
//! [`SOCKET_WORDS`] are words of expressions only. The check and the schema read these tables, and tests compare the
//! manual and the README with them.

use crate::rule::{End, SocketField};
use crate::setting::SETTINGS;

/// An entry of [`FIELDS`].
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Its key in rules.toml, and its name in expressions.
    pub key: &'static str,
    /// A sentence that describes it, as in set-rto-rules(5).
    pub text: &'static str,
    /// The kind of its values.
    pub kind: Kind,
}

/// The kind of a field's values, and the part of the connection that is compared with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The device that the SYN leaves or came in by.
    Interface,
    /// The port of one of these ends.
    Port(&'static [End]),
    /// The address of this end.
    Address(End),
    /// The packets' family.
    Family,
    /// Who sends the SYN.
    Direction,
}

/// What all fields of one kind have in common.
#[derive(Debug)]
pub struct Values {
    /// What a value is, for messages.
    pub noun: &'static str,
    /// The message about a value of another TOML type.
    pub mistyped: &'static str,
    /// How values are written in TOML.
    pub help: &'static str,
    /// How values are written in expressions.
    pub example: &'static str,
    /// Which operand an expression needs: [`NUMBER`], [`ADDRESS`] or [`QUOTED`].
    pub operand: &'static str,
    /// True if a list is accepted in TOML.
    pub takes_list: bool,
}

/// Every field, in the order of the manual.
pub static FIELDS: [Field; 8] = [
    Field {
        key: "interface",
        text: "The name of an interface, or a glob with * and ?, or a list of them.",
        kind: Kind::Interface,
    },
    Field {
        key: "port",
        text: "A number from 0 to 65535, a range such as \"8000-8999\", or a list of both.",
        kind: Kind::Port(&[End::Local, End::Remote]),
    },
    Field {
        key: "local_port",
        text: "The port of this host's end, written as `port`.",
        kind: Kind::Port(&[End::Local]),
    },
    Field {
        key: "remote_port",
        text: "The port of the peer's end, written as `port`.",
        kind: Kind::Port(&[End::Remote]),
    },
    Field {
        key: "local",
        text: "This host's address: an address or a prefix, IPv4 or IPv6, or a list of them.",
        kind: Kind::Address(End::Local),
    },
    Field {
        key: "remote",
        text: "The peer's address, written as `local`.",
        kind: Kind::Address(End::Remote),
    },
    Field {
        key: "family",
        text: "\"ipv4\" or \"ipv6\", of the packets, not of the socket.",
        kind: Kind::Family,
    },
    Field {
        key: "direction",
        text: "\"outgoing\": this host sends the SYN. \"incoming\": it answers it.",
        kind: Kind::Direction,
    },
];

/// Words for numbers of the socket that sends the SYN. They stand only in expressions, because the same words as keys
/// are settings.
pub static SOCKET_WORDS: [(&str, SocketField); 3] =
    [("mark", SocketField::Mark), ("priority", SocketField::Priority), ("tos", SocketField::Tos)];

/// A number or a range.
pub(crate) const NUMBER: &str = "a number";
/// An address or a prefix.
pub(crate) const ADDRESS: &str = "an address";
/// A word in quotes.
pub(crate) const QUOTED: &str = "a quoted word";

impl Kind {
    /// What fields of this kind have in common.
    #[must_use]
    pub fn values(self) -> &'static Values {
        match self {
            Self::Interface => &Values {
                noun: "an interface",
                mistyped: "an interface is a string",
                help: "a name such as \"ax0\", or a glob such as \"ax*\"",
                example: "an interface is quoted: interface == \"ax0\"",
                operand: QUOTED,
                takes_list: true,
            },
            Self::Port(_) => &Values {
                noun: "a port",
                mistyped: "expected a port",
                help: "a port is a number from 0 to 65535, a range is \"8000-8999\"",
                example: "a port is a number from 0 to 65535",
                operand: NUMBER,
                takes_list: true,
            },
            Self::Address(_) => &Values {
                noun: "an address",
                mistyped: "an address is a string",
                help: "an address or a prefix: \"192.0.2.1\", \"10.0.0.0/8\", \"2001:db8::/32\"",
                example: "an address or prefix is not quoted: remote == 10.0.0.0/8",
                operand: ADDRESS,
                takes_list: true,
            },
            Self::Family => &Values {
                noun: "a family",
                mistyped: "expected a string",
                help: "write \"ipv4\" or \"ipv6\"",
                example: "write family == \"ipv4\" or family == \"ipv6\"",
                operand: QUOTED,
                takes_list: false,
            },
            Self::Direction => &Values {
                noun: "a direction",
                mistyped: "expected a string",
                help: "write \"outgoing\" or \"incoming\"",
                example: "write direction == \"outgoing\" or direction == \"incoming\"",
                operand: QUOTED,
                takes_list: false,
            },
        }
    }
}

impl Field {
    /// By its key.
    #[must_use]
    pub fn named(key: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.key == key)
    }
}

/// The key of a rule's name, and its description.
pub const NAME: (&str, &str) =
    ("name", "Unique in the file: [a-z0-9][a-z0-9_-]*, at most 63 characters.");

/// The key of an expression, and its description.
pub const WHEN: (&str, &str) = ("when", "An expression.");

/// The key of a rule that exempts, and its description.
pub const USE: (&str, &str) =
    ("use", "\"kernel\": the rule matches and changes nothing. It stands in place of settings.");

/// The key of rules among which the longest prefix decides, and its description.
pub const MATCH: (&str, &str) = (
    "match",
    "\"longest\": among neighbouring rules with this key the longest prefix decides, in any order.",
);

/// The key of a test in C, and its description.
pub const TEST: (&str, &str) =
    ("test", "The name of a C function in the file of [code]: it returns true.");

/// Every key that a rule may have with its description, in the order of the manual.
pub fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields = FIELDS.iter().map(|field| (field.key, field.text));
    let settings = SETTINGS.iter().map(|setting| (setting.key, setting.text));
    [NAME, USE, MATCH].into_iter().chain(fields).chain([WHEN, TEST]).chain(settings)
}
