//! `set-rto try`: open one connection and print the timer that the kernel gave it.

use crate::error::{Error, Result};
use crate::timer;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, socket,
};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

/// The kernel's own first timer (`TCP_TIMEOUT_INIT`, include/net/tcp.h; RFC 6298, 2.1).
const DEFAULT_US: u64 = 1_000_000;

/// `set-rto try`.
pub(crate) fn run(target: &SocketAddr) -> Result<ExitCode> {
    let rto_us = first_timer(target)?;
    let spelled = timer::spell(rto_us);
    let ticks = match timer::hz() {
        Some(hz) => format!(" ({} jiffies at HZ {hz})", rto_us * u64::from(hz) / 1_000_000),
        None => String::new(),
    };
    let default = if rto_us == DEFAULT_US { ", the kernel's default" } else { "" };
    crate::print(&format_args!("{target}: first retransmit timer {spelled}{ticks}{default}"));
    Ok(ExitCode::SUCCESS)
}

/// The timer of the SYN, in microseconds. The answer is kept from the socket: once it has come, the
/// kernel replaces the timer by what it measured.
fn first_timer(target: &SocketAddr) -> Result<u64> {
    let what = format!("connect to {target}");
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let hint = || "is there a route? `ip route get` tells".to_string();
    let failed = |errno| Error::call(&what, errno, hint());
    let socket = socket(family, SockType::Stream, flags, SockProtocol::Tcp).map_err(failed)?;
    drop_incoming(&socket).map_err(failed)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(*target)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(failed(errno)),
    }
    read_rto(&socket).map_err(failed)
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

/// `tcpi_rto` of `TCP_INFO`, microseconds: the third 32-bit word (include/uapi/linux/tcp.h).
fn read_rto(socket: &OwnedFd) -> nix::Result<u64> {
    let mut info = [0_u32; 3];
    let mut size = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the buffer is as large as said; the kernel copies no more.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    Errno::result(ret).map(|_| u64::from(info[2]))
}
