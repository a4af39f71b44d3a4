//! Lists mounts, and sets up the private mount namespace of a test.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;

use super::Skip;

/// The path at which bpftool and set-rto expect the BPF file system.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// The mount points of a file system type, in the order of mountinfo.
pub(crate) fn of_type(kind: &str) -> Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (place, source) = line.split_once(" - ")?;
            if source.split_ascii_whitespace().next()? != kind {
                return None;
            }
            Some(PathBuf::from(place.split_ascii_whitespace().nth(4)?))
        })
        .collect())
}

/// Unmounts every mount of a type in this mount namespace.
pub(crate) fn unmount_all(kind: &str) -> Result<()> {
    // Several mounts may be stacked on one mount point. The bound is far above any machine's number of mounts.
    for _ in 0..64 {
        let Some(place) = of_type(kind)?.pop() else { return Ok(()) };
        umount2(&place, MntFlags::MNT_DETACH)
            .with_context(|| format!("cannot unmount {}", place.display()))?;
    }
    bail!("mounts of type {kind} keep appearing")
}

/// Mounts an empty instance of `kind`.
pub(crate) fn mount_fresh(kind: &str, place: &Path) -> Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount {kind} at {}", place.display()))
}

/// Remounts `/sys` to show the devices of the current network namespace.
pub(crate) fn show_devices() -> Result<()> {
    let place = std::env::temp_dir().join(format!("set-rto-sys-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    mount_fresh("sysfs", &place)?;
    let bound = ["class/net", "devices/virtual/net"].iter().try_for_each(|part| {
        let (from, to) = (place.join(part), Path::new("/sys").join(part));
        mount(Some(&from), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    // The bind mount stays.
    umount2(&place, MntFlags::MNT_DETACH)?;
    std::fs::remove_dir(&place)?;
    bound.context("cannot mount the present devices in /sys")
}

/// Makes all mounts private. Replaces bpffs by an empty one, and cgroup2 by one whose root is the calling process's own
/// cgroup (which needs a cgroup namespace). Tests cannot reach the machine's root cgroup and pins.
pub(crate) fn isolate() -> Result<()> {
    make_private()?;
    let cgroup = of_type("cgroup2")?.into_iter().next().context("cgroup2 is not mounted")?;
    unmount_all("cgroup2")?;
    mount_fresh("cgroup2", &cgroup)?;
    ensure!(
        std::fs::read_to_string("/proc/self/cgroup")?.lines().any(|line| line == "0::/"),
        "this process is not in the root of its own cgroup namespace"
    );
    empty_bpffs()
}

/// Makes all mounts private and replaces bpffs by an empty one, but leaves cgroup2 as it is.
pub(crate) fn fresh_bpffs() -> Result<()> {
    make_private()?;
    empty_bpffs()
}

/// Also remounts `/proc` to show the processes of the current PID namespace.
fn make_private() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make the mounts private")?;
    mount_fresh("proc", Path::new("/proc"))
}

fn empty_bpffs() -> Result<()> {
    unmount_all("bpf")?;
    match mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>) {
        Err(Errno::ENOENT | Errno::ENODEV) => {
            bail!(Skip::new("this kernel has no BPF file system (CONFIG_BPF_SYSCALL)"))
        }
        other => other.with_context(|| format!("cannot mount bpf at {BPFFS}")),
    }
}

/// Lists all mounts, to detect changes.
pub(crate) fn all() -> Result<String> {
    std::fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")
}
