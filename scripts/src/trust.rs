//! `cargo xtask mutants` and `cargo xtask fuzz --text`: how far the tests can be trusted, and what they have not tried.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use set_rto_downloads::cache;
use xshell::{Shell, cmd};

use crate::needs::{BUILD, Need, cargo};
use crate::step::step;
use crate::{build, setup};

/// cargo-mutants in the package registry.
const MUTANTS: &str = "27.1.0";

/// The tests that are run for each mutant: those that take seconds in an unoptimised compiler.
const TESTS: [&str; 5] = ["--lib", "--test", "golden", "--test", "examples"];

/// libFuzzer's view of the program: counters of edges and of comparisons. Stable Rust passes these on to LLVM.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // One table of counters for each crate.
    "-Ccodegen-units=1",
    "-Cdebuginfo=1",
];

/// The longest text, in bytes.
const LONGEST: usize = 400;

/// Changes the compiler's source in small ways and lists the changes that no test notices.
pub(crate) fn mutants(sh: &Shell, files: &[String]) -> Result<()> {
    setup::ensure(sh, &BUILD.iter().collect::<Vec<&Need>>())?;
    let cargo = cargo();
    let root = cache::dir()?.join(format!("cargo-mutants-{MUTANTS}"));
    let program = root.join("bin").join("cargo-mutants");
    if !program.exists() {
        step("install cargo-mutants", || {
            let install = cmd!(sh, "{cargo} install --locked --version {MUTANTS} --root {root}");
            Ok(install.arg("cargo-mutants").run()?)
        })?;
    }
    let out = build::target_dir(sh)?.join("mutants");
    fs::create_dir_all(&out)?;
    step("mutants of the compiler", || {
        let files = files.iter().flat_map(|file| ["--file", file]);
        let run = cmd!(sh, "{program} mutants --package set-rto-compiler --no-shuffle");
        // Unoptimised, it is built in half the time.
        let run = run.arg("--cargo-arg=--config=profile.dev.package.set-rto-compiler.opt-level=0");
        let run = run.args(files).args(["--timeout", "120", "--output"]).arg(&out);
        // It exits with 2 if a mutant has survived.
        Ok(run.arg("--").args(TESTS).run()?)
    })
}

/// Runs libFuzzer on the text of rules files for some minutes. What it finds new goes to `target/fuzz`.
pub(crate) fn fuzz(sh: &Shell, minutes: u32) -> Result<()> {
    setup::ensure(sh, &BUILD.iter().collect::<Vec<&Need>>())?;
    let (cargo, target) = (cargo(), build::host_triple(sh)?);
    let folder = sh.current_dir().join("bpf").join("fuzz");
    let out = build::target_dir(sh)?.join("fuzz");
    let found = out.join("corpus");
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let program: PathBuf = out.join(&target).join("release").join("set-rto-fuzz");
    step("build the compiler with libFuzzer", || {
        let _folder = sh.push_dir(&folder);
        // With a target, build scripts and macros are built without the counters.
        let build = cmd!(sh, "{cargo} build --release --locked --target {target}");
        let build = build.arg("--target-dir").arg(&out);
        Ok(build.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")).run()?)
    })?;
    step(&format!("text of rules for {minutes} min"), || {
        let run = cmd!(sh, "{program} -timeout=25").args([
            format!("-max_total_time={}", minutes * 60),
            format!("-max_len={LONGEST}"),
            format!("-artifact_prefix={}/", out.display()),
        ]);
        let seeds = ["corpus", "../tests/good", "../tests/bad"].map(|it| folder.join(it));
        Ok(run.arg(found).args(seeds).run()?)
    })
}
