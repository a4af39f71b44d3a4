//! The results of tests.

use serde_json::{Value, json};
use set_rto_vmtests::guests::kernels::Kernel;
use set_rto_vmtests::guests::machine::Found;
use std::collections::BTreeMap;

/// The result of one test on one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail(String),
    /// Failed as KERNELS expects, with its reason.
    Unsupported(String),
}

/// The results of one kernel or board.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) is_board: bool,
    pub(crate) origin: String,
    /// Results by test name.
    pub(crate) tests: BTreeMap<String, Verdict>,
    /// The reason why results are missing or incomplete.
    pub(crate) broken: Option<String>,
    pub(crate) seconds: u64,
}

impl Outcome {
    /// Parses the output of the live suite. `all`: the names of all its tests.
    pub(crate) fn read(kernel: &Kernel, origin: &str, all: &[String], output: &[String]) -> Self {
        let mut tests = BTreeMap::new();
        for name in all {
            let start = format!("test {name} ");
            let line = output.iter().find_map(|line| line.strip_prefix(&start));
            let result = line.and_then(|rest| rest.trim_start_matches(['.', ' ']).into());
            let failed = |why: String| match kernel.excuse(name) {
                Some(reason) => Verdict::Unsupported(reason.to_owned()),
                None => Verdict::Fail(why),
            };
            let verdict = match result {
                Some(text) if text.starts_with("ok") => match kernel.excuse(name) {
                    Some(reason) => Verdict::Fail(format!("passed, though KERNELS says: {reason}")),
                    None => Verdict::Pass,
                },
                Some(text) if text.starts_with("ignored") => {
                    failed(format!("skipped, not in KERNELS: {text}"))
                }
                Some(_) => failed(detail(name, output)),
                None => Verdict::Fail("did not run".into()),
            };
            tests.insert(name.clone(), verdict);
        }
        Self { tests, ..Self::new(&kernel.name, origin) }
    }

    /// The results of a board: its kernel's package and its checks.
    pub(crate) fn of_board(name: &str, ran: anyhow::Result<(String, Found)>) -> Self {
        let (origin, found) = match ran {
            Ok(ran) => ran,
            Err(error) => {
                let broken = Some(format!("{error:#}"));
                return Self { is_board: true, broken, ..Self::new(name, "") };
            }
        };
        let passed = found.passed.into_iter().map(|check| (check, Verdict::Pass));
        let failed = found.failed.into_iter().map(|(check, why)| (check, Verdict::Fail(why)));
        let mut tests = BTreeMap::new();
        for (check, verdict) in passed.chain(failed) {
            // Each check counts, even if two have the same name.
            let names = (2..).map(|number| format!("{check}_{number}"));
            let mut names = [check.clone()].into_iter().chain(names);
            let free = names.find(|name| !tests.contains_key(name));
            tests.insert(free.unwrap_or(check), verdict);
        }
        Self { is_board: true, tests, ..Self::new(name, &origin) }
    }

    fn new(name: &str, origin: &str) -> Self {
        let (name, origin, tests) = (name.to_owned(), origin.to_owned(), BTreeMap::new());
        Self { name, is_board: false, origin, tests, broken: None, seconds: 0 }
    }

    /// Adds the result of a test outside the suite.
    pub(crate) fn add(&mut self, kernel: &Kernel, name: &str, result: anyhow::Result<()>) {
        let verdict = match (result, kernel.excuse(name)) {
            (Ok(()), None) => Verdict::Pass,
            (Ok(()), Some(why)) => Verdict::Fail(format!("passed, though KERNELS says: {why}")),
            (Err(_), Some(reason)) => Verdict::Unsupported(reason.to_owned()),
            (Err(error), None) => Verdict::Fail(format!("{error:#}")),
        };
        self.tests.insert(name.to_owned(), verdict);
    }

    /// The outcome of a kernel or board without results.
    pub(crate) fn broken(kernel: &Kernel, why: String) -> Self {
        Self { broken: Some(why), ..Self::new(&kernel.name, "") }
    }

    /// The numbers of passed, failed and unsupported tests.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let count =
            |wanted: fn(&Verdict) -> bool| self.tests.values().filter(|it| wanted(it)).count();
        (
            count(|it| *it == Verdict::Pass),
            count(|it| matches!(it, Verdict::Fail(_))),
            count(|it| matches!(it, Verdict::Unsupported(_))),
        )
    }

    /// True if all results are as expected.
    pub(crate) fn is_good(&self) -> bool {
        self.broken.is_none() && self.counts().1 == 0
    }

    /// A summary in one line.
    pub(crate) fn summary(&self) -> String {
        let Self { name, origin, seconds, .. } = self;
        let (passed, failed, unsupported) = self.counts();
        match &self.broken {
            Some(why) => format!("{name}: BROKEN: {why}"),
            None if self.is_board => {
                format!("{name}: {passed} checks passed, {failed} failed, {seconds} s ({origin})")
            }
            None => format!(
                "{name}: {passed} passed, {failed} failed, {unsupported} unsupported as expected, {seconds} s ({origin})"
            ),
        }
    }
}

/// The suite's output about a failed test.
fn detail(name: &str, output: &[String]) -> String {
    let start = format!("---- {name} ----");
    let lines = output.iter().skip_while(|line| **line != start).skip(1);
    let lines: Vec<_> =
        lines.take_while(|line| !line.starts_with("---- ")).take(12).cloned().collect();
    lines.join("\n").trim().to_owned()
}

/// The name of the result in JSON.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    outcomes.iter().map(Outcome::json).collect()
}

impl Outcome {
    /// The results as JSON, which [`Outcome::of_json`] reads.
    pub(crate) fn json(&self) -> Value {
        let test = |verdict: &Verdict| match verdict {
            Verdict::Pass => json!({"result": "pass"}),
            Verdict::Fail(why) => json!({"result": "fail", "detail": why}),
            Verdict::Unsupported(why) => json!({"result": "unsupported", "detail": why}),
        };
        let tests: serde_json::Map<_, _> =
            self.tests.iter().map(|(name, verdict)| (name.clone(), test(verdict))).collect();
        let kind = if self.is_board { "board" } else { "kernel" };
        json!({
            kind: self.name, "package": self.origin, "seconds": self.seconds, "broken": self.broken,
            "tests": tests,
        })
    }

    /// Parses the JSON of an earlier run. Returns `None` if it has another shape.
    pub(crate) fn of_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let test = |(name, one): (&String, &Value)| {
            let detail = text(&one["detail"]).unwrap_or_default();
            let verdict = match one["result"].as_str()? {
                "pass" => Verdict::Pass,
                "fail" => Verdict::Fail(detail),
                "unsupported" => Verdict::Unsupported(detail),
                _ => return None,
            };
            Some((name.clone(), verdict))
        };
        let is_board = !value["board"].is_null();
        Some(Self {
            name: text(&value[if is_board { "board" } else { "kernel" }])?,
            is_board,
            origin: text(&value["package"])?,
            tests: value["tests"].as_object()?.iter().map(test).collect::<Option<_>>()?,
            broken: text(&value["broken"]),
            seconds: value["seconds"].as_u64()?,
        })
    }

    /// The row of a kernel or board that never ran.
    pub(crate) fn none(name: &str) -> Self {
        Self::new(name, "not run yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use set_rto_vmtests::guests::kernels::parse;

    #[test]
    fn unexpected_passes_and_skips_fail() {
        let kernels =
            parse("k debian sid\n- late: the kernel is too old\n- gone: too old").expect("good");
        let output = [
            "test a ... ok",
            "test late ... ok",
            "test gone ... FAILED",
            "test odd ... ignored, no root",
        ];
        let all = ["a", "late", "gone", "odd", "lost"].map(str::to_owned);
        let outcome = Outcome::read(&kernels[0], "p", &all, &output.map(str::to_owned));
        let is_failure = |name: &str| matches!(outcome.tests[name], Verdict::Fail(_));
        assert_eq!(outcome.tests["a"], Verdict::Pass);
        assert!(is_failure("late") && is_failure("odd") && is_failure("lost"));
        assert_eq!(outcome.tests["gone"], Verdict::Unsupported("too old".into()));
        assert_eq!(outcome.counts(), (1, 3, 1));
        let again = Outcome::of_json(&outcome.json()).expect("what was written");
        assert_eq!(again.json(), outcome.json());
        assert!(!outcome.is_good());
    }
    #[test]
    fn checks_of_a_board() {
        let mut found = Found::default();
        found.passed = ["status", "gone", "status"].map(str::to_owned).to_vec();
        found.failed = vec![("wire: port".to_owned(), "1000 ms".to_owned())];
        let outcome = Outcome::of_board("armv7", Ok(("linux-image 1".into(), found)));
        assert_eq!((outcome.counts(), outcome.is_good()), ((3, 1, 0), false));
        let again = Outcome::of_json(&outcome.json()).expect("what was written");
        assert_eq!((again.json(), again.is_board), (outcome.json(), true));
        assert!(outcome.summary().starts_with("armv7: 3 checks passed, 1 failed"));
        let broken = Outcome::of_board("armv7", Err(anyhow::anyhow!("it hung")));
        assert!(!broken.is_good() && broken.summary().contains("it hung"));
    }
}
