//! `set-rto try`: open one connection and print its settings and the kernel's defaults.

use crate::device::local;
use crate::device::{self, Loaded, Wanted};
use crate::error::{Error, Result, hint};
use crate::host::cgroup::{self, Cgroup};
use crate::pin::{self, Installed, State};
use crate::trial::Place;
use crate::{bpf, host, output, rules, timer};
use libbpf_rs::MapCore;
use libbpf_rs::libbpf_sys::BPF_CGROUP_SOCK_OPS;
use libbpf_rs::skel::Skel;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, getsockname, socket,
};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// The kernel's own first timer (`TCP_TIMEOUT_INIT`, include/net/tcp.h; RFC 6298, 2.1).
const DEFAULT_US: u64 = 1_000_000;

/// `set-rto try`. A packet filter drops the answer: when it arrives, the kernel replaces the timer by one from the
/// measured round-trip time.
pub(crate) fn run(target: &SocketAddr, pin: &Path) -> Result<ExitCode> {
    // If the rule cannot be determined, the rest is still printed.
    let witness = Witness::of(pin).unwrap_or_else(|why| {
        output::note(&format_args!("the rule is not shown: {why}"));
        None
    });
    let tried = match &witness {
        Some(witness) => witness.place.visit(|| connect_to(target))??,
        None => connect_to(target)?,
    };
    let info = &tried.info;
    let rto_us = u64::from(info[INFO_RTO]);
    let hz = timer::hz()?;
    let ticks = timer::nearest_jiffies(rto_us, hz);
    let default = if rto_us == DEFAULT_US { ", the kernel's default" } else { "" };
    output::print(&format_args!(
        "{target}: first retransmit timer {} ({ticks} jiffies at HZ {hz}){default}",
        timer::spell(rto_us)
    ));
    if let Some(witness) = &witness {
        let rule = witness.rule()?.map_or("none matches", |rule| rule.name);
        output::print(&format_args!("  rule                 {rule}"));
    }
    if let Some(device) = device(&tried.socket) {
        output::print(&format_args!("  interface            {device}"));
    }
    let row = |name: &str, value: &str, default: &str| match value == default {
        true => output::print(&format_args!("  {name:<20} {value}")),
        false => output::print(&format_args!("  {name:<20} {value} (default {default})")),
    };
    let now = options(&tried.socket, target.is_ipv4());
    for ((name, value), (_, default)) in now.iter().zip(&tried.defaults) {
        row(name, value, default);
    }
    row("cwnd", &format!("{} segments", info[INFO_CWND]), &format!("{DEFAULT_CWND} segments"));
    Ok(ExitCode::SUCCESS)
}

/// A connection that has sent its SYN.
struct Tried {
    socket: OwnedFd,
    info: [u32; 26],
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
    if let Err(errno) = drop_incoming(&socket) {
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
    let info = tcp_info(&socket).map_err(failed)?;
    Ok(Tried { socket, info, defaults })
}

/// A second copy of the attached program, with its own counters, in a cgroup that contains only the trial connection.
/// On a busy host the counters of the first also count other connections.
struct Witness {
    loaded: Loaded,
    place: Place,
    _link: OwnedFd,
}

impl Witness {
    /// None, with a note, if this binary's rules are not in effect.
    fn of(pin: &Path) -> std::result::Result<Option<Self>, String> {
        let cause = |error: Error| error.cause().to_owned();
        let installed = match pin::look_at(pin).map_err(cause)? {
            State::Ours(installed) if installed.is_current() => installed,
            State::Ours(_) => return Err("other rules are installed, see `set-rto status`".into()),
            State::Absent => {
                output::note(&"nothing is installed: these are the kernel's own values");
                return Ok(None);
            }
            State::Foreign(what) => return Err(format!("not installed: {what}")),
        };
        let Some(path) = installed.cgroup.and_then(cgroup::path) else {
            return Err("its cgroup is gone or not visible here".into());
        };
        Self::copy(&installed, &path).map(Some).map_err(cause)
    }

    fn copy(installed: &Installed, path: &Path) -> Result<Self> {
        let cgroup = Cgroup::chosen(Some(path))?;
        let without = installed.policy.without;
        let asked = installed.way.map(|way| way.method);
        let loaded = device::load(&Wanted { without, asked, cgroup: &cgroup, counters: None })?;
        if let Some(devices) = &installed.devices {
            let map = loaded.skeleton.object().maps().find(|map| map.name() == local::MAP);
            let map = map.ok_or_else(|| Error::new("no map of interfaces", hint::DAMAGED))?;
            local::copy(devices.as_fd(), map.as_fd())?;
        }
        let place = Place::create(&cgroup)?;
        let program = loaded.skeleton.progs.set_rto.as_fd();
        let link = bpf::attach(program, place.as_fd(), BPF_CGROUP_SOCK_OPS);
        let link = link.map_err(|errno| {
            Error::call("attach to the cgroup of a trial", errno, hint::attach(errno))
        })?;
        Ok(Self { loaded, place, _link: link })
    }

    /// The rule that decided.
    fn rule(&self) -> Result<Option<rules::Rule>> {
        let object = self.loaded.skeleton.object();
        let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
        let map = map.ok_or_else(|| Error::new("the program has no counters", hint::DAMAGED))?;
        let hits = pin::numbers(map.as_fd())?;
        let decided = hits.iter().take(rules::COUNT).position(|&hits| hits > 0);
        Ok(decided.and_then(|rule| rules::all().nth(rule)))
    }
}

/// `TCP_INIT_CWND` (include/net/tcp.h; RFC 6928).
const DEFAULT_CWND: u32 = 10;

/// The device that has the socket's own address.
fn device(socket: &OwnedFd) -> Option<String> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    let bits = host::address_words(&address)?;
    let found = host::local_addresses().ok()?.into_iter().find(|(known, ..)| *known == bits)?;
    Some(found.1)
}

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
    if let Ok(name) = read::<[u8; 16]>(socket, libc::SOL_TCP, libc::TCP_CONGESTION) {
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        found.push(("congestion", String::from_utf8_lossy(name).into_owned()));
    }
    for (name, level, option, unit) in numbers {
        if let Ok(value) = read::<[u32; 1]>(socket, level, option) {
            found.push((name, format!("{}{unit}", value[0])));
        }
    }
    found
}

/// From include/uapi/linux/tcp.h, Linux 6.15; libc does not define it yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// An option of the socket, in a plain array of numbers.
fn read<T: Default>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> nix::Result<T> {
    let mut value = T::default();
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the buffer has the given size, the kernel copies no more, and any bytes are valid numbers.
    let ret = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut size)
    };
    Errno::result(ret).map(|_| value)
}

/// Words of `struct tcp_info` (include/uapi/linux/tcp.h).
const INFO_RTO: usize = 2;
const INFO_CWND: usize = 20;

fn tcp_info(socket: &OwnedFd) -> nix::Result<[u32; 26]> {
    read(socket, libc::SOL_TCP, libc::TCP_INFO)
}

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
