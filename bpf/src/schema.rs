//! The JSON Schema of rules files, for editors that complete and check TOML. It comes from the same tables as the
//! check.
//!
//! The schema is draft 7, which taplo and its editors read. It covers keys, types, ranges and forms. Whatever depends
//! on two places of a file (duplicate names, unreachable rules) or on arithmetic (the range of a duration, host bits of
//! a prefix) is left to the compiler.

use crate::check::{KEYS, NAME_MAX};
use crate::duration::{UNITS, spell};
use crate::setting::{ALGORITHM_MAX, Form, Mechanism, SPECS, Setting, Spec};
use std::fmt;

/// What each key is, in the words of set-rto-rules(5): `tests/manual.rs` compares them.
const TEXTS: [(&str, &str); 32] = [
    ("name", "Unique in the file: [a-z0-9][a-z0-9_-]*, at most 63 characters."),
    ("interface", "The name of an interface, or a glob with * and ?, or a list of them."),
    ("port", "A number from 0 to 65535, a range such as \"8000-8999\", or a list of both."),
    ("local_port", "The port of this host's end, written as `port`."),
    ("remote_port", "The port of the peer's end, written as `port`."),
    ("local", "This host's address: an address or a prefix, IPv4 or IPv6, or a list of them."),
    ("remote", "The peer's address, written as `local`."),
    ("family", "\"ipv4\" or \"ipv6\", of the packets, not of the socket."),
    ("direction", "\"outgoing\": this host sends the SYN. \"incoming\": it answers it."),
    ("when", "An expression."),
    ("rto", "The timer of the first retransmission of the SYN, or of the SYN-ACK."),
    ("syn_retries", "How often the SYN is retransmitted."),
    ("initial_cwnd", "The initial congestion window."),
    ("initial_rwnd", "The initial receive window, announced in the SYN or SYN-ACK."),
    ("cwnd_clamp", "The maximum of the congestion window."),
    ("rto_min", "The minimum of the retransmission timer, and at least two of the kernel's ticks."),
    ("delack_max", "The maximum delay of an ACK, and at least two of the kernel's ticks."),
    ("rto_max", "The maximum of the retransmission timer."),
    ("congestion", "The congestion control algorithm."),
    ("ecn", "Requests explicit congestion notification."),
    (
        "user_timeout",
        "How long data may stay unacknowledged, or a SYN unanswered, before the connection ends.",
    ),
    ("keepalive_idle", "The idle time before the first keepalive probe."),
    ("keepalive_interval", "The time between keepalive probes."),
    ("keepalive_count", "How many unanswered probes end the connection."),
    ("thin_linear_timeouts", "The timers of thin streams do not double."),
    ("notsent_lowat", "The amount of unsent data from which the socket is no longer writable."),
    ("sndbuf", "The send buffer."),
    ("rcvbuf", "The receive buffer."),
    ("max_pacing_rate", "The maximum sending rate."),
    ("mark", "The mark that ip rule and nftables match."),
    ("tos", "The type of service, or traffic class."),
    ("priority", "The queueing priority, which tc matches."),
];

/// What a key is, in a sentence or two.
#[must_use]
pub fn text(key: &str) -> &'static str {
    let known = TEXTS.iter().find(|(known, _)| *known == key);
    known.unwrap_or_else(|| unreachable!("TEXTS lacks `{key}`: the unit test asks for every key")).1
}

/// The schema, as the text of a file.
#[must_use]
pub fn schema() -> String {
    let settings = SPECS.iter().map(|spec| spec.key);
    let keys = KEYS.iter().map(|key| (*key, condition(key)));
    let keys = keys.chain(SPECS.iter().map(|spec| (spec.key, setting(spec))));
    let rule = object([
        ("type", "object".into()),
        ("description", "Rules are tried from the top; the first that matches decides.".into()),
        ("required", Json::List(vec![KEYS[0].into()])),
        (
            "anyOf",
            Json::List(settings.map(|key| object([("required", list([key.into()]))])).collect()),
        ),
        ("additionalProperties", Json::Bool(false)),
        ("properties", object(keys)),
    ]);
    let rules = object([("type", "array".into()), ("minItems", 1.into()), ("items", rule)]);
    let file = object([
        ("$schema", "http://json-schema.org/draft-07/schema#".into()),
        ("title", "Rules of set-rto".into()),
        ("description", "See set-rto-rules(5).".into()),
        ("type", "object".into()),
        ("required", list(["rule".into()])),
        ("additionalProperties", Json::Bool(false)),
        ("properties", object([("rule", rules)])),
    ]);
    format!("{file}\n")
}

/// `name` and the conditions.
fn condition(key: &str) -> Json {
    let one = match key {
        "name" => pattern(&format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", NAME_MAX - 1)),
        // What no interface can be called: `check::interface`.
        "interface" => pattern(r#"^[^\s/:"\\\[\]]{1,31}$"#),
        "port" | "local_port" | "remote_port" => {
            let number =
                [("type", "integer".into()), ("minimum", 0.into()), ("maximum", 65_535.into())];
            object([("anyOf", list([object(number), pattern("^[0-9]{1,5}(-[0-9]{1,5})?$")]))])
        }
        "local" | "remote" => pattern(r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"),
        "family" => object([("enum", list(["ipv4".into(), "ipv6".into()]))]),
        "direction" => object([("enum", list(["outgoing".into(), "incoming".into()]))]),
        "when" => object([("type", "string".into()), ("minLength", 1.into())]),
        _ => unreachable!("no form for the condition `{key}`"),
    };
    let takes_list = !matches!(key, "name" | "family" | "direction" | "when");
    let value = match takes_list {
        true => {
            let many = [("type", "array".into()), ("minItems", 1.into()), ("items", one.clone())];
            object([("anyOf", list([one, object(many)]))])
        }
        false => one,
    };
    value.described(text(key).to_owned())
}

fn setting(spec: &Spec) -> Json {
    let (value, form) = match &spec.form {
        Form::Duration(range, unit) => {
            let units: Vec<_> = UNITS.iter().map(|(name, _)| *name).collect();
            let (low, high) = (spell(*range.start()), spell(*range.end()));
            let steps = match unit {
                1 => String::new(),
                unit => format!(", in steps of {}", spell(*unit)),
            };
            let value = pattern(&format!(r"^[0-9]+(\.[0-9]+)?({})$", units.join("|")));
            (value, format!("A duration from {low} to {high}{steps}."))
        }
        Form::Number(range, of) => {
            let mut value = vec![
                ("type", "integer".into()),
                ("minimum", u64::from(*range.start()).into()),
                ("maximum", u64::from(*range.end()).into()),
            ];
            let mut form = format!("A number from {} to {}", range.start(), range.end());
            if spec.setting == Setting::Tos {
                value.push(("multipleOf", 4.into()));
                form.push_str(", a multiple of 4");
            }
            let of = if of.is_empty() { String::new() } else { format!(" {of}") };
            (object(value), format!("{form}{of}."))
        }
        Form::True => (object([("const", Json::Bool(true))]), "Only true.".into()),
        Form::Algorithm => (
            pattern(&format!("^[0-9A-Za-z_.-]{{1,{ALGORITHM_MAX}}}$")),
            format!("A name of at most {ALGORITHM_MAX} characters."),
        ),
    };
    let (Mechanism::Reply(name) | Mechanism::Option(_, name)) = spec.mechanism;
    let since = match spec.since {
        "5.10" => String::new(),
        since => format!(" Linux {since}."),
    };
    value.described(format!("{} {form}{since} ({name})", text(spec.key)))
}

/// A JSON value. So little of JSON is needed that a library would only slow the build.
#[derive(Debug, Clone)]
enum Json {
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

fn list(items: impl IntoIterator<Item = Json>) -> Json {
    Json::List(items.into_iter().collect())
}

fn object<'a>(entries: impl IntoIterator<Item = (&'a str, Json)>) -> Json {
    Json::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A string of this form.
fn pattern(pattern: &str) -> Json {
    object([("type", "string".into()), ("pattern", pattern.into())])
}

impl Json {
    /// With a description, which comes first.
    fn described(self, text: String) -> Self {
        let Self::Object(mut entries) = self else { unreachable!("a schema is an object") };
        entries.insert(0, ("description".into(), Self::Text(text)));
        Self::Object(entries)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, depth: usize| write!(f, "\n{:1$}", "", 2 * depth);
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")),
            Self::List(items) => {
                write!(f, "[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}", if at == 0 { "" } else { "," })?;
                    line(f, depth + 1)?;
                    item.write(f, depth + 1)?;
                }
                line(f, depth)?;
                write!(f, "]")
            }
            Self::Object(entries) => {
                write!(f, "{{")?;
                for (at, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}", if at == 0 { "" } else { "," })?;
                    line(f, depth + 1)?;
                    write!(f, "\"{key}\": ")?;
                    value.write(f, depth + 1)?;
                }
                line(f, depth)?;
                write!(f, "}}")
            }
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_text_and_no_other() {
        let keys = KEYS.iter().copied().chain(SPECS.iter().map(|spec| spec.key));
        assert_eq!(TEXTS.map(|(key, _)| key).to_vec(), keys.collect::<Vec<_>>());
    }
}
