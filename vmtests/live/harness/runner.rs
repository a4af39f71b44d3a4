//! Runs each test in its own process with a time limit and cleans up after it.

use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use libtest_mimic::Completion;
use libtest_mimic::Failed;
use libtest_mimic::Trial;
use nix::unistd::geteuid;
use set_rto_vmtests::guests::guest::MARK;

use super::Test;
use super::bpf;
use super::cgroup::Cgroup;
use super::sandbox;

/// Prefix of an output line that is shown even if the test passes.
pub(crate) const NOTE: &str = "note: ";
/// Prefix of the line with the reason of a skipped test.
pub(crate) const SKIPPED: &str = "skipped: ";
/// The exit code of a skipped test.
pub(crate) const SKIP_CODE: u8 = 77;

/// The argument that makes this binary run one test in a sandbox.
pub(crate) const INSIDE: &str = "--inside";

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The notes of all tests that have run, each with its test's name.
pub(crate) fn notes() -> Vec<String> {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The test as libtest-mimic runs it.
pub(crate) fn trial(test: &'static Test, bin_dir: Option<PathBuf>, is_thorough: bool) -> Trial {
    Trial::ignorable_test(test.name, move || {
        if !geteuid().is_root() {
            return Ok(Completion::ignored_with("needs root"));
        }
        if test.needs_bpf
            && let Some(reason) = bpf::missing()
        {
            return Ok(Completion::ignored_with(reason));
        }
        if test.whole_machine && !is_guest() {
            let reason = "works on the whole machine: only in a guest of `cargo xtask matrix`";
            return Ok(Completion::ignored_with(reason));
        }
        run(test, bin_dir.as_deref(), is_thorough)
            .map_err(|error| Failed::from(format!("{error:#}")))?
    })
}

/// True if this machine is a guest of the matrix.
pub(crate) fn is_guest() -> bool {
    let words = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    words.split_ascii_whitespace().any(|word| word == MARK)
}

/// Runs one test. The inner result is the test's, the outer one the harness's.
fn run(
    test: &Test,
    bin_dir: Option<&Path>,
    is_thorough: bool,
) -> Result<Result<Completion, Failed>> {
    let cgroup = Cgroup::create(test.name)?;
    let (mut output, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = start(test, cgroup.path(), bin_dir, is_thorough, writer)?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        // Shows as much output as could be read. A failed read does not change the verdict.
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let limit = Duration::from_secs(test.limit);
    let status = wait(&mut child, limit)?;
    // This also kills processes that the test left running, which ends the pipe.
    cgroup.remove()?;
    let _ = child.kill();
    child.wait()?;
    let output = reader.join().unwrap_or_default();
    keep_notes(test, &output);
    Ok(match status {
        None => Err(format!("killed after its limit of {limit:?}\n{output}").into()),
        Some(status) => verdict(status, &output),
    })
}

fn start(
    test: &Test,
    cgroup: &Path,
    bin_dir: Option<&Path>,
    is_thorough: bool,
    output: std::io::PipeWriter,
) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(INSIDE).arg(test.name).arg(cgroup).args(bin_dir);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    if is_thorough {
        command.env(sandbox::THOROUGH, "1");
    }
    command.spawn().context("cannot start the test's process")
}

/// Waits until the process ends. Returns `None` if the limit expires first.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

fn verdict(status: ExitStatus, output: &str) -> Result<Completion, Failed> {
    if status.success() {
        return Ok(Completion::Completed);
    }
    if status.code() == Some(SKIP_CODE.into()) {
        let reason = output.lines().find_map(|line| line.strip_prefix(SKIPPED));
        return Ok(Completion::ignored_with(reason.unwrap_or("no reason given")));
    }
    Err(format!("{status}\n{output}").into())
}

fn keep_notes(test: &Test, output: &str) {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    for text in output.lines().filter_map(|line| line.strip_prefix(NOTE)) {
        notes.push(format!("{}: {text}", test.name));
    }
}
