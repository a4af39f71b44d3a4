//! A child cgroup, and a process in it with its own network, mounts and bpffs. Its attachments and pins end with it.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;
use nix::sched::CloneFlags;
use nix::sched::CpuSet;
use nix::sched::sched_getaffinity;
use nix::sched::sched_setaffinity;
use nix::sched::unshare;
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

/// The mount point of bpffs.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

const PREFIX: &str = "set-rto-bench-";

/// A cgroup. Drop removes it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates a cgroup under the root of cgroup2 and removes those that killed runs have left.
    pub(crate) fn create() -> Result<Self> {
        let root = cgroup_root()?;
        for entry in fs::read_dir(&root)?.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                // A cgroup with processes stays.
                let _ = fs::remove_dir(entry.path());
            }
        }
        let path = root.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path)
            .with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Cgroup(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended may still count.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("bench: the cgroup {} cannot be removed", self.0.display());
    }
}

/// The root of cgroup2. In the sandbox, it is the sandbox's own cgroup.
pub(crate) fn cgroup_root() -> Result<PathBuf> {
    mounts("cgroup2")?.into_iter().next().context("no cgroup2 file system is mounted")
}

/// Moves this process into the cgroup and into new namespaces.
pub(crate) fn enter(cgroup: &Path) -> Result<()> {
    // SAFETY: sets one number of this process: the signal it gets when its parent ends.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) };
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move into the cgroup {}", cgroup.display()))?;
    unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("cannot make namespaces")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make the mounts private")?;
    let root = cgroup_root()?;
    for (kind, place) in [("cgroup2", root.as_path()), ("bpf", Path::new(BPFFS))] {
        unmount_all(kind)?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} at {}", place.display()))?;
    }
    // set-rto refuses a bpffs that process 1 does not have, because it usually ends with a command. This one stays.
    mount(
        Some("/proc/self/mountinfo"),
        "/proc/1/mountinfo",
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .context("cannot show these mounts as those of process 1")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    if !own.lines().any(|line| line == "0::/") {
        bail!("this process is not in the root of its own cgroup namespace");
    }
    Ok(())
}

/// Binds the process to one processor with priority over others. A loopback handshake is then the work of one thread.
pub(crate) fn hold_one_processor() -> Result<()> {
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own).context("cannot ask for the processors")?;
    let last = (0..CpuSet::count()).rfind(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("no processor")?)?;
    sched_setaffinity(own, &one).context("cannot stay on one processor")?;
    // SAFETY: no pointers.
    let ret = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    nix::errno::Errno::result(ret).context("cannot raise the priority")?;
    Ok(())
}

fn unmount_all(kind: &str) -> Result<()> {
    // Far above the number of mounts on any machine.
    for _ in 0..64 {
        let Some(place) = mounts(kind)?.pop() else { return Ok(()) };
        umount2(&place, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", place.display()))?;
    }
    bail!("mounts of type {kind} keep appearing")
}

/// The mount points of a file system type.
fn mounts(kind: &str) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    let place = |line: &str| {
        let (place, source) = line.split_once(" - ")?;
        let is_kind = source.split_ascii_whitespace().next()? == kind;
        is_kind.then(|| place.split_ascii_whitespace().nth(4).map(PathBuf::from))?
    };
    Ok(text.lines().filter_map(place).collect())
}
