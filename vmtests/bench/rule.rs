//! The bench's own model of a rule. It writes rules files and the C of the rivals, and checks the answers of all
//! programs.

use crate::row::Program;
use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// The increment of the timer from rule to rule. Timers are distinct on every kernel with HZ 100 or more, and the last
/// of 10,000 is below 120 s.
const STEP_MS: u32 = 10;

/// An address prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix {
    pub(crate) is_v4: bool,
    /// The address as a number of 32 or 128 bits. The bits after the prefix are zero.
    pub(crate) bits: u128,
    pub(crate) length: u32,
}

impl Prefix {
    /// Creates a prefix and clears the bits after `length`.
    pub(crate) fn new(is_v4: bool, bits: u128, length: u32) -> Self {
        let prefix = Prefix { is_v4, bits, length };
        Prefix { bits: bits & !prefix.host_mask(), ..prefix }
    }

    /// A mask of the bits after the prefix.
    pub(crate) fn host_mask(self) -> u128 {
        match self.is_v4 {
            true => u128::from(u32::MAX.checked_shr(self.length).unwrap_or(0)),
            false => u128::MAX.checked_shr(self.length).unwrap_or(0),
        }
    }

    pub(crate) fn last(self) -> u128 {
        self.bits | self.host_mask()
    }

    fn holds(self, address: IpAddr) -> bool {
        let (is_v4, bits) = number(address);
        is_v4 == self.is_v4 && self.bits <= bits && bits <= self.last()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", address(self.is_v4, self.bits), self.length)
    }
}

/// An address as a number, and whether it is IPv4.
pub(crate) fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(four) => (true, u128::from(u32::from(four))),
        IpAddr::V6(six) => (false, u128::from(six)),
    }
}

/// The reverse of [`number`].
pub(crate) fn address(is_v4: bool, bits: u128) -> IpAddr {
    match is_v4 {
        true => IpAddr::V4(Ipv4Addr::from(bits as u32)),
        false => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

/// The first and the last port of the range.
pub(crate) type Ports = (u16, u16);

/// A rule: all given conditions must match, and of a list at least one item.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rule {
    pub(crate) port: Option<Ports>,
    pub(crate) local_port: Option<Ports>,
    pub(crate) remote_port: Option<Ports>,
    pub(crate) local: Vec<Prefix>,
    pub(crate) remote: Vec<Prefix>,
    pub(crate) incoming: Option<bool>,
}

/// A connection as a sock_ops program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) incoming: bool,
}

impl Rule {
    pub(crate) fn holds(&self, it: &Connection) -> bool {
        let within = |ports: Option<Ports>, port: u16| {
            ports.is_none_or(|(low, high)| low <= port && port <= high)
        };
        let inside = |list: &[Prefix], address: IpAddr| {
            list.is_empty() || list.iter().any(|prefix| prefix.holds(address))
        };
        (within(self.port, it.local_port) || within(self.port, it.remote_port))
            && within(self.local_port, it.local_port)
            && within(self.remote_port, it.remote_port)
            && self.incoming.is_none_or(|incoming| incoming == it.incoming)
            && inside(&self.local, it.local)
            && inside(&self.remote, it.remote)
    }
}

/// The timer of the rule with that number, in milliseconds. The first timer is the hand-written program's.
pub(crate) fn rto_ms(rule: usize) -> u32 {
    if rule == 0 { 20_000 } else { 999 + STEP_MS * rule as u32 }
}

/// Formats the rules as a rules file. Only programs that no rival has keep evidence.
pub(crate) fn toml(rules: &[Rule], program: Program) -> String {
    let mut out = match program.is_observed() {
        true => String::new(),
        false => String::from("[evidence]\noff = true\n\n"),
    };
    for (at, rule) in rules.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(out, "[[rule]]\nname = \"r{at}\"\n");
        let mut line = |key: &str, value: String| {
            let _ = writeln!(out, "{key} = {value}");
        };
        let ports = |ports: Ports| match ports {
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("\"{low}-{high}\""),
        };
        for (key, value) in [
            ("port", rule.port),
            ("local_port", rule.local_port),
            ("remote_port", rule.remote_port),
        ] {
            value.into_iter().for_each(|value| line(key, ports(value)));
        }
        for (key, list) in [("local", &rule.local), ("remote", &rule.remote)] {
            let items: Vec<_> = list.iter().map(|prefix| format!("\"{prefix}\"")).collect();
            match &items[..] {
                [] => {}
                [one] => line(key, one.clone()),
                many => line(key, format!("[\n{}\n]", many.join(",\n"))),
            }
        }
        if let Some(incoming) = rule.incoming {
            let value = if incoming { "incoming" } else { "outgoing" };
            line("direction", format!("\"{value}\""));
        }
        let _ = match program {
            Program::Learned => {
                writeln!(out, "rto = {{ learn = true, start = \"{}ms\" }}\n", rto_ms(at))
            }
            _ => writeln!(out, "rto = \"{}ms\"\n", rto_ms(at)),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_a_prefix() {
        let all = Prefix::new(true, 0x0102_0304, 0);
        assert_eq!((all.bits, all.last()), (0, 0xffff_ffff));
        let host = Prefix::new(true, 0x0102_0304, 32);
        assert_eq!((host.bits, host.last()), (0x0102_0304, 0x0102_0304));
        let six = Prefix::new(false, u128::MAX, 48);
        assert_eq!((six.bits, six.last()), (u128::MAX << 80, u128::MAX));
        assert_eq!(Prefix::new(false, u128::MAX, 128).bits, u128::MAX);
        assert_eq!(Prefix::new(true, 0x0a01_0203, 16).to_string(), "10.1.0.0/16");
    }

    #[test]
    fn timers_are_distinct_and_allowed() {
        let mut all: Vec<_> = (0..10_000).map(rto_ms).collect();
        assert!(all.iter().all(|ms| (1_000..=120_000).contains(ms)));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10_000);
    }
}
