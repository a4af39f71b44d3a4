//! Packets of a board, as captured by qemu. For each connection without an answer, the interval between the first SYN
//! and its retransmission is checked.

use crate::guests::machine::Found;
use anyhow::{Context as _, Result, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syn {
    /// Microseconds on the machine's clock.
    time: u64,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
}

/// The destinations of images/board/test.sh, the timers in milliseconds that the rules of images/board/1.toml give
/// them, and the reasons.
const EXPECTED: [(&str, u16, u64, &str); 16] = [
    ("192.0.2.2", 12345, 3000, "port"),
    ("192.0.2.2", 12346, 1000, "another port"),
    // 12345 with its two bytes swapped.
    ("192.0.2.2", 14640, 1000, "port in the other byte order"),
    ("192.0.2.2", 7999, 1000, "below a range"),
    ("192.0.2.2", 8000, 2000, "first of a range"),
    ("192.0.2.2", 8999, 2000, "last of a range"),
    ("192.0.2.2", 9000, 1000, "above a range"),
    ("192.0.2.2", 9100, 1800, "device"),
    ("192.0.2.2", 5555, 700, "equal ports"),
    ("198.51.95.255", 80, 1000, "below a prefix"),
    ("198.51.96.0", 80, 1500, "first of a prefix"),
    ("198.51.111.255", 80, 1500, "last of a prefix"),
    ("198.51.112.0", 80, 1000, "above a prefix"),
    ("2001:db8:5fff::1", 80, 1200, "IPv6 prefix"),
    ("2001:db8:6000::1", 80, 1000, "above an IPv6 prefix"),
    ("203.0.113.9", 80, 15, "a few jiffies"),
];

/// Reads the SYNs of a capture (libpcap's file format, Ethernet, the byte order of this host).
///
/// # Errors
/// It is not such a capture.
pub(crate) fn syns(bytes: &[u8]) -> Result<Vec<Syn>> {
    ensure!(bytes.starts_with(&0xa1b2_c3d4_u32.to_ne_bytes()), "no capture of qemu's");
    let mut rest = bytes.get(24..).context("the capture has no header")?;
    let mut found = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        let word = |at: usize| {
            let bytes = header[at..at + 4].try_into().unwrap_or_default();
            u64::from(u32::from_ne_bytes(bytes))
        };
        let length = usize::try_from(word(8))?;
        // The last record may be truncated by the end of the machine.
        let Some((frame, behind)) = behind.split_at_checked(length) else { break };
        found.extend(syn(frame, word(0) * 1_000_000 + word(4)));
        rest = behind;
    }
    Ok(found)
}

fn syn(frame: &[u8], time: u64) -> Option<Syn> {
    const TCP: u8 = 6;
    let packet = frame.get(14..)?;
    let (remote, segment) = match frame.get(12..14)? {
        [0x08, 0x00] if packet.get(9) == Some(&TCP) => {
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (IpAddr::from(Ipv4Addr::from(to)), packet.get(usize::from(packet[0] & 0xf) * 4..)?)
        }
        [0x86, 0xdd] if packet.get(6) == Some(&TCP) => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (IpAddr::from(Ipv6Addr::from(to)), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    let is_syn = segment.get(13)? & 0x12 == 0x02;
    is_syn.then_some(Syn { time, local_port: port(0)?, remote, remote_port: port(2)? })
}

/// Compares the intervals with those expected of a kernel with this HZ.
pub(crate) fn check(syns: &[Syn], hz: u64, found: &mut Found) {
    for (remote, port, expected, what) in EXPECTED {
        let name = format!("wire: {what} ({remote} port {port})");
        let to = |syn: &&Syn| syn.remote_port == port && remote.parse() == Ok(syn.remote);
        let own: Vec<_> = syns.iter().filter(to).collect();
        // Earlier connections that were aborted at once have one SYN each.
        let pair = own.iter().enumerate().find_map(|(at, first)| {
            let second = own[at + 1..].iter().find(|syn| syn.local_port == first.local_port)?;
            Some((first, second))
        });
        let Some((first, second)) = pair else {
            found.failed.push((name, "no two SYNs".to_owned()));
            continue;
        };
        let took = second.time.saturating_sub(first.time) / 1000;
        // The permitted delay: one tick, because the current one has begun, and the granularity of the kernel's timer
        // wheel, an eighth.
        let tick = 1000_u64.div_ceil(hz);
        let jiffies = expected.div_ceil(tick) * tick;
        let good = expected.saturating_sub(tick).max(1)..=jiffies + jiffies / 8 + 2 * tick;
        match good.contains(&took) {
            true => found.passed.push(name),
            false => found.failed.push((name, format!("{took} ms, expected {expected}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A capture of two SYNs to each expected address, with this many milliseconds between them.
    fn capture(of: impl Fn(u64) -> u64) -> Vec<u8> {
        let mut bytes = 0xa1b2_c3d4_u32.to_ne_bytes().to_vec();
        bytes.resize(24, 0);
        for (remote, port, expected, _) in EXPECTED {
            // The first SYN is of an aborted connection.
            for (time, from) in [(3, 39999), (5, 40000), (5 + of(expected), 40000)] {
                let frame = frame(remote.parse().expect("an address"), from, port);
                let (seconds, micros) = (time / 1000, time % 1000 * 1000);
                for word in [seconds, micros, frame.len() as u64, frame.len() as u64] {
                    bytes.extend((word as u32).to_ne_bytes());
                }
                bytes.extend(frame);
            }
        }
        bytes
    }

    fn frame(remote: IpAddr, from: u16, to: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        match remote {
            IpAddr::V4(remote) => {
                frame.extend([0x08, 0x00, 0x45]);
                frame.extend([0; 8]);
                frame.extend([6, 0, 0, 1, 2, 3, 4]);
                frame.extend(remote.octets());
            }
            IpAddr::V6(remote) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
                frame.extend([0; 16]);
                frame.extend(remote.octets());
            }
        }
        frame.extend(from.to_be_bytes());
        frame.extend(to.to_be_bytes());
        frame.extend([0; 8]);
        frame.extend([0x50, 0x02, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn judged(of: impl Fn(u64) -> u64) -> Found {
        let mut found = Found::default();
        check(&syns(&capture(of)).expect("a capture"), 250, &mut found);
        found
    }

    #[test]
    fn the_second_syn_tells() {
        let good = judged(|expected| expected + 1);
        assert_eq!((good.passed.len(), good.failed), (EXPECTED.len(), vec![]));
        let bad = judged(|expected| if expected == 3000 { 1000 } else { expected });
        let port = ("wire: port (192.0.2.2 port 12345)", "1000 ms, expected 3000");
        assert_eq!(bad.failed, [(port.0.to_owned(), port.1.to_owned())]);
        // Microseconds taken for jiffies, or the jiffies of a kernel with another HZ.
        for factor in [4, 10] {
            assert_eq!(judged(|expected| expected * factor).passed.len(), 0);
        }
        let mut found = Found::default();
        check(&[], 250, &mut found);
        assert_eq!((found.passed.len(), found.failed.len()), (0, EXPECTED.len()));
    }

    #[test]
    fn broken_captures() {
        assert!(syns(b"").is_err() && syns(&[0; 100]).is_err());
        let whole = capture(|expected| expected);
        for length in 24..whole.len() {
            assert!(syns(&whole[..length]).is_ok());
        }
    }
}
