//! The child cgroup of each test.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::mounts;

const PREFIX: &str = "set-rto-live-";

/// A cgroup of the unified hierarchy. Drop removes it with everything in it.
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Creates the cgroup of a test under the machine's cgroup2 mount.
    pub(crate) fn create(test: &str) -> Result<Self> {
        let mount = mounts::of_type("cgroup2")?.into_iter().next().context(
            "no cgroup2 mount in /proc/self/mountinfo; \
             mount one: mount -t cgroup2 none /sys/fs/cgroup",
        )?;
        let path = mount.join(format!("{PREFIX}{}-{test}", std::process::id()));
        fs::create_dir(&path)
            .with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Cgroup { path })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Kills all its processes and removes it.
    ///
    /// # Errors
    /// Names what remains if this does not succeed within two seconds.
    pub(crate) fn remove(&self) -> Result<()> {
        until_removed(&self.path, || {
            for pid in members(&self.path) {
                // It may be gone already.
                let _ = kill(pid, Signal::SIGKILL);
            }
            remove_tree(&self.path)
        })
    }
}

/// Removes a cgroup after its processes have moved away or ended.
///
/// # Errors
/// Gives the reason if this does not succeed within two seconds.
pub(crate) fn remove_empty(path: &Path) -> Result<()> {
    // A thread can be joined before the kernel takes it out of its cgroup (do_exit in kernel/exit.c, Linux 5.10).
    until_removed(path, || fs::remove_dir(path))
}

/// Retries for two seconds.
fn until_removed(path: &Path, attempt: impl Fn() -> std::io::Result<()>) -> Result<()> {
    let mut last = None;
    for _ in 0..200 {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
        sleep(Duration::from_millis(10));
    }
    let reason = last.map(|error| error.to_string()).unwrap_or_default();
    bail!("the cgroup {} cannot be removed: {reason}", path.display())
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.path.exists()
            && let Err(error) = self.remove()
        {
            eprintln!("{error}");
        }
    }
}

/// Removes the cgroups that killed runs left: those of ours without a living process.
pub(crate) fn sweep() -> Result<()> {
    for mount in mounts::of_type("cgroup2")? {
        for entry in fs::read_dir(&mount)?.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            let owner = rest.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(owner).exists() {
                // A cgroup with processes is in use and stays.
                let _ = remove_tree(&entry.path());
            }
        }
    }
    Ok(())
}

/// The processes of a cgroup and of its descendants.
fn members(path: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<Pid> =
        own.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect();
    for child in children(path) {
        pids.extend(members(&child));
    }
    pids
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    for child in children(path) {
        remove_tree(&child)?;
    }
    fs::remove_dir(path)
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
