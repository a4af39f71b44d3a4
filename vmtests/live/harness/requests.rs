//! Half-open incoming connections and their SYN-ACK timers, as /proc/net/tcp shows them.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use super::sockets::canonical;

/// The unit of times in /proc/net/tcp on every machine (USER_HZ).
pub(crate) const TIMER_UNIT: Duration = Duration::from_millis(10);

const SYN_RECV: &str = "03";

/// A connection whose SYN-ACK was sent but not yet acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// The time until the next retransmission of the SYN-ACK, in whole [`TIMER_UNIT`]s, rounded down.
    pub(crate) left: Duration,
    /// The number of SYN-ACK retransmissions.
    pub(crate) repeated: u32,
}

/// The half-open incoming connections of the calling thread's network namespace.
pub(crate) fn pending() -> Result<Vec<Request>> {
    let mut found = Vec::new();
    for file in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        // The second file does not exist in a kernel without IPv6.
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if fields.get(3) == Some(&SYN_RECV) {
                found.push(parse(&fields).with_context(|| format!("{file}: `{line}`"))?);
            }
        }
    }
    Ok(found)
}

fn parse(fields: &[&str]) -> Option<Request> {
    let (_, when) = fields.get(5)?.split_once(':')?;
    let ticks = u32::from_str_radix(when, 16).ok()?;
    Some(Request {
        local: canonical(end(fields.get(1)?)?),
        remote: canonical(end(fields.get(2)?)?),
        left: TIMER_UNIT * ticks,
        repeated: u32::from_str_radix(fields.get(6)?, 16).ok()?,
    })
}

/// `0100007F:1F90`: each 32-bit word of the address is in this machine's byte order.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => Ipv4Addr::from(four).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}
