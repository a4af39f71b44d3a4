//! How devices belong to each other.

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `struct ethtool_drvinfo` (include/uapi/linux/ethtool.h): a command, and which driver a device has.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    others: [u32; 40],
}

/// True for a device that stands for those in a routing domain of their own, a VRF. The driver's name tells; where
/// the kernel does not, it has none.
pub(crate) fn is_vrf(device: &str) -> bool {
    const SIOCETHTOOL: libc::c_int = 0x8946;
    const ETHTOOL_GDRVINFO: u32 = 3;
    let flags = SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Unix, SockType::Datagram, flags, None) else {
        return false;
    };
    let mut driver = Driver { command: ETHTOOL_GDRVINFO, name: [0; 32], others: [0; 40] };
    // SAFETY: a plain structure of numbers and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..15].iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut driver).cast();
    // SAFETY: the request points to the structure of that command, of the kernel's size (196 bytes), which lives on.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw const request) };
    ret == 0 && driver.name.starts_with(b"vrf\0")
}

/// The bridge or bond that a device is part of, so that connections are not its own. (A VRF's are.)
pub(crate) fn part_of(device: &str) -> Option<String> {
    let link = fs::read_link(Path::new("/sys/class/net").join(device).join("master")).ok()?;
    let master = link.file_name()?.to_string_lossy().into_owned();
    (!is_vrf(&master)).then_some(master)
}
