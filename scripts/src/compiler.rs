//! `cargo xtask check`, `show`, `explain`, `schema` and `fuzz`: the rule compiler on its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use xshell::{Shell, cmd};

use crate::build::json_string;
use crate::needs::{BUILD, Need, cargo};
use crate::setup;
use crate::step::step;
use crate::test::verifier;

/// Runs the compiler's own program (`scripts/rules`) in the caller's directory, to which the file names in `words` are
/// relative. If it fails, this process exits with its exit code: its messages have already explained the failure.
pub(crate) fn rules(sh: &Shell, caller: &Path, words: &[&str]) -> Result<()> {
    let program = built(sh)?;
    let status = Command::new(&program).args(words).current_dir(caller).status();
    let status = status.with_context(|| format!("cannot run {program}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => bail!("{program}: {status}"),
    }
}

/// Builds that program and returns its path. Cargo shows what it compiles, and prints nothing if the program is up to
/// date.
fn built(sh: &Shell) -> Result<String> {
    let mut child = Command::new(cargo())
        // With --package, the compiler would lose the features that tests enable, and it would be built again.
        .args(["build", "--workspace", "--bin", "rules"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(sh.current_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let stderr = child.stderr.take().context("cargo has no standard error")?;
    let progress = thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if !line.trim_start().starts_with("Finished ") {
                eprintln!("{line}");
            }
        }
    });
    let mut messages = String::new();
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let read = BufReader::new(stdout).read_to_string(&mut messages);
    let status = child.wait().context("cannot wait for cargo")?;
    progress.join().map_err(|_| anyhow!("the thread that shows cargo's progress panicked"))?;
    read.context("cannot read cargo's messages")?;
    if !status.success() {
        bail!("cargo build: {status}");
    }
    let program = messages.lines().filter_map(|line| json_string(line, "executable")).next_back();
    program.context("cargo built no executable")
}

/// Runs random rule sets against random connections for some minutes. As root, the kernel's verifier checks all of the
/// programs.
pub(crate) fn fuzz(sh: &Shell, minutes: u32) -> Result<()> {
    setup::ensure(sh, &BUILD.iter().collect::<Vec<&Need>>())?;
    step(&format!("random rule sets for {minutes} min"), || {
        let cargo = cargo();
        let tests = cmd!(sh, "{cargo} test --package set-rto-compiler --test execute --test text");
        let mut tests = tests.args(["--", "--nocapture"]);
        match verifier(sh)? {
            Some(verifier) => tests = tests.env("SET_RTO_VERIFY", verifier),
            None => println!("The kernel's verifier is not asked: that needs root."),
        }
        tests.env("SET_RTO_FUZZ_MINUTES", minutes.to_string()).run().context("a case failed")
    })
}
