//! Properties of this host: kernel, capabilities and addresses here, the rest in submodules.

pub(crate) mod cgroup;
pub(crate) mod links;
pub(crate) mod mounts;
pub(crate) mod netns;

use crate::error::{Context as _, Error, Result, hint};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, socket};
use nix::sys::stat::{Mode, fstatat};
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Opens a directory to read or lock it.
pub(crate) const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The oldest kernel that is supported.
pub(crate) const OLDEST: (u32, u32) = (5, 10);

/// `uname -r`.
pub(crate) fn release() -> Result<String> {
    let name = nix::sys::utsname::uname().context("read the kernel's release", hint::AGAIN)?;
    Ok(name.release().to_string_lossy().into_owned())
}

/// `uname -r` of a kernel that set-rto supports.
///
/// # Errors
/// The kernel is too old.
pub(crate) fn supported_release() -> Result<String> {
    let release = release()?;
    if too_old(&release) {
        let (major, minor) = OLDEST;
        return Err(Error::new(
            format!("kernel {release} is too old"),
            format!("set-rto needs Linux {major}.{minor} or newer"),
        ));
    }
    Ok(release)
}

fn too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

/// The names of missing capabilities. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, which were split off it in 5.8.
pub(crate) fn missing_capabilities(perfmon: bool) -> Result<Vec<&'static str>> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let effective = effective_capabilities().context("read the capabilities", hint::AGAIN)?;
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
    Ok(missing)
}

/// capget(2), of this process.
fn effective_capabilities() -> nix::Result<u64> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = [VERSION_3, 0];
    // Effective, permitted, inheritable; twice, the lower half first.
    let mut data = [0_u32; 6];
    // SAFETY: a header and room for the data of this version (include/uapi/linux/capability.h).
    let ret = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    Errno::result(ret).map(|_| u64::from(data[0]) | u64::from(data[3]) << 32)
}

/// The address as the IPv6 words of a socket. IPv4 addresses are mapped.
pub(crate) fn address_words(address: &SockaddrStorage) -> Option<Ipv6Addr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(v4.ip().to_ipv6_mapped()),
        (_, v6) => v6.map(|v6| v6.ip()),
    }
}

/// The devices of this network namespace: names and numbers.
pub(crate) fn devices() -> Result<Vec<(String, u32)>> {
    let list = nix::net::if_::if_nameindex().context("list the network devices", hint::AGAIN)?;
    let one =
        |it: &nix::net::if_::Interface| (it.name().to_string_lossy().into_owned(), it.index());
    Ok(list.iter().map(one).collect())
}

/// Local addresses as the IPv6 words of a socket (IPv4 mapped), with the device's name.
pub(crate) fn local_addresses() -> Result<Vec<(Ipv6Addr, String)>> {
    let entries = nix::ifaddrs::getifaddrs().context("read the local addresses", hint::AGAIN)?;
    let mut found = Vec::new();
    for entry in entries {
        let Some(bits) = entry.address.as_ref().and_then(address_words) else { continue };
        // An alias such as "eth0:1" is an address of eth0.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        found.push((bits, name.into()));
    }
    Ok(found)
}

/// An entry of a directory.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) inode: u64,
    pub(crate) is_directory: bool,
}

/// The entries of a directory but `.` and `..`, whose names are UTF-8.
pub(crate) fn list(directory: BorrowedFd<'_>) -> nix::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in Dir::openat(directory, ".", DIRECTORY, Mode::empty())?.iter() {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && ![".", ".."].contains(&name)
        {
            let is_directory = entry.file_type() == Some(Type::Directory);
            found.push(Entry { name: name.into(), inode: entry.ino(), is_directory });
        }
    }
    Ok(found)
}

/// True if the directory contains this name.
pub(crate) fn exists(directory: BorrowedFd<'_>, name: &str) -> nix::Result<bool> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Tries to lock a file (flock(2)), without waiting. Its last descriptor holds the lock.
pub(crate) fn flock(file: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: a descriptor and a flag.
    let ret = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    Errno::result(ret).map(drop)
}

/// A socket to ask the kernel through. A sandbox that restricts address families must allow this one: rules are about
/// TCP.
pub(crate) fn any_socket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

/// A request about a device by its name, to be completed for [`ioctl`].
pub(crate) fn request(device: &str) -> libc::ifreq {
    // SAFETY: a plain structure of numbers and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..15].iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// ioctl(2) about a device: see netdevice(7).
///
/// # Safety
/// The request is complete, and any pointer in it is to what the operation takes.
pub(crate) unsafe fn ioctl(operation: libc::Ioctl, request: &libc::ifreq) -> nix::Result<()> {
    let socket = any_socket()?;
    // SAFETY: the caller's promise.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), operation, std::ptr::from_ref(request)) };
    Errno::result(ret).map(drop)
}

/// getsockopt(2). What the kernel does not write is zero.
pub(crate) fn socket_option<const SIZE: usize>(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
) -> nix::Result<[u8; SIZE]> {
    let mut value = [0; SIZE];
    let mut size = SIZE as libc::socklen_t;
    let (socket, start) = (socket.as_raw_fd(), value.as_mut_ptr().cast());
    // SAFETY: the buffer has the given size, and the kernel copies no more.
    let ret = unsafe { libc::getsockopt(socket, level, option, start, &raw mut size) };
    Errno::result(ret).map(|_| value)
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
