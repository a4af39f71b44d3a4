//! The network of a test: this host, and cables to a far side that does not answer.
//!
//! Cable number n has 10.20.n.1 and fd20:n::1 here. Packets to 10.30.n.0/24 or fd30:n::/64 (and, over the first cable,
//! to any other address) go to a gateway that does not exist: they leave the device and get no answer. If a test
//! requests it, 10.20.n.2 and fd20:n::2 answer.

use std::fs::File;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV6;
use std::os::fd::AsFd as _;

use anyhow::Result;
use anyhow::bail;

use super::capture::inject;
use super::links;
use super::netns::Namespace;
use super::netns::has_ipv6;
use super::packet;
use super::rtnetlink;
use super::rtnetlink::Mac;
use super::rtnetlink::Prefix;

/// This host, the far side, and the number of cables between them.
pub(crate) struct Lab {
    far: Namespace,
    cables: u8,
}

/// A veth pair from this host to the far side.
#[derive(Debug, Clone)]
pub(crate) struct Cable {
    /// The device on this side.
    pub(crate) name: String,
    number: u8,
    /// The VLAN of its packets.
    vlan: Option<u16>,
    /// The routing table of its routes.
    table: u8,
}

/// The kind of device at the near end of a cable.
pub(crate) enum Over<'a> {
    /// The port of a bridge, which has the cable's name.
    Bridge,
    /// The member of a bond.
    Bond,
    /// A device with a second Ethernet address on top of it.
    Macvlan,
    /// A VLAN on top of it.
    Vlan(u16),
    /// The near end itself, in a VRF with that name and routing table.
    Vrf(&'a str, u8),
}

impl Lab {
    /// Creates a far side without cables.
    pub(crate) fn new() -> Result<Self> {
        Ok(Lab { far: Namespace::create()?, cables: 0 })
    }

    /// Creates a far side with one cable to it, called `va` here.
    pub(crate) fn with_cable() -> Result<(Self, Cable)> {
        let mut lab = Lab::new()?;
        let cable = lab.lay("va")?;
        Ok((lab, cable))
    }

    /// Adds a cable whose device on this side has that name, in the calling thread's namespace.
    pub(crate) fn lay(&mut self, name: &str) -> Result<Cable> {
        self.lay_again(name, self.cables + 1)
    }

    /// Adds a cable with the number, and so the addresses, of one that was removed.
    pub(crate) fn lay_again(&mut self, name: &str, number: u8) -> Result<Cable> {
        self.cables = self.cables.max(number);
        let cable = Cable { name: name.to_owned(), number, vlan: None, table: rtnetlink::MAIN };
        self.draw(&cable, name, cable.mac())?;
        rtnetlink::set_up(name)?;
        self.wait_for_carrier(&cable, &[name])?;
        cable.connect_all()?;
        Ok(cable)
    }

    /// Adds a cable with the near end `end` below a device of another kind, which has the name and the addresses.
    pub(crate) fn lay_under(&mut self, name: &str, end: &str, over: &Over<'_>) -> Result<Cable> {
        self.cables += 1;
        let (vlan, table) = match over {
            Over::Vlan(id) => (Some(*id), rtnetlink::MAIN),
            Over::Vrf(_, table) => (None, *table),
            _ => (None, rtnetlink::MAIN),
        };
        let cable = Cable { name: name.to_owned(), number: self.cables, vlan, table };
        let mac = cable.mac();
        // If the upper device has its own Ethernet address, the end has another one.
        let other = [2, 0, 0, 0, cable.number, 3];
        let is_one = matches!(over, Over::Bond | Over::Vrf(..));
        self.draw(&cable, end, if is_one { mac } else { other })?;
        match over {
            // A bond brings its members up itself.
            Over::Bond => {
                links::add_bond(name)?;
                links::join(end, name)?;
            }
            Over::Bridge => {
                rtnetlink::set_up(end)?;
                links::add_bridge(name, mac)?;
                links::join(end, name)?;
            }
            Over::Macvlan => {
                rtnetlink::set_up(end)?;
                links::add_macvlan(name, mac, end)?;
            }
            Over::Vlan(id) => {
                rtnetlink::set_up(end)?;
                links::add_vlan(name, mac, end, *id)?;
            }
            Over::Vrf(vrf, table) => {
                links::add_vrf(vrf, *table)?;
                rtnetlink::set_up(vrf)?;
                links::join(name, vrf)?;
            }
        }
        rtnetlink::set_up(name)?;
        self.wait_for_carrier(&cable, &[end, name])?;
        cable.connect_all()?;
        Ok(cable)
    }

    /// Adds a tun device with the addresses of a cable, and its other end, which reads and writes IP packets.
    pub(crate) fn lay_tun(&mut self, name: &str) -> Result<(Cable, File)> {
        self.cables += 1;
        let number = self.cables;
        let cable = Cable { name: name.to_owned(), number, vlan: None, table: rtnetlink::MAIN };
        let end = links::add_tun(name)?;
        rtnetlink::set_up(name)?;
        cable.connect_all()?;
        Ok((cable, end))
    }

    /// Adds an IPv4-in-IPv4 tunnel over a cable to [`Cable::there4`], with the addresses of another cable.
    pub(crate) fn lay_ipip(&mut self, name: &str, over: &Cable) -> Result<Cable> {
        let (IpAddr::V4(local), IpAddr::V4(remote)) = (over.here4(), over.there4()) else {
            bail!("not IPv4");
        };
        self.cables += 1;
        let number = self.cables;
        let cable = Cable { name: name.to_owned(), number, vlan: None, table: rtnetlink::MAIN };
        links::add_ipip(name, local, remote)?;
        rtnetlink::set_up(name)?;
        // The tunnel carries IPv4 only.
        cable.connect(Ipv4Addr::new(10, 20, number, 254).into(), cable.remote4(0).ip(), 24)?;
        rtnetlink::replace_neighbour(over.there4(), over.far_mac(), &over.name)?;
        Ok(cable)
    }

    /// Sends an IP packet inside another one over a cable, from the remote end of the tunnel of [`Lab::lay_ipip`].
    pub(crate) fn send_in_ipip(&self, over: &Cable, packet: &[u8]) -> Result<()> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (over.there4(), over.here4()) else {
            bail!("not IPv4");
        };
        let frame = packet::ipip(over.far_mac(), over.mac(), from, to, packet);
        self.far.run(|| inject(&over.far_name(), &[frame]))
    }

    /// Creates a veth pair from `end` to the far side, where it is up.
    fn draw(&self, cable: &Cable, end: &str, mac: Mac) -> Result<()> {
        let far = cable.far_name();
        rtnetlink::add_veth(end, mac, &far, cable.far_mac(), self.far.as_fd())?;
        self.far.run(|| rtnetlink::set_up(&far))
    }

    /// Waits until packets can leave through the devices of a cable here and through its far end.
    fn wait_for_carrier(&self, cable: &Cable, devices: &[&str]) -> Result<()> {
        devices.iter().try_for_each(|device| rtnetlink::wait_for_carrier(device))?;
        self.far.run(|| rtnetlink::wait_for_carrier(&cable.far_name()))
    }

    /// Gives the far end of a cable addresses that answer: [`Cable::there4`] and [`Cable::there6`].
    pub(crate) fn settle(&self, cable: &Cable) -> Result<()> {
        let name = cable.far_name();
        self.far.run(|| {
            // It needs no address resolution, which would delay the first answer.
            rtnetlink::add_address(&name, Prefix { address: cable.there4(), length: 24 })?;
            rtnetlink::replace_neighbour(cable.here4(), cable.mac(), &name)?;
            if has_ipv6() {
                rtnetlink::add_address(&name, Prefix { address: cable.there6(), length: 64 })?;
                rtnetlink::replace_neighbour(cable.here6(), cable.mac(), &name)?;
            }
            Ok(())
        })?;
        self.mend(cable)
    }

    /// Drops everything that is sent to the far end of a cable from now on.
    pub(crate) fn cut(&self, cable: &Cable) -> Result<()> {
        cable.neighbour_there(cable.nobody())
    }

    /// Undoes [`Lab::cut`].
    pub(crate) fn mend(&self, cable: &Cable) -> Result<()> {
        cable.neighbour_there(cable.far_mac())
    }

    /// Runs `work` on the far side.
    pub(crate) fn far<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.far.run(work)
    }

    /// Sends SYNs from the far side over a cable, each from a silent remote end to an end on this host.
    pub(crate) fn syns(&self, cable: &Cable, ends: &[(SocketAddr, SocketAddr)]) -> Result<()> {
        let frames: Vec<Vec<u8>> = ends
            .iter()
            .map(|(from, to)| cable.tagged(packet::syn(cable.far_mac(), cable.mac(), *from, *to)))
            .collect();
        self.far.run(|| inject(&cable.far_name(), &frames))
    }

    /// Ends the handshake of such a SYN, whose SYN-ACK had the given sequence number.
    pub(crate) fn last_ack(
        &self,
        cable: &Cable,
        ends: (SocketAddr, SocketAddr),
        number: u32,
    ) -> Result<()> {
        let frame = packet::last_ack((cable.far_mac(), cable.mac()), ends, number);
        self.far.run(|| inject(&cable.far_name(), &[frame]))
    }

    /// Sends one such SYN with data.
    pub(crate) fn syn_with(
        &self,
        data: &[u8],
        cable: &Cable,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<()> {
        let frame = packet::syn_with(data, cable.far_mac(), cable.mac(), from, to);
        self.far.run(|| inject(&cable.far_name(), &[frame]))
    }
}

impl Cable {
    /// Renames the device here and restores its state.
    pub(crate) fn rename(&self, to: &str) -> Result<Cable> {
        let cable = Cable { name: to.to_owned(), ..*self };
        if rtnetlink::rename(&self.name, to)? {
            cable.connect_all()?;
        }
        Ok(cable)
    }

    /// This side's IPv4 address.
    pub(crate) fn here4(&self) -> IpAddr {
        Ipv4Addr::new(10, 20, self.number, 1).into()
    }

    /// This side's IPv6 address.
    pub(crate) fn here6(&self) -> IpAddr {
        Cable::ipv6(0xfd20, self.number, 1)
    }

    /// The far end's IPv4 address, once it has one.
    pub(crate) fn there4(&self) -> IpAddr {
        Ipv4Addr::new(10, 20, self.number, 2).into()
    }

    /// The far end's IPv6 address, once it has one.
    pub(crate) fn there6(&self) -> IpAddr {
        Cable::ipv6(0xfd20, self.number, 2)
    }

    fn neighbour_there(&self, mac: Mac) -> Result<()> {
        rtnetlink::replace_neighbour(self.there4(), mac, &self.name)?;
        match has_ipv6() {
            true => rtnetlink::replace_neighbour(self.there6(), mac, &self.name),
            false => Ok(()),
        }
    }

    /// This side's link-local address with its scope, once it is usable.
    pub(crate) fn here_local(&self, port: u16) -> Result<SocketAddr> {
        let index = rtnetlink::index(&self.name)?;
        let address =
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, u16::from(self.number) << 8 | 1);
        rtnetlink::wait_for_ipv6(address)?;
        Ok(SocketAddrV6::new(address, port, 0, index).into())
    }

    /// The silent end with that port, reached over this cable by IPv4.
    pub(crate) fn remote4(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::new(10, 30, self.number, 0), port).into()
    }

    /// The silent end with that port, reached over this cable by IPv6.
    pub(crate) fn remote6(&self, port: u16) -> SocketAddr {
        (Cable::ipv6(0xfd30, self.number, 0), port).into()
    }

    /// The silent link-local end with that port, on this cable.
    pub(crate) fn remote_local(&self, port: u16) -> Result<SocketAddr> {
        let mut end = self.here_local(port)?;
        end.set_ip(Cable::nobody_local());
        Ok(end)
    }

    /// The address of the gateway that is a neighbour on every cable.
    fn nobody_local() -> IpAddr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77).into()
    }

    fn ipv6(network: u16, number: u8, host: u16) -> IpAddr {
        Ipv6Addr::new(network, number.into(), 0, 0, 0, 0, 0, host).into()
    }

    /// Adds the cable's VLAN tag to a frame, if there is one (IEEE 802.1Q: after the Ethernet addresses).
    fn tagged(&self, mut frame: Vec<u8>) -> Vec<u8> {
        if let Some(id) = self.vlan {
            let [high, low] = id.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        frame
    }

    fn far_name(&self) -> String {
        format!("far{}", self.number)
    }

    fn mac(&self) -> Mac {
        [2, 0, 0, 0, self.number, 1]
    }

    fn far_mac(&self) -> Mac {
        [2, 0, 0, 0, self.number, 2]
    }

    /// An address that no interface has.
    fn nobody(&self) -> Mac {
        [2, 0, 0, 0, self.number, 0xfe]
    }

    /// Addresses and routes of this side.
    fn connect_all(&self) -> Result<()> {
        let number = self.number;
        self.connect(Ipv4Addr::new(10, 20, number, 254).into(), self.remote4(0).ip(), 24)?;
        if has_ipv6() {
            self.connect(Cable::ipv6(0xfd20, number, 254), self.remote6(0).ip(), 64)?;
            rtnetlink::add_neighbour(Cable::nobody_local(), self.nobody(), &self.name)?;
        }
        Ok(())
    }

    /// Assigns this side its address of the gateway's family and routes the remote prefix.
    fn connect(&self, gateway: IpAddr, remote: IpAddr, length: u8) -> Result<()> {
        let here = if gateway.is_ipv4() { self.here4() } else { self.here6() };
        rtnetlink::add_address(&self.name, Prefix { address: here, length })?;
        rtnetlink::add_neighbour(gateway, self.nobody(), &self.name)?;
        let to = Prefix { address: remote, length };
        rtnetlink::add_route_in(self.table, to, gateway, &self.name)?;
        if self.number == 1 {
            let anywhere: IpAddr = match gateway {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            rtnetlink::add_route(Prefix { address: anywhere, length: 0 }, gateway, &self.name)?;
        }
        Ok(())
    }
}
