//! Properties of this host: kernel, capabilities and addresses here, the rest in submodules.

pub(crate) mod cgroup;
pub(crate) mod links;
pub(crate) mod mounts;
pub(crate) mod netns;

use crate::error::{Error, Result, hint};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockaddrStorage;
use std::net::Ipv6Addr;

/// The oldest kernel that is supported.
pub(crate) const OLDEST: (u32, u32) = (5, 10);

/// `uname -r`.
pub(crate) fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// True for a kernel that is too old for set-rto.
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

/// The names of missing capabilities. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, which were split off it in 5.8.
pub(crate) fn missing_capabilities(perfmon: bool) -> Result<Vec<&'static str>> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let effective = effective_capabilities()
        .map_err(|errno| Error::call("read the capabilities", errno, hint::AGAIN))?;
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
    let list = nix::net::if_::if_nameindex()
        .map_err(|errno| Error::call("list the network devices", errno, hint::AGAIN))?;
    let one =
        |it: &nix::net::if_::Interface| (it.name().to_string_lossy().into_owned(), it.index());
    Ok(list.iter().map(one).collect())
}

/// Local addresses as the IPv6 words of a socket (IPv4 mapped), with the device's name.
pub(crate) fn local_addresses() -> Result<Vec<(Ipv6Addr, String)>> {
    let failed = |errno| Error::call("read the local addresses", errno, hint::AGAIN);
    let mut found = Vec::new();
    for entry in nix::ifaddrs::getifaddrs().map_err(failed)? {
        let Some(bits) = entry.address.as_ref().and_then(address_words) else { continue };
        // An alias such as "eth0:1" is an address of eth0.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        found.push((bits, name.into()));
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
