//! Connections whose two ends are both ours, one on each side of a cable, and socket options of an end.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::Context as _;
use anyhow::Result;

use super::lab::Cable;
use super::lab::Lab;
use super::netns::has_ipv6;

/// The sender of the SYN: this side or the far side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Outgoing,
    Incoming,
}

pub(crate) const BOTH: [Direction; 2] = [Direction::Outgoing, Direction::Incoming];

/// An established connection between here and the far side of a cable.
pub(crate) struct Pair {
    pub(crate) here: TcpStream,
    pub(crate) there: TcpStream,
}

impl Pair {
    /// Opens a connection by IPv4 to a port of the end that answers.
    pub(crate) fn open(lab: &Lab, cable: &Cable, way: Direction, port: u16) -> Result<Self> {
        let to = match way {
            Direction::Outgoing => cable.there4(),
            Direction::Incoming => cable.here4(),
        };
        Self::open_to(lab, way, (to, port).into())
    }

    /// Opens a connection to an end. An IPv4-mapped end makes an IPv6 socket. The listener accepts both families.
    pub(crate) fn open_to(lab: &Lab, way: Direction, to: SocketAddr) -> Result<Self> {
        let any: IpAddr = match has_ipv6() {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        Self::open_from_listener(lab, way, to, any)
    }

    /// Opens a connection to an end. The listener's address is of the given family, or of both.
    pub(crate) fn open_from_listener(
        lab: &Lab,
        way: Direction,
        to: SocketAddr,
        any: IpAddr,
    ) -> Result<Self> {
        let listen = || TcpListener::bind((any, to.port())).context("cannot listen");
        let connect = || TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"));
        let accept = |listener: TcpListener| listener.accept().context("cannot accept");
        Ok(match way {
            Direction::Outgoing => {
                let listener = lab.far(listen)?;
                let here = connect()?;
                Pair { here, there: accept(listener)?.0 }
            }
            Direction::Incoming => {
                let listener = listen()?;
                let there = lab.far(connect)?;
                Pair { here: accept(listener)?.0, there }
            }
        })
    }
}

/// A socket option, by level and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opt(pub(crate) libc::c_int, pub(crate) libc::c_int);

/// Reads an option that is one 32-bit number.
pub(crate) fn number(socket: &impl AsRawFd, option: Opt) -> Result<u32> {
    let bytes = read(socket, option)?;
    let word = bytes.get(..4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    word.with_context(|| format!("{option:?} is shorter than a number"))
}

/// Reads an option that is a name.
pub(crate) fn name(socket: &impl AsRawFd, option: Opt) -> Result<String> {
    let bytes = read(socket, option)?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Sets an option that is one number.
pub(crate) fn set(socket: &impl AsRawFd, Opt(level, option): Opt, value: u32) -> Result<()> {
    let size = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option's value is one number, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error())
            .with_context(|| format!("cannot set option {option} of level {level}")),
    }
}

/// A field of `struct tcp_info` by its offset (include/uapi/linux/tcp.h).
pub(crate) fn tcp_info(socket: &impl AsRawFd, offset: usize) -> Result<u32> {
    let bytes = read(socket, Opt(libc::IPPROTO_TCP, libc::TCP_INFO))?;
    let word = bytes.get(offset..offset + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes).context("TCP_INFO is too short")
}

/// The field of TCP_INFO with the retransmission timer in microseconds.
pub(crate) const RTO: usize = 8;
/// The field of TCP_INFO with the congestion window in segments.
pub(crate) const SND_CWND: usize = 80;

fn read(socket: &impl AsRawFd, Opt(level, option): Opt) -> Result<Vec<u8>> {
    let mut bytes = vec![0_u8; 256];
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes and returns how many.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot read option {option} of level {level}"));
    }
    bytes.truncate(length as usize);
    Ok(bytes)
}
