//! A half-duplex radio channel between two stations. The packets of both go through one queue.
//!
//! Three network namespaces model it: a station, the air, a station. The air sends every packet of both stations
//! through an ifb device with one netem queue. A packet is sent when the previous one is through, whichever station
//! sent that, and arrives after the delay of the equipment. Losses happen at the receiver, after the packet has
//! occupied the channel.
//!
//! The model favours a sender of too many packets: only one station transmits at a time, nothing collides, and modems
//! retransmit nothing.

use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use crate::harness::capture::Capture;
use crate::harness::netns::Namespace;
use crate::harness::netns::has_ipv6;
use crate::harness::netns::write_sysctl;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Mac;
use crate::harness::rtnetlink::Prefix;

/// Bytes of framing around the IP packet: those of an AX.25 UI frame with its checksum and flags.
pub(super) const FRAMING: usize = 20;
/// The length of the Ethernet header, which the queue counts in place of the framing.
const ETHERNET: usize = 14;
/// The length of an IPv4 SYN as Linux sends it: MSS, SACK, timestamps, window scale.
const SYN: usize = 60;
/// The round trip of the radio channels: a ping over a LoRa link with IP took 7.545 s.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(7500);

/// The queue's device, in the namespace of the air.
const AIR: &str = "air";
/// The device of a station.
const RADIO: &str = "ax0";
/// The address of the calling station. The other station's network is the next one.
const CALLER: u8 = 1;
const ANSWERER: u8 = 2;

/// The properties of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Bits per second.
    pub(super) rate: u32,
    /// Packets lost, in percent.
    pub(super) loss: u32,
    /// The time from a SYN to its answer on an idle channel.
    pub(super) round_trip: Duration,
}

impl Link {
    /// The time for which a packet of this many bytes occupies the channel.
    pub(super) fn air_time(self, bytes: usize) -> Duration {
        Duration::from_secs_f64(((bytes + FRAMING) * 8) as f64 / f64::from(self.rate))
    }

    /// The delay between the end of a transmission and the packet's arrival: the rest of half the round-trip time.
    pub(super) fn delay(self) -> Duration {
        (self.round_trip / 2).saturating_sub(self.air_time(SYN))
    }
}

/// Two stations with a channel between them.
pub(super) struct Channel {
    pub(super) caller: Namespace,
    pub(super) answerer: Namespace,
    air: Namespace,
}

impl Channel {
    /// Creates the namespaces and devices.
    ///
    /// # Errors
    /// The request that the kernel, `ip` or `tc` refused.
    pub(super) fn new(link: Link) -> Result<Self> {
        let (caller, answerer, air) =
            (Namespace::create()?, Namespace::create()?, Namespace::create()?);
        for station in [&caller, &answerer, &air] {
            station.run(be_quiet)?;
        }
        air.run(|| {
            write_sysctl("ipv4/ip_forward", "1")?;
            script("ip", &format!("link add {AIR} type ifb\nlink set {AIR} up\n"))
        })?;
        connect(&caller, &air, CALLER)?;
        connect(&answerer, &air, ANSWERER)?;
        air.run(|| script("tc", &queue(link)))?;
        Ok(Channel { caller, answerer, air })
    }

    /// Gives the channel other properties. Packets on the air keep the old ones.
    pub(super) fn change(&self, link: Link) -> Result<()> {
        self.air.run(|| script("tc", &format!("qdisc change dev {AIR} root {}\n", netem(link))))
    }

    /// The address of the listener at the answering station.
    pub(super) fn there() -> IpAddr {
        address(ANSWERER, 1)
    }

    /// Starts to capture the packets on the air. A packet is seen when it arrives.
    pub(super) fn listen(&self) -> Result<Capture> {
        self.air.run(|| Capture::start(AIR))
    }
}

/// Disables IPv6, which would send packets of its own.
fn be_quiet() -> Result<()> {
    if has_ipv6() {
        for scope in ["all", "default"] {
            write_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1")?;
        }
    }
    Ok(())
}

/// Host 1 of a network is the station. Host 2 is the air, which forwards.
fn address(network: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 44, network, host).into()
}

fn connect(station: &Namespace, air: &Namespace, network: u8) -> Result<()> {
    use std::os::fd::AsFd as _;
    let mac = |host| -> Mac { [2, 0, 0, 44, network, host] };
    let port = format!("to{network}");
    let place = |name: &str, host: u8| {
        rtnetlink::set_up(name)?;
        rtnetlink::add_address(name, Prefix { address: address(network, host), length: 24 })?;
        // Static neighbours avoid address resolution.
        let other = 3 - host;
        rtnetlink::add_neighbour(address(network, other), mac(other), name)
    };
    station.run(|| rtnetlink::add_veth(RADIO, mac(1), &port, mac(2), air.as_fd()))?;
    air.run(|| place(&port, 2))?;
    station.run(|| {
        place(RADIO, 1)?;
        let anywhere = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 };
        rtnetlink::add_route(anywhere, address(network, 2), RADIO)
    })
}

/// The arguments for `tc`.
fn queue(link: Link) -> String {
    let loss = link.loss;
    let mut lines = format!("qdisc add dev {AIR} root {}\n", netem(link));
    for network in [CALLER, ANSWERER] {
        let port = format!("dev to{network}");
        // The queue is on egress, after forwarding: a sender does not retransmit a packet that is still in a queue of
        // its own host. A modem is not such a queue.
        lines.push_str(&format!("qdisc add {port} clsact\n"));
        lines.push_str(&format!(
            "filter add {port} egress matchall action mirred egress redirect dev {AIR}\n"
        ));
        if loss > 0 {
            lines.push_str(&format!("qdisc add {port} root netem limit 10000 loss {loss}%\n"));
        }
    }
    lines
}

fn netem(link: Link) -> String {
    let overhead = FRAMING - ETHERNET;
    let delay = link.delay().as_millis();
    format!("netem limit 10000 delay {delay}ms rate {}bit {overhead}", link.rate)
}

/// Runs a script with `ip` or `tc` in the calling thread's namespace.
pub(super) fn script(program: &str, lines: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program} (package iproute2)"))?;
    // The program ends with the script.
    child.stdin.take().context("no pipe")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{program} refused the script\n{lines}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
