//! cgroups of the unified hierarchy: by path, and by the id that a link carries.

use super::mounts::{self, Mount};
use crate::bpf;
use crate::error::{Context as _, Error, Result, hint};
use crate::host;
use libbpf_rs::libbpf_sys::BPF_CGROUP_SOCK_OPS;
use nix::errno::Errno;
use nix::fcntl::open;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs, statfs};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
const CGROUP2: FsType = FsType(0x6367_7270);

/// What [`Cgroup::is_of_a_container`] means.
pub(crate) const OF_A_CONTAINER: &str =
    "this cgroup is the root of a container: the policy covers only that container";

/// A cgroup, by its directory.
pub(crate) struct Cgroup {
    /// For messages.
    pub(crate) path: PathBuf,
    directory: OwnedFd,
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The mount of the whole cgroup2 hierarchy, on a pure-v2 or a hybrid system. If there is none, the mount of a part.
fn mount() -> Result<Option<Mount>> {
    let mut found: Option<Mount> = None;
    for mount in mounts::all()?.into_iter().filter(|mount| mount.kind == "cgroup2") {
        // Something else may be mounted over it, or over a directory above it.
        let is_visible = match statfs(&mount.point) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => false,
            kind => {
                let what = format_args!("look at {}", mount.point.display());
                kind.context(what, hint::AGAIN)?.filesystem_type() == CGROUP2
            }
        };
        let is_whole = mount.root == Path::new("/");
        if is_visible && (is_whole || found.is_none()) {
            found = Some(mount);
            if is_whole {
                break;
            }
        }
    }
    Ok(found)
}

impl Cgroup {
    /// The root of the hierarchy: every socket of the host.
    ///
    /// # Errors
    /// No cgroup2 file system is mounted, or the mounts cannot be read.
    pub(crate) fn root() -> Result<Self> {
        const HINT: &str =
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified";
        match mount()? {
            Some(mount) => Self::open(&mount.point),
            None => Err(Error::new("no cgroup2 file system is mounted", HINT)),
        }
    }

    /// The cgroup to attach to: the requested one or the root.
    ///
    /// # Errors
    /// The path does not exist or is not a cgroup2 directory.
    pub(crate) fn chosen(asked: Option<&Path>) -> Result<Self> {
        asked.map_or_else(Self::root, Self::open)
    }

    fn open(path: &Path) -> Result<Self> {
        let what = format_args!("cgroup {}", path.display());
        let hint = || match mount() {
            Ok(Some(mount)) => {
                format!("--cgroup takes a directory under {}", mount.point.display())
            }
            _ => "--cgroup takes a directory of a cgroup2 file system".into(),
        };
        if path.as_os_str().is_empty() {
            return Err(Error::usage("cgroup: empty path", hint()));
        }
        let directory = match open(path, host::DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOTDIR) => {
                let message = format!("{} is not a directory", path.display());
                return Err(Error::usage(message, hint()));
            }
            Err(errno) => return Err(Error::call(what, errno, &hint())),
        };
        if fstatfs(&directory).context(what, hint::AGAIN)?.filesystem_type() != CGROUP2 {
            let message = format!("{} is not a cgroup2 directory", path.display());
            return Err(Error::usage(message, hint()));
        }
        Ok(Self::of(path.to_owned(), directory))
    }

    /// A directory that is known to be a cgroup.
    pub(crate) fn of(path: PathBuf, directory: OwnedFd) -> Self {
        Self { path, directory }
    }

    /// Attaches a sock_ops program.
    pub(crate) fn attach(&self, program: BorrowedFd<'_>) -> Result<OwnedFd> {
        bpf::attach(program, self.as_fd(), BPF_CGROUP_SOCK_OPS).map_err(|errno| {
            let hint = match errno {
                Errno::EPERM => {
                    "a program that was attached without BPF_F_ALLOW_MULTI admits no other: `bpftool cgroup tree` shows it"
                }
                Errno::ENODEV | Errno::ENOENT => "was the cgroup removed?",
                _ => hint::CHECK,
            };
            Error::call(format_args!("attach to {}", self.path.display()), errno, hint)
        })
    }

    /// True if the cgroup has this id, as reported in `struct bpf_link_info`.
    pub(crate) fn has_id(&self, id: u64) -> Result<bool> {
        Ok(is_id(self.inode()? as u32, id))
    }

    fn inode(&self) -> Result<u64> {
        let what = format_args!("look at {}", self.path.display());
        Ok(fstat(&self.directory).context(what, hint::AGAIN)?.st_ino)
    }

    /// True for the root of a container: it looks like the root of the hierarchy, but there are levels above.
    pub(crate) fn is_of_a_container(&self) -> Result<bool> {
        /// The namespace that the machine starts with (`PROC_CGROUP_INIT_INO`, include/linux/proc_ns.h).
        const FIRST: u64 = 0xefff_fffb;
        let Some(Mount { root, point, .. }) = mount()? else { return Ok(false) };
        if self.inode()? != Self::open(&point)?.inode()? {
            return Ok(false);
        }
        // From a namespace, the root of a mount that began outside of it is `/..` with as many levels.
        if root != Path::new("/") {
            return Ok(root.components().any(|it| matches!(it, Component::Normal(_))));
        }
        match fs::metadata("/proc/self/ns/cgroup") {
            Ok(namespace) => Ok(namespace.ino() != FIRST),
            // A kernel without cgroup namespaces.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).context("look at the cgroup namespace", hint::PROC),
        }
    }
}

/// True for the lower half of the inode number of the cgroup with this id. No two cgroups share it. On 32-bit kernels it
/// is the whole inode number (`kernfs_ino()`, include/linux/kernfs.h, since Linux 5.5).
fn is_id(inode: u32, id: u64) -> bool {
    inode == id as u32
}

/// The path of the cgroup with this id, for display. None if it is gone, not visible here, or beyond the bound.
///
/// # Errors
/// The mounts or a cgroup cannot be read.
pub(crate) fn path(id: u64) -> Result<Option<PathBuf>> {
    /// The hosts of many containers have some thousands of cgroups.
    const MOST: usize = 65_536;
    let Some(mount) = mount()? else { return Ok(None) };
    if Cgroup::open(&mount.point)?.has_id(id)? {
        return Ok(Some(mount.point));
    }
    // From the root down: what people attach to is near it.
    let mut places = vec![mount.point];
    let mut next = 0;
    while let Some(place) = places.get(next).cloned() {
        next += 1;
        let entries = open(&place, host::DIRECTORY, Mode::empty())
            .and_then(|directory| host::list(directory.as_fd()));
        let entries = match entries {
            // It has been removed since it was listed.
            Err(Errno::ENOENT | Errno::ENODEV) => continue,
            entries => entries.context(format_args!("list {}", place.display()), hint::RETRY)?,
        };
        for entry in entries.into_iter().filter(|entry| entry.is_directory) {
            let path = place.join(&entry.name);
            if is_id(entry.inode as u32, id) {
                return Ok(Some(path));
            }
            if places.len() < MOST {
                places.push(path);
            }
        }
    }
    Ok(None)
}
