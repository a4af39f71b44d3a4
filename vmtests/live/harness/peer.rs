//! Many hosts behind a tun device that answer only on request: a path with any delay and any loss.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::errno::Errno;

use super::packet;
use super::packet::Segment;
use super::sockets::Connection;

/// The far end of a tun device.
pub(crate) struct Peer {
    tun: File,
}

/// A segment that this host sent, and the time at which it was read.
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) segment: Segment,
    timestamp: Option<u32>,
}

/// The limit of every wait except those for timers.
const PATIENCE: Duration = Duration::from_secs(10);

impl Peer {
    /// Uses the device that [`Lab::lay_tun`](super::lab::Lab::lay_tun) made.
    pub(crate) fn new(tun: File) -> Self {
        Peer { tun }
    }

    /// Reads the next SYN or SYN-ACK from or to a port of this host within that time.
    pub(crate) fn next(&self, within: Duration) -> Result<Option<Sent>> {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut ready =
                libc::pollfd { fd: self.tun.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one structure, which lives until the call returns.
            let count = unsafe { libc::poll(&raw mut ready, 1, left.as_millis() as libc::c_int) };
            match Errno::result(count) {
                Ok(0) if left < Duration::from_millis(1) => return Ok(None),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => bail!("poll: {errno}"),
            }
            let at = Instant::now();
            let mut packet = [0; 2048];
            let length = (&self.tun).read(&mut packet).context("cannot read from the tun")?;
            // Stands in for the Ethernet header.
            let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
            let frame = [&[0; 12][..], &kind, &packet[..length]].concat();
            if let Some(segment) = Segment::parse(&frame).filter(|segment| segment.syn) {
                let timestamp = packet::timestamp(&packet[..length]);
                return Ok(Some(Sent { at, segment, timestamp }));
            }
        }
    }

    /// Reads the SYN or its retransmission. It must arrive.
    pub(crate) fn expect(&self) -> Result<Sent> {
        self.next(PATIENCE)?.context("no SYN or SYN-ACK")
    }

    /// Drops everything that arrives at the tun device until then.
    pub(crate) fn forget(&self) -> Result<()> {
        while self.next(Duration::from_millis(1))?.is_some() {}
        Ok(())
    }

    /// Sends an IP packet to this host.
    pub(crate) fn send(&self, packet: &[u8]) -> Result<()> {
        (&self.tun).write_all(packet).context("cannot write to the tun")
    }

    /// Answers a SYN. The answer has a timestamp if the SYN has one and `with_timestamp` is set.
    pub(crate) fn answer(&self, syn: &Sent, with_timestamp: bool) -> Result<()> {
        let Segment { source, destination, sequence, .. } = syn.segment;
        let timestamps = syn.timestamp.filter(|_| with_timestamp).map(|its| (1_000, its));
        self.send(&packet::syn_ack((destination, source), sequence, timestamps))
    }

    /// Opens a connection and answers its first SYN after that time. Returns the timer of the SYN and the round-trip
    /// time that the kernel measured.
    pub(crate) fn connect(
        &self,
        remote: SocketAddr,
        after: Duration,
    ) -> Result<(Duration, Duration)> {
        self.forget()?;
        let connection = Connection::open(remote)?;
        let syn = self.expect()?;
        let timer = connection.rto()?;
        thread::sleep(after.saturating_sub(syn.at.elapsed()));
        self.answer(&syn, true)?;
        self.established(&connection)?;
        Ok((timer, connection.rtt()?))
    }

    /// Waits until a connection is established.
    pub(crate) fn established(&self, connection: &Connection) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !connection.is_established()? {
            ensure!(Instant::now() < end, "the connection is not established");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
