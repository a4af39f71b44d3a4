//! What a rule can set, by which mechanism of the kernel, in which unit and range.
//!
//! Options are those that `bpf_setsockopt()` accepts in a sock_ops program (net/core/filter.c), from Linux 5.10 on, the
//! oldest that set-rto runs on, unless a version is given. Distributions backport patches, so the loader probes and
//! compares no versions.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

/// A setting. In the order of the README's table, which is also that of [`SPECS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// First retransmission timer of SYN and SYN-ACK (RFC 6298, 2.1): reply to `BPF_SOCK_OPS_TIMEOUT_INIT`
    /// (`tcp_timeout_init()`, include/net/tcp.h), in jiffies. Microseconds here.
    Rto,
    /// Retransmissions of the SYN: `TCP_SYNCNT`.
    SynRetries,
    /// Initial congestion window, segments (RFC 6928): `TCP_BPF_IW`.
    InitialCwnd,
    /// Initial receive window, segments: reply to `BPF_SOCK_OPS_RWND_INIT` (`tcp_rwnd_init_bpf()`).
    InitialRwnd,
    /// The congestion window grows no larger, segments: `TCP_BPF_SNDCWND_CLAMP`.
    CwndClamp,
    /// Minimum retransmission timer, microseconds: `TCP_BPF_RTO_MIN`; two jiffies to `TCP_RTO_MIN`.
    RtoMin,
    /// Longest delay of an ACK, microseconds: `TCP_BPF_DELACK_MAX`; two jiffies to `TCP_DELACK_MAX`.
    DelackMax,
    /// Longest retransmission timer, milliseconds: `TCP_RTO_MAX_MS`, 6.15.
    RtoMax,
    /// Congestion control algorithm: `TCP_CONGESTION`.
    Congestion,
    /// Requests explicit congestion notification (RFC 3168): reply to `BPF_SOCK_OPS_NEEDS_ECN`.
    Ecn,
    /// Milliseconds after which unacknowledged data ends the connection (RFC 5482): `TCP_USER_TIMEOUT`.
    UserTimeout,
    /// Seconds of silence before the first keepalive probe (RFC 9293, 3.8.4): `TCP_KEEPIDLE`.
    KeepaliveIdle,
    /// Seconds between keepalive probes: `TCP_KEEPINTVL`.
    KeepaliveInterval,
    /// The number of unanswered keepalive probes that ends the connection: `TCP_KEEPCNT`.
    KeepaliveCount,
    /// Timers of thin streams do not back off: `TCP_THIN_LINEAR_TIMEOUTS`, 6.1.
    ThinLinearTimeouts,
    /// Bytes not yet sent above which a socket is not writable: `TCP_NOTSENT_LOWAT`.
    NotsentLowat,
    /// Send buffer, bytes; the kernel doubles it, up to twice `net.core.wmem_max`: `SO_SNDBUF`.
    Sndbuf,
    /// Receive buffer, bytes; the kernel doubles it, up to twice `net.core.rmem_max`: `SO_RCVBUF`.
    Rcvbuf,
    /// Bytes a second: `SO_MAX_PACING_RATE`.
    MaxPacingRate,
    /// The mark that `ip rule` and nftables match: `SO_MARK`.
    Mark,
    /// The IPv4 type of service or IPv6 traffic class: `IP_TOS`, `IPV6_TCLASS`.
    Tos,
    /// The queueing priority: `SO_PRIORITY`. It follows `tos`, which also sets a priority (`__ip_sock_set_tos()`,
    /// net/ipv4/ip_sockglue.c).
    Priority,
}

/// How values are written, and how they are passed to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A duration within a range of microseconds, and the kernel's unit in microseconds.
    Duration(RangeInclusive<u64>, u64),
    /// A whole number, and what it counts.
    Number(RangeInclusive<u32>, &'static str),
    /// `true`.
    True,
    /// The name of a congestion control algorithm, at most [`ALGORITHM_MAX`] characters.
    Algorithm,
}

/// `TCP_CA_NAME_MAX` (include/net/tcp.h) is 16, the NUL included.
pub const ALGORITHM_MAX: usize = 15;

/// How the setting is passed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// By the program's reply to a callback, by the name of its constant.
    Reply(&'static str),
    /// By `bpf_setsockopt()`: level and option, by the names of their constants.
    Option(&'static str, &'static str),
}

/// The properties of a setting.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Which.
    pub setting: Setting,
    /// Its key in rules.toml.
    pub key: &'static str,
    /// How its value is written.
    pub form: Form,
    /// How the setting is passed to the kernel.
    pub mechanism: Mechanism,
    /// The first release that supports it, from 5.10 on.
    pub since: &'static str,
    /// Only the end that sends the SYN has it.
    pub outgoing_only: bool,
}

use Form::{Algorithm, Duration, Number, True};
use Mechanism::{Option, Reply};
use Setting::*;

const MS: u64 = 1_000;
const S: u64 = 1_000_000;
const DAY: u64 = 86_400 * S;

const fn spec(
    setting: Setting,
    key: &'static str,
    form: Form,
    mechanism: Mechanism,
    since: &'static str,
) -> Spec {
    let outgoing_only = matches!(setting, SynRetries);
    Spec { setting, key, form, mechanism, since, outgoing_only }
}

const fn tcp(name: &'static str) -> Mechanism {
    Option("SOL_TCP", name)
}

const fn socket(name: &'static str) -> Mechanism {
    Option("SOL_SOCKET", name)
}

/// Every setting, in the order of [`Setting`].
pub const SPECS: [Spec; 22] = [
    spec(Rto, "rto", Duration(MS..=120 * S, 1), Reply("BPF_SOCK_OPS_TIMEOUT_INIT"), "5.10"),
    spec(SynRetries, "syn_retries", Number(1..=127, ""), tcp("TCP_SYNCNT"), "5.10"),
    spec(InitialCwnd, "initial_cwnd", Number(1..=65_535, "segments"), tcp("TCP_BPF_IW"), "5.10"),
    spec(
        InitialRwnd,
        "initial_rwnd",
        Number(1..=65_535, "segments"),
        Reply("BPF_SOCK_OPS_RWND_INIT"),
        "5.10",
    ),
    spec(
        CwndClamp,
        "cwnd_clamp",
        Number(1..=1_000_000, "segments"),
        tcp("TCP_BPF_SNDCWND_CLAMP"),
        "5.10",
    ),
    spec(RtoMin, "rto_min", Duration(2 * MS..=200 * MS, 1), tcp("TCP_BPF_RTO_MIN"), "5.10"),
    spec(
        DelackMax,
        "delack_max",
        Duration(2 * MS..=200 * MS, 1),
        tcp("TCP_BPF_DELACK_MAX"),
        "5.10",
    ),
    spec(RtoMax, "rto_max", Duration(S..=120 * S, MS), tcp("TCP_RTO_MAX_MS"), "6.15"),
    spec(Congestion, "congestion", Algorithm, tcp("TCP_CONGESTION"), "5.10"),
    spec(Ecn, "ecn", True, Reply("BPF_SOCK_OPS_NEEDS_ECN"), "5.10"),
    spec(UserTimeout, "user_timeout", Duration(MS..=DAY, MS), tcp("TCP_USER_TIMEOUT"), "5.10"),
    spec(KeepaliveIdle, "keepalive_idle", Duration(S..=32_767 * S, S), tcp("TCP_KEEPIDLE"), "5.10"),
    spec(
        KeepaliveInterval,
        "keepalive_interval",
        Duration(S..=32_767 * S, S),
        tcp("TCP_KEEPINTVL"),
        "5.10",
    ),
    spec(KeepaliveCount, "keepalive_count", Number(1..=127, ""), tcp("TCP_KEEPCNT"), "5.10"),
    spec(ThinLinearTimeouts, "thin_linear_timeouts", True, tcp("TCP_THIN_LINEAR_TIMEOUTS"), "6.1"),
    spec(NotsentLowat, "notsent_lowat", BYTES, tcp("TCP_NOTSENT_LOWAT"), "5.10"),
    spec(Sndbuf, "sndbuf", BYTES, socket("SO_SNDBUF"), "5.10"),
    spec(Rcvbuf, "rcvbuf", BYTES, socket("SO_RCVBUF"), "5.10"),
    spec(
        MaxPacingRate,
        "max_pacing_rate",
        Number(1..=u32::MAX - 1, "bytes a second"),
        socket("SO_MAX_PACING_RATE"),
        "5.10",
    ),
    spec(Mark, "mark", Number(0..=u32::MAX, ""), socket("SO_MARK"), "5.10"),
    spec(Tos, "tos", Number(0..=255, ""), Option("SOL_IP", "IP_TOS"), "5.10"),
    spec(Priority, "priority", Number(0..=u32::MAX, ""), socket("SO_PRIORITY"), "5.10"),
];

/// Twice this must be a positive int.
const BYTES: Form = Number(1..=0x3fff_ffff, "bytes");

impl Setting {
    /// Its properties.
    #[must_use]
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }

    /// By its key.
    #[must_use]
    pub fn named(key: &str) -> std::option::Option<Self> {
        SPECS.iter().find(|spec| spec.key == key).map(|spec| spec.setting)
    }

    /// True for one that `bpf_setsockopt()` sets.
    #[must_use]
    pub fn is_option(self) -> bool {
        matches!(self.spec().mechanism, Option(..))
    }
}

/// The value of a setting, as passed to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// In the unit of the setting's [`Form`]; 1 for `true`.
    Number(u32),
    /// A name.
    Name(String),
}

impl Value {
    /// The number; 0 for a name.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self {
            Self::Number(number) => *number,
            Self::Name(_) => 0,
        }
    }
}

/// What a rule sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<Setting, Value>);

impl Settings {
    /// Adds one, in place of an earlier one.
    pub fn set(&mut self, setting: Setting, value: Value) {
        self.0.insert(setting, value);
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, setting: Setting) -> std::option::Option<&Value> {
        self.0.get(&setting)
    }

    /// [`Setting::Rto`] in microseconds, if it is set.
    #[must_use]
    pub fn rto_us(&self) -> std::option::Option<u32> {
        self.get(Rto).map(Value::number)
    }

    /// All, in the order of [`SPECS`].
    pub fn iter(&self) -> impl Iterator<Item = (Setting, &Value)> {
        self.0.iter().map(|(setting, value)| (*setting, value))
    }

    /// True for a rule that sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Prints it as in the file, without the equals sign: `rto 20s, congestion "bbr", ecn`.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (setting, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let Spec { key, form, .. } = setting.spec();
            write!(f, "{comma}{key}")?;
            match (form, value) {
                (Duration(_, unit), Value::Number(number)) => {
                    let us = u64::from(*number) * unit;
                    write!(f, " {}", crate::duration::spell(us))?;
                }
                (True, _) => {}
                (_, Value::Number(number)) => write!(f, " {number}")?,
                (_, Value::Name(name)) => write!(f, " \"{name}\"")?,
            }
        }
        Ok(())
    }
}

/// Something to set that a kernel may lack or refuse: a setting other than `rto`, and for `congestion` one of the
/// algorithms. Each is a bit of a 64-bit word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// The setting.
    pub setting: Setting,
    /// The algorithm, of `congestion`.
    pub algorithm: String,
}

/// The maximum number of columns.
pub const MOST_COLUMNS: usize = 64;

impl Column {
    /// What these settings have for it.
    #[must_use]
    pub fn value<'s>(&self, settings: &'s Settings) -> std::option::Option<&'s Value> {
        settings.get(self.setting).filter(|value| match value {
            Value::Name(name) => *name == self.algorithm,
            Value::Number(_) => true,
        })
    }

    /// A bit for each of the columns that these settings have.
    #[must_use]
    pub fn bits(columns: &[Self], settings: &Settings) -> u64 {
        let has = |column: &Self| u64::from(column.value(settings).is_some());
        columns.iter().enumerate().fold(0, |bits, (at, column)| bits | has(column) << at)
    }

    /// Whatever these rules set besides `rto`, in a fixed order.
    #[must_use]
    pub fn all<'s>(rules: impl IntoIterator<Item = &'s Settings>) -> Vec<Self> {
        let settings = rules.into_iter().flat_map(Settings::iter);
        let others = settings.filter(|(setting, _)| *setting != Rto);
        let columns = others.map(|(setting, value)| match value {
            Value::Name(name) => Self { setting, algorithm: name.clone() },
            Value::Number(_) => Self { setting, algorithm: String::new() },
        });
        columns.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_stand_in_the_order_of_the_settings() {
        for (at, spec) in SPECS.iter().enumerate() {
            assert_eq!(spec.setting as usize, at, "{}", spec.key);
            assert_eq!(Setting::named(spec.key), Some(spec.setting));
        }
    }

    #[test]
    fn no_value_is_too_large_for_the_kernel() {
        for spec in &SPECS {
            if let Duration(range, unit) = &spec.form {
                assert!(u32::try_from(range.end() / unit).is_ok(), "{}", spec.key);
                assert!(range.start().is_multiple_of(*unit), "{}", spec.key);
            }
        }
    }
}
