//! Relations between devices.

use crate::error::{Context as _, Error, Result, hint};
use crate::host;
use nix::errno::Errno;
use nix::libc;
use std::fs;
use std::io::ErrorKind;
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
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    const ETHTOOL_GDRVINFO: u32 = 3;
    let mut driver = Driver { command: ETHTOOL_GDRVINFO, name: [0; 32], others: [0; 40] };
    let mut request = host::request(device);
    request.ifr_ifru.ifru_data = (&raw mut driver).cast();
    // SAFETY: the request points to a live structure of the kernel's size for that command (196 bytes).
    match unsafe { host::ioctl(SIOCETHTOOL, &request) } {
        Ok(()) => Ok(driver.name.starts_with(b"vrf\0")),
        // Its driver does not report a name, or the device has gone since it was listed.
        Err(Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENOTTY | Errno::EINVAL) => Ok(false),
        Err(errno) => {
            Err(Error::call(format_args!("ask for the driver of {device}"), errno, hint::AGAIN))
        }
    }
}

/// The bridge, bond or VRF that a device is part of.
pub(crate) fn master(device: &str) -> Result<Option<String>> {
    let path = Path::new("/sys/class/net").join(device).join("master");
    match fs::read_link(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        link => {
            let link = link.context(format_args!("read {}", path.display()), hint::AGAIN)?;
            Ok(link.file_name().map(|name| name.to_string_lossy().into_owned()))
        }
    }
}
