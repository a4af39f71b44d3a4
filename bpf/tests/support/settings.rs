//! Settings as the tests think of them: how they are written, and what the kernel must be told. The numbers are those
//! of the kernel's headers (include/uapi/linux/{bpf,tcp,in,in6}.h, include/uapi/asm-generic/socket.h).

use super::random::Random;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Callbacks.
pub(crate) const TIMEOUT_INIT: u32 = 1;
pub(crate) const RWND_INIT: u32 = 2;
pub(crate) const CONNECT: u32 = 3;
pub(crate) const ACTIVE_ESTABLISHED: u32 = 4;
pub(crate) const PASSIVE_ESTABLISHED: u32 = 5;
pub(crate) const NEEDS_ECN: u32 = 6;
pub(crate) const LISTEN: u32 = 11;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Number,
    True,
    /// A duration, which the kernel is given in units of so many microseconds.
    Time(u64),
    /// The name of an algorithm.
    Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// By the reply to a callback.
    Reply(u32),
    /// By an option: level and name.
    Option(u32, u32),
    /// The same, at least two jiffies.
    Least(u32, u32),
    /// The same, with keepalive switched on first.
    Keepalive(u32, u32),
    /// By an option with the 16 bytes of a name.
    Algorithm(u32, u32),
    /// By that of the packets' family.
    Tos,
    /// By an option that the end of the handshake sets to what `user_timeout` says.
    Until(u32, u32),
    /// By an option of the listener.
    Listener(u32, u32),
}

/// Key, form, least and greatest value as the kernel is given it, mechanism.
pub(crate) type Spec = (&'static str, Form, u64, u64, Told);

const TCP: u32 = 6;
const SOCKET: u32 = 1;

/// In the order of the README; `rto` is none of them.
pub(crate) const SPECS: [Spec; 26] = [
    ("syn_retries", Form::Number, 1, 127, Told::Option(TCP, 7)),
    ("synack_retries", Form::Number, 1, 127, Told::Listener(TCP, 7)),
    ("initial_cwnd", Form::Number, 1, 65_535, Told::Option(TCP, 1001)),
    ("initial_rwnd", Form::Number, 1, 65_535, Told::Reply(RWND_INIT)),
    ("cwnd_clamp", Form::Number, 1, 1_000_000, Told::Option(TCP, 1002)),
    ("window_clamp", Form::Number, 1, 0x3fff_ffff, Told::Option(TCP, 10)),
    ("max_segment", Form::Number, 88, 32_767, Told::Option(TCP, 2)),
    ("rto_min", Form::Time(1), 2_000, 200_000, Told::Least(TCP, 1004)),
    ("delack_max", Form::Time(1), 2_000, 200_000, Told::Least(TCP, 1003)),
    ("rto_max", Form::Time(1_000), 1_000, 120_000, Told::Option(TCP, 44)),
    ("congestion", Form::Name, 0, 0, Told::Algorithm(TCP, 13)),
    ("ecn", Form::True, 1, 1, Told::Reply(NEEDS_ECN)),
    ("nodelay", Form::True, 1, 1, Told::Option(TCP, 1)),
    ("user_timeout", Form::Time(1_000), 1, 86_400_000, Told::Option(TCP, 18)),
    ("connect_timeout", Form::Time(1_000), 1, 86_400_000, Told::Until(TCP, 18)),
    ("keepalive_idle", Form::Time(1_000_000), 1, 32_767, Told::Keepalive(TCP, 4)),
    ("keepalive_interval", Form::Time(1_000_000), 1, 32_767, Told::Keepalive(TCP, 5)),
    ("keepalive_count", Form::Number, 1, 127, Told::Keepalive(TCP, 6)),
    ("thin_linear_timeouts", Form::True, 1, 1, Told::Option(TCP, 16)),
    ("notsent_lowat", Form::Number, 1, 0x3fff_ffff, Told::Option(TCP, 25)),
    ("sndbuf", Form::Number, 1, 0x3fff_ffff, Told::Option(SOCKET, 7)),
    ("rcvbuf", Form::Number, 1, 0x3fff_ffff, Told::Option(SOCKET, 8)),
    ("max_pacing_rate", Form::Number, 1, 0xffff_fffe, Told::Option(SOCKET, 47)),
    ("mark", Form::Number, 0, 0xffff_ffff, Told::Option(SOCKET, 36)),
    ("tos", Form::Number, 0, 0xfc, Told::Tos),
    ("priority", Form::Number, 0, 0xffff_ffff, Told::Option(SOCKET, 12)),
];

/// Level and name of the option that switches keepalive on.
pub(crate) const KEEPALIVE: (u32, u32) = (SOCKET, 9);

const NAMES: [&str; 5] = ["reno", "cubic", "bbr", "dctcp", "a-name_of.15-by"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its place in [`SPECS`].
    pub(crate) at: usize,
    /// As the kernel is given it; 0 for a name.
    pub(crate) value: u64,
    /// Empty for a number.
    pub(crate) name: &'static str,
}

impl Setting {
    pub(crate) fn told(&self) -> Told {
        SPECS[self.at].4
    }

    /// Its key in a rules file.
    pub(crate) fn key(&self) -> &'static str {
        SPECS[self.at].0
    }

    /// The end of the handshake sets it anew, or it depends on what was agreed on: it must be told there.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.told(), Told::Option(TCP, 1001) | Told::Algorithm(..))
    }

    /// Only the end that sends the SYN has it.
    pub(crate) fn is_outgoing_only(&self) -> bool {
        matches!(self.told(), Told::Option(TCP, 2 | 7) | Told::Until(..))
    }

    pub(crate) fn is_option(&self) -> bool {
        !matches!(self.told(), Told::Reply(_))
    }

    /// True for one that the kernel may refuse: `kinds` of those that differ, in the order of their counters.
    pub(crate) fn kind(&self) -> (usize, &'static str) {
        (self.at, self.name)
    }

    /// Its line in a rules file.
    pub(crate) fn line(&self, random: &mut Random) -> String {
        let (key, form, ..) = SPECS[self.at];
        let Self { value, name, .. } = self;
        match form {
            Form::Number if random.percent(20) => format!("{key} = {value:#x}"),
            Form::Number => format!("{key} = {value}"),
            Form::True => format!("{key} = true"),
            Form::Time(unit) => format!("{key} = \"{}\"", duration(value * unit, random)),
            Form::Name => format!("{key} = \"{name}\""),
        }
    }
}

/// A duration in one of the many ways to write it.
pub(crate) fn duration(us: u64, random: &mut Random) -> String {
    match random.below(4) {
        0 if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        1 => format!("{}.{:06}s", us / 1_000_000, us % 1_000_000),
        2 if us.is_multiple_of(1_000) => format!("{}ms", us / 1_000),
        2 => format!("{}s{}us", us / 1_000_000, us % 1_000_000),
        3 if us.is_multiple_of(3_600_000_000) => format!("{}h", us / 3_600_000_000),
        3 if us.is_multiple_of(60_000_000) => format!("{}m", us / 60_000_000),
        _ => format!("{us}us"),
    }
}

/// What a rule sets besides `rto`, and whether it keeps that. A rule with neither exempts.
#[derive(Debug, Clone)]
pub(crate) struct Extra {
    pub(crate) settings: Vec<Setting>,
    pub(crate) keeps_rto: bool,
}

pub(crate) fn extra() -> impl Strategy<Value = Extra> {
    let settings = vec((0..SPECS.len(), any::<u64>(), 0..6_u8), 0..=6).prop_map(|drawn| {
        let one = |(at, random, edge): (usize, u64, u8)| {
            let (_, form, low, high, told) = SPECS[at];
            let value = match edge {
                0 => low,
                1 => high,
                _ => low + random % (high - low + 1),
            };
            // Two bits of it are those of ECN.
            let value = if told == Told::Tos { value & !3 } else { value };
            let name = if form == Form::Name { NAMES[random as usize % NAMES.len()] } else { "" };
            (at, Setting { at, value, name })
        };
        drawn.into_iter().map(one).collect::<BTreeMap<_, _>>().into_values().collect()
    });
    (settings, prop::bool::weighted(0.6)).prop_map(|(settings, keeps_rto)| {
        let settings: Vec<Setting> = settings;
        Extra { keeps_rto, settings }
    })
}
