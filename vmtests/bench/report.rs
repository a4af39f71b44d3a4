//! Formats the results in Markdown and in JSON.

use crate::cargo::Builds;
use crate::row::Measure;
use crate::row::Row;
use crate::targets::Target;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write as _;

/// All results of a run.
pub(crate) struct Results {
    pub(crate) machine: Vec<(&'static str, String)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) installs: Vec<Value>,
    pub(crate) builds: Builds,
    pub(crate) targets: Vec<Target>,
}

const COLUMNS: [(&str, Measure); 15] = [
    ("generator ms", Measure::Generator),
    ("clang ms", Measure::Clang),
    ("object bytes", Measure::Bytes),
    ("load ms", Measure::Load),
    ("verified", Measure::Verified),
    ("translated", Measure::Translated),
    ("executed, median", Measure::StepsMedian),
    ("worst", Measure::StepsWorst),
    ("ns per callback", Measure::Callback),
    ("callbacks per connection", Measure::Callbacks),
    ("ns per connection more than empty", Measure::Extra),
    ("of connect()", Measure::Share),
    ("connect() µs", Measure::Connect),
    ("against empty", Measure::Ratio),
    ("kernel KiB", Measure::Memory),
];

pub(crate) fn markdown(results: &Results) -> String {
    let mut out = String::from("# Measured by `cargo xtask bench`\n\n");
    for (name, value) in &results.machine {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "- {name}: {value}");
    }
    out.push_str("\n## Rule sets\n\n| rules | program |");
    let mut line = String::from("|---|---|");
    for (title, _) in COLUMNS {
        let _ = write!(out, " {title} |");
        line.push_str("---:|");
    }
    let _ = writeln!(out, " |\n{line}---|");
    let mut before = "";
    for row in &results.rows {
        let set = if row.set == before { "" } else { &row.set };
        before = &row.set;
        let _ = write!(out, "| {set} | {} |", row.program.name());
        for (_, measure) in COLUMNS {
            let _ = write!(out, " {} |", cell(row, measure));
        }
        let note = row.note.as_deref().unwrap_or_default().replace('|', "/");
        let _ = writeln!(out, " {note} |");
    }
    out.push_str(NOTES);
    out.push_str("\n## Install\n\n| policy | set-rto ms | bpftool ms | ratio | pairs |\n|---|---:|---:|---:|---:|\n");
    for install in &results.installs {
        let number =
            |key: &str| install[key].as_f64().map_or("–".into(), |it| format!("{it:.2}"));
        let name = install["install"].as_str().unwrap_or_default();
        let (ours, theirs, ratio) = (number("set_rto_ms"), number("bpftool_ms"), number("ratio"));
        let _ = writeln!(out, "| {name} | {ours} | {theirs} | {ratio} | {} |", install["pairs"]);
    }
    out.push_str(
        "\n## Build after the first\n\n| policy | s | bytes of the binary |\n|---|---:|---:|\n",
    );
    for (name, seconds, bytes) in &results.builds.built {
        let _ = writeln!(out, "| {name} | {seconds:.1} | {bytes} |");
    }
    out.push_str("\n## Target and measured\n\n| what | target | measured | |\n|---|---|---|---|\n");
    for Target { what, target, measured, reached } in &results.targets {
        let verdict = verdict(*reached);
        let _ = writeln!(out, "| {what} | {target} | {measured} | {verdict} |");
    }
    out
}

const NOTES: &str = "\n\
    Executed: instructions of the object, counted in an interpreter over connections at the edges of the rules; +n: \
    calls of helpers, whose own instructions are not counted. ns: the kernel's statistics (their own cost of tens of \
    ns included), per callback of any kind; more than empty: both ends, all callbacks, without what the empty program takes and the statistics \
    cost, and as a part of what connect() takes with that. connect(): median on loopback; against empty: median of the ratios \
    of the same connections in interleaved blocks, with bounds of 99 % confidence; that of the empty program against itself shows what is noise. Load: open and load by libbpf, filling of the map included.\n";

/// Empty if unknown.
pub(crate) fn verdict(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "",
    }
}

fn cell(row: &Row, measure: Measure) -> String {
    let Some(value) = row.get(measure) else { return "–".into() };
    match measure {
        Measure::Callbacks => format!("{value:.1}"),
        Measure::Generator
        | Measure::Clang
        | Measure::Load
        | Measure::Connect
        | Measure::Extra
        | Measure::Callback => match value {
            100.0.. => format!("{value:.0}"),
            10.0.. => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        },
        Measure::Ratio => match row.get(Measure::RatioLow).zip(row.get(Measure::RatioHigh)) {
            Some((low, high)) => format!("{value:.3} ({low:.3}–{high:.3})"),
            None => format!("{value:.3}"),
        },
        Measure::Share => {
            let most = row.get(Measure::ShareMost).unwrap_or(value);
            format!("{:.2} % (at most {:.2} %)", value * 100.0, most * 100.0)
        }
        Measure::Memory => format!("{:.0}", value / 1_024.0),
        Measure::StepsMedian | Measure::StepsWorst => match row.get(Measure::Calls) {
            Some(calls) if calls > 0.0 => format!("{value} +{calls}"),
            _ => format!("{value}"),
        },
        _ => format!("{value}"),
    }
}

pub(crate) fn json(results: &Results) -> Value {
    let builds = results.builds.built.iter().map(|(name, seconds, bytes)| {
        json!({ "policy": name, "seconds": seconds, "binary_bytes": bytes })
    });
    let targets = results.targets.iter().map(|it| {
        json!({ "what": it.what, "target": it.target, "measured": it.measured, "reached": it.reached })
    });
    let machine = results.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    json!({
        "machine": machine.collect::<serde_json::Map<_, _>>(),
        "rows": results.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        "install": results.installs,
        "builds": builds.collect::<Vec<_>>(),
        "targets": targets.collect::<Vec<_>>(),
    })
}
