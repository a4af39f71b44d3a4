//! The few rtnetlink requests that a test network needs. The tests do not depend on the machine's `ip`.
//!
//! Every function acts on the network namespace of the calling thread.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockProtocol;
use nix::sys::socket::SockType;
use nix::sys::socket::recv;
use nix::sys::socket::send;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::TimeVal;

use super::Skip;
use super::wait::until;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// An address and the length of its prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

/// Creates a veth pair: `name` here and `peer` in the namespace `peer_ns`. Both get the given Ethernet addresses and
/// are down.
///
/// # Errors
/// The kernel's errno. [`Skip`] if it does not support veth devices.
pub(crate) fn add_veth(
    name: &str,
    mac: Mac,
    peer: &str,
    peer_mac: Mac,
    peer_ns: BorrowedFd<'_>,
) -> Result<()> {
    let ns = peer_ns.as_raw_fd().to_ne_bytes();
    let mut request = Request::new(libc::RTM_NEWLINK, CREATE);
    request.bytes(&ifinfo(0, 0, 0));
    request.string(libc::IFLA_IFNAME, name);
    request.attribute(libc::IFLA_ADDRESS, &mac);
    request.nested(libc::IFLA_LINKINFO, |info| {
        info.string(libc::IFLA_INFO_KIND, "veth");
        info.nested(libc::IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |end| {
                end.bytes(&ifinfo(0, 0, 0));
                end.string(libc::IFLA_IFNAME, peer);
                end.attribute(libc::IFLA_ADDRESS, &peer_mac);
                end.attribute(libc::IFLA_NET_NS_FD, &ns);
            });
        });
    });
    match request.send() {
        Err(Errno::EOPNOTSUPP) => bail!(Skip::new("this kernel has no veth devices")),
        other => other.with_context(|| format!("cannot create the veth pair {name} - {peer}")),
    }
}

/// Brings a device up.
pub(crate) fn set_up(name: &str) -> Result<()> {
    set_flags(name, libc::IFF_UP.cast_unsigned())
}

/// Takes a device down.
pub(crate) fn set_down(name: &str) -> Result<()> {
    set_flags(name, 0)
}

fn set_flags(name: &str, flags: u32) -> Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.bytes(&ifinfo(index(name)?, flags, libc::IFF_UP.cast_unsigned()));
    request.send().with_context(|| format!("cannot bring {name} up or down"))
}

/// Renames a device. Returns true if the kernel required it to be down for that (before Linux 6.2). It is up again
/// then, but has lost its routes, neighbours and IPv6 addresses.
pub(crate) fn rename(name: &str, to: &str) -> Result<bool> {
    let request = |name: &str| -> Result<Request> {
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        request.bytes(&ifinfo(index(name)?, 0, 0));
        request.string(libc::IFLA_IFNAME, to);
        Ok(request)
    };
    let failed = || format!("cannot call {name} {to}");
    match request(name)?.send() {
        Err(Errno::EBUSY) => {
            set_down(name)?;
            request(name)?.send().with_context(failed)?;
            set_up(to)?;
            Ok(true)
        }
        other => other.with_context(failed).map(|()| false),
    }
}

/// Removes a device. The peer of a veth device goes with it.
pub(crate) fn delete_link(name: &str) -> Result<()> {
    let mut request = Request::new(libc::RTM_DELLINK, 0);
    request.bytes(&ifinfo(index(name)?, 0, 0));
    request.send().with_context(|| format!("cannot remove {name}"))
}

/// Removes a device that may have been removed with another one.
pub(crate) fn delete_link_if_there(name: &str) -> Result<()> {
    if if_nametoindex(name).is_ok() { delete_link(name) } else { Ok(()) }
}

/// Removes an address from a device.
pub(crate) fn remove_address(name: &str, prefix: Prefix) -> Result<()> {
    let (family, address) = octets(prefix.address);
    let mut request = Request::new(libc::RTM_DELADDR, 0);
    request.bytes(&[family, prefix.length, 0, 0]);
    request.bytes(&index(name)?.to_ne_bytes());
    request.attribute(libc::IFA_LOCAL, &address);
    request.send().with_context(|| format!("cannot take {} from {name}", prefix.address))
}

/// Waits until a device that is up has a carrier and the kernel has noticed it from a work queue. Until then the kernel
/// drops packets that leave through the device (`linkwatch_do_dev()`, net/core/link_watch.c).
pub(crate) fn wait_for_carrier(name: &str) -> Result<()> {
    const UP: &[u8] = &[6];
    until(format_args!("{name} has no carrier"), || {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.bytes(&ifinfo(index(name)?, 0, 0));
        let answer = request.ask().with_context(|| format!("cannot ask about {name}"))?;
        Ok(attribute(&answer, libc::IFLA_OPERSTATE) == Some(UP))
    })
}

/// Waits until packets to an IPv6 address reach this host. The kernel adds the route from a work queue, even without
/// duplicate address detection (`addrconf_dad_completed()`, net/ipv6/addrconf.c).
pub(crate) fn wait_for_ipv6(address: Ipv6Addr) -> Result<()> {
    const RTF_LOCAL: u32 = 0x8000_0000;
    let start = format!("{:032x} 80 ", address.to_bits());
    until(format_args!("{address} is not local"), || {
        let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route")
            .context("cannot read the routes of IPv6")?;
        let mut own = routes.lines().filter(|line| line.starts_with(&start));
        Ok(own.any(|line| {
            let flags = line.split_ascii_whitespace().nth(8);
            let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
            flags.is_some_and(|flags| flags & RTF_LOCAL != 0)
        }))
    })
}

/// Assigns an address to a device that is up, unless it has it already. The address is usable when this returns (no
/// duplicate address detection).
pub(crate) fn add_address(name: &str, prefix: Prefix) -> Result<()> {
    let (family, address) = octets(prefix.address);
    let mut request = Request::new(libc::RTM_NEWADDR, REPLACE);
    let flags = if prefix.address.is_ipv6() { IFA_F_NODAD } else { 0 };
    request.bytes(&[family, prefix.length, flags, 0]);
    request.bytes(&index(name)?.to_ne_bytes());
    request.attribute(libc::IFA_LOCAL, &address);
    request.attribute(libc::IFA_ADDRESS, &address);
    request.send().with_context(|| format!("cannot give {name} the address {}", prefix.address))?;
    match prefix.address {
        IpAddr::V4(_) => Ok(()),
        IpAddr::V6(address) => wait_for_ipv6(address),
    }
}

/// Routes a prefix over a gateway that is a neighbour on `name`.
pub(crate) fn add_route(to: Prefix, gateway: IpAddr, name: &str) -> Result<()> {
    add_route_in(MAIN, to, gateway, name)
}

/// Routes a prefix through a device without a gateway.
pub(crate) fn add_route_over(to: Prefix, name: &str) -> Result<()> {
    route(MAIN, to, None, name)
}

/// Routes a prefix through a gateway in the routing table with that number.
pub(crate) fn add_route_in(table: u8, to: Prefix, gateway: IpAddr, name: &str) -> Result<()> {
    route(table, to, Some(gateway), name)
}

fn route(table: u8, to: Prefix, gateway: Option<IpAddr>, name: &str) -> Result<()> {
    let (family, destination) = octets(to.address);
    let mut request = Request::new(libc::RTM_NEWROUTE, CREATE);
    let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    let (protocol, kind) = (libc::RTPROT_STATIC, libc::RTN_UNICAST);
    request.bytes(&[family, to.length, 0, 0, table, protocol, scope, kind]);
    request.bytes(&0_u32.to_ne_bytes());
    request.attribute(libc::RTA_DST, &destination);
    if let Some(gateway) = gateway {
        request.attribute(libc::RTA_GATEWAY, &octets(gateway).1);
    }
    request.attribute(libc::RTA_OIF, &index(name)?.to_ne_bytes());
    request.send().with_context(|| format!("cannot route {to:?} over {gateway:?} on {name}"))
}

/// Adds a rule for IPv4 packets with a mark: `ip rule add fwmark MARK lookup TABLE`.
///
/// # Errors
/// The kernel's errno. [`Skip`] if it supports only one table (without CONFIG_IP_MULTIPLE_TABLES).
pub(crate) fn route_by_mark(mark: u32, table: u8) -> Result<()> {
    const FRA_FWMARK: u16 = 10;
    add_rule(libc::AF_INET as u8, 0, (FRA_FWMARK, &mark.to_ne_bytes()), table)
}

/// Adds a rule for packets from an address of either family: `ip rule add from ADDRESS lookup TABLE`.
///
/// # Errors
/// As for [`route_by_mark`].
pub(crate) fn route_from(address: IpAddr, table: u8) -> Result<()> {
    const FRA_SRC: u16 = 2;
    let (family, bytes) = octets(address);
    add_rule(family, bytes.len() as u8 * 8, (FRA_SRC, &bytes), table)
}

fn add_rule(family: u8, length: u8, (kind, value): (u16, &[u8]), table: u8) -> Result<()> {
    const TO_TABLE: u8 = 1;
    let mut request = Request::new(libc::RTM_NEWRULE, CREATE);
    request.bytes(&[family, 0, length, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0]);
    request.attribute(kind, value);
    match request.send() {
        Err(Errno::EOPNOTSUPP) => bail!(Skip::new("this kernel has no routing by rules")),
        other => other.context("cannot add a routing rule"),
    }
}

/// Adds a permanent neighbour. Packets to it need no address resolution.
pub(crate) fn add_neighbour(address: IpAddr, mac: Mac, name: &str) -> Result<()> {
    neighbour(CREATE, address, mac, name)
}

/// Replaces a permanent neighbour.
pub(crate) fn replace_neighbour(address: IpAddr, mac: Mac, name: &str) -> Result<()> {
    neighbour(REPLACE, address, mac, name)
}

fn neighbour(flags: u16, address: IpAddr, mac: Mac, name: &str) -> Result<()> {
    let (family, bytes) = octets(address);
    let mut request = Request::new(libc::RTM_NEWNEIGH, flags);
    request.bytes(&[family, 0, 0, 0]);
    request.bytes(&index(name)?.to_ne_bytes());
    let [low, high] = libc::NUD_PERMANENT.to_ne_bytes();
    request.bytes(&[low, high, 0, 0]);
    request.attribute(libc::NDA_DST, &bytes);
    request.attribute(libc::NDA_LLADDR, &mac);
    request.send().with_context(|| format!("cannot enter the neighbour {address} on {name}"))
}

/// The index of a device in the current namespace.
pub(crate) fn index(name: &str) -> Result<u32> {
    if_nametoindex(name).with_context(|| format!("no device {name}"))
}

/// The routing table that `ip route` uses by default.
pub(crate) const MAIN: u8 = libc::RT_TABLE_MAIN;

const VETH_INFO_PEER: u16 = 1;
const IFA_F_NODAD: u8 = 2;
/// Flags of a request that creates an object.
pub(super) const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// Flags of a request that creates or replaces an object.
const REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
const HEADER: usize = 16;

pub(super) fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// The value of an attribute in a reply about a device.
fn attribute(answer: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = answer.get(HEADER + 16..)?;
    loop {
        let number = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        if kind == wanted {
            return rest.get(4..length);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

pub(super) fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(four) => (libc::AF_INET as u8, four.octets().to_vec()),
        IpAddr::V6(six) => (libc::AF_INET6 as u8, six.octets().to_vec()),
    }
}

/// A netlink message under construction.
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Request { bytes }
    }

    /// Attributes without a header, for nesting.
    pub(super) fn attributes() -> Self {
        Request { bytes: Vec::new() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends bytes, and zeros to the next multiple of four.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let start = self.bytes.len();
        self.nested(kind, |inner| inner.bytes.extend_from_slice(value));
        self.bytes.resize(start + (4 + value.len()).next_multiple_of(4), 0);
    }

    pub(super) fn string(&mut self, kind: u16, value: &str) {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.attribute(kind, &terminated);
    }

    /// Sends the request and waits for the kernel's acknowledgement.
    pub(super) fn send(self) -> Result<(), Errno> {
        self.ask().map(drop)
    }

    /// Sends the request and returns the kernel's first reply.
    fn ask(mut self) -> Result<Vec<u8>, Errno> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let socket: OwnedFd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(30, 0))?;
        send(socket.as_raw_fd(), &self.bytes, MsgFlags::empty())?;
        let mut answer = vec![0; 4096];
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        if length < HEADER + 4 {
            return Err(Errno::EBADMSG);
        }
        answer.truncate(length);
        let mut code = [0; 4];
        code.copy_from_slice(&answer[HEADER..HEADER + 4]);
        let is_error = answer[4..6] == (libc::NLMSG_ERROR as u16).to_ne_bytes();
        match i32::from_ne_bytes(code) {
            negative if is_error && negative != 0 => Err(Errno::from_raw(-negative)),
            _ => Ok(answer),
        }
    }
}
