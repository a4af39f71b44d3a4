//! The identity of this process's network namespace.

use crate::error::{Error, Result, hint};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::fstat;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A network namespace. Its cookie is unique until the machine restarts (Linux 5.14). The kernel reuses the inode
/// number of a namespace that has ended, so on older kernels, which have no cookie, two namespaces can be confused.
pub(crate) struct Netns {
    file: File,
    /// `net->ns.inum` in the kernel.
    pub(crate) inode: u32,
    /// `net->net_cookie`.
    pub(crate) cookie: Option<u64>,
}

impl Netns {
    /// The namespace of this process.
    pub(crate) fn open() -> Result<Self> {
        const WHAT: &str = "look at the network namespace";
        let file =
            File::open("/proc/self/ns/net").map_err(|error| Error::io(WHAT, &error, hint::PROC))?;
        let state = fstat(&file).map_err(|errno| Error::call(WHAT, errno, hint::PROC))?;
        let cookie = cookie().map_err(|errno| Error::call(WHAT, errno, hint::AGAIN))?;
        Ok(Self { file, inode: state.st_ino as u32, cookie })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The cookie; None before Linux 5.14.
fn cookie() -> nix::Result<Option<u64>> {
    /// From include/uapi/asm-generic/socket.h and its MIPS counterpart; libc does not define it for all targets.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    // A sandbox that restricts address families must allow this one: rules are about TCP.
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the buffer has the given size, and the kernel copies no more.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    match Errno::result(ret) {
        Ok(_) => Ok(Some(cookie)),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
