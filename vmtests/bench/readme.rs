//! The figures that `vmtests/bench/README.md` shows: the compiler's program for all sets, and its rivals for the
//! largest set of each kind.

use crate::report::Results;
use crate::report::verdict;
use crate::row::Measure;
use crate::row::Program;
use crate::row::Row;
use crate::sets::chosen;
use crate::sets::grouped;
use crate::sets::named;
use std::fmt::Write as _;

const COLUMNS: &[&str] = &[
    "C ms",
    "clang ms",
    "KiB",
    "load ms",
    "verified",
    "translated",
    "median",
    "worst",
    "ns",
    "share",
    "connect()",
];

pub(crate) fn markdown(results: &Results) -> String {
    let mut out = String::new();
    let of = |wanted: &str| results.machine.iter().find(|it| it.0 == wanted).map(|it| &*it.1);
    let machine: Vec<_> = ["kernel", "processor", "clang"].into_iter().filter_map(of).collect();
    // Writing to a string cannot fail.
    let took = of("run").unwrap_or_default();
    let _ = writeln!(out, "`cargo xtask bench --readme`, {took}: {}.\n", machine.join("; "));
    let _ = writeln!(out, "| rules | program | {} |", COLUMNS.join(" | "));
    let _ = writeln!(out, "|---|---|{}", "--:|".repeat(COLUMNS.len()));
    let mut before = "";
    for row in results.rows.iter().filter(|row| is_shown(row)) {
        let set = if row.set == before { "" } else { &row.set };
        before = &row.set;
        let _ = writeln!(out, "| {set} | {} | {} |", row.program.name(), cells(row));
    }
    out.push_str(NOTES);
    out.push_str("\n| figure | target | measured | |\n|---|---|---|---|\n");
    for it in &results.targets {
        // Sizes in between are in the table.
        let is_growth = it.what.starts_with("growth");
        let end = it.measured.find(" (").filter(|_| is_growth).unwrap_or(it.measured.len());
        let (measured, verdict) = (&it.measured[..end], verdict(it.reached));
        let _ = writeln!(out, "| {} | {} | {measured} | {verdict} |", it.what, it.target);
    }
    out
}

const NOTES: &str = "
The columns:

- C ms: the rule compiler's time. clang ms: clang's time. KiB: the size of the object.
- load ms: the time to load it by libbpf, which includes filling the map.
- verified: instructions that the verifier examined. translated: instructions of the loaded program.
- median, worst: instructions executed per decision, counted in an interpreter.
- ns: time per connection (both ends, all callbacks) by the kernel's statistics, less that of the empty program.
- share: that time as a part of connect()'s.
- connect(): its time on loopback against the empty program, with a confidence of 99 %.

A row that could not be measured shows the reason in its last column.
";

/// Every program for the set of one rule. For the largest set of each kind, the realistic alternatives. For all others,
/// the compiler's program only.
fn is_shown(row: &Row) -> bool {
    let Some((shape, size)) = named(&row.set) else { return false };
    let sizes: Vec<_> =
        chosen(false).into_iter().filter(|it| it.0 == shape).map(|it| it.1).collect();
    match row.program {
        _ if size == 1 => true,
        Program::Nothing | Program::Empty | Program::Hand => false,
        Program::Chain | Program::Map => sizes.last() == Some(&size),
        Program::Ours | Program::Evidence | Program::Learned => true,
    }
}

/// The reason why a set could not be measured takes the place of its figures.
fn cells(row: &Row) -> String {
    let number = |measure, scale: f64, digits: usize| {
        row.get(measure).map_or("–".into(), |value| format!("{:.digits$}", value / scale))
    };
    let count = |measure| row.get(measure).map_or("–".into(), |it| grouped(it as usize));
    let time = |measure| {
        let digits = usize::from(row.get(measure).is_some_and(|it| it < 100.0));
        number(measure, 1.0, digits)
    };
    let share = row.get(Measure::Share).map(|share| format!("{:.2} %", share * 100.0));
    let bounds = row.get(Measure::RatioLow).zip(row.get(Measure::RatioHigh));
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let connect =
        bounds.map(|(low, high)| format!("{:+.1} to {:+.1} %", percent(low), percent(high)));
    let mut cells = vec![
        time(Measure::Generator),
        time(Measure::Clang),
        number(Measure::Bytes, 1_024.0, 0),
        time(Measure::Load),
        count(Measure::Verified),
        count(Measure::Translated),
        count(Measure::StepsMedian),
        count(Measure::StepsWorst),
        number(Measure::Extra, 1.0, 0),
        share.unwrap_or_else(|| "–".into()),
        connect.unwrap_or_else(|| "–".into()),
    ];
    if let (Some(note), Some(last)) = (&row.note, cells.last_mut()) {
        *last = note.replace('|', "/").chars().take(40).collect();
    }
    cells.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_as_many_cells() {
        let mut row = Row::new("1 port rule", Program::Ours);
        assert_eq!(cells(&row).matches(" | ").count() + 1, COLUMNS.len());
        assert!(!cells(&row).contains(|c: char| c.is_ascii_digit()), "nothing was measured");
        row.put(Measure::Verified, 458_120.0);
        row.put(Measure::Extra, 123.0);
        row.put(Measure::Share, 0.0051);
        row.put(Measure::RatioLow, 0.995);
        row.put(Measure::RatioHigh, 1.012);
        let text = cells(&row);
        assert!(text.contains("| 458,120 |"), "{text}");
        assert!(text.ends_with("| 123 | 0.51 % | -0.5 to +1.2 %"), "{text}");
        row.note = Some("refused | why".into());
        assert!(cells(&row).ends_with("| refused / why"), "{}", cells(&row));
    }

    #[test]
    fn rivals_only_beside_small_and_large_sets() {
        let shown = |set: &str, program| is_shown(&Row::new(set, program));
        assert!(shown("1 port rule", Program::Nothing));
        assert!(shown("10,000 port rules", Program::Map));
        assert!(shown("1,000 mixed rules", Program::Ours));
        assert!(!shown("1,000 port rules", Program::Chain));
        assert!(!shown("10,000 port rules", Program::Empty));
    }
}
