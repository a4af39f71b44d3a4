//! Runs the kernels, several at the same time: gets, boots, and reads the results. Then runs the boards one by one.

use crate::options::Options;
use crate::results::{Outcome, Verdict};
use crate::stage::Stage;
use anyhow::Result;
use nix::fcntl::{Flock, FlockArg};
use set_rto_vmtests::boards::Board;
use set_rto_vmtests::guests::cache;
use set_rto_vmtests::guests::guest::{self, Accelerator, Guest};
use set_rto_vmtests::guests::kernel::{Image, Suites};
use set_rto_vmtests::guests::kernels::Kernel;
use set_rto_vmtests::guests::reboot;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// The test that is not part of the suite.
const REBOOT: &str = "machine_reboot";

/// The inputs of every guest.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) stage: Stage,
    /// The names of all tests.
    pub(crate) all: Vec<String>,
    /// The directory of the configurations of our own kernels.
    pub(crate) configs: PathBuf,
}

/// State shared by the threads that run kernels: the origin of kernels, and how guests run.
#[derive(Default)]
struct Shared {
    suites: Suites,
    accelerator: Option<Accelerator>,
}

impl Bench<'_> {
    /// Runs all kernels and reports each one as soon as it has ended, in the given order.
    pub(crate) fn run(&self, kernels: &[&Kernel]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let shared = Mutex::<Shared>::default();
        let outcomes = Mutex::new(Vec::new());
        let worker = || {
            while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
                let outcome = self.outcome(kernel, &shared);
                let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                report(&outcome);
                outcomes.push(outcome);
            }
        };
        // The first available kernel shows how guests can run here.
        let scratch = self.options.out.join("scratch");
        let accelerator =
            kernels.iter().find_map(|kernel| self.get(kernel, &shared, &scratch).ok());
        let default = accelerator.map_or(1, |(_, accelerator)| default_jobs(accelerator));
        let jobs = self.options.jobs.unwrap_or(default).min(kernels.len());
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(worker);
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_by_key(|one| kernels.iter().position(|kernel| kernel.name == one.name));
        outcomes
    }

    fn outcome(&self, kernel: &Kernel, shared: &Mutex<Shared>) -> Outcome {
        let start = Instant::now();
        let mut outcome = match self.one(kernel, shared) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::broken(kernel, format!("{error:#}")),
        };
        outcome.seconds = start.elapsed().as_secs();
        if self.options.filter.is_none() {
            keep(&self.options.out, &outcome);
        }
        outcome
    }

    fn one(&self, kernel: &Kernel, shared: &Mutex<Shared>) -> Result<Outcome> {
        let out = &self.options.out;
        let scratch = out.join("scratch").join(&kernel.name);
        println!("{}: getting the kernel", kernel.name);
        let (image, accelerator) = self.get(kernel, shared, &scratch)?;
        println!("{}: booting {} ({accelerator:?})", kernel.name, image.origin);
        let command = self.stage.command(self.options.filter.as_deref());
        let guest =
            Guest { image: &image, args: &kernel.args, accelerator, scratch: &scratch, command };
        let mut done = 0;
        // The log is written as output arrives, with seconds since the start. It survives a guest that hangs.
        let mut log = File::create(out.join(format!("{}.log", kernel.name)))?;
        let begin = Instant::now();
        let ran = guest.run(|line| {
            // The log is for people. The results do not depend on it.
            let _ = writeln!(log, "{:7.1} {line}", begin.elapsed().as_secs_f64());
            if line.starts_with("test ") {
                done += 1;
                if done % 20 == 0 {
                    println!("{}: {done} of {} tests", kernel.name, self.all.len());
                }
            }
        })?;
        let console = ran.console.join("\n") + "\n";
        fs::write(out.join(format!("{}.console", kernel.name)), console)?;
        let mut outcome = Outcome::read(kernel, &image.origin, &self.all, &ran.output);
        if self.options.filter.as_ref().is_none_or(|part| REBOOT.contains(part.as_str())) {
            let program = self.options.bin_dir.join("default");
            let rebooted = reboot::check(&image, accelerator, &program, &scratch);
            outcome.add(kernel, REBOOT, rebooted);
        }
        Ok(outcome)
    }

    fn get(
        &self,
        kernel: &Kernel,
        shared: &Mutex<Shared>,
        scratch: &Path,
    ) -> Result<(Image, Accelerator)> {
        fs::create_dir_all(scratch)?;
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let image = shared.suites.image(kernel, &self.configs)?;
        let accelerator = match shared.accelerator {
            Some(known) => known,
            None => *shared.accelerator.insert(guest::accelerator(&image, scratch)?),
        };
        Ok((image, accelerator))
    }
}

/// Boots the boards one after another and reports each. Their clocks follow this host's clock while they wait.
///
/// # Errors
/// The cache for the lock is missing.
pub(crate) fn boards(boards: &[&Board], scripts: &Path, options: &Options) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    if boards.is_empty() {
        return Ok(outcomes);
    }
    // This takes the same lock as `cargo xtask image`: they share downloads and the processor.
    let lock = File::create(cache::dir()?.join("image.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    for board in boards {
        println!("{}: getting its parts", board.name);
        let start = Instant::now();
        let built = options.built.join(format!("board-{}", board.target));
        let scratch = options.out.join("scratch").join(board.name);
        let log = options.out.join(format!("{}.console", board.name));
        let ran = board.run(&scripts.join("board"), &built, &scratch, &log);
        let mut outcome = Outcome::of_board(board.name, ran);
        outcome.seconds = start.elapsed().as_secs();
        keep(&options.out, &outcome);
        report(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// The path of the last whole run of a kernel or board.
pub(crate) fn last(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.json"))
}

fn keep(out: &Path, outcome: &Outcome) {
    let text = format!("{:#}\n", outcome.json());
    if let Err(error) = fs::write(last(out, &outcome.name), text) {
        eprintln!("matrix: the result of {} cannot be kept: {error}", outcome.name);
    }
}

/// One guest at a time if timers run in real time. One per processor if each guest has its own clock.
fn default_jobs(accelerator: Accelerator) -> usize {
    match accelerator {
        Accelerator::Kvm => 1,
        Accelerator::Tcg => thread::available_parallelism().map_or(1, usize::from),
    }
}

fn report(outcome: &Outcome) {
    println!("{}", outcome.summary());
    for (test, verdict) in &outcome.tests {
        if let Verdict::Fail(why) = verdict {
            println!("  {test}: {}", why.replace('\n', "\n    "));
        }
    }
}
