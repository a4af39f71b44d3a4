//! The identity of this process's network namespace.

use crate::error::{Context as _, Result, hint};
use crate::host;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

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
        let file = File::open("/proc/self/ns/net").context(WHAT, hint::PROC)?;
        let inode = fstat(&file).context(WHAT, hint::PROC)?.st_ino as u32;
        let cookie = cookie().context(WHAT, hint::AGAIN)?;
        Ok(Self { file, inode, cookie })
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
    match host::socket_option(&host::any_socket()?, libc::SOL_SOCKET, SO_NETNS_COOKIE) {
        Ok(cookie) => Ok(Some(u64::from_ne_bytes(cookie))),
        Err(Errno::ENOPROTOOPT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
