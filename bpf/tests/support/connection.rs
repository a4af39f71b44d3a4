//! A connection, and the context that the kernel would make from its socket.

use super::model::{Direction, Family};
use super::settings::PASSIVE_ESTABLISHED;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The size of struct bpf_sock_ops up to `skb_hwtstamp`, rounded up.
pub(crate) const CONTEXT_SIZE: usize = 224;

/// Offsets in struct bpf_sock_ops (include/uapi/linux/bpf.h).
pub(crate) const REPLY: usize = 4;
const FAMILY: usize = 20;
const REMOTE_IP4: usize = 24;
const LOCAL_IP4: usize = 28;
const REMOTE_IP6: usize = 32;
const LOCAL_IP6: usize = 48;
const REMOTE_PORT: usize = 64;
const LOCAL_PORT: usize = 68;
const IS_FULLSOCK: usize = 72;
const STATE: usize = 88;
const RTT_MIN: usize = 92;
const TOTAL_RETRANS: usize = 136;
/// An offset of a field of eight bytes.
const SK: usize = 184;

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Both addresses have one family. IPv6 addresses are never IPv4-mapped.
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) direction: Direction,
    /// Mark, priority and TOS of the socket.
    pub(crate) numbers: [u32; 3],
    /// The name of the device that rules about interfaces test.
    pub(crate) device: Option<Vec<u8>>,
    pub(crate) socket: Socket,
    pub(crate) path: Path,
    /// The name of the device that a wrong search finds.
    pub(crate) decoy: Vec<u8>,
}

/// Properties of the socket that must not change a decision.
#[derive(Debug, Clone, Default)]
pub(crate) struct Socket {
    /// IPv4 over a socket of AF_INET6.
    pub(crate) is_inet6: bool,
    /// A kernel without CONFIG_IPV6: the ip6 words are zero.
    pub(crate) without_ipv6: bool,
    /// An incoming connection's full socket, not a request socket.
    pub(crate) fast_open: bool,
    /// It is no connection but a listener.
    pub(crate) listens: bool,
    /// The number of retransmissions of the SYN or SYN-ACK. A request socket does not report it.
    pub(crate) retransmits: u32,
    /// Options that the kernel refuses; see [`super::kernel::refuses`].
    pub(crate) refusals: u64,
    /// The contents of the ip4 words of an IPv6 connection.
    pub(crate) ip4_words: [u32; 2],
}

/// How the device is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// By the route of the socket that sends the SYN.
    Route,
    /// The socket is bound to it. This many devices precede it in its hash chain.
    Bound(u8),
    /// It has the local address. This many devices precede it.
    Address(u8),
    /// The connection is in another network namespace, where names are not compared.
    OtherNamespace,
    /// The device cannot be found.
    Nothing,
    /// The device of the route cannot be read.
    Unreadable,
    /// The socket is bound to a device that no longer exists.
    Gone,
}

impl Connection {
    pub(crate) fn family(&self) -> Family {
        match self.local {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// False for a request socket. Its child exists once the connection is established.
    pub(crate) fn is_full_at(&self, op: u32) -> bool {
        self.is_full() || op == PASSIVE_ESTABLISHED
    }

    /// The same connection while its SYN is answered.
    pub(crate) fn is_full(&self) -> bool {
        self.direction == Direction::Outgoing || self.socket.fast_open || self.socket.listens
    }

    /// A listener for such connections. Every other one is bound to no address.
    pub(crate) fn listener(&self, number: usize) -> Self {
        let unspecified = match self.local {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let is_inet6 = self.local.is_ipv6();
        Self {
            local: if (number / 4).is_multiple_of(2) { unspecified } else { self.local },
            remote: unspecified,
            remote_port: 0,
            direction: Direction::Incoming,
            device: None,
            socket: Socket { listens: true, is_inet6, retransmits: 0, ..self.socket.clone() },
            path: Path::Nothing,
            ..self.clone()
        }
    }

    /// The ip6 words of one end as bytes.
    pub(crate) fn words(&self, address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V4(_) if self.socket.without_ipv6 => [0; 16],
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    /// The context at a callback, as laid out in memory.
    pub(crate) fn context(&self, big_endian: bool, op: u32, reply: u32, socket: u64) -> Vec<u8> {
        let mut bytes = vec![0; CONTEXT_SIZE];
        let mut put = |at: usize, raw: &[u8]| bytes[at..at + raw.len()].copy_from_slice(raw);
        let number = |value: u32| match big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let is_full = self.is_full_at(op);
        if is_full {
            // Fields that a request socket does not have and that the program must not read.
            (IS_FULLSOCK..CONTEXT_SIZE).step_by(4).for_each(|at| put(at, &[0x11; 4]));
        }
        put(RTT_MIN, &[0x22; 4]);
        put(0, &number(op));
        put(REPLY, &number(reply));
        let is_inet = self.family() == Family::Ipv4 && !self.socket.is_inet6;
        put(FAMILY, &number(if is_inet { 2 } else { 10 }));
        for (address, at, word) in [(self.remote, REMOTE_IP4, 0), (self.local, LOCAL_IP4, 1)] {
            let octets = match address {
                IpAddr::V4(address) => address.octets(),
                IpAddr::V6(_) => self.socket.ip4_words[word].to_be_bytes(),
            };
            put(at, &octets);
        }
        put(REMOTE_IP6, &self.words(self.remote));
        put(LOCAL_IP6, &self.words(self.local));
        put(REMOTE_PORT, &u32::from(self.remote_port).to_be_bytes());
        put(LOCAL_PORT, &number(self.local_port.into()));
        put(IS_FULLSOCK, &number(is_full.into()));
        let (syn_sent, syn_recv, listen, new_syn_recv) = (2, 3, 10, 12);
        let state = match self.direction {
            _ if self.socket.listens => listen,
            Direction::Outgoing => syn_sent,
            Direction::Incoming if is_full => syn_recv,
            Direction::Incoming => new_syn_recv,
        };
        put(STATE, &number(state));
        let retransmits = if is_full { self.socket.retransmits } else { 0 };
        put(TOTAL_RETRANS, &number(retransmits));
        let socket = if is_full { socket } else { 0 };
        put(SK, &if big_endian { socket.to_be_bytes() } else { socket.to_le_bytes() });
        bytes
    }
}

/// A connection as seen from this host: `outgoing("10.0.0.1:40000", "44.1.2.3:80")`. Ends such as `[::1]:80`
/// are IPv6; mapped ones are IPv4 over a socket of AF_INET6.
pub(crate) fn outgoing(local: &str, remote: &str) -> Connection {
    between(Direction::Outgoing, local, remote)
}

/// The same, with a SYN from the peer.
pub(crate) fn incoming(local: &str, remote: &str) -> Connection {
    between(Direction::Incoming, local, remote)
}

fn between(direction: Direction, local: &str, remote: &str) -> Connection {
    let end = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
    let (local, remote) = (end(local), end(remote));
    let is_inet6 = local.is_ipv6();
    let socket = Socket { is_inet6, ip4_words: [0x7f00_0006; 2], ..Socket::default() };
    Connection {
        local: local.ip().to_canonical(),
        remote: remote.ip().to_canonical(),
        local_port: local.port(),
        remote_port: remote.port(),
        direction,
        numbers: [0; 3],
        device: None,
        socket,
        path: Path::Nothing,
        decoy: b"decoy".to_vec(),
    }
}
