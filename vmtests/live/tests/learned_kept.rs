//! What becomes of learned timers when an install is killed, or when the pin is not ours; and the metrics, as a parser
//! of others reads them.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::ensure;
use openmetrics_parser::MetricNumber;
use openmetrics_parser::OpenMetricsValue;
use openmetrics_parser::openmetrics::parse_openmetrics;

use super::learned::FIXED;
use super::learned::LEARNS;
use super::learned::host;
use super::learned::network;
use super::learned::of_rule;
use super::state::PIN;
use super::state::Snapshot;
use crate::harness::bpf;
use crate::harness::setrto::SetRto;
use crate::harness::tests;
use crate::harness::trace::End;
use crate::harness::trace::Verdict;
use crate::harness::trace::follow;

tests! {
    learned_survives_a_killed_install: 120,
    learned_map_of_a_stranger_stays: 60,
    metrics_as_others_read_them: 60,
}

/// How many of the calls of an install are tried.
const KILLS: usize = 24;

/// The samples of the host that was seen last.
fn samples(set_rto: &SetRto) -> Result<Option<u64>> {
    let status = set_rto.run(&["status", "learns", "--json", "--hosts", "1"])?.json()?;
    let mut rules = status["rules"].as_array().context("no rules")?.iter();
    let rule = rules.find(|it| it["name"] == "learns").context("no rule")?;
    Ok(rule["learned"]["latest"][0]["samples"].as_u64())
}

/// An install of other rules, which have room for more hosts, is killed between any two calls. The rules that are
/// then in effect still know what was learned, and so do those of the next install.
fn learned_survives_a_killed_install() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    let more = SetRto::of("learn-more")?;
    for _ in 0..3 {
        peer.connect(host(1, LEARNS), Duration::from_millis(30))?;
    }
    let mut calls = 0;
    follow(more.command(&["install"]), |_| {
        calls += 1;
        Verdict::Go
    })?;
    ensure!(samples(&more)? == Some(3), "lost by an install that nobody kills");
    set_rto.ok(&["install"])?;
    let mut replaced = 0;
    for kill in (0..KILLS).map(|part| 1 + part * calls / KILLS) {
        let mut at = 0;
        let run = follow(more.command(&["install"]), |_| {
            at += 1;
            if at == kill { Verdict::Kill } else { Verdict::Go }
        })?;
        ensure!(matches!(run.end, End::Killed(_)), "not killed at {kill} of {calls}: {run:?}");
        let in_effect = if more.status()?.code == 0 { &more } else { &set_rto };
        replaced += usize::from(in_effect.status()?.json == more.status()?.json);
        let known = samples(in_effect)?;
        ensure!(known == Some(3), "{known:?} samples after a kill at {kill} of {calls}");
        set_rto.ok(&["install"])?;
        let known = samples(&set_rto)?;
        ensure!(known == Some(3), "{known:?} samples after the next install, {kill} of {calls}");
    }
    ensure!((1..KILLS).contains(&replaced), "{replaced} of {KILLS} were replaced when killed");
    Ok(())
}

/// The pin of the map.
fn pin() -> Result<PathBuf> {
    let mut names = fs::read_dir(PIN)?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("learned1-"))
    };
    names.find(is_it).context("no map of hosts is pinned")
}

/// A map of others in the place of ours is refused, neither used nor overwritten.
fn learned_map_of_a_stranger_stays() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    let more = SetRto::of("learn-more")?;
    peer.connect(host(1, LEARNS), Duration::from_millis(30))?;
    let ours = pin()?;
    let aside = Path::new("/sys/fs/bpf/aside");
    bpf::pin(&bpf::open_pin(&ours)?, aside)?;
    fs::remove_file(&ours)?;
    bpf::pin(&bpf::map()?, &ours)?;
    let before = Snapshot::take()?;
    for arguments in
        [&["install"][..], &["install", "--forget"], &["install", "--partial"], &["remove"]]
    {
        for binary in [&set_rto, &more] {
            let run = binary.run(arguments)?;
            run.refuses(2, &["learned1"]).with_context(|| format!("{arguments:?}"))?;
            before.still().with_context(|| format!("{arguments:?}: {run}"))?;
        }
    }
    let status = set_rto.status()?;
    ensure!(status.code == 4, "`status`: {status:?}");
    // With the right one back, all is as before.
    fs::remove_file(&ours)?;
    bpf::pin(&bpf::open_pin(aside)?, &ours)?;
    fs::remove_file(aside)?;
    more.ok(&["install"])?;
    ensure!(samples(&more)? == Some(1), "{:?}", more.status()?);
    Ok(())
}

/// The metrics are OpenMetrics: types, units, cumulative buckets, the end. The numbers are those of `--json`.
fn metrics_as_others_read_them() -> Result<()> {
    let (set_rto, _lab, _cable, peer) = network("learn")?;
    for delay in [1, 3, 20, 45] {
        peer.connect(host(1, FIXED), Duration::from_millis(delay))?;
        peer.connect(host(2, LEARNS), Duration::from_millis(delay))?;
    }
    let text = set_rto.ok(&["status", "--metrics"])?.stdout;
    // This parser takes no unit of a histogram. The specification forbids one only of info and of sets of states.
    const UNIT: &str = "# UNIT set_rto_handshake_seconds seconds\n";
    ensure!(text.contains(UNIT), "{text}");
    let text = text.replace(UNIT, "");
    let read = parse_openmetrics(&text).map_err(|error| anyhow!("{error}\n{text}"))?;
    let value = |family: &str, (rule, direction): (&str, Option<&str>)| {
        let family = read.families.get(family).with_context(|| format!("no {family}\n{text}"))?;
        let mut samples = family.iter_samples().filter(|sample| {
            sample.get_labelset().is_ok_and(|labels| {
                let has = |name, wanted| labels.get_label_value(name) == wanted;
                has("rule", Some(rule)) && has("direction", direction)
            })
        });
        let sample = samples.next().with_context(|| format!("no {rule} {direction:?}\n{text}"))?;
        anyhow::Ok(sample.value.clone())
    };
    let evidence = of_rule(&set_rto, "fixed", "evidence")?["outgoing"].clone();
    let of = ("fixed", Some("outgoing"));
    for (family, name) in [
        ("set_rto_connections", "connections"),
        ("set_rto_answered", "answered"),
        ("set_rto_answered_after_retransmission", "answered_after_retransmission"),
        ("set_rto_retransmissions", "retransmissions"),
        ("set_rto_late_answers", "late"),
        ("set_rto_gave_up", "gave_up"),
    ] {
        let OpenMetricsValue::Counter(counter) = value(family, of)? else {
            anyhow::bail!("{family} is no counter:\n{text}");
        };
        ensure!(counter.value.as_i64() == evidence[name].as_i64(), "{family}: {evidence}\n{text}");
    }
    let OpenMetricsValue::Histogram(trips) = value("set_rto_handshake_seconds", of)? else {
        anyhow::bail!("the round trips are no histogram:\n{text}");
    };
    let (last, sum) = (trips.buckets.last().context("no buckets")?, trips.sum.context("no sum")?);
    ensure!(last.upper_bound.is_infinite() && last.count.as_i64() == Some(4), "{trips:?}");
    ensure!(trips.count == Some(4) && (0.06..1.0).contains(&sum.as_f64()), "{trips:?}");
    let family = &read.families["set_rto_handshake_seconds"];
    ensure!(!family.help.is_empty(), "{text}");
    let unit = &read.families["set_rto_timer_seconds"].unit;
    ensure!(unit == "seconds", "{unit}\n{text}");
    let OpenMetricsValue::Gauge(hosts) = value("set_rto_learned_hosts", ("learns", None))? else {
        anyhow::bail!("the hosts are no gauge:\n{text}");
    };
    ensure!(hosts == MetricNumber::Int(1), "{hosts:?} hosts\n{text}");
    Ok(())
}
