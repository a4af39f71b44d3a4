//! Tests of the harness itself, on a kernel without set-rto. If these fail, no other result can be trusted.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::support::expect_armed;
use super::support::expect_synack_timer;
use super::support::half_open;
use super::support::judge_synack_timer;
use super::support::need_ipv6;
use crate::harness::bpf;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::clock::Hz;
use crate::harness::lab::Lab;
use crate::harness::neighbour::Neighbour;
use crate::harness::sandbox;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wait::until;
use crate::harness::wire::Kind;
use crate::harness::wire::Verdict;
use crate::harness::wire::expect_schedule;
use crate::harness::wire::judge;

tests! {
    bare_kernel_has_default_timers: 60,
    bare_harness_sees_a_known_timer: 180,
    bare_harness_tells_wrong_from_late: 60,
    bare_sandbox_is_empty: 60,
}

/// The baseline without set-rto: one second, in both directions and for both families.
fn bare_kernel_has_default_timers() -> Result<()> {
    let (lab, cable) = Lab::with_cable()?;
    let everywhere: SocketAddr = (Ipv4Addr::UNSPECIFIED, 80).into();
    let _listener = listen(everywhere, None)?;
    expect_armed(&Connection::open(cable.remote4(80))?, DEFAULT_RTO)?;
    expect_synack_timer(&lab, &cable, cable.remote4(4000), (cable.here4(), 80).into(), DEFAULT_RTO)
}

/// A program with a known answer. All measurements must agree on it.
fn bare_harness_sees_a_known_timer() -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let rto = hz.duration(30);
    Neighbour::Answers(30).attach("known", &sandbox::cgroup()?)?;
    let (lab, cable) = Lab::with_cable()?;
    let connection = Connection::open(cable.remote4(80))?;
    expect_armed(&connection, rto)?;
    let remote = cable.remote4(81);
    let mut open = Vec::new();
    expect_schedule(Kind::Syn, &cable.name, rto, 6, || {
        let connection = Connection::open(remote)?;
        let local = connection.local()?;
        open.push(connection);
        Ok((local, remote))
    })?;
    ensure!(connection.retransmits()? >= 6, "TCP_INFO counts no retransmissions");
    expect_armed(&connection, rto).context("after six repetitions")?;
    need_ipv6()?;
    let _listener = listen((Ipv6Addr::UNSPECIFIED, 80).into(), None)?;
    for (from, to) in [(cable.remote4(4000), cable.here4()), (cable.remote6(4000), cable.here6())] {
        expect_synack_timer(&lab, &cable, from, (to, 80).into(), rto)?;
        let mut port = 5000;
        expect_schedule(Kind::SynAck, &cable.name, rto, 2, || {
            port += 1;
            let ends = (SocketAddr::new(to, 80), SocketAddr::new(from.ip(), port));
            lab.syns(&cable, &[(ends.1, ends.0)])?;
            Ok(ends)
        })?;
        let (from, to) = (SocketAddr::new(from.ip(), 6000), SocketAddr::new(to, 80));
        let start = Instant::now();
        lab.syns(&cable, &[(from, to)])?;
        let mut found = None;
        until("no SYN-ACK is sent again", || {
            found = half_open(from, to)?.filter(|one| one.repeated > 0);
            Ok(found.is_some())
        })?;
        let found = found.context("it was there")?;
        judge_synack_timer(found, start.elapsed(), rto).context("of one that is sent again")?;
    }
    Ok(())
}

/// Tests the schedule comparison with made-up times.
fn bare_harness_tells_wrong_from_late() -> Result<()> {
    let hz = Hz::of_this_kernel()?;
    let expected = [60_u64, 60, 120];
    let times = |extra: [i64; 3]| {
        let mut at = Duration::from_secs(1);
        let mut times = vec![at];
        for (jiffies, extra) in expected.iter().zip(extra) {
            at += hz.duration(jiffies.checked_add_signed(extra).unwrap_or(0));
            times.push(at);
        }
        times
    };
    let late = Duration::from_millis(25).div_duration_f64(hz.jiffy()) as i64 + 2;
    for (extra, verdict) in [
        ([0, 0, 0], Verdict::Exact),
        ([1, 1, 1], Verdict::Exact),
        ([0, late, 0], Verdict::Late),
        ([-2, 0, 0], Verdict::Late),
        ([0, late, -late], Verdict::Wrong),
        ([-late, 0, 0], Verdict::Wrong),
    ] {
        let judged = judge(hz, &times(extra), &expected);
        ensure!(judged == verdict, "{extra:?} jiffies off is {verdict:?}, not {judged:?}");
    }
    ensure!(judge(hz, &times([0; 3])[..3], &expected) == Verdict::Wrong, "one is missing");
    Ok(())
}

/// A test cannot reach any resource of the machine.
fn bare_sandbox_is_empty() -> Result<()> {
    let pins = std::fs::read_dir(crate::harness::mounts::BPFFS)?.count();
    let cgroup = sandbox::cgroup()?;
    let own = std::fs::read_to_string(cgroup.join("cgroup.procs"))?;
    // The parent process is outside this PID namespace, so its PID reads as 0.
    let others = own.lines().filter(|pid| !["0", "1"].contains(pid)).count();
    ensure!(others == 0 && std::process::id() == 1, "not alone in {cgroup:?}: {own}");
    ensure!(bpf::attached(bpf::SOCK_OPS, &cgroup)?.is_empty(), "programs in {cgroup:?}");
    // The kernel's own two iterators may be present.
    ensure!(pins <= 2, "{pins} pins in a fresh bpffs");
    Ok(())
}
