//! Schedules on the wire, measured by a capture with the kernel's timestamps.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;

use super::policy::rto_in;
use super::support::need_ipv6;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::has_ipv6;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wire::Kind;
use crate::harness::wire::expect_schedule;

const RULES: &str = include_str!("../rules/wire.toml");

/// Ports of the rules. The last port has no rule.
const QUICK: u16 = 2001;
const SLOWER: u16 = 2002;
const NO_RULE: u16 = 2003;

tests! {
    wire_default_before_install_and_after_remove: 180,
    wire_syn_ipv4: 180,
    wire_syn_ipv4_of_ipv6_socket: 180,
    wire_syn_ipv6: 180,
    wire_synack_ipv4: 180,
    wire_synack_ipv4_of_dual_stack_listener: 180,
    wire_synack_ipv6: 180,
}

/// A connection whose schedule is measured.
struct Flow {
    kind: Kind,
    /// The local end for a SYN-ACK, the remote end for a SYN.
    end: SocketAddr,
    /// The server's listening address.
    listen: IpAddr,
    rto: Duration,
    /// The number of intervals to measure.
    count: u32,
}

impl Flow {
    fn syn(end: SocketAddr, rto: Duration, count: u32) -> Self {
        Flow { kind: Kind::Syn, end, listen: end.ip(), rto, count }
    }

    fn synack(end: SocketAddr, listen: impl Into<IpAddr>, rto: Duration, count: u32) -> Self {
        Flow { kind: Kind::SynAck, end, listen: listen.into(), rto, count }
    }
}

/// Measures all flows concurrently.
fn measure(lab: &Lab, cable: &Cable, flows: &[Flow]) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            flows.iter().map(|flow| scope.spawn(|| measure_one(lab, cable, flow))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow!("the measuring thread panicked"))?
        })
    })
}

fn measure_one(lab: &Lab, cable: &Cable, flow: &Flow) -> Result<()> {
    let what = || format!("{:?} with {} and {:?}", flow.kind, flow.end, flow.rto);
    match flow.kind {
        Kind::Syn => {
            let mut open = Vec::new();
            expect_schedule(flow.kind, &cable.name, flow.rto, flow.count, || {
                let connection = Connection::open(flow.end)?;
                let local = connection.local()?;
                open.push(connection);
                Ok((local, flow.end))
            })
            .with_context(what)
        }
        Kind::SynAck => {
            static PORT: AtomicU16 = AtomicU16::new(30_000);
            let _listener = listen((flow.listen, flow.end.port()).into(), None)?;
            let from = if flow.end.is_ipv4() { cable.remote4(0) } else { cable.remote6(0) };
            expect_schedule(flow.kind, &cable.name, flow.rto, flow.count, || {
                let port = PORT.fetch_add(1, Ordering::Relaxed);
                let remote = SocketAddr::new(from.ip(), port);
                lab.syns(cable, &[(remote, flow.end)])?;
                Ok((flow.end, remote))
            })
            .with_context(what)
        }
    }
}

/// The kernel's default of one second, in both directions and for both families, whenever no policy is in effect.
fn wire_default_before_install_and_after_remove() -> Result<()> {
    let set_rto = SetRto::of("wire")?;
    let (lab, cable) = Lab::with_cable()?;
    let flows = || {
        let here = |address: IpAddr| SocketAddr::new(address, QUICK);
        let mut flows = vec![
            Flow::syn(cable.remote4(SLOWER), DEFAULT_RTO, 1),
            Flow::synack(here(cable.here4()), cable.here4(), DEFAULT_RTO, 1),
        ];
        if has_ipv6() {
            flows.push(Flow::syn(cable.remote6(SLOWER), DEFAULT_RTO, 1));
            flows.push(Flow::synack(here(cable.here6()), cable.here6(), DEFAULT_RTO, 1));
        }
        flows
    };
    measure(&lab, &cable, &flows()).context("before install")?;
    set_rto.ok(&["install"])?;
    let quick = Flow::syn(cable.remote4(QUICK), rto_in(RULES, "quick")?, 2);
    measure(&lab, &cable, &[quick]).context("while installed")?;
    set_rto.ok(&["remove"])?;
    measure(&lab, &cable, &flows()).context("after remove")
}

/// SYNs to the ports of two rules and to a port without a rule.
fn syn_to(port: impl Fn(&Cable, u16) -> SocketAddr) -> Result<()> {
    let set_rto = SetRto::of("wire")?;
    let (lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let flows = [
        Flow::syn(port(&cable, QUICK), rto_in(RULES, "quick")?, 7),
        Flow::syn(port(&cable, SLOWER), rto_in(RULES, "slower")?, 1),
        Flow::syn(port(&cable, NO_RULE), DEFAULT_RTO, 1),
    ];
    measure(&lab, &cable, &flows)
}

fn wire_syn_ipv4() -> Result<()> {
    syn_to(|cable, port| cable.remote4(port))
}

fn wire_syn_ipv4_of_ipv6_socket() -> Result<()> {
    need_ipv6()?;
    syn_to(|cable, port| match cable.remote4(port).ip() {
        IpAddr::V4(four) => (four.to_ipv6_mapped(), port).into(),
        six => (six, port).into(),
    })
}

fn wire_syn_ipv6() -> Result<()> {
    need_ipv6()?;
    syn_to(|cable, port| cable.remote6(port))
}

/// SYN-ACKs from the ports of two rules and from a port without a rule.
fn synack_from(here: impl Fn(&Cable) -> IpAddr, listen: IpAddr) -> Result<()> {
    let set_rto = SetRto::of("wire")?;
    let (lab, cable) = Lab::with_cable()?;
    set_rto.ok(&["install"])?;
    let flow =
        |port, rto, count| Flow::synack(SocketAddr::new(here(&cable), port), listen, rto, count);
    let flows = [
        flow(QUICK, rto_in(RULES, "quick")?, 4),
        flow(SLOWER, rto_in(RULES, "slower")?, 1),
        flow(NO_RULE, DEFAULT_RTO, 1),
    ];
    measure(&lab, &cable, &flows)
}

fn wire_synack_ipv4() -> Result<()> {
    synack_from(Cable::here4, Ipv4Addr::UNSPECIFIED.into())
}

fn wire_synack_ipv4_of_dual_stack_listener() -> Result<()> {
    need_ipv6()?;
    synack_from(Cable::here4, Ipv6Addr::UNSPECIFIED.into())
}

fn wire_synack_ipv6() -> Result<()> {
    need_ipv6()?;
    synack_from(Cable::here6, Ipv6Addr::UNSPECIFIED.into())
}
