//! `cargo xtask show`, `explain` and `fuzz`: the rule compiler by itself.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::{Cmd, Shell, cmd};

use crate::needs::{BUILD, Need, cargo};
use crate::setup;
use crate::step::step;
use crate::test::verifier;

/// Prints the C that the rules become.
pub(crate) fn show(sh: &Shell, rules: Option<&Path>) -> Result<()> {
    let rules = rules.unwrap_or_else(|| Path::new("rules.toml"));
    quietly(example(sh, "show").arg("--").arg(rules))
}

/// Says which rule decides a connection, and why each earlier one does not.
pub(crate) fn explain(sh: &Shell, rules: &Path, connection: &str) -> Result<()> {
    quietly(example(sh, "explain").arg("--").arg(rules).arg(connection))
}

/// Runs random rule sets against random connections for some minutes; as root the kernel's verifier judges the programs
/// of all of them.
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

fn example<'a>(sh: &'a Shell, name: &str) -> Cmd<'a> {
    let cargo = cargo();
    cmd!(sh, "{cargo} run --quiet --package set-rto-compiler --example {name}")
}

/// Its own messages have said what was wrong.
fn quietly(command: Cmd<'_>) -> Result<()> {
    if !std::process::Command::from(command).status()?.success() {
        std::process::exit(1);
    }
    Ok(())
}
