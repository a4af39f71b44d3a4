//! One connection over a radio channel: the time until the caller has the first byte, and the packets on the air.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use super::channel::Channel;
use super::channel::FRAMING;
use super::channel::Link;
use crate::harness::capture::Capture;
use crate::harness::capture::Seen;

/// A mailbox's greeting.
const GREETING: &[u8; 64] = b"[set-rto demo] Welcome to the mailbox. Read, write, list, bye: >";
/// The limit of a connection.
const LIMIT: Duration = Duration::from_secs(300);
/// The connection is over after a silence of this length. It exceeds the timers of the rules and every packet's delay.
const SILENCE: Duration = Duration::from_secs(35);

/// A connection in progress, with the capture of its channel.
pub(super) struct Call {
    link: Link,
    port: u16,
    capture: Capture,
    begin: Instant,
    answer: Receiver<Duration>,
    /// The time from `connect` to the first byte.
    first_byte: Option<Duration>,
    /// The number of packets at the last look, and the time of the latest one.
    packets: usize,
    news: Instant,
    _channel: Arc<Channel>,
}

impl Call {
    /// Listens at one station, which greets each caller, and calls it from the other one.
    pub(super) fn start(channel: &Arc<Channel>, link: Link, port: u16) -> Result<Self> {
        let there = SocketAddr::new(Channel::there(), port);
        let listener = channel.answerer.run(|| Ok(TcpListener::bind(there)?))?;
        let capture = channel.listen()?;
        thread::spawn(move || -> Result<()> {
            let (mut peer, _) = listener.accept()?;
            peer.write_all(GREETING)?;
            // The socket stays open, because closing would cost packets. The end of the process closes it.
            std::mem::forget(peer);
            Ok(())
        });
        let (sender, answer) = mpsc::channel();
        let own = Arc::clone(channel);
        let begin = Instant::now();
        thread::spawn(move || {
            own.caller.run(|| {
                let mut peer = TcpStream::connect_timeout(&there, LIMIT)?;
                peer.set_read_timeout(Some(LIMIT))?;
                let mut byte = [0];
                peer.read_exact(&mut byte)?;
                // The receiver is gone if the limit has expired.
                let _ = sender.send(begin.elapsed());
                peer.read_exact(&mut [0; GREETING.len() - 1])?;
                std::mem::forget(peer);
                Ok(())
            })
        });
        let news = begin;
        let call = Call {
            link,
            port,
            capture,
            begin,
            answer,
            first_byte: None,
            packets: 0,
            news,
            _channel: Arc::clone(channel),
        };
        Ok(call)
    }

    /// Reads new packets. Returns true if no more are expected.
    pub(super) fn is_over(&mut self) -> Result<bool> {
        let seen = self.capture.until(Duration::from_millis(1), |_| false)?.len();
        let now = Instant::now();
        if seen != self.packets {
            (self.packets, self.news) = (seen, now);
        }
        if let Ok(after) = self.answer.try_recv() {
            self.first_byte = Some(after);
        }
        let quiet = self.first_byte.is_some() && now - self.news > SILENCE;
        Ok(quiet || now - self.begin > LIMIT)
    }

    /// Summarises the connection. `whole`: with every packet.
    pub(super) fn report(&mut self, whole: bool) -> Result<Value> {
        let link = self.link;
        let seen = self.capture.until(Duration::ZERO, |_| true)?;
        let first = seen.first().context("no packet went over the air")?.at;
        let syns = seen.iter().filter(|it| it.segment.syn && !it.segment.ack).count();
        let syn_acks = seen.iter().filter(|it| it.segment.syn && it.segment.ack).count();
        let bytes: usize = seen.iter().map(|it| it.segment.length + FRAMING).sum();
        // The time at which transmission of the first packet began.
        let start = sent(link, &seen[0]);
        // The sequence number acknowledged by the ACK that ends the handshake.
        let answer = seen.iter().map(|it| it.segment).find(|it| it.syn && it.ack);
        let handshake = answer.map(|it| it.sequence.wrapping_add(1));
        let packet = |it: &Seen| {
            let Seen { segment, .. } = it;
            let kind = match (segment.syn, segment.ack, segment.data) {
                (true, false, _) => "SYN",
                (true, true, _) => "SYN-ACK",
                (false, _, 0) if Some(segment.acknowledged) == handshake => "ACK",
                (false, _, 0) => "ACK of data",
                (false, ..) => "data",
            };
            let sent = sent(link, it).saturating_sub(start).as_secs_f64();
            json!({
                "kind": kind,
                "caller": segment.destination.port() == self.port,
                "sent": sent,
                "until": sent + link.air_time(segment.length).as_secs_f64(),
            })
        };
        let packets: Vec<Value> = seen.iter().filter(|_| whole).map(packet).collect();
        let last = seen.last().map_or(first, |it| it.at).saturating_sub(start);
        Ok(json!({
            "rate": link.rate,
            "loss": link.loss,
            "port": self.port,
            "first_byte": self.first_byte.map(|it| it.as_secs_f64()),
            "syns": syns,
            "syn_acks": syn_acks,
            "packets": seen.len(),
            "bytes": bytes,
            "quiet_after": last.as_secs_f64(),
            "timeline": packets,
        }))
    }
}

/// The time at which transmission of a received packet began, on the kernel's clock.
fn sent(link: Link, seen: &Seen) -> Duration {
    seen.at.saturating_sub(link.delay() + link.air_time(seen.segment.length))
}
