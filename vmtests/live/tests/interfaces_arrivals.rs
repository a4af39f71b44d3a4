//! The ingress device of a SYN, which a second program records, and how that program is attached together with the
//! first.

use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::sched::CpuSet;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use super::interfaces_methods::NAMED;
use super::interfaces_methods::RULES;
use super::interfaces_methods::by_route;
use super::policy::Policy;
use super::policy::end;
use super::state::PIN;
use super::state::lookups;
use super::support::expect_no_synack;
use super::support::judge_synack_timer;
use super::support::synack_timer;
use crate::harness::Skip;
use crate::harness::asm;
use crate::harness::bpf;
use crate::harness::capture::Capture;
use crate::harness::capture::Seen;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::netns::Namespace;
use crate::harness::pair::Opt;
use crate::harness::pair::number as number_of;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;
use crate::harness::wait::until;

tests! {
    arrival_is_not_the_way_back: 60,
    arrival_is_not_the_way_back_by_address: 60,
    arrival_at_late_devices: 60,
    arrival_before_another: 60,
    arrival_from_this_host: 60,
    arrival_is_noted_only_where_needed: 60,
    arrival_moves_with_the_namespace: 60,
    arrival_among_other_programs: 60,
    arrival_that_finds_no_room: 60,
}

/// [`Skip`] if this kernel does not report the ingress device of a SYN.
fn need_arrivals(policy: &Policy) -> Result<()> {
    if policy.set_rto.status()?.json["arrivals"] != true {
        bail!(Skip::new("sk_lookup programs cannot read the interface before Linux 5.17"));
    }
    Ok(())
}

/// SYNs that arrive on one device and are answered through another.
fn not_the_way_back(method: &str) -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    if policy.set_rto.run(&["install", "--interface-method", method])?.code != Some(0) {
        bail!(Skip::new(format!("this kernel does not find devices by {method}")));
    }
    need_arrivals(&policy)?;
    let (va, ax0) = (policy.cable("va")?, policy.cable("ax0")?);
    let four = (end("0.0.0.0:1001")?, None);
    let both = (end("[::]:1001")?, None);
    let mut port = 4000;
    for (by, other, rule) in [(ax0, va, NAMED), (va, ax0, None)] {
        // The far end's route and the local address belong to the other cable.
        let mut probe = |listener, from: SocketAddr, here: std::net::IpAddr| {
            port += 1;
            let from = SocketAddr::new(from.ip(), port);
            policy.incoming_at(listener, &by.name, from, (here, 1001).into(), rule)
        };
        probe(four, other.remote4(0), other.here4())?;
        probe(both, other.remote4(0), other.here4())?;
        probe(both, other.remote6(0), other.here6())?;
    }
    policy.finish()
}

fn arrival_is_not_the_way_back() -> Result<()> {
    not_the_way_back("route")
}

fn arrival_is_not_the_way_back_by_address() -> Result<()> {
    not_the_way_back("address")
}

fn arrival_at_late_devices() -> Result<()> {
    let mut policy = by_route(&["va"])?;
    need_arrivals(&policy)?;
    policy.lay("ax0")?;
    let cable = policy.cable("ax0")?;
    let here = (cable.here4(), 1001).into();
    policy.incoming_at((end("0.0.0.0:1001")?, None), "ax0", cable.remote4(4001), here, NAMED)?;
    policy.finish()
}

/// Options are set when the handshake completes. By then, another SYN has been recorded on the same processor.
fn arrival_before_another() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    need_arrivals(&policy)?;
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    let (va, ax0) = (policy.cable("va")?, policy.cable("ax0")?);
    let mut port = 4000;
    for method in ["route", "address"] {
        if policy.set_rto.run(&["install", "--interface-method", method])?.code != Some(0) {
            continue;
        }
        // The rule `marked` is for `va` and the far end's port 2001.
        for (first, second, mark) in [(va, ax0, 7), (ax0, va, 0)] {
            port += 1;
            let listener = TcpListener::from(listen(end(&format!("0.0.0.0:{port}"))?, None)?);
            let ends = (first.remote4(2001), (first.here4(), port).into());
            let mut capture = Capture::start(&first.name)?;
            policy.lab.syns(first, &[ends])?;
            let is_answer = |seen: &Seen| seen.segment.syn && seen.segment.ack;
            let seen = capture.until(Duration::from_secs(5), |seen| seen.iter().any(is_answer))?;
            let answer = seen.iter().find(|seen| is_answer(seen)).context("no SYN-ACK")?;
            let number = answer.segment.sequence;
            policy.lab.syns(second, &[(second.remote4(port), (second.here4(), port).into())])?;
            sleep(Duration::from_millis(50));
            policy.lab.last_ack(first, ends, number)?;
            let accepted = accept(&listener).with_context(|| format!("by {method}"))?;
            let found = number_of(&accepted, Opt(libc::SOL_SOCKET, libc::SO_MARK))?;
            ensure!(found == mark, "by {method}, in by {}: mark {found}, not {mark}", first.name);
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        match listener.accept() {
            Ok((accepted, _)) => return Ok(accepted),
            Err(_) if Instant::now() < limit => sleep(Duration::from_millis(5)),
            Err(error) => return Err(error).context("no connection"),
        }
    }
}

/// A connection to the host's own address arrives on `lo`, for the timer and for the options, whatever arrives in
/// between.
fn arrival_from_this_host() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    need_arrivals(&policy)?;
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    let (va, ax0) = (policy.cable("va")?, policy.cable("ax0")?);
    let mut port = 4100;
    for method in ["route", "address"] {
        if policy.set_rto.run(&["install", "--interface-method", method])?.code != Some(0) {
            continue;
        }
        for another in [false, true] {
            port += 1;
            let here = SocketAddr::new(va.here4(), port);
            // The rule `marked` is for `va` and the far end's port 2001.
            let client = SocketAddr::new(va.here4(), 2001);
            let listener = TcpListener::from(listen(here, None)?);
            let before = policy.set_rto.status()?.hits("marked")?;
            let begin = Instant::now();
            let connection = Connection::open_deaf(client, here)?;
            let context = || format!("by {method}, another SYN in between: {another}");
            let request = synack_timer(client, here)?;
            judge_synack_timer(request, begin.elapsed(), DEFAULT_RTO).with_context(context)?;
            if another {
                policy.lab.syns(ax0, &[(ax0.remote4(port), (ax0.here4(), port).into())])?;
                sleep(Duration::from_millis(50));
            }
            connection.hear()?;
            let accepted = accept(&listener).with_context(context)?;
            let mark = number_of(&accepted, Opt(libc::SOL_SOCKET, libc::SO_MARK))?;
            ensure!(mark == 0, "{}: mark {mark}, as of `va`", context());
            let hits = policy.set_rto.status()?.hits("marked")? - before;
            ensure!(hits == 0, "{}: {hits} hits of the rule for `va`", context());
        }
    }
    Ok(())
}

/// The paths of the pins.
fn pinned() -> Vec<PathBuf> {
    let entries = fs::read_dir(PIN).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The pins of links to network namespaces.
fn pinned_links() -> Vec<PathBuf> {
    let is_link =
        |path: &PathBuf| bpf::identify(path).is_ok_and(|(kind, _)| kind == bpf::LINK_OF_NETNS);
    pinned().into_iter().filter(is_link).collect()
}

fn arrival_is_noted_only_where_needed() -> Result<()> {
    let (with, without) = (SetRto::of("devices")?, SetRto::of("a")?);
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    need_arrivals(&policy)?;
    ensure!(pinned_links().len() == 1 && lookups()?.len() == 1, "{:?}", pinned());
    without.ok(&["install"])?;
    ensure!(pinned_links().is_empty() && lookups()?.is_empty(), "{:?}", pinned());
    with.ok(&["install"])?;
    ensure!(pinned_links().len() == 1 && lookups()?.len() == 1, "{:?}", pinned());
    // A pin that somebody has removed is restored.
    fs::remove_file(&pinned_links()[0])?;
    until("the link stays without its pin", || Ok(lookups()?.is_empty()))?;
    ensure!(with.status()?.json["arrivals"] == false, "{:?}", with.status()?);
    with.ok(&["install"])?;
    let is_back = pinned_links().len() == 1 && lookups()?.len() == 1;
    ensure!(is_back && with.status()?.json["arrivals"] == true, "{:?}", pinned());
    with.ok(&["remove"])?;
    ensure!(!Path::new(PIN).exists() && lookups()?.is_empty(), "{:?}", pinned());
    Ok(())
}

fn arrival_moves_with_the_namespace() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    need_arrivals(&policy)?;
    let other = Namespace::create()?;
    let set_rto = policy.set_rto.clone();
    let there = other.run(|| {
        set_rto.ok(&["install"])?;
        lookups()
    })?;
    let here = lookups()?;
    ensure!(there.len() == 1 && here.is_empty(), "there {there:?}, here {here:?}");
    ensure!(pinned_links().len() == 1, "{:?}", pinned());
    Ok(())
}

const NETNS: &str = "/proc/self/ns/net";

/// One more program at the listener lookup hook (`sk_lookup`), with the given verdict.
fn lookup_program(answer: i32) -> Result<OwnedFd> {
    let program = bpf::load(bpf::SK_LOOKUP, "other", &[asm::mov(0, answer), asm::EXIT])?;
    bpf::link(bpf::SK_LOOKUP, Path::new(NETNS), &program)
}

/// What another program rejects stays rejected, and its link stays in place.
fn arrival_among_other_programs() -> Result<()> {
    const DROP: i32 = 0;
    const PASS: i32 = 1;
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    need_arrivals(&policy)?;
    let cable = policy.cable("ax0")?;
    let probe = |port| {
        let here = (cable.here4(), 1001).into();
        policy.incoming_at((end("0.0.0.0:1001")?, None), "ax0", cable.remote4(port), here, NAMED)
    };
    let refused = |port| {
        let _listener = listen(end("0.0.0.0:1001")?, None)?;
        let here = (cable.here4(), 1001).into();
        expect_no_synack(&policy.lab, cable, cable.remote4(port), here)
    };
    let _other = lookup_program(PASS)?;
    probe(4001)?;
    let programs = || bpf::attached(bpf::SK_LOOKUP, Path::new(NETNS));
    let before = programs()?.len();
    let drops = lookup_program(DROP)?;
    refused(4002).context("a SYN that another program refuses")?;
    policy.set_rto.ok(&["remove"])?;
    policy.set_rto.ok(&["install"])?;
    refused(4003).context("the other program's answer counts no more")?;
    drop(drops);
    until("the other program stays", || Ok(programs()?.len() == before))?;
    probe(4004)
}

/// The hook allows 64 programs. An install that cannot attach its second link restores the previous state.
fn arrival_that_finds_no_room() -> Result<()> {
    let policy = Policy::install("devices", RULES, &["va", "ax0"])?;
    need_arrivals(&policy)?;
    policy.set_rto.ok(&["remove"])?;
    let others = (0..64).map(|_| lookup_program(1)).collect::<Result<Vec<_>>>()?;
    let refused = policy.set_rto.run(&["install"])?;
    refused.refuses(2, &["network namespace", "64"])?;
    ensure!(policy.set_rto.status()?.code == 3 && !Path::new(PIN).exists(), "{:?}", pinned());
    let before = SetRto::of("a")?;
    before.ok(&["install"])?;
    let (program, pins) = (before.status()?.json["program_id"].clone(), pinned());
    policy.set_rto.run(&["install"])?.refuses(2, &["network namespace"])?;
    let status = before.status()?;
    let is_same = status.code == 0 && status.json["program_id"] == program;
    ensure!(is_same && pinned() == pins, "{:?}, {status:?}", pinned());
    drop(others);
    Ok(())
}
