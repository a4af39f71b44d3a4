//! Settings that the kernel does not support or refuses. They are reported before anything is installed, left out
//! only on request, and counted if the kernel refuses them later. The probe runs in a cgroup that must be gone
//! afterwards.

use std::fs;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use serde_json::Value;
use serde_json::json;

use super::samples::lab;
use super::samples::refusals;
use super::state::Snapshot;
use super::state::attached;
use super::support::expect_armed;
use crate::harness::bpf;
use crate::harness::neighbour::Neighbour;
use crate::harness::pair;
use crate::harness::pair::BOTH;
use crate::harness::pair::Opt;
use crate::harness::pair::Pair;
use crate::harness::restrict::Restriction;
use crate::harness::rtnetlink;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::tests;

tests! {
    lacking_is_named_by_check: 60,
    lacking_is_refused_by_install: 60,
    lacking_is_left_out_by_partial: 60,
    partial_without_need_leaves_nothing_out: 60,
    refused_at_run_time_is_counted: 60,
    probing_leaves_no_cgroup: 60,
    probing_works_without_loopback: 60,
    probing_keeps_to_itself: 60,
}

const PRIORITY: Opt = Opt(libc::SOL_SOCKET, libc::SO_PRIORITY);
const CONGESTION: Opt = Opt(libc::IPPROTO_TCP, libc::TCP_CONGESTION);

/// The entries of `check --json` about settings: rule, setting, algorithm, result.
fn answers(set_rto: &SetRto, code: i32) -> Result<Vec<Value>> {
    let output = set_rto.run(&["check", "--json"])?;
    output.exits(code)?;
    let settings = output.json()?["settings"].as_array().context("no settings")?.clone();
    let brief = |one: &Value| json!([one["rule"], one["setting"], one["algorithm"], one["ok"]]);
    Ok(settings.iter().map(brief).collect())
}

/// The expected `check` output for `unknown.toml`.
fn of_unknown() -> Vec<Value> {
    vec![
        json!(["nonesuch", "congestion", "nonesuch", false]),
        json!(["nonesuch", "priority", null, true]),
        json!(["known", "congestion", "reno", true]),
    ]
}

fn lacking_is_named_by_check() -> Result<()> {
    let set_rto = SetRto::of("unknown")?;
    let found = answers(&set_rto, 2)?;
    ensure!(found == of_unknown(), "{found:?}");
    ensure!(set_rto.run(&["check", "--json"])?.json()?["ok"] == false, "`check` finds it good");
    let plain = set_rto.run(&["check"])?;
    plain.exits(2)?;
    let missing: Vec<_> = plain.stdout.lines().filter(|line| line.starts_with("MISSING")).collect();
    let is_named =
        matches!(missing[..], [line] if line.contains("`nonesuch`") && line.contains("congestion"));
    ensure!(is_named, "{plain}");
    Ok(())
}

fn lacking_is_refused_by_install() -> Result<()> {
    let set_rto = SetRto::of("unknown")?;
    let before = Snapshot::take()?;
    let output = set_rto.run(&["install"])?;
    output.exits(2)?;
    output.says(&[
        "set-rto: ",
        "rule `nonesuch`",
        "congestion \"nonesuch\"",
        "hint: ",
        "--partial",
    ])?;
    ensure!(!output.stderr.contains("priority"), "what the kernel has is named, too: {output}");
    before.still()?;
    ensure!(set_rto.status()?.code == 3, "installed nevertheless");
    // The previous policy stays in effect.
    SetRto::of("a")?.ok(&["install"])?;
    let before = Snapshot::take()?;
    set_rto.run(&["install"])?.exits(2)?;
    before.still()
}

/// Only that setting is left out. The rule's other settings are applied.
fn lacking_is_left_out_by_partial() -> Result<()> {
    let set_rto = SetRto::of("unknown")?;
    let (lab, cable) = lab()?;
    let output = set_rto.ok(&["install", "--partial"])?;
    output.says(&["left out", "rule `nonesuch`", "congestion \"nonesuch\""])?;
    expect_armed(&Connection::open(cable.remote4(6000))?, std::time::Duration::from_secs(3))?;
    for way in BOTH {
        let pair = Pair::open(&lab, &cable, way, 6000)?;
        ensure!(pair::number(&pair.here, PRIORITY)? == 4, "{way:?}: no priority");
        let pair = Pair::open(&lab, &cable, way, 6001)?;
        ensure!(pair::name(&pair.here, CONGESTION)? == "reno", "{way:?}: not reno");
    }
    let status = set_rto.status()?;
    ensure!(status.code == 0, "{status:?}");
    let out = |rule| Ok::<_, anyhow::Error>(status.rule(rule)?["left_out"].clone());
    ensure!(out("nonesuch")? == json!(["congestion \"nonesuch\""]), "{status:?}");
    ensure!(out("known")? == json!([]), "{status:?}");
    // A setting that is left out is never tried, so it is never refused.
    ensure!(refusals(&set_rto, "nonesuch", "congestion \"nonesuch\"")? == 0, "{status:?}");
    let plain = set_rto.ok(&["status"])?;
    ensure!(plain.stdout.contains("congestion \"nonesuch\": left out"), "{plain}");
    // The second run has nothing to do.
    set_rto.ok(&["install", "--partial"])?.says(&["already"])
}

fn partial_without_need_leaves_nothing_out() -> Result<()> {
    let set_rto = SetRto::of("samples")?;
    let output = set_rto.ok(&["install", "--partial"])?;
    ensure!(!output.stderr.contains("left out"), "{output}");
    for rule in set_rto.status()?.json["rules"].as_array().context("no rules")? {
        ensure!(rule["left_out"] == json!([]) && rule["refused"] == json!([]), "{rule}");
    }
    Ok(())
}

/// If probing is impossible, `check` reports that, and the kernel's later refusals are counted.
fn refused_at_run_time_is_counted() -> Result<()> {
    let set_rto = SetRto::of("unknown")?;
    let blind = set_rto.restricted(Restriction::NoConnect)?;
    let found = answers(&blind, 0)?;
    ensure!(found.iter().all(|one| one[3].is_null()), "answers without a connection: {found:?}");
    let plain = blind.ok(&["check"])?;
    ensure!(plain.stdout.matches("UNKNOWN").count() == 3, "{plain}");
    blind.ok(&["install"])?.says(&["could not be tried", "status"])?;
    let (lab, cable) = lab()?;
    let key = "congestion \"nonesuch\"";
    for (at, way) in BOTH.into_iter().enumerate() {
        let pair = Pair::open(&lab, &cable, way, 6000)?;
        ensure!(pair::number(&pair.here, PRIORITY)? == 4, "{way:?}: the rest is not set");
        // Both ends are in our cgroup.
        let count = refusals(&set_rto, "nonesuch", key)?;
        ensure!(count == 2 * (at as u64 + 1), "{way:?}: refused {count} times");
    }
    ensure!(refusals(&set_rto, "known", "congestion \"reno\"")? == 0, "reno is refused");
    let plain = set_rto.ok(&["status"])?;
    ensure!(plain.stdout.contains(&format!("{key}: refused by the kernel 4 times")), "{plain}");
    Ok(())
}

/// The cgroups below the test's own cgroup.
fn cgroups() -> Result<Vec<String>> {
    let entries = fs::read_dir(sandbox::cgroup()?)?.flatten();
    let directories = entries.filter(|entry| entry.path().is_dir());
    Ok(directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn probing_leaves_no_cgroup() -> Result<()> {
    let before = cgroups()?;
    let set_rto = SetRto::of("unknown")?;
    for arguments in [&["check"][..], &["install"], &["install", "--partial"], &["remove"]] {
        set_rto.run(arguments)?;
        let after = cgroups()?;
        ensure!(after == before, "after {arguments:?}: {after:?}");
    }
    ensure!(attached()?.is_empty(), "still attached: {:?}", attached()?);
    Ok(())
}

/// In a network namespace whose loopback device is down or was never up.
fn probing_works_without_loopback() -> Result<()> {
    let set_rto = SetRto::of("unknown")?;
    rtnetlink::set_down("lo")?;
    let found = answers(&set_rto, 2)?;
    ensure!(found == of_unknown(), "loopback is down: {found:?}");
    // This applies to the test's only thread and to the processes it starts.
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    let discard = ([127, 0, 0, 1], 9).into();
    ensure!(Connection::open(discard).is_err(), "loopback is up in a new namespace");
    let found = answers(&set_rto, 2)?;
    ensure!(found == of_unknown(), "loopback never was up: {found:?}");
    set_rto.ok(&["install", "--partial"])?;
    ensure!(Connection::open(discard).is_err(), "loopback was brought up, and stayed so");
    ensure!(cgroups()?.is_empty(), "cgroups are left: {:?}", cgroups()?);
    Ok(())
}

/// The probe program sees only its own connection and leaves the hook unchanged.
fn probing_keeps_to_itself() -> Result<()> {
    let cgroup = sandbox::cgroup()?;
    Neighbour::Answers(500).attach("neighbour", &cgroup)?;
    let before = bpf::attached(bpf::SOCK_OPS, &cgroup)?;
    let found = answers(&SetRto::of("unknown")?, 2)?;
    ensure!(found == of_unknown(), "beside another program: {found:?}");
    ensure!(bpf::attached(bpf::SOCK_OPS, &cgroup)? == before, "the hook was changed");
    Ok(())
}
