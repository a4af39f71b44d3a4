//! The live suite on a matrix of kernels, each in a virtual machine.
//!
//!     matrix --suite FILE --bin-dir DIR --out DIR [--list] [--core] [NAME…]
//!
//! FILE is the live suite, DIR its executables (see `live`). `cargo xtask matrix` builds both and calls this.

mod readme;
mod results;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use results::Outcome;
use set_rto_vmtests::guests::cache;
use set_rto_vmtests::guests::guest::{self, Accelerator, Guest};
use set_rto_vmtests::guests::kernel::{Image, Suites};
use set_rto_vmtests::guests::kernels::{self, Kernel, Origin};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

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

/// The command line.
#[derive(Clone, Default)]
struct Options {
    suite: PathBuf,
    bin_dir: PathBuf,
    out: PathBuf,
    list: bool,
    core: bool,
    filter: Option<String>,
    names: Vec<String>,
}

impl Options {
    fn read(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--suite" => options.suite = value()?.into(),
                "--bin-dir" => options.bin_dir = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--test" => options.filter = Some(value()?.clone()),
                "--list" => options.list = true,
                "--core" => options.core = true,
                _ if word.starts_with('-') => bail!("unknown option {word}"),
                _ => options.names.push(word.clone()),
            }
        }
        Ok(options)
    }

    fn chooses(&self, kernel: &Kernel) -> bool {
        match self.names.as_slice() {
            [] => kernel.core || !self.core,
            names => names.contains(&kernel.name),
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
    // Two runs would build in one tree.
    let lock = File::create(cache::dir()?.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let all = tests(&options.suite, options.filter.as_deref())?;
    fs::create_dir_all(&options.out)?;
    // Some of what runs there has another working directory.
    let options = &Options { out: fs::canonicalize(&options.out)?, ..options.clone() };
    let mut suites = Suites::default();
    let mut accelerator = None;
    let mut outcomes = Vec::new();
    for kernel in chosen {
        let start = Instant::now();
        let mut outcome = match one(kernel, options, &all, &mut suites, &mut accelerator) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::broken(kernel, format!("{error:#}")),
        };
        outcome.seconds = start.elapsed().as_secs();
        println!("{}", outcome.summary());
        for (test, verdict) in &outcome.tests {
            if let results::Verdict::Fail(why) = verdict {
                println!("  {test}: {}", why.replace('\n', "\n    "));
            }
        }
        outcomes.push(outcome);
    }
    let table = results::markdown(&outcomes);
    fs::write(options.out.join("matrix.md"), &table)?;
    fs::write(options.out.join("matrix.json"), format!("{:#}\n", results::json(&outcomes)))?;
    println!("\n{table}");
    if options.names.is_empty() && !options.core && options.filter.is_none() {
        readme::update(&room().join("../README.md"), &table)?;
    }
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for outcome in &outcomes {
        let (a, b, c) = outcome.counts();
        passed += a;
        failed += b + usize::from(outcome.broken.is_some());
        unsupported += c;
    }
    println!("matrix: {passed} passed; {failed} failed; {unsupported} unsupported as expected");
    Ok(outcomes.iter().all(Outcome::is_good))
}

fn one(
    kernel: &Kernel,
    options: &Options,
    all: &[String],
    suites: &mut Suites,
    accelerator: &mut Option<Accelerator>,
) -> Result<Outcome> {
    println!("{}: getting the kernel", kernel.name);
    let image: Image = suites.image(kernel, &room().join("kernels"))?;
    let scratch = options.out.join("scratch").join(&kernel.name);
    fs::create_dir_all(&scratch)?;
    let accelerator = match *accelerator {
        Some(known) => known,
        None => *accelerator.insert(guest::accelerator(&image, &scratch)?),
    };
    println!("{}: booting {} ({accelerator:?})", kernel.name, image.origin);
    let quote = |path: &Path| format!("'{}'", path.display());
    let mut command = format!(
        "{} --bin-dir {} --test-threads 1",
        quote(&fs::canonicalize(&options.suite)?),
        quote(&fs::canonicalize(&options.bin_dir)?)
    );
    if let Some(filter) = &options.filter {
        command.push_str(&format!(" '{filter}'"));
    }
    let guest =
        Guest { image: &image, args: &kernel.args, accelerator, scratch: &scratch, command };
    let mut done = 0;
    // Written as it comes: a guest that hangs leaves it, too.
    let mut log = File::create(options.out.join(format!("{}.log", kernel.name)))?;
    let ran = guest.run(|line| {
        // The log is for people; the results do not depend on it.
        let _ = writeln!(log, "{line}");
        if line.starts_with("test ") {
            done += 1;
            if done % 20 == 0 {
                println!("{}: {done} of {} tests", kernel.name, all.len());
            }
        }
    });
    let ran = ran?;
    fs::write(options.out.join(format!("{}.console", kernel.name)), ran.console.join("\n") + "\n")?;
    Ok(Outcome::read(kernel, &image.origin, all, &ran.output))
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
