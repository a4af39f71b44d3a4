//! Devices other than cables: those that a host's configuration creates on top of its network cards, and virtual ones.
//! Every function acts on the network namespace of the calling thread.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::errno::Errno;

use super::Skip;
use super::rtnetlink;
use super::rtnetlink::CREATE;
use super::rtnetlink::Mac;
use super::rtnetlink::Request;
use super::rtnetlink::ifinfo;

/// Creates a VLAN (802.1Q) on a device.
pub(crate) fn add_vlan(name: &str, mac: Mac, over: &str, id: u16) -> Result<()> {
    const IFLA_VLAN_ID: u16 = 1;
    let over = rtnetlink::index(over)?.to_ne_bytes();
    add("vlan", name, |request, data| {
        request.attribute(libc::IFLA_ADDRESS, &mac);
        request.attribute(libc::IFLA_LINK, &over);
        data.attribute(IFLA_VLAN_ID, &id.to_ne_bytes());
    })
}

/// Creates a device with a second Ethernet address on another one (macvlan).
pub(crate) fn add_macvlan(name: &str, mac: Mac, over: &str) -> Result<()> {
    const IFLA_MACVLAN_MODE: u16 = 1;
    const BRIDGE: u32 = 4;
    let over = rtnetlink::index(over)?.to_ne_bytes();
    add("macvlan", name, |request, data| {
        request.attribute(libc::IFLA_ADDRESS, &mac);
        request.attribute(libc::IFLA_LINK, &over);
        data.attribute(IFLA_MACVLAN_MODE, &BRIDGE.to_ne_bytes());
    })
}

/// Creates a bridge without ports.
pub(crate) fn add_bridge(name: &str, mac: Mac) -> Result<()> {
    add("bridge", name, |request, _| request.attribute(libc::IFLA_ADDRESS, &mac))
}

/// Creates a bond without members. It takes its Ethernet address from the first member.
pub(crate) fn add_bond(name: &str) -> Result<()> {
    add("bond", name, |_, _| {})
}

/// Creates a device that drops its packets.
pub(crate) fn add_dummy(name: &str) -> Result<()> {
    add("dummy", name, |_, _| {})
}

/// Creates a VRF with that routing table.
pub(crate) fn add_vrf(name: &str, table: u8) -> Result<()> {
    const IFLA_VRF_TABLE: u16 = 1;
    add("vrf", name, |_, data| data.attribute(IFLA_VRF_TABLE, &u32::from(table).to_ne_bytes()))
}

/// Creates an IPv4-in-IPv4 tunnel.
pub(crate) fn add_ipip(name: &str, local: Ipv4Addr, remote: Ipv4Addr) -> Result<()> {
    const IFLA_IPTUN_LOCAL: u16 = 2;
    const IFLA_IPTUN_REMOTE: u16 = 3;
    add("ipip", name, |_, data| {
        data.attribute(IFLA_IPTUN_LOCAL, &local.octets());
        data.attribute(IFLA_IPTUN_REMOTE, &remote.octets());
    })
}

/// Creates a tun device for a program that sends and receives its packets. It lives as long as the file.
///
/// # Errors
/// The kernel's errno. [`Skip`] if it does not support such devices.
pub(crate) fn add_tun(name: &str) -> Result<File> {
    let file = match File::options().read(true).write(true).open("/dev/net/tun") {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            bail!(Skip::new("this kernel has no tun devices"))
        }
        other => other.context("cannot open /dev/net/tun")?,
    };
    // SAFETY: a plain structure of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..15].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is the structure that TUNSETIFF expects.
    let outcome =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw const request) };
    match outcome {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()).with_context(|| format!("cannot make {name}")),
    }
}

/// Adds a device to a bridge, a bond or a VRF.
pub(crate) fn join(name: &str, master: &str) -> Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.bytes(&ifinfo(rtnetlink::index(name)?, 0, 0));
    request.attribute(libc::IFLA_MASTER, &rtnetlink::index(master)?.to_ne_bytes());
    request.send().with_context(|| format!("cannot put {name} into {master}"))
}

/// Creates a device of a kind, down. `fill` receives the request and adds the attributes of that kind.
fn add(kind: &str, name: &str, fill: impl FnOnce(&mut Request, &mut Request)) -> Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
    request.bytes(&ifinfo(0, 0, 0));
    request.string(libc::IFLA_IFNAME, name);
    let mut data = Request::attributes();
    fill(&mut request, &mut data);
    request.nested(libc::IFLA_LINKINFO, |info| {
        info.string(libc::IFLA_INFO_KIND, kind);
        info.attribute(libc::IFLA_INFO_DATA, data.as_bytes());
    });
    match request.send() {
        Err(Errno::EOPNOTSUPP) => bail!(Skip::new(format!("this kernel has no {kind} devices"))),
        other => other.with_context(|| format!("cannot make {name}, a {kind} device")),
    }
}
