//! Captures packets of a device with the kernel's own timestamps, and injects frames into a device.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::mem;
use std::net::Ipv4Addr;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use anyhow::Result;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::TimeVal;

use super::packet::Segment;
use super::rtnetlink;
use super::wait::until;

/// `SO_TIMESTAMPNS_NEW`: two 64-bit numbers on every architecture (since Linux 5.1); libc's
/// `SO_TIMESTAMPNS` depends on the width of its `time_t`.
const SO_TIMESTAMPNS_NEW: libc::c_int = 64;

/// A TCP segment captured on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The time at which the kernel sent or received it, on its real-time clock.
    pub(crate) at: Duration,
    /// True if this side of the device sent it.
    pub(crate) outgoing: bool,
    pub(crate) segment: Segment,
}

/// A packet socket on one device of the calling thread's namespace.
pub(crate) struct Capture {
    socket: OwnedFd,
    seen: Vec<Seen>,
}

impl Capture {
    /// Starts a capture. Packets are kept until [`Capture::until`] reads them.
    pub(crate) fn start(device: &str) -> Result<Self> {
        wait_for_stamps()?;
        let socket = packet_socket(device, libc::ETH_P_ALL)?;
        turn_stamps_on(&socket)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 20_000))?;
        setsockopt(&socket, RcvBuf, &(1 << 20))?;
        Ok(Capture { socket, seen: Vec::new() })
    }

    /// Reads until `enough` returns true, or until all packets that arrived within `limit` are read. This includes
    /// packets that arrived while the machine stalled. Returns everything captured so far.
    pub(crate) fn until(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(&[Seen]) -> bool,
    ) -> Result<&[Seen]> {
        let (end, last) = (Instant::now() + limit, now()? + limit);
        while !enough(&self.seen) {
            let is_over = Instant::now() >= end;
            let mut frame = [0_u8; 256];
            match receive(&self.socket, &mut frame)? {
                Some(packet) if is_over && packet.at > last => break,
                None if is_over => break,
                None => {}
                Some(Packet { at, outgoing, length }) => {
                    if let Some(segment) = Segment::parse(&frame[..length]) {
                        self.seen.push(Seen { at, outgoing, segment });
                    }
                }
            }
        }
        Ok(&self.seen)
    }
}

/// Metadata of a received packet: its time, whether this side sent it, and its length.
struct Packet {
    at: Duration,
    outgoing: bool,
    length: usize,
}

/// Receives one packet from a socket with timestamps. Returns `None` after a timeout.
fn receive(socket: &impl AsRawFd, frame: &mut [u8]) -> Result<Option<Packet>> {
    // u64s, for the alignment of control messages.
    let mut control = [0_u64; 32];
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: sockaddr_ll and msghdr are plain integers and pointers, for which zero is valid.
    let (mut from, mut message) =
        unsafe { (mem::zeroed::<libc::sockaddr_ll>(), mem::zeroed::<libc::msghdr>()) };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = mem::size_of_val(&from) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: every pointer in `message` is to a local that outlives the call, with its size.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error).context("cannot receive a captured packet"),
        };
    };
    let at = time_stamp(&message).context("a captured packet has no time stamp")?;
    Ok(Some(Packet { at, outgoing: from.sll_pkttype == libc::PACKET_OUTGOING, length }))
}

/// Enables receive timestamps on a socket.
fn turn_stamps_on(socket: &impl AsRawFd) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is one int, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_TIMESTAMPNS_NEW,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context("cannot get time stamps for packets"),
    }
}

/// Waits until packets are timestamped on arrival, which lasts for the rest of this test. The kernel enables that from
/// a work queue. Packets that arrive earlier get the time at which they are read (`__sock_recv_timestamp()`,
/// net/socket.c).
fn wait_for_stamps() -> Result<()> {
    static WAITED: OnceLock<UdpSocket> = OnceLock::new();
    if WAITED.get().is_some() {
        return Ok(());
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind to loopback")?;
    socket.connect(socket.local_addr()?)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    turn_stamps_on(&socket)?;
    until("packets are not stamped as they come", || {
        socket.send(&[0])?;
        let sent = now()?;
        sleep(Duration::from_millis(1));
        Ok(receive(&socket, &mut [0])?.is_some_and(|packet| packet.at <= sent))
    })?;
    // Timestamps stay enabled while at least one socket requests them.
    WAITED.get_or_init(|| socket);
    Ok(())
}

/// Reads the clock that packets are timestamped with.
fn now() -> Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")
}

/// Injects frames into a device of the calling thread's namespace.
pub(crate) fn inject(device: &str, frames: &[Vec<u8>]) -> Result<()> {
    let mut socket = File::from(packet_socket(device, 0)?);
    for frame in frames {
        socket.write_all(frame).with_context(|| format!("cannot put a frame on {device}"))?;
    }
    Ok(())
}

fn time_stamp(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the kernel filled the control buffer of this msghdr, which is still alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a non-null header is in that buffer.
    while let Some(found) = unsafe { header.as_ref() } {
        if found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == SO_TIMESTAMPNS_NEW {
            // SAFETY: this message's data are two 64-bit numbers, perhaps unaligned.
            let [seconds, nanoseconds] =
                unsafe { libc::CMSG_DATA(header).cast::<[i64; 2]>().read_unaligned() };
            return Some(Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?));
        }
        // SAFETY: as for the first header.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// A raw packet socket bound to a device; `protocol` 0 receives nothing.
fn packet_socket(device: &str, protocol: libc::c_int) -> Result<OwnedFd> {
    let index = rtnetlink::index(device)?;
    // Protocol 0: the socket receives nothing from other interfaces before the bind.
    // SAFETY: no pointers; the result is checked.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error()).context("cannot open a packet socket");
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: plain integers, for which zero is valid.
    let mut address = unsafe { mem::zeroed::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: a sockaddr_ll with its own size.
    let outcome = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            mem::size_of_val(&address) as libc::socklen_t,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot bind a packet socket to {device}"));
    }
    Ok(socket)
}
