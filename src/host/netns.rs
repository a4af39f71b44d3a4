//! The network namespace of this process, and what tells it from others.

use crate::error::{Error, Result, hint};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::fstat;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A network namespace. Its cookie is its own for as long as the machine runs (Linux 5.14). Its inode number is given to
/// another namespace once this one has gone, so that by it alone, on older kernels, one may be taken for the other.
pub(crate) struct Netns {
    file: File,
    /// `net->ns.inum` in the kernel.
    pub(crate) inode: u32,
    /// `net->net_cookie`.
    pub(crate) cookie: Option<u64>,
}

impl Netns {
    /// That of this process.
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

/// None where the kernel has none, before Linux 5.14.
fn cookie() -> nix::Result<Option<u64>> {
    /// include/uapi/asm-generic/socket.h, and that of MIPS; not in libc for all targets.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    // Rules are about TCP: a sandbox that leaves out other families has this one.
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the buffer is as large as said, the kernel copies no more.
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
