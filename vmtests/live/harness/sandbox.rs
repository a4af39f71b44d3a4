//! The sandbox of a test's process: its own cgroup, network, mounts, bpffs and process IDs. The process is process 1
//! there, and its mounts are those of a whole host: what set-rto mounts outlives set-rto.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::resource::RLIM_INFINITY;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use nix::unistd::fork;

use super::Skip;
use super::Test;
use super::mounts;
use super::netns;
use super::runner::SKIP_CODE;
use super::runner::SKIPPED;

static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();

/// Set for the process of a test if the run must be exhaustive.
pub(crate) const THOROUGH: &str = "SET_RTO_LIVE_THOROUGH";

/// True if tests that normally try a share of the cases try all of them.
pub(crate) fn is_thorough() -> bool {
    std::env::var_os(THOROUGH).is_some()
}

/// The directory of the executables under test.
///
/// # Errors
/// [`Skip`] if the run has no such directory.
pub(crate) fn bin_dir() -> Result<&'static Path> {
    match BIN_DIR.get() {
        Some(path) => Ok(path),
        None => bail!(Skip::new("no executables to test: give --bin-dir DIR")),
    }
}

/// The test's own cgroup, which is the root of cgroup2 inside the sandbox. For a test that uses the whole machine, it
/// is the machine's root.
pub(crate) fn cgroup() -> Result<PathBuf> {
    mounts::of_type("cgroup2")?.into_iter().next().context("cgroup2 is not mounted")
}

/// Runs one test in this process, which first moves into `cgroup` and new namespaces.
pub(crate) fn run(test: &Test, cgroup: &Path, bin_dir: Option<PathBuf>) -> ExitCode {
    if let Some(path) = bin_dir {
        BIN_DIR.get_or_init(|| path);
    }
    let entered = if test.whole_machine { stay_outside() } else { enter(cgroup) };
    match entered.and_then(|()| first_process()) {
        Ok(Some(of_the_first)) => of_the_first,
        Ok(None) => conclude(inside(test)),
        Err(error) => conclude(Err(error)),
    }
}

fn inside(test: &Test) -> Result<()> {
    lock_all_memory()?;
    if test.whole_machine {
        mounts::fresh_bpffs()?;
    } else {
        mounts::isolate()?;
    }
    netns::prepare()?;
    (test.run)()
}

fn conclude(outcome: Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if let Some(skip) = error.downcast_ref::<Skip>() {
        println!("{SKIPPED}{skip}");
        return ExitCode::from(SKIP_CODE);
    }
    println!("{error:#}");
    ExitCode::FAILURE
}

/// For a test that uses the whole machine: creates new mounts and a new network, so that its pins end with it. The
/// cgroups are the machine's.
fn stay_outside() -> Result<()> {
    end_with_the_run();
    let some = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    unshare(some).context("cannot make namespaces")
}

/// Continues in a child that is process 1 of the new namespace. The parent gets its exit code, and the child gets
/// `None`.
fn first_process() -> Result<Option<ExitCode>> {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("cannot start the first process")? {
        ForkResult::Child => end_with_the_run(),
        ForkResult::Parent { child } => {
            let code = match waitpid(child, None)? {
                WaitStatus::Exited(_, code) => u8::try_from(code)?,
                other => bail!("the test's process: {other:?}"),
            };
            return Ok(Some(ExitCode::from(code)));
        }
    }
    Ok(None)
}

fn end_with_the_run() {
    // SAFETY: sets one number of this process: the signal it gets when its parent run ends.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) };
}

fn enter(cgroup: &Path) -> Result<()> {
    end_with_the_run();
    std::fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move into the cgroup {}", cgroup.display()))?;
    let all = CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    match unshare(all) {
        Err(Errno::EINVAL) => {
            bail!(Skip::new(
                "this kernel lacks namespaces of cgroups, mounts, networks or processes"
            ))
        }
        other => other.context("cannot make namespaces"),
    }
}

/// Before Linux 5.11, BPF memory counts against this limit, even for some time after it is freed by this test or the
/// one before. A service manager raises it (LimitMEMLOCK). set-rto with few capabilities cannot raise it itself, and
/// neither can every root user.
fn lock_all_memory() -> Result<()> {
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() {
        let (_, most) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        setrlimit(Resource::RLIMIT_MEMLOCK, most, most)?;
    }
    Ok(())
}
