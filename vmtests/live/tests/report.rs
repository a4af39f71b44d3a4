//! The output of status, rules, check, try and --version.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use crate::harness::bpf;
use crate::harness::clock::Hz;
use crate::harness::lab::Lab;
use crate::harness::netns::has_ipv6;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::tests;

tests! {
    status_of_nothing: 60,
    status_of_an_install: 60,
    status_of_other_rules: 60,
    status_for_people: 60,
    rules_are_those_of_the_file: 60,
    check_of_a_good_kernel: 60,
    try_prints_the_timer: 60,
    version_and_help: 60,
}

/// The keys of every status.
const KEYS: [&str; 12] = [
    "cgroup",
    "current",
    "digest",
    "hz",
    "installed",
    "interface_method",
    "link_id",
    "neighbours",
    "pin",
    "program_id",
    "rules",
    "version",
];

fn has_all_keys(json: &Value) -> Result<()> {
    for key in KEYS {
        ensure!(json.get(key).is_some(), "no `{key}` in {json}");
    }
    Ok(())
}

fn status_of_nothing() -> Result<()> {
    let status = SetRto::of("a")?.status()?;
    ensure!(status.code == 3, "expected exit code 3: {status:?}");
    has_all_keys(&status.json)?;
    ensure!(status.json["installed"] == false && status.json["current"] == false, "{status:?}");
    for key in ["cgroup", "digest", "hz", "interface_method", "link_id", "program_id"] {
        ensure!(status.json[key].is_null(), "{key} of nothing: {status:?}");
    }
    for key in ["rules", "neighbours"] {
        ensure!(status.json[key].as_array().is_some_and(Vec::is_empty), "{key}: {status:?}");
    }
    Ok(())
}

fn status_of_an_install() -> Result<()> {
    let default = SetRto::of("default")?;
    let (_lab, cable) = Lab::with_cable()?;
    let cgroup = sandbox::cgroup()?;
    let hz = Hz::of_this_kernel()?;
    default.ok(&["install"])?;
    for _ in 0..3 {
        Connection::open(cable.remote4(12345))?;
        Connection::open(cable.remote4(12346))?;
    }
    let status = default.status()?;
    ensure!(status.code == 0, "expected exit code 0: {status:?}");
    has_all_keys(&status.json)?;
    let said = default.ok(&["rules", "--json"])?.json()?;
    let rule = said["rules"][0]["name"].as_str().context("no rule in the default rules")?;
    let expected = [
        ("installed", Value::from(true)),
        ("current", Value::from(true)),
        ("cgroup", Value::from(cgroup.to_str().context("no text")?)),
        ("pin", Value::from("/sys/fs/bpf/set-rto")),
        ("hz", Value::from(hz.get())),
        ("version", said["version"].clone()),
        ("digest", said["digest"].clone()),
        ("program_id", Value::from(bpf::attached(bpf::SOCK_OPS, &cgroup)?)[0].clone()),
        ("interface_method", Value::Null),
    ];
    for (key, value) in expected {
        ensure!(status.json[key] == value, "{key} is not {value}: {status:?}");
    }
    ensure!(status.json["link_id"].as_u64().is_some_and(|id| id > 0), "link_id: {status:?}");
    ensure!(status.rto(rule)? == Duration::from_secs(20), "rto_ms: {status:?}");
    ensure!(status.rule(rule)?["rto_jiffies"] == 20 * hz.get(), "rto_jiffies: {status:?}");
    ensure!(status.hits(rule)? == 3, "hits: {status:?}");
    Ok(())
}

/// A policy installed by the executable of other rules is neither "installed" nor "not installed".
fn status_of_other_rules() -> Result<()> {
    let (a, b) = (SetRto::of("a")?, SetRto::of("b")?);
    a.ok(&["install"])?;
    let own = a.status()?;
    let status = b.status()?;
    ensure!(status.code == 4, "expected exit code 4: {status:?}");
    has_all_keys(&status.json)?;
    ensure!(status.installed()? && status.json["current"] == false, "{status:?}");
    for key in ["digest", "program_id", "link_id", "cgroup"] {
        ensure!(status.json[key] == own.json[key], "{key} is not that of a: {status:?}");
    }
    b.run(&["status"])?.exits(4)?;
    b.ok(&["install"])?;
    ensure!(b.status()?.code == 0 && a.status()?.code == 4, "not b's by now: {:?}", a.status()?);
    Ok(())
}

/// The same without JSON: exit codes, and the facts in plain text.
fn status_for_people() -> Result<()> {
    let default = SetRto::of("default")?;
    let none = default.run(&["status"])?;
    none.exits(3)?;
    ensure!(none.stdout.contains("not installed"), "{none}");
    let done = default.ok(&["install"])?;
    let cgroup = sandbox::cgroup()?.display().to_string();
    ensure!(done.stdout.contains(&cgroup), "install does not say where: {done}");
    let status = default.ok(&["status", "--all"])?;
    for word in [cgroup.as_str(), "/sys/fs/bpf/set-rto", "timer", "slow", "20s"] {
        ensure!(status.stdout.contains(word), "no `{word}` in {status}");
    }
    ensure!(!status.stdout.contains('\u{1b}'), "colours in {status}");
    Ok(())
}

fn rules_are_those_of_the_file() -> Result<()> {
    let files = [
        ("a", include_str!("../rules/a.toml")),
        ("order", include_str!("../rules/order.toml")),
        ("conditions", include_str!("../rules/conditions.toml")),
        ("interfaces", include_str!("../rules/interfaces.toml")),
        ("wire", include_str!("../rules/wire.toml")),
    ];
    let mut digests = Vec::new();
    for (name, text) in files {
        let set_rto = SetRto::of(name)?;
        let said = set_rto.ok(&["rules", "--json"])?.json()?;
        let digest = said["digest"].as_str().context("no digest")?;
        let hex = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(hex && !digests.contains(&digest.to_owned()), "digest of {name}: {digest}");
        digests.push(digest.to_owned());
        let rules = said["rules"].as_array().context("no rules")?;
        // A rule starts at the line of its table header.
        let mut expected = Vec::new();
        let mut begin = 0;
        for (line, content) in text.lines().enumerate() {
            if content == "[[rule]]" {
                begin = line + 1;
            }
            if let Some(name) = content.strip_prefix("name = ") {
                expected.push((name.trim_matches('"'), begin));
            }
        }
        let found: Vec<(&str, usize)> = rules
            .iter()
            .map(|rule| {
                let line = rule["line"].as_u64().unwrap_or_default() as usize;
                (rule["name"].as_str().unwrap_or_default(), line)
            })
            .collect();
        ensure!(found == expected, "{name}: rules {found:?}, expected {expected:?}");
        let plain = set_rto.ok(&["rules"])?;
        for (rule, _) in expected {
            ensure!(plain.stdout.contains(rule), "no {rule} in {plain}");
        }
    }
    Ok(())
}

fn check_of_a_good_kernel() -> Result<()> {
    let a = SetRto::of("a")?;
    let report = a.ok(&["check", "--json"])?.json()?;
    ensure!(report["ok"] == true, "{report}");
    let checks = report["checks"].as_array().context("no checks")?;
    for check in checks {
        let name = check["name"].as_str().context("a check without name")?;
        let detail = check["detail"].as_str().context("a check without detail")?;
        ensure!(check["ok"] == true && !name.is_empty() && !detail.is_empty(), "{check}");
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = checks.iter().find(|check| check["name"] == "kernel").context("no kernel")?;
    ensure!(kernel["detail"].as_str().is_some_and(|text| text.contains(release.trim())));
    a.ok(&["check"])?;
    let attached = bpf::attached(bpf::SOCK_OPS, &sandbox::cgroup()?)?;
    ensure!(attached.is_empty(), "`check` attached {attached:?}");
    Ok(())
}

/// The timer of a connection that is answered, refused or left without an answer.
fn try_prints_the_timer() -> Result<()> {
    let default = SetRto::of("default")?;
    let (_lab, cable) = Lab::with_cable()?;
    let hz = Hz::of_this_kernel()?.get();
    let second = format!("first retransmit timer 1 s ({hz} jiffies at HZ {hz})");
    let twenty = format!("first retransmit timer 20 s ({} jiffies at HZ {hz})", 20 * hz);
    let before = default.try_to(cable.remote4(12345))?;
    ensure!(before.contains(&second), "`{before}`, expected `{second}`");
    default.ok(&["install"])?;
    let local = |text: &str| text.parse().context("an address");
    let mut ends = vec![cable.remote4(12345), local("127.0.0.1:12345")?];
    if has_ipv6() {
        ends.extend([cable.remote6(12345), local("[::1]:12345")?]);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:12345")?;
    for end in &ends {
        let said = default.try_to(*end)?;
        ensure!(said.contains(&twenty), "`{said}` for {end}, expected `{twenty}`");
    }
    drop(listener);
    let said = default.try_to(local("127.0.0.1:12345")?)?;
    ensure!(said.contains(&twenty), "`{said}` where nobody listens, expected `{twenty}`");
    let said = default.try_to(cable.remote4(12346))?;
    ensure!(said.contains(&second), "`{said}` without a rule, expected `{second}`");
    Ok(())
}

fn version_and_help() -> Result<()> {
    let a = SetRto::of("a")?;
    let digest = a.ok(&["rules", "--json"])?.json()?["digest"].clone();
    let version = a.ok(&["--version"])?.stdout;
    let digest = digest.as_str().context("no digest")?;
    let words = ["set-rto ", &digest[..12], "libbpf "];
    for word in words {
        ensure!(version.contains(word), "no `{word}` in `{version}`");
    }
    for arguments in [&["--help"][..], &["install", "--help"], &["try", "--help"]] {
        let help = a.ok(arguments)?;
        ensure!(help.stderr.is_empty() && help.stdout.contains("Usage"), "{help}");
    }
    Ok(())
}
