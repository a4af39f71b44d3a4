//! The target figures, and whether they were reached.

use crate::cargo::Builds;
use crate::row::Measure;
use crate::row::Program;
use crate::row::Row;
use crate::sets::Shape;
use crate::sets::named;
use serde_json::Value;

/// A target figure.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) target: String,
    pub(crate) measured: String,
    /// `None` if it was not measured, or not precisely enough.
    pub(crate) reached: Option<bool>,
}

/// All target figures of the design, compared with the measurements.
pub(crate) fn all(rows: &[Row], installs: &[Value], builds: &Builds) -> Vec<Target> {
    let mut list = vec![instructions(rows), idle(rows)];
    list.extend(decisions(rows));
    list.extend(growth(rows));
    list.push(connections(rows, Program::Ours, "worst of all sets", 2.0));
    list.push(connections(rows, Program::Evidence, "with evidence", 2.0));
    list.push(connections(rows, Program::Learned, "with a learned timer", 3.0));
    list.push(an_end(rows, Program::Evidence, "evidence", 40.0));
    list.push(an_end(rows, Program::Learned, "evidence and a learned timer, known host", 100.0));
    list.push(shares(rows));
    list.extend(installs.iter().flat_map(install));
    list.push(install_learned(installs));
    list.push(build(builds));
    list.push(refused(rows));
    list.push(correct(rows));
    list
}

fn target(what: &str, target: &str, measured: Option<(String, bool)>) -> Target {
    let reached = measured.as_ref().map(|it| it.1);
    let measured = measured.map_or_else(|| "not measured".into(), |it| it.0);
    Target { what: what.into(), target: target.into(), measured, reached }
}

fn find(rows: &[Row], shape: Shape, size: usize, program: Program) -> Option<&Row> {
    rows.iter().find(|row| row.program == program && named(&row.set) == Some((shape, size)))
}

fn instructions(rows: &[Row]) -> Target {
    let translated = |program| find(rows, Shape::Ports, 1, program)?.get(Measure::Translated);
    let measured = translated(Program::Ours).zip(translated(Program::Hand));
    target(
        "translated instructions, one port rule",
        "no more than hand-written",
        measured.map(|(ours, hand)| (format!("{ours} / {hand}"), ours <= hand)),
    )
}

fn idle(rows: &[Row]) -> Target {
    let ours = rows.iter().filter(|row| row.program == Program::Ours);
    let worst = ours.filter_map(|row| row.get(Measure::Idle)).max_by(f64::total_cmp);
    target(
        "instructions executed by a callback that no rule needs, worst of all sets",
        "at most 4",
        worst.map(|worst| (format!("{worst}"), worst <= 4.0)),
    )
}

fn decisions(rows: &[Row]) -> Vec<Target> {
    let list = |is_v4| Shape::List { is_v4 };
    let limits =
        [(Shape::Ports, 10_000, 40.0), (list(true), 100_000, 80.0), (list(false), 100_000, 80.0)];
    let one = |(shape, size, limit): (Shape, usize, f64)| {
        let worst = find(rows, shape, size, Program::Ours)
            .and_then(|row| row.get(Measure::StepsWorst).zip(row.get(Measure::StepsMedian)));
        target(
            &format!("instructions executed per decision, {} ({size})", shape.family()),
            &format!("at most {limit}"),
            worst.map(|(worst, median)| (format!("{worst} (median {median})"), worst <= limit)),
        )
    };
    limits.into_iter().map(one).collect()
}

/// Compares the smallest set with more than one item to the largest of a family: growth must be at most logarithmic.
fn growth(rows: &[Row]) -> Vec<Target> {
    let mut families: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for row in rows.iter().filter(|row| row.program == Program::Ours) {
        let Some((shape, size)) = named(&row.set).filter(|it| it.1 > 1) else { continue };
        let Some(worst) = row.get(Measure::StepsWorst) else { continue };
        let family = shape.family();
        match families.iter_mut().find(|it| it.0 == family) {
            Some((_, points)) => points.push((size as f64, worst)),
            None => families.push((family, vec![(size as f64, worst)])),
        }
    }
    let one = |(family, points): &(&str, Vec<(f64, f64)>)| {
        let (first, last) = (points.first()?, points.last()?);
        let allowed = last.0.ln() / first.0.ln();
        let grown = last.1 / first.1;
        let steps: Vec<_> = points.iter().map(|(size, worst)| format!("{size}: {worst}")).collect();
        (points.len() > 1).then(|| {
            target(
                &format!("growth of the worst decision, {family}"),
                &format!("at most × {allowed:.2} (logarithmic)"),
                Some((format!("× {grown:.2} ({})", steps.join(", ")), grown <= allowed)),
            )
        })
    };
    families.iter().filter_map(one).collect()
}

/// Reached if the upper bound is within the target, missed if the lower bound is not. Otherwise the run was too noisy.
fn connections(rows: &[Row], program: Program, which: &str, most_percent: f64) -> Target {
    let limit = 1.0 + most_percent / 100.0;
    let ours = rows.iter().filter(|row| row.program == program);
    let bounds = ours.filter_map(|row| {
        let (low, high) = (row.get(Measure::RatioLow)?, row.get(Measure::RatioHigh)?);
        Some((row.get(Measure::Ratio)?, low, high, &row.set))
    });
    let worst = bounds.max_by(|one, other| one.2.total_cmp(&other.2));
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let mut all = target(
        &format!("connection set-up on loopback, against the empty program, {which}"),
        &format!("within {most_percent} %"),
        worst.map(|(ratio, low, high, set)| {
            let (ratio, from, to) = (percent(ratio), percent(low), percent(high));
            (format!("{ratio:+.1} % ({from:+.1} to {to:+.1}; {set})"), high <= limit)
        }),
    );
    let is_open = |it: (f64, f64, f64, &String)| it.1 <= limit && it.2 > limit;
    if worst.is_some_and(is_open) {
        all.reached = None;
        all.measured.push_str(": not decided, too noisy");
    }
    all
}

/// The program's own share of a connection's time. It can be certain on a machine that is too noisy for the previous
/// figure. Reached if the upper bound is within the target, missed if the median is not.
fn shares(rows: &[Row]) -> Target {
    const LIMIT: f64 = 2.0;
    let ours = rows.iter().filter(|row| row.program == Program::Ours);
    let bounds = ours.filter_map(|row| {
        let (share, most) = (row.get(Measure::Share)?, row.get(Measure::ShareMost)?);
        Some((share * 100.0, most * 100.0, &row.set))
    });
    let worst = bounds.max_by(|one, other| one.1.total_cmp(&other.1));
    let mut all = target(
        "the program's own time (kernel's statistics, less the empty program's) in that of connect(), worst of all sets",
        "within 2 %",
        worst.map(|(share, most, set)| {
            (format!("{share:.2} % (at most {most:.2}; {set})"), most <= LIMIT)
        }),
    );
    if worst.is_some_and(|(share, most, _)| share <= LIMIT && most > LIMIT) {
        all.reached = None;
        all.measured.push_str(": not decided, too noisy");
    }
    all
}

/// By the kernel's statistics, of one end of a connection: half of what both take more than with the program that only
/// decides.
fn an_end(rows: &[Row], program: Program, what: &str, most: f64) -> Target {
    let extra = |program| find(rows, Shape::Ports, 1, program)?.get(Measure::Extra);
    let measured = extra(program).zip(extra(Program::Ours));
    target(
        &format!("ns an end for {what}, beside the same rule without"),
        &format!("about {most}"),
        measured.map(|(with, without)| {
            let ns = (with - without) / 2.0;
            (format!("{ns:.0}"), ns <= most)
        }),
    )
}

fn install_learned(installs: &[Value]) -> Target {
    const MOST: f64 = 1.2;
    let took = |name| {
        let mut all = installs.iter();
        all.find(|it| it["install"] == name).and_then(|it| it["set_rto_ms"].as_f64())
    };
    target(
        "install of a learned rule, against one without evidence",
        "at most × 1.2",
        took("1 learned rule").zip(took("1 rule")).map(|(with, without)| {
            let ratio = with / without;
            (format!("{with:.1} / {without:.1} ms, × {ratio:.2}"), ratio <= MOST)
        }),
    )
}

fn install(value: &Value) -> Vec<Target> {
    let name = value["install"].as_str().unwrap_or_default();
    let (ours, theirs) = (value["set_rto_ms"].as_f64(), value["bpftool_ms"].as_f64());
    let mut list = vec![target(
        &format!("install, {name}, against bpftool"),
        "no slower",
        ours.zip(theirs).zip(value["ratio"].as_f64()).map(|((ours, theirs), ratio)| {
            (format!("{ours:.1} / {theirs:.1} ms, × {ratio:.2}"), ratio <= 1.0)
        }),
    )];
    if name == "10,000 rules" {
        let measured = ours.map(|ours| (format!("{ours:.1} ms"), ours < 20.0));
        list.push(target("install, 10,000 rules", "under 20 ms", measured));
    }
    let none = ours.map(|_| ("none".to_owned(), true));
    list.push(target(&format!("processes left after install, {name}"), "none", none));
    list
}

fn build(builds: &Builds) -> Target {
    let found = builds.built.iter().find(|it| it.0 == "10,000 rules");
    target(
        "build of 10,000 rules after the first build",
        "under 3 s",
        found.map(|(_, seconds, _)| (format!("{seconds:.1} s"), *seconds < 3.0)),
    )
}

/// Not a target of the design: a program that cannot be loaded has no figures.
fn refused(rows: &[Row]) -> Target {
    let ours = rows.iter().filter(|row| row.program == Program::Ours && row.note.is_some());
    let list: Vec<_> = ours.map(|row| row.set.as_str()).collect();
    let text = if list.is_empty() { "none".into() } else { list.join(", ") };
    target("sets whose program is refused or not right", "none", Some((text, list.is_empty())))
}

/// Not a target of the design, but a precondition of all measurements.
fn correct(rows: &[Row]) -> Target {
    let is_wrong = |row: &&Row| row.note.as_ref().is_some_and(|note| note.starts_with("WRONG"));
    let wrong: Vec<_> = rows
        .iter()
        .filter(is_wrong)
        .map(|row| format!("{} of {}", row.program.name(), row.set))
        .collect();
    let text = if wrong.is_empty() { "all of them".into() } else { wrong.join(", ") };
    target(
        "decisions are the rules', all programs, on the sampled connections",
        "all",
        Some((text, wrong.is_empty())),
    )
}
