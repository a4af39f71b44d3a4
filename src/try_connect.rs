//! `set-rto try`: open one connection and print its settings and the kernel's defaults.

use crate::bpf::Egress;
use crate::device::local;
use crate::device::{self, Loaded};
use crate::error::{Error, Result, hint};
use crate::host::cgroup::{self, Cgroup};
use crate::pin::{self, Installed, State};
use crate::policy::Load;
use crate::trial::TrialCgroup;
use crate::{host, output, policy, rules, shared, timer};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, socket,
};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// The kernel's own first timer (`TCP_TIMEOUT_INIT`, include/net/tcp.h; RFC 6298, 2.1).
const DEFAULT_US: u64 = 1_000_000;

/// `set-rto try`. A packet filter drops the answer: when it arrives, the kernel replaces the timer by one from the
/// measured round-trip time.
pub(crate) fn run(target: &SocketAddr, pin: &Path) -> Result<ExitCode> {
    // If the rule cannot be determined, the rest is still printed.
    let witness = Witness::of(pin).unwrap_or_else(|error| {
        output::note(&format_args!("rule and interface are not shown: {}", error.cause()));
        None
    });
    let tried = match &witness {
        Some(witness) => witness.place.visit(|| connect_to(target))??,
        None => connect_to(target)?,
    };
    let rto_us = u64::from(tried.rto_us);
    let hz = timer::hz()?;
    let ticks = timer::nearest_jiffies(rto_us, hz);
    let default = if rto_us == DEFAULT_US { ", the kernel's default" } else { "" };
    output::print(&format_args!(
        "{target}: first retransmit timer {} ({ticks} jiffies at HZ {hz}){default}",
        timer::spell(rto_us)
    ));
    if let Some(witness) = &witness {
        let rule = witness.rule()?;
        let name = rule.as_ref().map_or("none matches", |rule| rule.name);
        output::print(&format_args!("  rule                 {name}"));
        if let Some(rule) = rule
            && tried.is_first
            && !timers(&rule.settings, hz).contains(&ticks)
        {
            output::print(&format_args!(
                "                       but {}: another program overrules it, see `set-rto status`",
                rule.text
            ));
        }
        match witness.device() {
            Ok(device) => output::print(&format_args!("  interface            {device}")),
            Err(errno) => output::note(&format_args!("no interface: {}", errno.desc())),
        }
    }
    let row = |name: &str, value: &str, default: &str| match value == default {
        true => output::print(&format_args!("  {name:<20} {value}")),
        false => output::print(&format_args!("  {name:<20} {value} (default {default})")),
    };
    let now = options(&tried.socket, target.is_ipv4());
    for ((name, value), (_, default)) in now.iter().zip(&tried.defaults) {
        row(name, value, default);
    }
    row("cwnd", &format!("{} segments", tried.cwnd), &format!("{DEFAULT_CWND} segments"));
    Ok(ExitCode::SUCCESS)
}

/// The timers that a rule can set, in jiffies.
fn timers(settings: &rules::Settings, hz: u32) -> RangeInclusive<u64> {
    let ticks = |us| u64::from(timer::jiffies(us, hz));
    match (settings.rto_us, settings.learns()) {
        (0, _) => 0..=u64::MAX,
        (us, false) => ticks(us)..=ticks(us),
        (_, true) => ticks(settings.min_us)..=ticks(settings.max_us),
    }
}

/// A connection that has sent its SYN.
struct Tried {
    socket: OwnedFd,
    rto_us: u32,
    /// True if no answer can have replaced the timer.
    is_first: bool,
    /// In segments.
    cwnd: u32,
    /// What the socket had before it connected.
    defaults: Vec<(&'static str, String)>,
}

fn connect_to(target: &SocketAddr) -> Result<Tried> {
    let failed = |errno| {
        let hint = match errno {
            Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EADDRNOTAVAIL => {
                "is there a route? `ip route get` shows it"
            }
            Errno::EACCES | Errno::EPERM => "a firewall or a security module forbids it",
            Errno::EINVAL => "a link-local address needs its interface: [fe80::1%2]:80",
            Errno::EAFNOSUPPORT => "this kernel or sandbox lacks that address family",
            _ => hint::AGAIN,
        };
        Error::call(format_args!("connect to {target}"), errno, hint)
    };
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, SockProtocol::Tcp).map_err(failed)?;
    let dropped = drop_incoming(&socket);
    if let Err(errno) = dropped {
        let why = errno.desc();
        output::note(&format_args!(
            "without a packet filter ({why}), an early answer replaces the timer"
        ));
    }
    let defaults = options(&socket, target.is_ipv4());
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(*target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let info: [u8; 104] =
        host::socket_option(&socket, libc::SOL_TCP, libc::TCP_INFO).map_err(failed)?;
    // `struct tcp_info` (include/uapi/linux/tcp.h), in words.
    let (words, _) = info.as_chunks();
    let [rto_us, cwnd] = [2, 20].map(|at| u32::from_ne_bytes(words[at]));
    Ok(Tried { socket, rto_us, is_first: dropped.is_ok(), cwnd, defaults })
}

/// A second copy of the attached program, with its own counters, in a cgroup that contains only the trial connection.
/// On a busy host the counters of the first also count other connections.
struct Witness {
    loaded: Loaded,
    /// A service manager may keep others from watching packets.
    egress: nix::Result<Egress>,
    place: TrialCgroup,
    _link: OwnedFd,
}

impl Witness {
    /// None, with a note, if nothing is installed.
    ///
    /// # Errors
    /// What is in effect are not this binary's rules, or they cannot be copied.
    fn of(pin: &Path) -> Result<Option<Self>> {
        let failed = |why: &str| Err(Error::new(why, hint::CHECK));
        let installed = match pin::look_at(pin)? {
            State::Ours(installed) if installed.is_current() => installed,
            State::Ours(_) => return failed("other rules are installed, see `set-rto status`"),
            State::Absent => {
                output::note(&"nothing is installed: these are the kernel's own values");
                return Ok(None);
            }
            State::Foreign(what) => return failed(&format!("not installed: {what}")),
        };
        match installed.cgroup.map(cgroup::path).transpose()?.flatten() {
            Some(path) => Self::copy(&installed, &path).map(Some),
            None => failed("its cgroup is gone or not visible here"),
        }
    }

    fn copy(installed: &Installed, path: &Path) -> Result<Self> {
        let cgroup = Cgroup::chosen(Some(path))?;
        let load = Load { without: installed.policy.without, ..Load::default() };
        let loaded = device::load(load, installed.way.map(|way| way.method), &cgroup)?;
        if let Some(devices) = &installed.devices {
            let map = policy::map(&loaded.skeleton, local::MAP)?;
            local::copy(devices.as_fd(), map.as_fd())?;
        }
        let place = TrialCgroup::create(&cgroup)?;
        let link = place.cgroup.attach(loaded.skeleton.progs.set_rto.as_fd())?;
        let egress = Egress::watch(place.cgroup.as_fd());
        Ok(Self { loaded, egress, place, _link: link })
    }

    /// The device that the SYN has left by; ENXIO if none has left.
    fn device(&self) -> nix::Result<String> {
        let name = if_indextoname(self.egress.as_ref().map_err(|it| *it)?.device()?)?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// The rule that decided.
    fn rule(&self) -> Result<Option<rules::Rule>> {
        let skeleton = &self.loaded.skeleton;
        let decided = if rules::EVIDENCE > 0 {
            let map = policy::map(skeleton, policy::EVIDENCE)?;
            let evidence = pin::evidence(map.as_fd(), rules::COUNT as u32, rules::EVIDENCE)?;
            evidence.iter().position(|[out, into]| out.asked + into.asked > 0)
        } else {
            let hits = pin::numbers(policy::map(skeleton, policy::COUNTERS)?.as_fd())?;
            hits.iter().take(rules::COUNT).position(|&hits| hits > 0)
        };
        Ok(decided.and_then(|rule| rules::all().nth(rule)))
    }
}

/// `TCP_INIT_CWND` (include/net/tcp.h; RFC 6928).
const DEFAULT_CWND: u32 = 10;

/// Options that rules can set, formatted for display. Options that this kernel cannot report are left out.
fn options(socket: &OwnedFd, is_ipv4: bool) -> Vec<(&'static str, String)> {
    let tos = match is_ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_TOS),
        false => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    };
    let numbers = [
        ("syn_retries", libc::SOL_TCP, libc::TCP_SYNCNT, ""),
        ("user_timeout", libc::SOL_TCP, libc::TCP_USER_TIMEOUT, " ms"),
        ("rto_max", libc::SOL_TCP, TCP_RTO_MAX_MS, " ms"),
        ("keepalive", libc::SOL_SOCKET, libc::SO_KEEPALIVE, ""),
        ("keepalive_idle", libc::SOL_TCP, libc::TCP_KEEPIDLE, " s"),
        ("keepalive_interval", libc::SOL_TCP, libc::TCP_KEEPINTVL, " s"),
        ("keepalive_count", libc::SOL_TCP, libc::TCP_KEEPCNT, ""),
        ("nodelay", libc::SOL_TCP, libc::TCP_NODELAY, ""),
        ("window_clamp", libc::SOL_TCP, libc::TCP_WINDOW_CLAMP, " bytes"),
        ("thin_linear_timeouts", libc::SOL_TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, ""),
        ("notsent_lowat", libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, " bytes"),
        ("sndbuf", libc::SOL_SOCKET, libc::SO_SNDBUF, " bytes"),
        ("rcvbuf", libc::SOL_SOCKET, libc::SO_RCVBUF, " bytes"),
        ("mark", libc::SOL_SOCKET, libc::SO_MARK, ""),
        ("priority", libc::SOL_SOCKET, libc::SO_PRIORITY, ""),
        ("tos", tos.0, tos.1, ""),
    ];
    let mut found = Vec::new();
    if let Ok(name) = host::socket_option::<16>(socket, libc::SOL_TCP, libc::TCP_CONGESTION) {
        found.push(("congestion", shared::text(&name)));
    }
    for (name, level, option, unit) in numbers {
        if let Ok(value) = host::socket_option(socket, level, option) {
            found.push((name, format!("{}{unit}", u32::from_ne_bytes(value))));
        }
    }
    found
}

/// From include/uapi/linux/tcp.h, Linux 6.15; libc does not define it yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// A classic BPF filter that lets nothing in (`SO_ATTACH_FILTER`, socket(7)).
fn drop_incoming(socket: &OwnedFd) -> nix::Result<()> {
    let mut code =
        [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    // SAFETY: the program and its one instruction live until the call has copied them.
    let ret = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    Errno::result(ret).map(drop)
}
