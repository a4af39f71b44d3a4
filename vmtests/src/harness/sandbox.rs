//! The inside of a test's process: its own cgroup, network, mounts and bpffs.

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

use super::Skip;
use super::Test;
use super::mounts;
use super::netns;
use super::runner::SKIP_CODE;
use super::runner::SKIPPED;

static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();

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
    let Err(error) = entered.and_then(|()| (test.run)()) else { return ExitCode::SUCCESS };
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
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("cannot make namespaces")?;
    lock_all_memory()?;
    mounts::fresh_bpffs()?;
    netns::prepare()
}

fn end_with_the_run() {
    // SAFETY: sets one number of this process: the signal it gets when the run that started it ends.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) };
}

fn enter(cgroup: &Path) -> Result<()> {
    end_with_the_run();
    std::fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move into the cgroup {}", cgroup.display()))?;
    let all = CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    match unshare(all) {
        Err(Errno::EINVAL) => {
            bail!(Skip::new("this kernel lacks cgroup, mount or network namespaces"))
        }
        other => other.context("cannot make namespaces")?,
    }
    lock_all_memory()?;
    mounts::isolate()?;
    netns::prepare()
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
