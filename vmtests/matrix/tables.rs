//! Formats the results as tables, for people and for the README.

use crate::results::{Outcome, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// A line of the table names at most this many tests.
const MANY: usize = 10;

/// The kernels with their counts, the passed tests of each part of the suite, and every test that does not pass
/// everywhere.
pub(crate) fn summary(outcomes: &[Outcome]) -> String {
    [kernels(outcomes), parts(outcomes), exceptions(outcomes)].concat()
}

fn kernels(outcomes: &[Outcome]) -> String {
    let mut out = String::from(
        "| kernel | package | passed | failed | unsupported |\n|---|---|---|---|---|\n",
    );
    for it in outcomes {
        let (passed, failed, unsupported) = it.counts();
        let origin = if it.broken.is_some() { "did not run" } else { &it.origin };
        let name = &it.name;
        out.push_str(&format!("| {name} | {origin} | {passed} | {failed} | {unsupported} |\n"));
    }
    out
}

/// The boards with their counts, and every check that failed.
pub(crate) fn boards(outcomes: &[Outcome]) -> String {
    let mut out = String::from("| board | package | checks passed | failed |\n|---|---|---|---|\n");
    for it in outcomes {
        let (passed, failed, _) = it.counts();
        let origin = if it.broken.is_some() { "did not run" } else { &it.origin };
        out.push_str(&format!("| {} | {origin} | {passed} | {failed} |\n", it.name));
    }
    out + &exceptions(outcomes)
}

/// One line for each first word of the test names. Tests with a unique first word share one line.
fn parts(outcomes: &[Outcome]) -> String {
    const REST: &str = "others";
    let word = |test: &str| test.split('_').next().unwrap_or_default().to_owned();
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    let all: BTreeSet<&String> = outcomes.iter().flat_map(|it| it.tests.keys()).collect();
    for test in &all {
        *sizes.entry(word(test)).or_default() += 1;
    }
    let part = |test: &str| match word(test) {
        word if sizes.get(&word).is_some_and(|size| *size > 1) => word,
        _ => REST.to_owned(),
    };
    let mut rows: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for test in all {
        rows.entry(part(test)).or_default().push(test);
    }
    let rest = rows.remove(REST);
    let mut out = head("tests", outcomes);
    let named = rows.into_iter().map(|(part, tests)| (format!("`{part}_*`"), tests));
    for (part, tests) in named.chain(rest.map(|tests| (REST.to_owned(), tests))) {
        let cells: Vec<_> = outcomes.iter().map(|it| cell(it, &tests)).collect();
        out.push_str(&format!("| {part} | {} |\n", cells.join(" | ")));
    }
    out
}

fn head(first: &str, outcomes: &[Outcome]) -> String {
    let names: Vec<_> = outcomes.iter().map(|it| it.name.as_str()).collect();
    format!("\n| {first} | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()))
}

/// The number of these tests that pass on a kernel.
fn cell(outcome: &Outcome, tests: &[&String]) -> String {
    let of = |wanted: fn(&Verdict) -> bool| {
        tests.iter().filter_map(|test| outcome.tests.get(*test)).filter(|it| wanted(it)).count()
    };
    let (passed, failed) = (of(|it| *it == Verdict::Pass), of(|it| matches!(it, Verdict::Fail(_))));
    match (passed, failed, of(|_| true)) {
        (_, 1.., _) => format!("**{failed} FAILED**"),
        (_, _, 0) => String::new(),
        (0, ..) => "–".to_owned(),
        (_, _, all) if passed == all => passed.to_string(),
        (_, _, all) => format!("{passed} of {all}"),
    }
}

fn exceptions(outcomes: &[Outcome]) -> String {
    let mut rows: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for it in outcomes {
        for (test, verdict) in &it.tests {
            let what = match verdict {
                Verdict::Pass => continue,
                Verdict::Fail(_) => "FAILED".to_owned(),
                Verdict::Unsupported(reason) => reason.clone(),
            };
            rows.entry((test, what)).or_default().push(&it.name);
        }
    }
    // Equal entries share one line.
    let mut lines: Vec<(Vec<&str>, String, Vec<&str>)> = Vec::new();
    for ((test, what), kernels) in rows {
        match lines.iter_mut().find(|line| line.0 == kernels && line.1 == what) {
            Some((_, _, tests)) => tests.push(test),
            None => lines.push((kernels, what, vec![test])),
        }
    }
    let mut out = String::new();
    if !lines.is_empty() {
        out.push_str("\n| tests | not on | because |\n|---|---|---|\n");
    }
    for (kernels, what, tests) in lines {
        let tests = match tests.len() {
            0..=MANY => tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", "),
            many => format!("{many} tests"),
        };
        out.push_str(&format!("| {tests} | {} | {what} |\n", kernels.join(", ")));
    }
    out
}

/// Every test on every kernel, or every check on every board.
pub(crate) fn whole(what: &str, outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let mut out = head(what, outcomes);
    let all: BTreeSet<&String> = outcomes.iter().flat_map(|it| it.tests.keys()).collect();
    for test in all {
        let cell = |it: &Outcome| match it.tests.get(test) {
            None => "",
            Some(Verdict::Pass) => "pass",
            Some(Verdict::Fail(_)) => "**FAILED**",
            Some(Verdict::Unsupported(_)) => "–",
        };
        let cells: Vec<_> = outcomes.iter().map(cell).collect();
        out.push_str(&format!("| `{test}` | {} |\n", cells.join(" | ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_and_every_exception() {
        let outcome = |name: &str, verdicts: &[(&str, Verdict)]| Outcome {
            tests: verdicts.iter().map(|(test, it)| ((*test).to_owned(), it.clone())).collect(),
            ..Outcome::none(name)
        };
        let old = Verdict::Unsupported("too old".into());
        let bad = Verdict::Fail("late".into());
        let outcomes = [
            outcome("k", &[("a_1", Verdict::Pass), ("a_2", old.clone()), ("b", Verdict::Pass)]),
            outcome("l", &[("a_1", Verdict::Pass), ("a_2", bad), ("b", old.clone())]),
            outcome("m", &[("a_1", old.clone()), ("a_2", old)]),
        ];
        let table = summary(&outcomes);
        assert!(table.contains("| `a_*` | 1 of 2 | **1 FAILED** | – |\n"), "{table}");
        assert!(table.contains("| others | 1 | – |  |\n"), "{table}");
        assert!(table.contains("| `a_2` | k, m | too old |\n"), "{table}");
        assert!(table.contains("| `a_2` | l | FAILED |\n"), "{table}");
        let table = whole("test", &outcomes);
        assert!(table.contains("| `a_2` | – | **FAILED** | – |\n"), "{table}");
    }

    #[test]
    fn failed_checks_of_boards_are_named() {
        let mut good = Outcome::none("armv7");
        good.tests.insert("status".into(), Verdict::Pass);
        let mut bad = Outcome::none("s390x");
        bad.tests.insert("status".into(), Verdict::Fail("exit code 2".into()));
        bad.origin = "linux-image 1".into();
        let table = boards(&[good, bad]);
        assert!(table.contains("| armv7 | not run yet | 1 | 0 |\n"), "{table}");
        assert!(table.contains("| s390x | linux-image 1 | 0 | 1 |\n"), "{table}");
        assert!(table.contains("| `status` | s390x | FAILED |\n"), "{table}");
    }
}
