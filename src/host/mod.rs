//! What the loader finds on this host: kernel, capabilities, addresses; the rest in their own files.

pub(crate) mod cgroup;
pub(crate) mod links;
pub(crate) mod mounts;

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, socket};
use std::fs;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// The oldest kernel that is supported.
pub(crate) const OLDEST: (u32, u32) = (5, 10);

/// `uname -r`.
pub(crate) fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// True for a kernel that is old enough to lack what set-rto relies on.
pub(crate) fn too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

/// The error for a kernel that is too old.
pub(crate) fn refuse_old_kernel() -> Result<()> {
    let release = release();
    if too_old(&release) {
        let (major, minor) = OLDEST;
        return Err(Error::new(
            format!("kernel {release} is too old"),
            format!("set-rto needs Linux {major}.{minor} or newer"),
        ));
    }
    Ok(())
}

/// The capabilities that are missing, by name. CAP_SYS_ADMIN stands for those of BPF that were split off it in 5.8.
pub(crate) fn missing_capabilities(perfmon: bool) -> Vec<&'static str> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let has = |capability: u32| effective >> capability & 1 == 1;
    let mut missing = Vec::new();
    if !has(BPF) && !has(SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if perfmon && !has(PERFMON) && !has(SYS_ADMIN) {
        missing.push("CAP_PERFMON");
    }
    missing
}

/// The inode of this process's network namespace: `net->ns.inum` in the kernel.
pub(crate) fn netns() -> u32 {
    fs::metadata("/proc/self/ns/net").map_or(0, |meta| meta.ino() as u32)
}

/// The address as the IPv6 words that a socket has: IPv4 mapped.
pub(crate) fn address_words(address: &SockaddrStorage) -> Option<Ipv6Addr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(v4.ip().to_ipv6_mapped()),
        (_, v6) => v6.map(|v6| v6.ip()),
    }
}

/// The number by which the kernel tells sock_ops programs this process's network namespace; 0 before Linux 5.14.
pub(crate) fn netns_cookie() -> u64 {
    /// include/uapi/asm-generic/socket.h, and that of MIPS; not in libc for all targets.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let flags = SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::Datagram, flags, None) else { return 0 };
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
    if ret == 0 { cookie } else { 0 }
}

/// The devices of this network namespace: names and numbers.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn devices() -> Result<Vec<(String, u32)>> {
    let list = nix::net::if_::if_nameindex()
        .map_err(|errno| Error::call("list the network devices", errno, "run it as root"))?;
    let one =
        |it: &nix::net::if_::Interface| (it.name().to_string_lossy().into_owned(), it.index());
    Ok(list.iter().map(one).collect())
}

/// Local addresses as the IPv6 words that a socket has (IPv4 mapped), with their device's name and number.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn local_addresses() -> Result<Vec<(Ipv6Addr, String, u32)>> {
    let failed = |errno: Errno| {
        Error::call(
            "read the local addresses",
            errno,
            "interface rules need them; is /proc mounted?",
        )
    };
    let mut found = Vec::new();
    for entry in nix::ifaddrs::getifaddrs().map_err(failed)? {
        let Some(address) = entry.address else { continue };
        let Some(bits) = address_words(&address) else { continue };
        // An alias such as "eth0:1" is an address of eth0.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        if let Ok(index) = nix::net::if_::if_nametoindex(name) {
            found.push((bits, name.into(), index));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels() {
        for (release, old) in [
            ("5.9.16", true),
            ("4.19.0-27-amd64", true),
            ("5.10.0-35-amd64", false),
            ("6.1.0", false),
            ("10.0-rc1", false),
            ("odd", false),
        ] {
            assert_eq!(too_old(release), old, "{release}");
        }
    }
}
