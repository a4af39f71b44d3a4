//! Loopback connections to any address, in a network namespace where all addresses are local.

use crate::rule::Connection;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::errno::Errno;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::Backlog;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockProtocol;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::accept4;
use nix::sys::socket::bind;
use nix::sys::socket::connect;
use nix::sys::socket::listen;
use nix::sys::socket::recv;
use nix::sys::socket::send;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt::Ipv6V6Only;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::sockopt::ReuseAddr;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

/// The loopback device has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// Brings loopback up and makes every address local to it.
pub(crate) fn prepare() -> Result<()> {
    let up = libc::IFF_UP.cast_unsigned();
    let mut link = vec![0; 4];
    for word in [LOOPBACK, up, up] {
        link.extend_from_slice(&word.to_ne_bytes());
    }
    request(libc::RTM_NEWLINK, 0, &link).context("cannot bring loopback up")?;
    let families = [Some(libc::AF_INET as u8), has_ipv6().then_some(libc::AF_INET6 as u8)];
    for family in families.into_iter().flatten() {
        let (table, kind) = (libc::RT_TABLE_LOCAL, libc::RTN_LOCAL);
        let mut route =
            vec![family, 0, 0, 0, table, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, kind];
        route.extend_from_slice(&0_u32.to_ne_bytes());
        route.extend_from_slice(&8_u16.to_ne_bytes());
        route.extend_from_slice(&libc::RTA_OIF.to_ne_bytes());
        route.extend_from_slice(&LOOPBACK.to_ne_bytes());
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        request(libc::RTM_NEWROUTE, flags, &route).context("cannot make all addresses local")?;
    }
    Ok(())
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Sends an rtnetlink request and waits for the kernel's answer.
fn request(kind: u16, flags: u16, body: &[u8]) -> Result<()> {
    const HEADER: usize = 16;
    let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4_096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    ensure!(length >= HEADER + 4, "a short answer");
    let mut code = [0; 4];
    code.copy_from_slice(&answer[HEADER..HEADER + 4]);
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        negative => Err(Errno::from_raw(-negative))?,
    }
}

/// Destinations to connect to, with a listener at each.
pub(crate) struct Wire {
    targets: Vec<(SocketAddr, Rc<OwnedFd>)>,
}

impl Wire {
    /// Listens at the destinations. Those that this kernel cannot open are omitted.
    pub(crate) fn new(connections: &[Connection]) -> Result<Self> {
        let mut listeners: BTreeMap<u16, Rc<OwnedFd>> = BTreeMap::new();
        let mut wire = Wire { targets: Vec::new() };
        for connection in connections.iter().filter(|it| it.remote_port != 0) {
            let address = SocketAddr::new(connection.remote, connection.remote_port);
            let listener = match listeners.get(&connection.remote_port) {
                Some(listener) => Rc::clone(listener),
                None => Rc::new(listener(connection.remote_port)?),
            };
            listeners.insert(connection.remote_port, Rc::clone(&listener));
            wire.targets.push((address, listener));
            if wire.open(wire.targets.len() - 1).is_err() {
                wire.targets.pop();
            }
        }
        ensure!(!wire.targets.is_empty(), "no connection can be opened");
        Ok(wire)
    }

    /// Opens and resets a connection. Returns the duration of connect(), which on loopback is the whole handshake.
    pub(crate) fn open(&self, at: usize) -> Result<Duration> {
        let (address, listener) = &self.targets[at % self.targets.len()];
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let client = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&client, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        let storage = SockaddrStorage::from(*address);
        let start = Instant::now();
        connect(client.as_raw_fd(), &storage)?;
        let took = start.elapsed();
        let accepted = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        // SAFETY: a new descriptor that nothing else owns.
        drop(unsafe { OwnedFd::from_raw_fd(accepted) });
        Ok(took)
    }
}

/// Listens on a port for both families.
fn listener(port: u16) -> Result<OwnedFd> {
    let (family, address) = match has_ipv6() {
        true => (AddressFamily::Inet6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        false => (AddressFamily::Inet, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if has_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .with_context(|| format!("cannot bind to port {port}"))?;
    listen(&socket, Backlog::new(128)?)?;
    Ok(socket)
}
