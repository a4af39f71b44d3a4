//! Relations between devices.

use crate::error::{Error, Result, hint};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `struct ethtool_drvinfo` (include/uapi/linux/ethtool.h): a command, and the name of a device's driver.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    others: [u32; 40],
}

/// True for a VRF: a device that represents a routing domain of other devices. The driver's name identifies it.
pub(crate) fn is_vrf(device: &str) -> Result<bool> {
    const SIOCETHTOOL: libc::c_int = 0x8946;
    const ETHTOOL_GDRVINFO: u32 = 3;
    let failed =
        |errno| Error::call(format_args!("ask for the driver of {device}"), errno, hint::AGAIN);
    // A sandbox that restricts address families must allow this one: rules are about TCP.
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(failed)?;
    let mut driver = Driver { command: ETHTOOL_GDRVINFO, name: [0; 32], others: [0; 40] };
    // SAFETY: a plain structure of numbers and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..15].iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut driver).cast();
    // SAFETY: the request points to a live structure of the kernel's size for that command (196 bytes).
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw const request) };
    match Errno::result(ret) {
        Ok(_) => Ok(driver.name.starts_with(b"vrf\0")),
        // Its driver does not report a name, or the device has gone since it was listed.
        Err(Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENOTTY | Errno::EINVAL) => Ok(false),
        Err(errno) => Err(failed(errno)),
    }
}

/// The bridge or bond that a device is part of and that its connections belong to. (In a VRF they are the device's
/// own.)
pub(crate) fn part_of(device: &str) -> Result<Option<String>> {
    let path = Path::new("/sys/class/net").join(device).join("master");
    let link = match fs::read_link(&path) {
        Ok(link) => link,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => {
            return Err(Error::io(format_args!("read {}", path.display()), &error, hint::AGAIN));
        }
    };
    let master = link.file_name().map(|name| name.to_string_lossy().into_owned());
    match master {
        Some(master) if !is_vrf(&master)? => Ok(Some(master)),
        _ => Ok(None),
    }
}
