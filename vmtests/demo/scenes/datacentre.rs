//! A fast network that drops the first SYN of each connection.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

use super::channel::script;
use crate::harness::netns::Namespace;
use crate::harness::rtnetlink;
use crate::harness::rtnetlink::Prefix;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 45, 0, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 45, 0, 2));

/// The durations of that many `connect` calls to a port of a server that does not get the first SYN.
pub(super) fn connects(port: u16, count: usize) -> Result<Vec<Duration>> {
    let (client, server) = (Namespace::create()?, Namespace::create()?);
    client.run(|| {
        let (mac, peer_mac) = ([2, 0, 0, 45, 0, 1], [2, 0, 0, 45, 0, 2]);
        rtnetlink::add_veth("eth0", mac, "eth0", peer_mac, server.as_fd())
    })?;
    for (side, address) in [(&client, HERE), (&server, THERE)] {
        side.run(|| {
            rtnetlink::set_up("eth0")?;
            rtnetlink::add_address("eth0", Prefix { address, length: 24 })
        })?;
    }
    // The first connection must not pay for what it learns about its neighbour.
    let there = SocketAddr::new(THERE, port);
    let listener = server.run(|| Ok(TcpListener::bind(there)?))?;
    client.run(|| {
        TcpStream::connect(there)?;
        Ok(())
    })?;
    server.run(|| script("tc", LOSE_EVERY_OTHER_SYN))?;
    thread::spawn(move || listener.incoming().for_each(drop));
    client.run(|| {
        let connect = || {
            let begin = Instant::now();
            let _peer = TcpStream::connect(there)?;
            Ok(begin.elapsed())
        };
        (0..count).map(|_| connect()).collect()
    })
}

/// Drops every other SYN, beginning with the first.
const LOSE_EVERY_OTHER_SYN: &str = "\
qdisc add dev eth0 handle ffff: ingress
filter add dev eth0 parent ffff: protocol ip flower ip_proto tcp tcp_flags 0x2/0x12 \
action gact drop random determ pass 2
";
