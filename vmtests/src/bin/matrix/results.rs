//! What came of the tests.

use serde_json::{Value, json};
use set_rto_vmtests::guests::kernels::Kernel;
use std::collections::BTreeMap;

/// Of one test on one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail(String),
    /// As KERNELS says, with the reason there.
    Unsupported(String),
}

/// Of one kernel.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) origin: String,
    /// By the names of the tests.
    pub(crate) tests: BTreeMap<String, Verdict>,
    /// Why there is nothing, or not all.
    pub(crate) broken: Option<String>,
    pub(crate) seconds: u64,
}

impl Outcome {
    /// Reads the output of the live suite. `all`: every test that it has.
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
        let (name, origin) = (kernel.name.clone(), origin.to_owned());
        Self { name, origin, tests, broken: None, seconds: 0 }
    }

    /// Adds a test that is not the suite's.
    pub(crate) fn add(&mut self, kernel: &Kernel, name: &str, result: anyhow::Result<()>) {
        let verdict = match (result, kernel.excuse(name)) {
            (Ok(()), None) => Verdict::Pass,
            (Ok(()), Some(why)) => Verdict::Fail(format!("passed, though KERNELS says: {why}")),
            (Err(_), Some(reason)) => Verdict::Unsupported(reason.to_owned()),
            (Err(error), None) => Verdict::Fail(format!("{error:#}")),
        };
        self.tests.insert(name.to_owned(), verdict);
    }

    /// One that gave no results.
    pub(crate) fn broken(kernel: &Kernel, why: String) -> Self {
        let tests = BTreeMap::new();
        let name = kernel.name.clone();
        Self { name, origin: String::new(), tests, broken: Some(why), seconds: 0 }
    }

    /// Passed, failed, unsupported.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let count =
            |wanted: fn(&Verdict) -> bool| self.tests.values().filter(|it| wanted(it)).count();
        (
            count(|it| *it == Verdict::Pass),
            count(|it| matches!(it, Verdict::Fail(_))),
            count(|it| matches!(it, Verdict::Unsupported(_))),
        )
    }

    /// True if all is as expected.
    pub(crate) fn is_good(&self) -> bool {
        self.broken.is_none() && self.counts().1 == 0
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let Self { name, origin, seconds, .. } = self;
        let (passed, failed, unsupported) = self.counts();
        match &self.broken {
            Some(why) => format!("{name}: BROKEN: {why}"),
            None => format!(
                "{name}: {passed} passed, {failed} failed, {unsupported} unsupported as expected, {seconds} s ({origin})"
            ),
        }
    }
}

/// What the suite printed of a failed test.
fn detail(name: &str, output: &[String]) -> String {
    let start = format!("---- {name} ----");
    let lines = output.iter().skip_while(|line| **line != start).skip(1);
    let lines: Vec<_> =
        lines.take_while(|line| !line.starts_with("---- ")).take(12).cloned().collect();
    lines.join("\n").trim().to_owned()
}

/// For machines.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    outcomes.iter().map(Outcome::json).collect()
}

impl Outcome {
    /// For machines, and for [`Outcome::of_json`].
    pub(crate) fn json(&self) -> Value {
        let test = |verdict: &Verdict| match verdict {
            Verdict::Pass => json!({"result": "pass"}),
            Verdict::Fail(why) => json!({"result": "fail", "detail": why}),
            Verdict::Unsupported(why) => json!({"result": "unsupported", "detail": why}),
        };
        let tests: serde_json::Map<_, _> =
            self.tests.iter().map(|(name, verdict)| (name.clone(), test(verdict))).collect();
        json!({
            "kernel": self.name, "package": self.origin, "seconds": self.seconds, "broken": self.broken,
            "tests": tests,
        })
    }

    /// What an earlier run wrote; none where it is something else.
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
        Some(Self {
            name: text(&value["kernel"])?,
            origin: text(&value["package"])?,
            tests: value["tests"].as_object()?.iter().map(test).collect::<Option<_>>()?,
            broken: text(&value["broken"]),
            seconds: value["seconds"].as_u64()?,
        })
    }

    /// The row of a kernel that never ran.
    pub(crate) fn none(name: &str) -> Self {
        let (name, origin) = (name.to_owned(), "not run yet".to_owned());
        Self { name, origin, tests: BTreeMap::new(), broken: None, seconds: 0 }
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
}
