//! `cargo xtask test`: installs what tests need, checks the source, runs every test and prints a summary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xshell::Shell;

use crate::needs::{BUILD, LINT, LIVE, Need, PACKAGING, SYSTEM, cargo};
use crate::privilege::is_root;
use crate::report::{Section, any_failed, summary};
use crate::step::{step, tee};
use crate::{build, loaders, setup};

/// The live tests of a quick run, and the rules files whose executables they need.
const FEW: [&str; 3] =
    ["install_twice_keeps_the_hits", "install_other_rules_swaps_in_the_live_link", "wire_syn_ipv4"];
const FEW_RULES: [&str; 3] = ["a", "b", "wire"];

/// How much is tested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// The unit tests and the golden files, and [`FEW`] live tests.
    Quick,
    /// Every test, of many cases a share.
    Usual,
    /// Every test and every case.
    Thorough,
}

/// Runs all sections, even after a failure. Returns an error if anything failed or if no test ran.
pub(crate) fn run(sh: &Shell, filters: &[String], extent: Extent) -> Result<()> {
    // If the live suite cannot run, its tools need not be installed.
    let live_needs = way_to_root().map_or(&[][..], |_| LIVE);
    let needs: Vec<_> =
        BUILD.iter().chain(LINT).chain(PACKAGING).chain(SYSTEM).chain(live_needs).collect();
    let mut sections = vec![
        section("set-up", |_| setup::ensure(sh, &needs)),
        section("fmt", |_| check(sh, &["fmt", "--all", "--check"])),
    ];
    let lacking = setup::still_missing(BUILD);
    if lacking.is_empty() {
        let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        sections.push(section("clippy", |_| check(sh, &lints)));
        sections.push(section("test", |section| unit(sh, filters, extent, section)));
        sections.push(section("live", |section| live(sh, filters, extent, section)));
    } else {
        sections.extend(["clippy", "test", "live"].map(|name| not_built(name, &lacking)));
    }

    let ran = sections.iter().any(|section| {
        let counts = section.counts;
        counts.passed + counts.failed + counts.skipped > 0
    });
    let failed = any_failed(&sections);
    if !ran && !failed {
        // A misspelt filter must not look like success.
        bail!("no test is called {}", filters.join(" or "));
    }
    print!("\n{}", summary(&sections));
    if failed {
        // The summary is complete, and its last line must remain the last.
        std::process::exit(1);
    }
    Ok(())
}

/// Runs one section under a headline. Its failure is recorded, not returned.
fn section(name: &'static str, work: impl FnOnce(&mut Section) -> Result<()>) -> Section {
    let mut section = Section { name, ..Section::default() };
    let start = Instant::now();
    if let Err(error) = step(name, || work(&mut section)) {
        eprintln!("xtask: {name}: {error:#}");
        section.failure = Some(format!("{error:#}"));
    }
    section.elapsed = start.elapsed();
    section
}

fn not_built(name: &'static str, lacking: &[&Need]) -> Section {
    let failure = Some(format!("not run: missing for the build: {}", setup::names(lacking)));
    Section { name, failure, ..Section::default() }
}

/// Cargo in the workspace root, with the default rules regardless of the caller's environment.
fn cargo_command(sh: &Shell) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(sh.current_dir()).env_remove("SET_RTO_RULES");
    command.env_remove(build::BTF_VARIABLE);
    command
}

fn check(sh: &Shell, arguments: &[&str]) -> Result<()> {
    let (status, _) = tee(cargo_command(sh).args(arguments))?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// The tests that need no kernel of their own.
fn unit(sh: &Shell, filters: &[String], extent: Extent, section: &mut Section) -> Result<()> {
    let mut command = cargo_command(sh);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if extent == Extent::Quick {
        command.args(["--lib", "--bins", "--test", "golden"]);
    }
    // The kernel's verifier checks each program that the compiler's tests produce.
    if let Some(verifier) = verifier(sh)? {
        command.env("SET_RTO_VERIFY", verifier);
    }
    let (status, output) = tee(command.arg("--").args(filters))?;
    let ran = section.add_output(&output);
    if !status.success() || !ran {
        bail!("cargo test: {status}{}", no_result(ran));
    }
    Ok(())
}

/// The command that has the kernel's verifier check the programs of the compiler's tests. None without root.
pub(crate) fn verifier(sh: &Shell) -> Result<Option<String>> {
    let Some(before) = way_to_root() else { return Ok(None) };
    let program = build::dev(sh, "verify", None)?;
    let words = before.iter().map(|word| (*word).to_owned()).chain([program.display().to_string()]);
    Ok(Some(words.collect::<Vec<_>>().join(" ")))
}

/// The tests that attach to the kernel running here. They need root.
fn live(sh: &Shell, filters: &[String], extent: Extent, section: &mut Section) -> Result<()> {
    let few = FEW.map(str::to_owned);
    let filters = if extent == Extent::Quick { &few[..] } else { filters };
    let suite = build::dev(sh, "live", None)?;
    let Some(before) = way_to_root() else {
        section.counts.skipped = count_tests(&suite, filters)?;
        section.not_run = Some("needs root, and `sudo -n` is refused".to_owned());
        return Ok(());
    };
    let bin_dir = build::target_dir(sh)?.join("live").join("bin");
    match extent {
        Extent::Quick => loaders::build_some(sh, &bin_dir, &FEW_RULES)?,
        Extent::Usual | Extent::Thorough => loaders::build_all(sh, &bin_dir, &[])?,
    }

    // The suite accepts one filter at a time.
    let rounds: Vec<Option<&String>> =
        if filters.is_empty() { vec![None] } else { filters.iter().map(Some).collect() };
    let mut failures = Vec::new();
    for filter in rounds {
        let mut words = before.iter().map(PathBuf::from).collect::<Vec<_>>();
        words.extend([suite.clone(), "--bin-dir".into(), bin_dir.clone()]);
        words.extend((extent == Extent::Thorough).then(|| "--thorough".into()));
        words.extend((extent == Extent::Quick).then(|| "--exact".into()));
        words.extend(filter.map(PathBuf::from));
        let (status, output) = tee(Command::new(&words[0]).args(&words[1..]))?;
        let ran = section.add_output(&output);
        if !status.success() || !ran {
            failures.push(format!("{}: {status}{}", suite.display(), no_result(ran)));
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

fn no_result(ran: bool) -> &'static str {
    if ran { "" } else { ", and no test result" }
}

/// The words that run a command as root without a prompt. There are none for root.
fn way_to_root() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    let mut sudo = Command::new("sudo");
    let sudo = sudo.args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success()).then_some(&["sudo", "-n"])
}

/// The number of tests of the suite that the filters select, or all tests without filters.
fn count_tests(suite: &Path, filters: &[String]) -> Result<u64> {
    let list = Command::new(suite)
        .arg("--list")
        .output()
        .with_context(|| format!("cannot run {}", suite.display()))?;
    Ok(count_listed(&String::from_utf8_lossy(&list.stdout), filters))
}

fn count_listed(list: &str, filters: &[String]) -> u64 {
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part));
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    names.filter(|name| chosen(name)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_not_run_are_counted_by_filter() {
        let list = "syn_v4: test\nsyn_v6: test\nhits_once: test\n\n3 tests, 0 benchmarks\n";
        let count = |filters: &[&str]| {
            count_listed(list, &filters.iter().map(|&part| part.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(count(&[]), 3);
        assert_eq!(count(&["syn"]), 2);
        assert_eq!(count(&["v6", "once"]), 2);
        assert_eq!(count(&["nothing"]), 0);
    }
}
