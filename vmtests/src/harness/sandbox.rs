//! The inside of a test's process: its own cgroup, network, mounts, bpffs and process IDs. It is process 1 there, so
//! that its mounts are those of a whole host: what set-rto mounts outlives it.

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

/// Set for the process of a test where the run is to leave nothing out.
pub(crate) const THOROUGH: &str = "SET_RTO_LIVE_THOROUGH";

/// Whether tests that take a share of what they could try take all.
pub(crate) fn is_thorough() -> bool {
    std::env::var_os(THOROUGH).is_some()
}

/// Where the executables under test are.
///
/// # Errors
/// [`Skip`] where the run was given none.
pub(crate) fn bin_dir() -> Result<&'static Path> {
    match BIN_DIR.get() {
        Some(path) => Ok(path),
        None => bail!(Skip::new("no executables to test: give --bin-dir DIR")),
    }
}

/// The test's own cgroup, which inside the sandbox is the root of cgroup2; the machine's root where the test works on
/// the whole machine.
pub(crate) fn cgroup() -> Result<PathBuf> {
    mounts::of_type("cgroup2")?.into_iter().next().context("cgroup2 is not mounted")
}

/// Runs one test in this process, which moves into `cgroup` and new namespaces first.
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

/// For a test that works on the whole machine: new mounts and a new network, so that what it pins ends with it; the
/// cgroups are the machine's.
fn stay_outside() -> Result<()> {
    end_with_the_run();
    let some = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    unshare(some).context("cannot make namespaces")
}

/// Goes on in a child that is process 1 of the new namespace. The parent gets its exit code; the child gets None.
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
    // SAFETY: sets one number of this process: the signal it gets when the run that started it ends.
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

/// Before Linux 5.11 what BPF holds counts against this limit, also for some time after it is freed, by this test or
/// the one before. A service manager sets it so (LimitMEMLOCK); set-rto with few capabilities cannot raise it itself.
/// Nor may every root.
fn lock_all_memory() -> Result<()> {
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() {
        let (_, most) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        setrlimit(Resource::RLIMIT_MEMLOCK, most, most)?;
    }
    Ok(())
}
