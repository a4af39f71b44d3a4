//! Runs the live suite on a matrix of kernels, each in a virtual machine. Also runs the boards with their own checks.
//!
//!     matrix --suite FILE --bin-dir DIR --built DIR --out DIR
//!            [--list] [--core] [--readme] [--jobs N] [--test PART] [NAME…]
//!
//!     matrix --needs | --btf [--core] [--test PART] [NAME…]
//!
//! FILE is the live suite. The DIR of `--bin-dir` has its executables (see `live`), and that of `--built` has the
//! output for boards. `--needs` prints which of them a run needs. `cargo xtask matrix` builds everything and calls this
//! program.

mod options;
mod readme;
mod results;
mod run;
mod stage;
mod tables;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use options::Options;
use readme::Of;
use results::Outcome;
use run::Bench;
use set_rto_vmtests::boards::BOARDS;
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

/// The path of vmtests/ at build time. The tasks run the program there.
fn room() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns true if all kernels gave the expected results.
fn run(options: &Options) -> Result<bool> {
    let kernels = kernels::parse(&fs::read_to_string(room().join("vm/KERNELS"))?)?;
    let is_known = |name: &String| {
        kernels.iter().any(|it| it.name == *name) || BOARDS.iter().any(|it| it.name == name)
    };
    if let Some(unknown) = options.names.iter().find(|name| !is_known(name)) {
        bail!("there is no kernel or board {unknown}; --list shows what there is");
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
        for board in &BOARDS {
            println!("{:<16} {}, {}", board.name, board.qemu.join(" "), board.describe());
        }
        return Ok(true);
    }
    let chosen: Vec<_> = kernels.iter().filter(|kernel| options.chooses(kernel)).collect();
    let boards: Vec<_> = BOARDS.iter().filter(|board| options.chooses_board(board)).collect();
    if options.filter.is_some()
        && let Some(board) = boards.first()
    {
        bail!("--test is about the suite, which kernels run; {} has checks of its own", board.name);
    }
    if options.needs {
        if !chosen.is_empty() {
            println!("needs: suite");
        }
        boards.iter().for_each(|board| println!("needs: target {}", board.target));
        return Ok(true);
    }
    if options.btf {
        let mut suites = Suites::default();
        for kernel in chosen.iter().filter(|kernel| kernel.btf) {
            // A missing kernel is reported when its turn comes.
            match suites.image(kernel, &room().join("vm/kernels")) {
                Ok(Image { btf: Some(btf), .. }) => println!("btf: {}", btf.display()),
                Ok(Image { origin, .. }) => println!("no BTF of {origin}"),
                Err(error) => println!("no BTF of {}: {error:#}", kernel.name),
            }
        }
        return Ok(true);
    }
    fs::create_dir_all(&options.out)?;
    // Two runs from one checkout would write the same files.
    let lock =
        Flock::lock(File::create(options.out.join("lock"))?, FlockArg::LockExclusiveNonblock);
    let _lock = lock.map_err(|(_, errno)| errno).context("another run writes to the same place")?;
    // Some child processes have another working directory.
    let options = &Options { out: fs::canonicalize(&options.out)?, ..options.clone() };
    let outcomes = on_kernels(&chosen, options)?;
    let boards = run::boards(&boards, &room().join("images"), options)?;
    let table = summary(&outcomes, &boards);
    let whole = tables::whole("test", &outcomes) + &tables::whole("check", &boards);
    fs::write(options.out.join("matrix.md"), table.clone() + &whole)?;
    let (any_kernels, any_boards) = (!outcomes.is_empty(), !boards.is_empty());
    let outcomes: Vec<_> = outcomes.into_iter().chain(boards).collect();
    fs::write(options.out.join("matrix.json"), format!("{:#}\n", results::json(&outcomes)))?;
    println!("\n{table}");
    if options.readme {
        let last = |name: &str| {
            let text = fs::read_to_string(run::last(&options.out, name)).ok();
            let value = text.and_then(|text| serde_json::from_str(&text).ok());
            value.and_then(|value| Outcome::of_json(&value)).unwrap_or_else(|| Outcome::none(name))
        };
        let readme = room().join("matrix/README.md");
        if any_kernels {
            let rows: Vec<_> = kernels.iter().map(|kernel| last(&kernel.name)).collect();
            readme::update(&readme, Of::Kernels, &tables::summary(&rows))?;
        }
        if any_boards {
            let rows: Vec<_> = BOARDS.iter().map(|board| last(board.name)).collect();
            readme::update(&readme, Of::Boards, &tables::boards(&rows))?;
        }
    }
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for outcome in &outcomes {
        let (a, b, c) = outcome.counts();
        passed += a;
        failed += b + usize::from(outcome.broken.is_some());
        unsupported += c;
    }
    // Unsupported tests are in the table with their reasons.
    println!("matrix: {passed} passed, {failed} failed, {unsupported} skipped");
    Ok(outcomes.iter().all(Outcome::is_good))
}

/// The tables of kernels and of boards, if any were run.
fn summary(kernels: &[Outcome], boards: &[Outcome]) -> String {
    let mut tables = Vec::new();
    if !kernels.is_empty() {
        tables.push(tables::summary(kernels));
    }
    if !boards.is_empty() {
        tables.push(tables::boards(boards));
    }
    tables.join("\n")
}

/// Runs the live suite on the kernels, if any were chosen.
fn on_kernels(kernels: &[&Kernel], options: &Options) -> Result<Vec<Outcome>> {
    if kernels.is_empty() {
        return Ok(Vec::new());
    }
    let all = tests(&options.suite, options.filter.as_deref())?;
    let stage = Stage::make(&options.out.join("stage"), &options.suite, &options.bin_dir)?;
    let bench = Bench { options, stage, all, configs: room().join("vm/kernels") };
    Ok(bench.run(kernels))
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
