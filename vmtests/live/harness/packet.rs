//! TCP segments on Ethernet: builds SYNs and parses captured frames.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use super::rtnetlink::Mac;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const FLAG_SYN: u8 = 0x02;
const FLAG_ACK: u8 = 0x10;
const FLAG_ECE: u8 = 0x40;
const FLAG_CWR: u8 = 0x80;

/// The fields of a TCP segment that tests examine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    /// The flags of ECN (RFC 3168): ECE and CWR.
    pub(crate) ece: bool,
    pub(crate) cwr: bool,
    /// The window in the header, without scaling.
    pub(crate) window: u16,
    /// The sequence number.
    pub(crate) sequence: u32,
    /// The acknowledgement number.
    pub(crate) acknowledged: u32,
    /// Length of the whole IP packet in bytes.
    pub(crate) length: usize,
    /// Length of the data in bytes. A device with segmentation offload receives several segments in one packet.
    pub(crate) data: usize,
    /// The MSS option, if the segment has one.
    pub(crate) mss: Option<u16>,
    /// IPv4 type of service or IPv6 traffic class.
    pub(crate) tos: u8,
}

impl Segment {
    /// Parses an Ethernet frame. Returns `None` if it carries no TCP or is truncated.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        // `whole` comes from the length in the IP header, because the frame may be truncated.
        let (source, destination, tos, whole, tcp): (IpAddr, IpAddr, u8, usize, &[u8]) =
            match number(frame, 12)? {
                ETHERTYPE_IPV4 => {
                    let header = usize::from(packet.first()? & 15) * 4;
                    if *packet.get(9)? != TCP {
                        return None;
                    }
                    let (source, destination) = (array::<4>(packet, 12)?, array::<4>(packet, 16)?);
                    (
                        Ipv4Addr::from(source).into(),
                        Ipv4Addr::from(destination).into(),
                        *packet.get(1)?,
                        number(packet, 2)?.into(),
                        packet.get(header..)?,
                    )
                }
                ETHERTYPE_IPV6 => {
                    if *packet.get(6)? != TCP {
                        return None;
                    }
                    let (source, destination) = (array::<16>(packet, 8)?, array::<16>(packet, 24)?);
                    (
                        Ipv6Addr::from(source).into(),
                        Ipv6Addr::from(destination).into(),
                        (number(packet, 0)? >> 4) as u8,
                        usize::from(number(packet, 4)?) + 40,
                        packet.get(40..)?,
                    )
                }
                _ => return None,
            };
        let flags = *tcp.get(13)?;
        let header = usize::from(*tcp.get(12)? >> 4) * 4;
        let headers = if source.is_ipv4() { usize::from(packet.first()? & 15) * 4 } else { 40 };
        Some(Segment {
            source: SocketAddr::new(source, number(tcp, 0)?),
            destination: SocketAddr::new(destination, number(tcp, 2)?),
            syn: flags & FLAG_SYN != 0,
            ack: flags & FLAG_ACK != 0,
            ece: flags & FLAG_ECE != 0,
            cwr: flags & FLAG_CWR != 0,
            window: number(tcp, 14)?,
            sequence: array(tcp, 4).map(u32::from_be_bytes)?,
            acknowledged: array(tcp, 8).map(u32::from_be_bytes)?,
            length: whole,
            data: whole.saturating_sub(headers + header),
            mss: tcp.get(20..header).and_then(mss),
            tos,
        })
    }
}

/// Finds an option of this kind in a TCP header.
fn mss(mut options: &[u8]) -> Option<u16> {
    const NO_OPERATION: u8 = 1;
    const MSS: u8 = 2;
    loop {
        match options {
            [NO_OPERATION, rest @ ..] => options = rest,
            [MSS, 4, ..] => return number(options, 2),
            [kind, length, ..] if *kind > NO_OPERATION && *length >= 2 => {
                options = options.get(usize::from(*length)..)?;
            }
            _ => return None,
        }
    }
}

/// Builds a SYN as an Ethernet frame. Both ends must be of the same family.
pub(crate) fn syn(from: Mac, to: Mac, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    syn_with(&[], from, to, source, destination)
}

/// Builds a SYN with data (RFC 7413: Fast Open): an even number of bytes, fewer than 100.
pub(crate) fn syn_with(
    data: &[u8],
    from: Mac,
    to: Mac,
    source: SocketAddr,
    destination: SocketAddr,
) -> Vec<u8> {
    segment(data, &[], (from, to), (source, destination), (FLAG_SYN, FIRST, 0))
}

/// The IP packet that answers a SYN with this sequence number. It carries timestamps if they are given.
pub(crate) fn syn_ack(
    ends: (SocketAddr, SocketAddr),
    acknowledged: u32,
    timestamps: Option<(u32, u32)>,
) -> Vec<u8> {
    let options = timestamps.map_or(Vec::new(), |(own, echoed)| {
        [&[1, 1, 8, 10], &own.to_be_bytes()[..], &echoed.to_be_bytes()].concat()
    });
    let flags = (FLAG_SYN | FLAG_ACK, FIRST, acknowledged.wrapping_add(1));
    of_frame(&segment(&[], &options, ([0; 6], [0; 6]), ends, flags)).to_vec()
}

/// The IP packet of a SYN, or of the segment that ends its handshake, with data.
pub(crate) fn from_far(
    ends: (SocketAddr, SocketAddr),
    acknowledged: Option<u32>,
    data: &[u8],
) -> Vec<u8> {
    let flags = match acknowledged {
        None => (FLAG_SYN, FIRST, 0),
        Some(number) => (FLAG_ACK, FIRST + 1, number.wrapping_add(1)),
    };
    of_frame(&segment(data, &[], ([0; 6], [0; 6]), ends, flags)).to_vec()
}

/// The timestamp of a TCP segment in an IP packet.
pub(crate) fn timestamp(packet: &[u8]) -> Option<u32> {
    let header = if packet.first()? >> 4 == 4 { usize::from(packet.first()? & 15) * 4 } else { 40 };
    let tcp = packet.get(header..)?;
    let mut options = tcp.get(20..usize::from(*tcp.get(12)? >> 4) * 4)?;
    loop {
        match options {
            [1, rest @ ..] => options = rest,
            [8, 10, ..] => return array(options, 2).map(u32::from_be_bytes),
            [kind, length, ..] if *kind > 1 && *length >= 2 => {
                options = options.get(usize::from(*length)..)?;
            }
            _ => return None,
        }
    }
}

/// The sequence number of a SYN.
const FIRST: u32 = 0x1234_5678;

/// The segment that ends the handshake of such a SYN: it acknowledges the SYN-ACK's sequence number.
pub(crate) fn last_ack(
    macs: (Mac, Mac),
    ends: (SocketAddr, SocketAddr),
    acknowledged: u32,
) -> Vec<u8> {
    segment(&[], &[], macs, ends, (FLAG_ACK, FIRST + 1, acknowledged.wrapping_add(1)))
}

/// `options` besides the MSS, in whole words; the flags, the sequence number and the acknowledgement number.
fn segment(
    data: &[u8],
    options: &[u8],
    (from, to): (Mac, Mac),
    (source, destination): (SocketAddr, SocketAddr),
    (flags, sequence, acknowledged): (u8, u32, u32),
) -> Vec<u8> {
    let length = (24 + options.len() + data.len()) as u8;
    let mut frame = Vec::with_capacity(78 + data.len());
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    let pseudo_header = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            let mut header =
                [0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend_from_slice(&header);
            [&source.octets()[..], &destination.octets(), &[0, TCP, 0, length]].concat()
        }
        (source, destination) => {
            frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            frame.extend_from_slice(&[0x60, 0, 0, 0, 0, length, TCP, 64]);
            let (source, destination) = (in_ipv6(source), in_ipv6(destination));
            frame.extend_from_slice(&source);
            frame.extend_from_slice(&destination);
            [&source[..], &destination, &[0, 0, 0, length, 0, 0, 0, TCP]].concat()
        }
    };
    // 24 bytes: the header, window 65535, and an MSS of 1200.
    let mut tcp = [0; 24];
    tcp[0..2].copy_from_slice(&source.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&destination.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[8..12].copy_from_slice(&acknowledged.to_be_bytes());
    let words = 6 + options.len() as u8 / 4;
    tcp[12..16].copy_from_slice(&[words << 4, flags, 0xff, 0xff]);
    tcp[20..24].copy_from_slice(&[2, 4, 0x04, 0xb0]);
    let sum = checksum(&[&pseudo_header[..], &tcp, options, data].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&tcp);
    frame.extend_from_slice(options);
    frame.extend_from_slice(data);
    frame
}

/// The IP packet in a frame without a VLAN tag.
pub(crate) fn of_frame(frame: &[u8]) -> &[u8] {
    frame.get(14..).unwrap_or_default()
}

/// Encapsulates an IPv4 packet in another one (RFC 2003), as an Ethernet frame.
pub(crate) fn ipip(
    from: Mac,
    to: Mac,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    inner: &[u8],
) -> Vec<u8> {
    const IPIP: u8 = 4;
    let length = ((20 + inner.len()) as u16).to_be_bytes();
    let mut header =
        [0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, IPIP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to[..], &from, &ETHERTYPE_IPV4.to_be_bytes(), &header, inner].concat()
}

fn in_ipv6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().octets(),
        IpAddr::V6(six) => six.octets(),
    }
}

/// The Internet checksum of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}
