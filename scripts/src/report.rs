//! The results of the sections of `cargo xtask test`: counts from test output, and one summary.

use std::fmt::Write as _;
use std::time::Duration;

use crate::step::seconds;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// One section, whether it ran or not.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) elapsed: Duration,
    pub(crate) counts: Counts,
    /// The skipped tests, each with its reason if the test printed one.
    pub(crate) skipped: Vec<String>,
    /// Why the section failed.
    pub(crate) failure: Option<String>,
    /// Why the section did not run.
    pub(crate) not_run: Option<String>,
}

impl Section {
    /// Adds the counts and skips in the output of test binaries. False if the output contains no result, which means
    /// that no test binary ran to its end.
    pub(crate) fn add_output(&mut self, output: &str) -> bool {
        let mut any = false;
        for counts in output.lines().filter_map(result_line) {
            any = true;
            self.counts.passed += counts.passed;
            self.counts.failed += counts.failed;
            self.counts.skipped += counts.skipped;
        }
        self.skipped.extend(output.lines().filter_map(skip_line));
        any
    }

    fn verdict(&self) -> &'static str {
        match (&self.failure, &self.not_run) {
            (Some(_), _) => "FAILED",
            (None, Some(_)) => "skipped",
            (None, None) => "ok",
        }
    }
}

/// True if a section failed.
pub(crate) fn any_failed(sections: &[Section]) -> bool {
    sections.iter().any(|section| section.failure.is_some() || section.counts.failed > 0)
}

/// All sections in one line, the failures, the skipped tests with their reasons, and finally the sums. A section that
/// failed without a failed test (a lint, a build) counts as one failure, so the last line never reads like success
/// after a failure.
pub(crate) fn summary(sections: &[Section]) -> String {
    let mut text = String::new();
    let mut sums = Counts::default();
    let line = sections.iter().map(|section| {
        format!("{} {} ({})", section.name, section.verdict(), seconds(section.elapsed))
    });
    // Writing to a string cannot fail.
    let _ = writeln!(text, "sections: {}", line.collect::<Vec<_>>().join(", "));
    for section in sections {
        sums.passed += section.counts.passed;
        sums.failed += section.counts.failed;
        sums.skipped += section.counts.skipped;
        if let Some(why) = &section.failure {
            sums.failed += u64::from(section.counts.failed == 0);
            let _ = writeln!(text, "failed: {}: {why}", section.name);
        }
        if let Some(why) = &section.not_run {
            let tests = section.counts.skipped;
            let _ = writeln!(text, "skipped: {} ({tests} tests): {why}", section.name);
        }
        for test in &section.skipped {
            let _ = writeln!(text, "skipped: {}: {test}", section.name);
        }
    }
    let _ =
        writeln!(text, "{} passed, {} failed, {} skipped", sums.passed, sums.failed, sums.skipped);
    text
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; …`, as libtest prints it.
fn result_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        numbers.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    Some(Counts { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
}

/// The test and its reason in `test NAME ... ignored, REASON`, or in libtest-mimic's
/// `test NAME ... ignored (REASON)`.
fn skip_line(line: &str) -> Option<String> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest.trim_start_matches(',').trim();
    let reason = reason.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(reason);
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    Some(format!("{}: {reason}", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test a ... ok
test b::c ... ignored, needs a moon
test d   ... ignored (kernel has no BTF (6.1))
test src/lib.rs - e (line 3) ... ignored

test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 10 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 1.20s
test result: garbage
";

    #[test]
    fn counts_and_reasons_from_output() {
        let mut section = Section::default();
        assert!(section.add_output(OUTPUT));
        assert!(!section.add_output("test a ... ok\nKilled\n"));
        assert_eq!(section.counts, Counts { passed: 11, failed: 3, skipped: 3 });
        assert_eq!(
            section.skipped,
            [
                "b::c: needs a moon",
                "d: kernel has no BTF (6.1)",
                "src/lib.rs - e (line 3): no reason given"
            ]
        );
    }

    #[test]
    fn all_well() {
        let counts = Counts { passed: 7, failed: 0, skipped: 0 };
        let elapsed = Duration::from_millis(1234);
        let sections = [
            Section { name: "fmt", elapsed, ..Section::default() },
            Section { name: "test", counts, ..Section::default() },
        ];
        assert!(!any_failed(&sections));
        let expected = "sections: fmt ok (1.2 s), test ok (0.0 s)\n7 passed, 0 failed, 0 skipped\n";
        assert_eq!(summary(&sections), expected);
    }

    #[test]
    fn failures_and_skips_are_reported_and_counted() {
        let mut test = Section { name: "test", ..Section::default() };
        assert!(test.add_output(OUTPUT));
        test.failure = Some("exit status: 101".to_owned());
        let failure = Some("a lint".to_owned());
        let counts = Counts { skipped: 12, ..Counts::default() };
        let not_run = Some("not root".to_owned());
        let sections = [
            Section { name: "clippy", failure, ..Section::default() },
            test,
            Section { name: "live", counts, not_run, ..Section::default() },
        ];
        assert!(any_failed(&sections));
        let text = summary(&sections);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "sections: clippy FAILED (0.0 s), test FAILED (0.0 s), live skipped (0.0 s)"
        );
        assert!(lines.contains(&"failed: clippy: a lint"), "{text}");
        assert!(lines.contains(&"skipped: test: b::c: needs a moon"), "{text}");
        assert!(lines.contains(&"skipped: live (12 tests): not root"), "{text}");
        // 3 failed tests and the lint.
        assert_eq!(lines.last(), Some(&"11 passed, 4 failed, 15 skipped"));
    }
}
