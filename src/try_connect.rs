//! `set-rto try`: open one connection and print what the kernel gave it, beside what it gives by default.

use crate::error::{Error, Result};
use crate::host;
use crate::installed::{self, State};
use crate::rules;
use crate::timer;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, getsockname, socket,
};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// The kernel's own first timer (`TCP_TIMEOUT_INIT`, include/net/tcp.h; RFC 6298, 2.1).
const DEFAULT_US: u64 = 1_000_000;

/// `set-rto try`. The answer is kept from the socket: once it has come, the kernel replaces the timer by what it
/// measured.
pub(crate) fn run(target: &SocketAddr) -> Result<ExitCode> {
    let what = format!("connect to {target}");
    let hint = || "is there a route? `ip route get` tells".to_string();
    let failed = |errno| Error::call(&what, errno, hint());
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, SockProtocol::Tcp).map_err(failed)?;
    drop_incoming(&socket).map_err(failed)?;
    // What a socket has before it connects is the default.
    let defaults = options(&socket, target.is_ipv4());
    let hits = hits();
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(*target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let info = tcp_info(&socket).map_err(failed)?;
    let rto_us = u64::from(info[INFO_RTO]);
    let spelled = timer::spell(rto_us);
    let ticks = match timer::hz() {
        Some(hz) => format!(" ({} jiffies at HZ {hz})", timer::nearest_jiffies(rto_us, hz)),
        None => String::new(),
    };
    let default = if rto_us == DEFAULT_US { ", the kernel's default" } else { "" };
    crate::print(&format_args!("{target}: first retransmit timer {spelled}{ticks}{default}"));
    if let Some(name) = decided(&hits) {
        crate::print(&format_args!("  rule                 {name}"));
    }
    if let Some(device) = device(&socket) {
        crate::print(&format_args!("  interface            {device}"));
    }
    let row = |name: &str, value: &str, default: &str| match value == default {
        true => crate::print(&format_args!("  {name:<20} {value}")),
        false => crate::print(&format_args!("  {name:<20} {value} (default {default})")),
    };
    for ((name, value), (_, default)) in options(&socket, target.is_ipv4()).iter().zip(&defaults) {
        row(name, value, default);
    }
    row("cwnd", &format!("{} segments", info[INFO_CWND]), &format!("{DEFAULT_CWND} segments"));
    Ok(ExitCode::SUCCESS)
}

/// `TCP_INIT_CWND` (include/net/tcp.h; RFC 6928).
const DEFAULT_CWND: u32 = 10;

/// The hits of what is installed at the usual place, if that is this binary's.
fn hits() -> Vec<u64> {
    let program = match installed::look(Path::new(installed::PIN)) {
        Ok(State::Ours(installed)) if installed.is_current() => installed.program,
        _ => None,
    };
    program.map(|program| program.hits).unwrap_or_default()
}

/// The rule that has counted one more since.
fn decided(before: &[u64]) -> Option<&'static str> {
    let after = hits();
    let rule = before.iter().zip(&after).position(|(before, after)| before < after)?;
    rules::all().nth(rule).map(|rule| rule.name)
}

/// The device that has the socket's own address.
fn device(socket: &OwnedFd) -> Option<String> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    let bits = host::address_words(&address)?;
    let found = host::local_addresses().ok()?.into_iter().find(|(known, ..)| *known == bits)?;
    Some(found.1)
}

/// Options that rules can set, as people read them; those that this kernel does not tell are left out.
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

/// include/uapi/linux/tcp.h, 6.15; not in libc yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// An option of the socket, in a plain array of numbers.
fn read<T: Default>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> nix::Result<T> {
    let mut value = T::default();
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the buffer is as large as said, the kernel copies no more, and any bytes make numbers.
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
