//! What a rule can set. [`SETTINGS`] has one entry for each setting. The check, the schema, the notes, the emitted
//! program and the loader read it, and tests compare the manual and the README with it.
//!
//! Options are those that `bpf_setsockopt()` accepts in a sock_ops program (net/core/filter.c), from Linux 5.10 on, the
//! oldest that set-rto runs on, unless a version is given. Distributions backport patches, so the loader probes and
//! compares no versions.

mod column;
mod value;

pub use column::{Column, MOST_COLUMNS};
pub use value::{Learned, Value};

use crate::duration::spell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

/// An entry of [`SETTINGS`].
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in rules.toml.
    pub key: &'static str,
    /// A sentence that describes it, as in set-rto-rules(5).
    pub text: &'static str,
    /// How its value is written.
    pub form: Form,
    /// How it is passed to the kernel.
    pub mechanism: Mechanism,
    /// The first release that supports it, from 5.10 on.
    pub since: &'static str,
}

/// How values are written, and in which unit the kernel takes them.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    /// A duration: its range in microseconds. Or a table of such durations: a timer that is learned.
    Timer(RangeInclusive<u64>),
    /// A duration: its range, and the kernel's unit, both in microseconds.
    Duration(RangeInclusive<u64>, u64),
    /// A whole number: its range, and what it counts.
    Number(RangeInclusive<u32>, &'static str),
    /// A number from 0 to 255. Its two lowest bits belong to ECN and are 0.
    Tos,
    /// `true`.
    True,
    /// The name of a congestion control algorithm, at most [`ALGORITHM_MAX`] characters.
    Algorithm,
}

/// `TCP_CA_NAME_MAX` (include/net/tcp.h) is 16, the NUL included.
pub const ALGORITHM_MAX: usize = 15;

/// How a setting is passed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// By the program's reply to a callback.
    Reply(Callback),
    /// By `bpf_setsockopt()`.
    Option(SocketOption),
}

/// A callback of sock_ops programs (`BPF_SOCK_OPS_…`, include/uapi/linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Callback {
    /// Its number.
    pub number: u32,
    /// The name of its constant.
    pub name: &'static str,
}

/// A socket option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOption {
    /// The name of its level's constant, which emit/settings.h declares.
    pub level: &'static str,
    /// The name of its own constant.
    pub name: &'static str,
    /// Its number.
    pub number: u32,
    /// Its number on MIPS.
    pub number_on_mips: u32,
    /// What `bpf_setsockopt()` is called with.
    pub how: How,
    /// The callbacks at which it is set.
    pub when: When,
}

/// How a value is passed to `bpf_setsockopt()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As a number.
    Number,
    /// As a number of microseconds, but at least two jiffies: the kernel refuses less (`TCP_TIMEOUT_MIN`,
    /// include/net/tcp.h).
    TwoJiffies,
    /// As a number, after `SO_KEEPALIVE` is switched on.
    Keepalive,
    /// As the name of an algorithm.
    Algorithm,
    /// As a number, by `IP_TOS` or `IPV6_TCLASS`: the family of the packets decides.
    Tos,
}

/// The callbacks at which an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before the SYN is sent. Only the end that sends it has the setting.
    Connecting,
    /// At the connecting end before the SYN is sent, at the other end when the connection is established.
    Both,
    /// When the connection is established, at both ends.
    Established,
    /// Before the SYN is sent, and taken back when the connection is established. Only the end that sends the SYN has
    /// the setting.
    UntilEstablished,
    /// When a socket begins to listen. Only listeners have the setting.
    Listening,
}

impl When {
    /// True if only the end that sends the SYN has the setting.
    #[must_use]
    pub(crate) fn is_outgoing_only(self) -> bool {
        matches!(self, Self::Connecting | Self::UntilEstablished)
    }

    /// The callbacks. A connection is counted at the first one, even if an option is set later.
    #[must_use]
    pub fn callbacks(self) -> &'static [Callback] {
        match self {
            Self::Connecting => &[CONNECT],
            Self::Both => &[CONNECT, PASSIVE_ESTABLISHED],
            Self::Established => &[CONNECT, ACTIVE_ESTABLISHED, PASSIVE_ESTABLISHED],
            Self::UntilEstablished => &[CONNECT, ACTIVE_ESTABLISHED],
            Self::Listening => &[CONNECT, PASSIVE_ESTABLISHED, LISTEN],
        }
    }
}

/// The kernel asks for the first retransmission timer, in jiffies (`tcp_timeout_init()`, include/net/tcp.h).
pub const TIMEOUT_INIT: Callback = Callback { number: 1, name: "BPF_SOCK_OPS_TIMEOUT_INIT" };
/// The kernel asks for the initial receive window (`tcp_rwnd_init_bpf()`).
pub const RWND_INIT: Callback = Callback { number: 2, name: "BPF_SOCK_OPS_RWND_INIT" };
/// Before the SYN is sent.
pub const CONNECT: Callback = Callback { number: 3, name: "BPF_SOCK_OPS_TCP_CONNECT_CB" };
/// An outgoing connection is established.
pub const ACTIVE_ESTABLISHED: Callback =
    Callback { number: 4, name: "BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB" };
/// An incoming connection is established.
pub const PASSIVE_ESTABLISHED: Callback =
    Callback { number: 5, name: "BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB" };
/// The kernel asks whether to request ECN.
pub const NEEDS_ECN: Callback = Callback { number: 6, name: "BPF_SOCK_OPS_NEEDS_ECN" };
/// A timer has expired.
pub const RETRANSMISSION: Callback = Callback { number: 8, name: "BPF_SOCK_OPS_RTO_CB" };

/// A socket begins to listen.
pub const LISTEN: Callback = Callback { number: 11, name: "BPF_SOCK_OPS_TCP_LISTEN_CB" };

use Form::{Algorithm, Duration, Number, Timer, Tos, True};
use How::{Keepalive, TwoJiffies};
use When::{Connecting, Established, Listening, UntilEstablished};

const MS: u64 = 1_000;
const S: u64 = 1_000_000;
const DAY: u64 = 86_400 * S;

/// Twice this must be a positive int.
const BYTES: Form = Number(1..=0x3fff_ffff, "bytes");

/// Every setting, in the order of the manual.
pub static SETTINGS: [Setting; 27] = [
    // RFC 6298, section 2.1.
    reply("rto", Timer(MS..=120 * S), TIMEOUT_INIT)
        .is("The timer of the first retransmission of the SYN, or of the SYN-ACK."),
    tcp("syn_retries", Number(1..=127, ""), "TCP_SYNCNT", 7)
        .at(Connecting)
        .is("How often the SYN is retransmitted."),
    // `reqsk_timer_handler()` (net/ipv4/inet_connection_sock.c) asks the listener, whose option it is.
    tcp("synack_retries", Number(1..=127, ""), "TCP_SYNCNT", 7)
        .at(Listening)
        .is("How often the SYN-ACK is retransmitted."),
    // RFC 6928. `tcp_init_transfer()` (net/ipv4/tcp_input.c; seen on 6.18) sets the congestion window just before it
    // calls the callbacks of an established connection.
    tcp("initial_cwnd", Number(1..=65_535, "segments"), "TCP_BPF_IW", 1001)
        .at(Established)
        .is("The initial congestion window."),
    reply("initial_rwnd", Number(1..=65_535, "segments"), RWND_INIT)
        .is("The initial receive window, announced in the SYN or SYN-ACK."),
    tcp("cwnd_clamp", Number(1..=1_000_000, "segments"), "TCP_BPF_SNDCWND_CLAMP", 1002)
        .is("The maximum of the congestion window."),
    // The kernel raises less to half of `SOCK_MIN_RCVBUF` (`tcp_set_window_clamp()`, net/ipv4/tcp.c).
    tcp("window_clamp", BYTES, "TCP_WINDOW_CLAMP", 10)
        .since("5.15")
        .is("The maximum of the receive window."),
    // `TCP_MIN_MSS` and `MAX_TCP_WINDOW` (include/net/tcp.h). The SYN-ACK has left before a callback could set it.
    tcp("max_segment", Number(88..=32_767, "bytes"), "TCP_MAXSEG", 2)
        .at(Connecting)
        .since("6.1")
        .is("The maximum segment size, announced in the SYN and kept when sending."),
    // The kernel takes no more than `TCP_RTO_MIN`.
    tcp("rto_min", Duration(2 * MS..=200 * MS, 1), "TCP_BPF_RTO_MIN", 1004)
        .by(TwoJiffies)
        .is("The minimum of the retransmission timer, and at least two of the kernel's ticks."),
    // The kernel takes no more than `TCP_DELACK_MAX`.
    tcp("delack_max", Duration(2 * MS..=200 * MS, 1), "TCP_BPF_DELACK_MAX", 1003)
        .by(TwoJiffies)
        .is("The maximum delay of an ACK, and at least two of the kernel's ticks."),
    tcp("rto_max", Duration(S..=120 * S, MS), "TCP_RTO_MAX_MS", 44)
        .since("6.15")
        .is("The maximum of the retransmission timer."),
    // An algorithm starts as soon as it is set, and dctcp becomes plain Reno where ECN is not agreed on by then
    // (`dctcp_init()`, net/ipv4/tcp_dctcp.c).
    tcp("congestion", Algorithm, "TCP_CONGESTION", 13)
        .by(How::Algorithm)
        .at(Established)
        .is("The congestion control algorithm."),
    // RFC 3168.
    reply("ecn", True, NEEDS_ECN).is("Requests explicit congestion notification."),
    tcp("nodelay", True, "TCP_NODELAY", 1)
        .since("6.1")
        .is("Small segments are sent at once: Nagle's algorithm is off."),
    // RFC 5482.
    tcp("user_timeout", Duration(MS..=DAY, MS), "TCP_USER_TIMEOUT", 18).is(
        "How long data may stay unacknowledged, or a SYN unanswered, before the connection ends.",
    ),
    // After `user_timeout`, which it replaces until the connection is established.
    tcp("connect_timeout", Duration(MS..=DAY, MS), "TCP_USER_TIMEOUT", 18)
        .at(UntilEstablished)
        .is("How long connect() may take."),
    // RFC 9293, section 3.8.4.
    tcp("keepalive_idle", Duration(S..=32_767 * S, S), "TCP_KEEPIDLE", 4)
        .by(Keepalive)
        .is("The idle time before the first keepalive probe."),
    tcp("keepalive_interval", Duration(S..=32_767 * S, S), "TCP_KEEPINTVL", 5)
        .by(Keepalive)
        .is("The time between keepalive probes."),
    tcp("keepalive_count", Number(1..=127, ""), "TCP_KEEPCNT", 6)
        .by(Keepalive)
        .is("How many unanswered probes end the connection."),
    tcp("thin_linear_timeouts", True, "TCP_THIN_LINEAR_TIMEOUTS", 16)
        .since("6.1")
        .is("The timers of thin streams do not double."),
    tcp("notsent_lowat", BYTES, "TCP_NOTSENT_LOWAT", 25)
        .is("The amount of unsent data from which the socket is no longer writable."),
    // The kernel doubles the value, up to twice `net.core.wmem_max`.
    socket("sndbuf", BYTES, "SO_SNDBUF", 7).on_mips(0x1001).is("The send buffer."),
    // The same, up to twice `net.core.rmem_max`.
    socket("rcvbuf", BYTES, "SO_RCVBUF", 8).on_mips(0x1002).is("The receive buffer."),
    socket("max_pacing_rate", Number(1..=u32::MAX - 1, "bytes a second"), "SO_MAX_PACING_RATE", 47)
        .is("The maximum sending rate."),
    socket("mark", Number(0..=u32::MAX, ""), "SO_MARK", 36)
        .is("The mark that ip rule and nftables match."),
    option("tos", Tos, "SOL_IP", "IP_TOS", 1)
        .by(How::Tos)
        .is("The type of service, or traffic class."),
    // It follows `tos`, which also sets a priority (`__ip_sock_set_tos()`, net/ipv4/ip_sockglue.c).
    socket("priority", Number(0..=u32::MAX, ""), "SO_PRIORITY", 12)
        .is("The queueing priority, which tc matches."),
];

const fn reply(key: &'static str, form: Form, callback: Callback) -> Setting {
    Setting { key, text: "", form, mechanism: Mechanism::Reply(callback), since: "5.10" }
}

const fn option(
    key: &'static str,
    form: Form,
    level: &'static str,
    name: &'static str,
    number: u32,
) -> Setting {
    let (how, when) = (How::Number, When::Both);
    let option = SocketOption { level, name, number, number_on_mips: number, how, when };
    Setting { key, text: "", form, mechanism: Mechanism::Option(option), since: "5.10" }
}

const fn tcp(key: &'static str, form: Form, name: &'static str, number: u32) -> Setting {
    option(key, form, "SOL_TCP", name, number)
}

const fn socket(key: &'static str, form: Form, name: &'static str, number: u32) -> Setting {
    option(key, form, "SOL_SOCKET", name, number)
}

/// The optional parts of an entry.
impl Setting {
    const fn is(mut self, text: &'static str) -> Self {
        self.text = text;
        self
    }

    const fn since(mut self, since: &'static str) -> Self {
        self.since = since;
        self
    }

    const fn by(mut self, how: How) -> Self {
        self.socket_option().how = how;
        self
    }

    const fn at(mut self, when: When) -> Self {
        self.socket_option().when = when;
        self
    }

    const fn on_mips(mut self, number: u32) -> Self {
        self.socket_option().number_on_mips = number;
        self
    }

    const fn socket_option(&mut self) -> &mut SocketOption {
        match &mut self.mechanism {
            Mechanism::Option(option) => option,
            Mechanism::Reply(_) => panic!("a reply to a callback is no socket option"),
        }
    }
}

impl Setting {
    /// By its key.
    #[must_use]
    pub fn named(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The socket option, if it is one.
    #[must_use]
    pub fn option(&self) -> Option<&SocketOption> {
        match &self.mechanism {
            Mechanism::Option(option) => Some(option),
            Mechanism::Reply(_) => None,
        }
    }

    /// True if only the end that sends the SYN has it.
    #[must_use]
    pub fn is_outgoing_only(&self) -> bool {
        self.option().is_some_and(|option| option.when.is_outgoing_only())
    }

    /// True if listeners have it.
    #[must_use]
    pub fn is_of_listeners(&self) -> bool {
        self.option().is_some_and(|option| option.when == Listening)
    }

    /// True if smaller values are raised to two jiffies.
    #[must_use]
    pub fn has_two_jiffies(&self) -> bool {
        self.option().is_some_and(|option| option.how == TwoJiffies)
    }

    /// The name of the kernel's constant for it.
    #[must_use]
    pub fn constant(&self) -> &'static str {
        match self.mechanism {
            Mechanism::Reply(Callback { name, .. })
            | Mechanism::Option(SocketOption { name, .. }) => name,
        }
    }
}

/// A sentence, for the schema.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Timer(range) => write!(
                f,
                "A duration from {} to {}, or {{ learn = true }} with any of start, min and max.",
                spell(*range.start()),
                spell(*range.end())
            ),
            Duration(range, unit) => {
                write!(f, "A duration from {} to {}", spell(*range.start()), spell(*range.end()))?;
                match unit {
                    1 => f.write_str("."),
                    unit => write!(f, ", in steps of {}.", spell(*unit)),
                }
            }
            Number(range, "") => write!(f, "A number from {} to {}.", range.start(), range.end()),
            Number(range, of) => {
                write!(f, "A number from {} to {} {of}.", range.start(), range.end())
            }
            Tos => f.write_str("A number from 0 to 252, a multiple of 4."),
            True => f.write_str("Only true."),
            Algorithm => write!(f, "A name of at most {ALGORITHM_MAX} characters."),
        }
    }
}

/// What a rule sets: values, by their index in [`SETTINGS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<usize, Value>);

impl Settings {
    /// Adds one, in place of an earlier one.
    pub fn set(&mut self, setting: &Setting, value: Value) {
        self.0.insert(place(setting.key), value);
    }

    /// The value of the setting with this key, if the rule sets it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(&place(key))
    }

    /// The number of the setting with this key, if the rule sets it.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u32> {
        self.get(key).map(Value::number)
    }

    /// True for a rule that exempts: it sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `rto` in microseconds, if the rule sets it.
    #[must_use]
    pub fn rto_us(&self) -> Option<u32> {
        self.number("rto")
    }

    /// How the timer is learned, if it is.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        match self.get("rto") {
            Some(Value::Learned(learned)) => Some(*learned),
            _ => None,
        }
    }

    /// All, in the order of [`SETTINGS`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &Value)> {
        self.0.iter().map(|(place, value)| (&SETTINGS[*place], value))
    }
}

fn place(key: &str) -> usize {
    let place = SETTINGS.iter().position(|setting| setting.key == key);
    place.unwrap_or_else(|| unreachable!("`{key}` is not in SETTINGS"))
}

/// Prints it as in the file, without the equals sign: `rto 20s, congestion "bbr", ecn`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("use \"kernel\"");
        }
        for (at, (setting, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", setting.key)?;
            match (&setting.form, value) {
                (Timer(_), Value::Number(us)) => write!(f, " {}", spell((*us).into()))?,
                (_, Value::Learned(Learned { start, min, max })) => {
                    let [start, min, max] = [start, min, max].map(|us| spell((*us).into()));
                    write!(f, " learned ({start} at first, {min} to {max})")?;
                }
                (Duration(_, unit), Value::Number(number)) => {
                    write!(f, " {}", spell(u64::from(*number) * unit))?;
                }
                (True, _) => {}
                (_, Value::Number(number)) => write!(f, " {number}")?,
                (_, Value::Name(name)) => write!(f, " \"{name}\"")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_complete() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert_eq!(place(setting.key), at, "two settings named {}", setting.key);
            assert!(!setting.text.is_empty(), "{} is not described", setting.key);
            let by_name = setting.option().is_some_and(|option| option.how == How::Algorithm);
            assert_eq!(by_name, setting.form == Algorithm, "{}", setting.key);
        }
    }

    #[test]
    fn no_value_is_too_large_for_the_kernel() {
        for setting in &SETTINGS {
            if let Duration(range, unit) = &setting.form {
                assert!(u32::try_from(range.end() / unit).is_ok(), "{}", setting.key);
                assert!(range.start().is_multiple_of(*unit), "{}", setting.key);
            }
        }
    }
}
