//! The live suite on a matrix of kernels, each in a virtual machine.
//!
//!     matrix --suite FILE --bin-dir DIR --out DIR [--list] [--core] [--readme] [--jobs N] [--test PART] [NAME…]
//!
//!     matrix --btf [--core] [NAME…]
//!
//! FILE is the live suite, DIR its executables (see `live`). `cargo xtask matrix` builds both and calls this.

mod options;
mod readme;
mod results;
mod run;
mod stage;
mod tables;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use options::Options;
use results::Outcome;
use run::Bench;
use set_rto_vmtests::guests::guest;
use set_rto_vmtests::guests::kernel::{Image, Suites};
use set_rto_vmtests::guests::kernels::{self, Kernel, Origin};
use stage::Stage;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == guest::BOOT => guest::boot(rest).map(|()| true),
        _ => Options::read(&arguments).and_then(|options| run(&options)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// vmtests/, where this was built; the tasks run it there.
fn room() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// True if all kernels did as expected.
fn run(options: &Options) -> Result<bool> {
    let kernels = kernels::parse(&fs::read_to_string(room().join("KERNELS"))?)?;
    if let Some(unknown) =
        options.names.iter().find(|name| kernels.iter().all(|it| it.name != **name))
    {
        bail!("KERNELS has no {unknown}; --list shows what there is");
    }
    if options.list {
        for Kernel { name, origin, core, .. } in &kernels {
            let from = match origin {
                Origin::Debian { suite } => format!("Debian's of {suite}"),
                Origin::Source { suite, config } => {
                    format!("source of {suite}, configured as {config}")
                }
            };
            println!("{name:<16} {from}{}", if *core { " (core)" } else { "" });
        }
        return Ok(true);
    }
    let chosen: Vec<_> = kernels.iter().filter(|kernel| options.chooses(kernel)).collect();
    if options.btf {
        let mut suites = Suites::default();
        for kernel in chosen.iter().filter(|kernel| kernel.btf) {
            // What is not to be had is reported when it is its turn to boot.
            match suites.image(kernel, &room().join("kernels")) {
                Ok(Image { btf: Some(btf), .. }) => println!("btf: {}", btf.display()),
                Ok(Image { origin, .. }) => println!("no BTF of {origin}"),
                Err(error) => println!("no BTF of {}: {error:#}", kernel.name),
            }
        }
        return Ok(true);
    }
    let all = tests(&options.suite, options.filter.as_deref())?;
    fs::create_dir_all(&options.out)?;
    // Two runs from one checkout would write the same files.
    let lock =
        Flock::lock(File::create(options.out.join("lock"))?, FlockArg::LockExclusiveNonblock);
    let _lock = lock.map_err(|(_, errno)| errno).context("another run writes to the same place")?;
    // Some of what runs there has another working directory.
    let options = &Options { out: fs::canonicalize(&options.out)?, ..options.clone() };
    let stage = Stage::make(&options.out.join("stage"), &options.suite, &options.bin_dir)?;
    let bench = Bench { options, stage, all, configs: room().join("kernels") };
    let outcomes = bench.run(&chosen);
    let table = tables::summary(&outcomes);
    fs::write(options.out.join("matrix.md"), table.clone() + &tables::whole(&outcomes))?;
    fs::write(options.out.join("matrix.json"), format!("{:#}\n", results::json(&outcomes)))?;
    println!("\n{table}");
    if options.readme {
        let last = |kernel: &Kernel| {
            let text = fs::read_to_string(bench.last(kernel)).ok()?;
            Outcome::of_json(&serde_json::from_str(&text).ok()?)
        };
        let rows: Vec<_> = kernels
            .iter()
            .map(|kernel| last(kernel).unwrap_or_else(|| Outcome::none(&kernel.name)))
            .collect();
        readme::update(&room().join("../README.md"), &tables::summary(&rows))?;
    }
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for outcome in &outcomes {
        let (a, b, c) = outcome.counts();
        passed += a;
        failed += b + usize::from(outcome.broken.is_some());
        unsupported += c;
    }
    // The unsupported ones are in the table, each with its reason.
    println!("matrix: {passed} passed, {failed} failed, {unsupported} skipped");
    Ok(outcomes.iter().all(Outcome::is_good))
}

/// The names of all tests of the suite.
fn tests(suite: &Path, filter: Option<&str>) -> Result<Vec<String>> {
    let output = Command::new(suite).arg("--list").args(filter).output();
    let output = output.with_context(|| format!("cannot run the suite {}", suite.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names: Vec<_> =
        text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    if names.is_empty() {
        bail!("the suite has no such tests");
    }
    Ok(names)
}
