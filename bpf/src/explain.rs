//! Shows which rule decides a connection and why each earlier one does not match. It evaluates the conditions one by
//! one as the manual defines them, and shares no code with the plan or the emitted program.

use crate::rule::{Condition, Direction, End, Fact, Family, Formula, Prefix, Rule, Test};
use crate::space::matches;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// A connection as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Who sends the SYN.
    pub direction: Direction,
    /// The device that the SYN leaves or comes in by, if it is known.
    pub interface: Option<String>,
    /// This host's end.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// The form of a connection, for messages.
pub const FORM: &str = "outgoing ax0 10.0.0.1:40000 -> 44.1.2.3:12345 (the interface is optional; for `incoming` the peer comes first, as in the SYN)";

impl std::str::FromStr for Connection {
    type Err = String;

    /// Reads `DIRECTION [INTERFACE] SOURCE -> DESTINATION`, the ends as they stand in the SYN.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        let (direction, interface, source, destination) = match words[..] {
            [direction, source, "->", destination] => (direction, None, source, destination),
            [direction, interface, source, "->", destination] => {
                (direction, Some(interface.to_string()), source, destination)
            }
            _ => return Err(format!("not a connection: write {FORM}")),
        };
        let end = |text: &str| {
            let address: SocketAddr = text.parse().map_err(|_| {
                format!("not an address with a port: {text} (10.0.0.1:80, [2001:db8::1]:80)")
            })?;
            // A mapped address is IPv4 on the wire.
            Ok::<_, String>(SocketAddr::new(address.ip().to_canonical(), address.port()))
        };
        let (source, destination) = (end(source)?, end(destination)?);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err("both ends must be of one family".into());
        }
        match direction {
            "outgoing" => Ok(Self {
                direction: Direction::Outgoing,
                interface,
                local: source,
                remote: destination,
            }),
            "incoming" => Ok(Self {
                direction: Direction::Incoming,
                interface,
                local: destination,
                remote: source,
            }),
            other => Err(format!("unknown direction {other}: outgoing or incoming")),
        }
    }
}

impl Connection {
    fn end(&self, end: End) -> SocketAddr {
        match end {
            End::Local => self.local,
            End::Remote => self.remote,
        }
    }

    /// True if the formula matches it. None if that depends on what a connection's text does not say: a test in C, or
    /// a number of the socket.
    #[must_use]
    pub fn satisfies(&self, formula: &Formula) -> Option<bool> {
        match formula {
            Formula::All(parts) => all(parts.iter().map(|part| self.satisfies(part))),
            Formula::Any(parts) => {
                all(parts.iter().map(|part| self.satisfies(part).map(|it| !it))).map(|none| !none)
            }
            Formula::Not(part) => self.satisfies(part).map(|it| !it),
            Formula::Test(test) => self.passes(test),
        }
    }

    fn passes(&self, test: &Test) -> Option<bool> {
        Some(match test {
            Test::Interface(patterns) => self.interface.as_ref().is_some_and(|name| {
                patterns.iter().any(|pattern| matches(&pattern.0, name.as_bytes()))
            }),
            Test::Port(end, ranges) => {
                let port = self.end(*end).port();
                ranges.iter().any(|range| (range.low..=range.high).contains(&port))
            }
            Test::Address(end, prefixes) => {
                prefixes.iter().any(|prefix| lies_in(self.end(*end).ip(), *prefix))
            }
            Test::Family(Family::Ipv4) => self.local.is_ipv4(),
            Test::Family(Family::Ipv6) => self.local.is_ipv6(),
            Test::Direction(direction) => self.direction == *direction,
            Test::Ports(ordering) => self.local.port().cmp(&self.remote.port()) == *ordering,
            Test::Fact(Fact::Code(_) | Fact::Socket(_)) => return None,
            Test::Fact(Fact::Sum(sum)) => sum.matches(self.local.port(), self.remote.port()),
            Test::SameAddress => self.local.ip() == self.remote.ip(),
        })
    }
}

/// True if all are, false if one is, None if neither is known.
fn all(parts: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut is_known = true;
    for part in parts {
        match part {
            Some(false) => return Some(false),
            Some(true) => {}
            None => is_known = false,
        }
    }
    is_known.then_some(true)
}

fn lies_in(address: IpAddr, prefix: Prefix) -> bool {
    match (address, prefix) {
        (IpAddr::V4(address), Prefix::V4(prefix, length)) => {
            let differing = address.to_bits() ^ prefix.to_bits();
            differing.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(address), Prefix::V6(prefix, length)) => {
            let differing = address.to_bits() ^ prefix.to_bits();
            differing.leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

/// The first rule whose conditions all match.
#[must_use]
pub fn decides(rules: &[Rule], connection: &Connection) -> Option<usize> {
    let matches = |it: &Condition| connection.satisfies(&it.formula) == Some(true);
    rules.iter().position(|rule| rule.conditions.iter().all(matches))
}

/// A line for each rule up to the one that decides.
#[must_use]
pub fn explain(rules: &[Rule], connection: &Connection) -> String {
    let mut out = String::new();
    for rule in rules {
        let results = rule.conditions.iter().map(|it| (it, connection.satisfies(&it.formula)));
        let (known, unknown): (Vec<_>, Vec<_>) = results.partition(|(_, result)| result.is_some());
        let failing = known.iter().filter(|(_, result)| *result == Some(false));
        let failing: Vec<_> = failing
            .map(|(condition, _)| match condition.formula {
                Formula::Test(_) => format!("not {}", condition.text),
                _ => format!("not ({})", condition.text),
            })
            .collect();
        let unknown: Vec<_> =
            unknown.iter().map(|(condition, _)| condition.text.as_str()).collect();
        let name = format!("{} (line {})", rule.name, rule.line);
        // Writing to a String can't fail.
        let _ = match (failing.as_slice(), unknown.as_slice()) {
            ([], []) => {
                let _ = writeln!(out, "{name} decides: {}", rule.settings);
                return out;
            }
            ([], _) => {
                writeln!(out, "{name} decides if {}: {}", unknown.join(" and "), rule.settings)
            }
            _ => writeln!(out, "{name} does not match: {}", failing.join(", ")),
        };
    }
    out.push_str("no rule matches: the kernel's own timer\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read() {
        let text = "incoming ax0 44.1.2.3:5000 -> [::ffff:10.0.0.1]:80";
        let connection: Connection = text.parse().expect("a connection");
        assert_eq!(connection.local, "10.0.0.1:80".parse().expect("an address"));
        assert_eq!(connection.remote.port(), 5000);
        for text in [
            "",
            "outgoing",
            "sideways 10.0.0.1:1 -> 10.0.0.2:2",
            "outgoing 10.0.0.1 -> 10.0.0.2:2",
            "outgoing 10.0.0.1:1 -> [::1]:2",
            "outgoing ax0 ax1 10.0.0.1:1 -> 10.0.0.2:2",
        ] {
            assert!(text.parse::<Connection>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn each_rule_before_the_deciding_one_says_why_not() {
        let text = "[[rule]]\nname = \"a\"\nwhen = \"port == 80 or local_port == remote_port\"\nrto = \"2s\"\n\
                    [[rule]]\nname = \"b\"\nremote = \"44.0.0.0/8\"\ndirection = \"incoming\"\nrto = \"3s\"\n";
        let source = crate::diag::Source { name: "rules.toml", text };
        let policy = crate::compile(&source, "0").expect("good rules");
        let explained =
            |connection: &str| explain(&policy.rules, &connection.parse().expect("a connection"));
        assert_eq!(
            explained("outgoing 10.0.0.1:1 -> 10.0.0.2:2"),
            "a (line 1) does not match: not (port == 80 or local_port == remote_port)\n\
             b (line 5) does not match: not remote == 44.0.0.0/8, not direction == \"incoming\"\n\
             no rule matches: the kernel's own timer\n"
        );
        assert_eq!(explained("incoming 44.1.2.3:80 -> 10.0.0.2:2"), "a (line 1) decides: rto 2s\n");
    }

    #[test]
    fn tests_in_c_and_of_the_socket_are_not_evaluated() {
        let text = "[code]\nfile = \"a.c\"\n[[rule]]\nname = \"a\"\nlocal_port = 1\ntest = \"odd\"\nrto = \"2s\"\n\
                    [[rule]]\nname = \"b\"\nrto = \"3s\"\n";
        let source = crate::diag::Source { name: "rules.toml", text };
        let load = |_: &str| Ok("bool odd(const struct connection *c) { return 1; }".into());
        let policy = crate::compile_with(&source, "0", &load).expect("good rules");
        let explained =
            |connection: &str| explain(&policy.rules, &connection.parse().expect("a connection"));
        assert_eq!(
            explained("outgoing 10.0.0.1:1 -> 10.0.0.2:2"),
            "a (line 3) decides if test odd: rto 2s\nb (line 8) decides: rto 3s\n"
        );
        assert!(
            explained("outgoing 10.0.0.1:2 -> 10.0.0.2:2").starts_with("a (line 3) does not match")
        );
    }
}
