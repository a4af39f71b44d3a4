//! cgroups of the unified hierarchy: by path, and by the id that a link carries.

use super::mounts::{self, Mount};
use crate::error::{Error, Result, hint};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs, statfs};
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC`, include/uapi/linux/magic.h.
const CGROUP2: FsType = FsType(0x6367_7270);

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
fn mount() -> Result<Mount> {
    let mut found: Option<Mount> = None;
    for mount in mounts::all()?.into_iter().filter(|mount| mount.kind == "cgroup2") {
        // Something else may be mounted over it, or over a directory above it.
        let is_visible = match statfs(&mount.point) {
            Ok(kind) => kind.filesystem_type() == CGROUP2,
            Err(Errno::ENOENT | Errno::ENOTDIR) => false,
            Err(errno) => {
                let what = format!("look at {}", mount.point.display());
                return Err(Error::call(what, errno, hint::AGAIN));
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
    found.ok_or_else(|| Error::new("no cgroup2 file system is mounted", hint::CGROUP2))
}

impl Cgroup {
    /// The root of the hierarchy: every socket of the host.
    ///
    /// # Errors
    /// No cgroup2 file system is mounted, or the mounts cannot be read.
    pub(crate) fn root() -> Result<Self> {
        Self::open(&mount()?.point)
    }

    /// The cgroup to attach to: the requested one or the root.
    ///
    /// # Errors
    /// The path does not exist or is not a cgroup2 directory.
    pub(crate) fn chosen(asked: Option<&Path>) -> Result<Self> {
        asked.map_or_else(Self::root, Self::open)
    }

    fn open(path: &Path) -> Result<Self> {
        let what = || format!("cgroup {}", path.display());
        let hint = || match mount() {
            Ok(mount) => format!("--cgroup takes a directory under {}", mount.point.display()),
            Err(_) => "--cgroup takes a directory of a cgroup2 file system".into(),
        };
        if path.as_os_str().is_empty() {
            return Err(Error::usage("cgroup: empty path", hint()));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = match open(path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOTDIR) => {
                let message = format!("{} is not a directory", path.display());
                return Err(Error::usage(message, hint()));
            }
            Err(errno) => return Err(Error::call(what(), errno, hint())),
        };
        let kind = fstatfs(&directory).map_err(|errno| Error::call(what(), errno, hint::AGAIN))?;
        if kind.filesystem_type() != CGROUP2 {
            let message = format!("{} is not a cgroup2 directory", path.display());
            return Err(Error::usage(message, hint()));
        }
        Ok(Self { path: path.to_owned(), directory })
    }

    /// True if the cgroup has this id, as reported in `struct bpf_link_info`.
    ///
    /// Without file handles (CONFIG_FHANDLE, which small kernels leave out) the lower half of the id decides. That is
    /// the inode number, which is unique among directories (`kernfs_ino()`, include/linux/kernfs.h, since Linux 5.5).
    pub(crate) fn has_id(&self, id: u64) -> Result<bool> {
        let failed = |errno| {
            Error::call(format_args!("look at {}", self.path.display()), errno, hint::AGAIN)
        };
        match handle(self.as_fd()) {
            Ok(own) => Ok(own == id),
            Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                let state = fstat(&self.directory).map_err(failed)?;
                Ok(state.st_ino as u32 == id as u32)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// True if this root is only that of a container: a cgroup namespace hides the levels above.
    pub(crate) fn is_of_a_container(&self) -> Result<bool> {
        /// The namespace that the machine starts with (`PROC_CGROUP_INIT_INO`, include/linux/proc_ns.h).
        const FIRST: u64 = 0xefff_fffb;
        match fs::metadata("/proc/self/ns/cgroup") {
            Ok(namespace) => Ok(namespace.ino() != FIRST && mount()?.root == Path::new("/")),
            // A kernel without cgroup namespaces.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at the cgroup namespace", &error, hint::PROC)),
        }
    }
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

fn handle(directory: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut handle = Handle { bytes: ID_BYTES, kind: 0, id: 0 };
    let mut mount = 0;
    // SAFETY: `Handle` is a file_handle with room for the 8 bytes that `bytes` announces; the path is NUL-terminated.
    let ret = unsafe {
        libc::name_to_handle_at(
            directory.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(ret)?;
    if handle.kind == FILEID_KERNFS { Ok(handle.id) } else { Err(Errno::EOPNOTSUPP) }
}

/// The path of the cgroup with this id, for display. None if it is gone, not visible here, or if CAP_DAC_READ_SEARCH is
/// missing.
pub(crate) fn path(id: u64) -> Option<PathBuf> {
    let root = Cgroup::root().ok()?;
    if root.has_id(id).ok()? {
        return Some(root.path);
    }
    let mut handle = Handle { bytes: ID_BYTES, kind: FILEID_KERNFS, id };
    // SAFETY: as above; nothing else owns the returned descriptor.
    let fd = unsafe {
        let fd = libc::open_by_handle_at(
            root.as_fd().as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_CLOEXEC,
        );
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd))
    };
    match fd {
        Ok(fd) => fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok(),
        Err(Errno::ENOSYS) => search(root.path, id),
        Err(_) => None,
    }
}

/// Searches a hierarchy, up to a number of cgroups that suits a small kernel.
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
        let has_id =
            |path: &&PathBuf| Cgroup::open(path).is_ok_and(|it| it.has_id(id).is_ok_and(|is| is));
        if let Some(found) = below.iter().find(has_id) {
            return Some(found.clone());
        }
        places.extend(below);
        places.truncate(MOST);
        next += 1;
    }
    None
}
