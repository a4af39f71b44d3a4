//! TCP sockets of a test: non-blocking connections, listeners, and their TCP_INFO.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;
use std::net::SocketAddrV6;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::Backlog;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::bind;
use nix::sys::socket::connect;
use nix::sys::socket::getsockname;
use nix::sys::socket::setsockopt;
use nix::sys::socket::socket;
use nix::sys::socket::sockopt::BindToDevice;
use nix::sys::socket::sockopt::Ipv4Tos;
use nix::sys::socket::sockopt::Ipv6TClass;
use nix::sys::socket::sockopt::Ipv6V6Only;
use nix::sys::socket::sockopt::Mark;
use nix::sys::socket::sockopt::Priority;
use nix::sys::socket::sockopt::ReuseAddr;

/// Options of a new connection besides its destination.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct From<'a> {
    /// The local end to bind to. With port 0 the kernel chooses the port.
    pub(crate) local: Option<SocketAddr>,
    /// The device to bind the socket to.
    pub(crate) device: Option<&'a str>,
}

/// What an application sets of its own socket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Own {
    pub(crate) mark: u32,
    pub(crate) priority: i32,
    pub(crate) tos: i32,
}

/// A connection in progress: its SYN is sent, and nothing waits for the answer.
pub(crate) struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Sends a SYN from an address chosen by the kernel.
    pub(crate) fn open(remote: SocketAddr) -> Result<Self> {
        Self::open_from(From::default(), remote)
    }

    /// Sends a SYN from a given end or device. An IPv4-mapped `remote` makes an IPv6 socket.
    pub(crate) fn open_from(from: From<'_>, remote: SocketAddr) -> Result<Self> {
        let socket = tcp_socket(remote, from.device)?;
        if let Some(local) = from.local {
            bind(socket.as_raw_fd(), &SockaddrStorage::from(local))
                .with_context(|| format!("cannot bind to {local}"))?;
        }
        let connection = Connection { socket };
        connection.send_syn(remote)?;
        Ok(connection)
    }

    /// Sends a SYN from a socket with these options.
    pub(crate) fn open_with(own: Own, remote: SocketAddr) -> Result<Self> {
        let Own { mark, priority, tos } = own;
        let socket = tcp_socket(remote, None)?;
        setsockopt(&socket, Mark, &mark)?;
        // The TOS sets a priority, too.
        match remote.ip().to_canonical() {
            IpAddr::V4(_) => setsockopt(&socket, Ipv4Tos, &tos)?,
            IpAddr::V6(_) => setsockopt(&socket, Ipv6TClass, &tos)?,
        }
        setsockopt(&socket, Priority, &priority)?;
        let connection = Connection { socket };
        connection.send_syn(remote)?;
        Ok(connection)
    }

    /// Sends a SYN from a socket that drops all answers until [`Connection::hear`].
    pub(crate) fn open_deaf(local: SocketAddr, remote: SocketAddr) -> Result<Self> {
        let socket = tcp_socket(remote, None)?;
        setsockopt(&socket, ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(local))?;
        let mut nothing =
            [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
        let filter = libc::sock_fprog { len: 1, filter: nothing.as_mut_ptr() };
        // SAFETY: the filter and its one instruction live until the call has copied them.
        let outcome = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                size_of_val(&filter) as libc::socklen_t,
            )
        };
        Errno::result(outcome).context("cannot attach a filter")?;
        let connection = Connection { socket };
        connection.send_syn(remote)?;
        Ok(connection)
    }

    /// Accepts answers from now on.
    pub(crate) fn hear(&self) -> Result<()> {
        let unused = 0;
        // SAFETY: a plain number, which the kernel does not even read.
        let outcome = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_DETACH_FILTER,
                (&raw const unused).cast(),
                size_of_val(&unused) as libc::socklen_t,
            )
        };
        Errno::result(outcome).map(drop).context("cannot detach a filter")
    }

    /// Aborts the connection and opens another one with the same socket.
    pub(crate) fn open_again(&self, remote: SocketAddr) -> Result<()> {
        let nobody =
            libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
        let size = mem::size_of_val(&nobody) as libc::socklen_t;
        // SAFETY: the address has that size, and the kernel only reads it.
        let outcome = unsafe { libc::connect(self.socket.as_raw_fd(), &raw const nobody, size) };
        Errno::result(outcome).context("cannot disconnect a socket")?;
        self.send_syn(remote)
    }

    fn send_syn(&self, remote: SocketAddr) -> Result<()> {
        match connect(self.socket.as_raw_fd(), &SockaddrStorage::from(remote)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(()),
            Err(errno) => Err(errno).with_context(|| format!("cannot connect to {remote}")),
        }
    }

    /// The end on this host.
    pub(crate) fn local(&self) -> Result<SocketAddr> {
        let name: SockaddrStorage = getsockname(self.socket.as_raw_fd())?;
        let four = name.as_sockaddr_in().map(|four| SocketAddr::from(SocketAddrV4::from(*four)));
        let six = name.as_sockaddr_in6().map(|six| SocketAddr::from(SocketAddrV6::from(*six)));
        four.or(six).context("a TCP socket without an address")
    }

    /// The retransmission timer of the first SYN. If the machine stalled and the timer has already expired, it has
    /// doubled as often as its backoff says, up to two minutes.
    pub(crate) fn rto(&self) -> Result<Duration> {
        let info = self.tcp_info()?;
        let rto = Duration::from_micros(word(&info, RTO)?.into());
        let backoff = info.get(BACKOFF).context("TCP_INFO is too short")?;
        Ok(rto / 1_u32.checked_shl((*backoff).into()).context("a backoff beyond all timers")?)
    }

    /// The smoothed round-trip time. For a newly established connection it is the handshake's.
    pub(crate) fn rtt(&self) -> Result<Duration> {
        Ok(Duration::from_micros(word(&self.tcp_info()?, 68)?.into()))
    }

    /// Whether the connection is established.
    pub(crate) fn is_established(&self) -> Result<bool> {
        Ok(self.tcp_info()?.first() == Some(&1))
    }

    /// The number of segments retransmitted so far.
    pub(crate) fn retransmits(&self) -> Result<u32> {
        word(&self.tcp_info()?, 100)
    }

    /// `struct tcp_info`, as far as the kernel provides it.
    fn tcp_info(&self) -> Result<Vec<u8>> {
        let mut info = vec![0_u8; 256];
        let mut length = info.len() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `info` and returns how many.
        let outcome = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error()).context("cannot read TCP_INFO");
        }
        info.truncate(length as usize);
        Ok(info)
    }
}

/// Offsets in `struct tcp_info`: the backoff, one byte, and the timer in microseconds.
const BACKOFF: usize = 4;
const RTO: usize = 8;

/// The 32-bit field of `struct tcp_info` at an offset.
fn word(info: &[u8], offset: usize) -> Result<u32> {
    let word = info.get(offset..offset + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes).context("TCP_INFO is too short")
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A listening socket. The unspecified IPv6 address also listens for IPv4.
///
/// With `device`, it is bound to that device and accepts connections from there only.
pub(crate) fn listen(local: SocketAddr, device: Option<&str>) -> Result<OwnedFd> {
    let socket = tcp_socket(local, device)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if local.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(local))
        .with_context(|| format!("cannot bind a listener to {local}"))?;
    nix::sys::socket::listen(&socket, Backlog::new(512)?)
        .with_context(|| format!("cannot listen on {local}"))?;
    Ok(socket)
}

/// The address as rules see it: an IPv4-mapped address is IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn tcp_socket(like: SocketAddr, device: Option<&str>) -> Result<OwnedFd> {
    let family = match like.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        socket(family, SockType::Stream, flags, None).context("cannot open a TCP socket")?;
    if let Some(device) = device {
        setsockopt(&socket, BindToDevice, &device.into())
            .with_context(|| format!("cannot bind a socket to {device}"))?;
    }
    Ok(socket)
}
