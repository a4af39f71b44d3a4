//! cgroups of the unified hierarchy: by path, and by the id that a link carries.

use super::mounts;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{FsType, statfs};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
const CGROUP2: FsType = FsType(0x6367_7270);

/// The root of the cgroup2 hierarchy: where it is mounted, on a pure-v2 or a hybrid system.
///
/// # Errors
/// No cgroup2 file system is mounted.
pub(crate) fn root() -> Result<PathBuf> {
    let found = mounts::all().into_iter().filter(|mount| mount.kind == "cgroup2");
    // The whole hierarchy before a bind mount of a part of it.
    let first = found.min_by_key(|mount| mount.root != Path::new("/"));
    first.map(|mount| mount.point).ok_or_else(|| {
        Error::new(
            "no cgroup2 file system is mounted",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
        )
    })
}

/// The cgroup to attach to: the one asked for, or the root.
///
/// # Errors
/// Nothing there, or not a cgroup2 directory.
pub(crate) fn chosen(asked: Option<&Path>) -> Result<PathBuf> {
    let Some(path) = asked else { return root() };
    let hint = || match root() {
        Ok(root) => format!("--cgroup takes a directory under {}", root.display()),
        Err(_) => "--cgroup takes a directory of a cgroup2 file system".into(),
    };
    let meta = fs::metadata(path)
        .map_err(|error| Error::io(format_args!("cgroup {}", path.display()), &error, hint()))?;
    let kind = statfs(path)
        .map_err(|errno| Error::call(format_args!("cgroup {}", path.display()), errno, hint()))?
        .filesystem_type();
    if !meta.is_dir() || kind != CGROUP2 {
        return Err(Error::new(format!("{} is not a cgroup2 directory", path.display()), hint()));
    }
    Ok(path.to_owned())
}

/// A kernfs file handle: the cgroup's 64-bit id (`FILEID_KERNFS`, include/linux/exportfs.h).
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

const ID_BYTES: u32 = 8;
const FILEID_KERNFS: i32 = 0xfe;

/// Whether a cgroup has an id, as `struct bpf_link_info` has it.
///
/// Without file handles (CONFIG_FHANDLE, which small kernels leave out) its lower half decides: that is the inode
/// number, and no two directories have the same (`kernfs_ino()`, include/linux/kernfs.h, since Linux 5.5).
pub(crate) fn has_id(path: &Path, id: u64) -> bool {
    match handle(path) {
        Some(own) => own == id,
        None => fs::metadata(path).is_ok_and(|meta| meta.ino() as u32 == id as u32),
    }
}

fn handle(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut handle = Handle { bytes: ID_BYTES, kind: 0, id: 0 };
    let mut mount = 0;
    // SAFETY: `Handle` is a file_handle with room for the 8 bytes that `bytes` announces; the path is NUL-terminated.
    let ret = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            0,
        )
    };
    (ret == 0 && handle.kind == FILEID_KERNFS).then_some(handle.id)
}

/// Where the cgroup with this id is; None if it is gone, out of sight, or for lack of CAP_DAC_READ_SEARCH.
pub(crate) fn path(id: u64) -> Option<PathBuf> {
    let root = root().ok()?;
    if has_id(&root, id) {
        return Some(root);
    }
    let mount = File::open(&root).ok()?;
    let mut handle = Handle { bytes: ID_BYTES, kind: FILEID_KERNFS, id };
    // SAFETY: as above; the descriptor that comes back is owned by nobody else.
    let fd = unsafe {
        let fd = libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_CLOEXEC,
        );
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd))
    };
    match fd {
        Ok(fd) => fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok(),
        Err(Errno::ENOSYS) => search(root, id),
        Err(_) => None,
    }
}

/// Looks through a hierarchy, at no more cgroups than a small kernel will have.
fn search(root: PathBuf, id: u64) -> Option<PathBuf> {
    const MOST: usize = 4096;
    let mut places = vec![root];
    let mut next = 0;
    while let Some(place) = places.get(next) {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let below: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        if let Some(found) = below.iter().find(|path| has_id(path, id)) {
            return Some(found.clone());
        }
        places.extend(below);
        places.truncate(MOST);
        next += 1;
    }
    None
}
