//! The directory of the pins: finds, creates and locks it, and restores it if an install fails.
//!
//! All access is by descriptor, so a path is resolved only once. The lock is on the directory itself. That is one inode
//! for every spelling of the path and in every mount namespace that shares the bpffs. Only its owner can open it, so
//! nobody else can lock it. If no bpffs is mounted yet, the lock is on its mount point. Mount namespaces share sysfs,
//! so this lock covers at least the namespace that gets the mount.

use super::proof::failed;
use super::wait::wait_for;
use crate::bpf;
use crate::error::{Context as _, Error, Result, hint};
use crate::host;
use crate::host::mounts::{self, BPFFS, BPFFS_DIR};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Opens a directory for traversal only, which needs no read permission.
const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The mode of our directories. The sticky bit distinguishes an empty one from a foreign one.
const MODE: Mode = Mode::from_bits_truncate(0o1700);

/// How often to retry after another process removes the directory just before it is locked.
const TURNS: usize = 10_000;

/// Where a pin directory is, or will be.
pub(crate) enum Place {
    /// It exists.
    There(OwnedFd),
    /// It will be below this directory of a bpffs, by these names.
    Missing(OwnedFd, Vec<OsString>),
    /// No bpffs is mounted; below its mount point, by these names.
    NoBpffs(Vec<OsString>),
}

/// Finds the place.
///
/// # Errors
/// The path cannot be read, is outside of a bpffs, or something else has its name.
pub(crate) fn find(path: &Path) -> Result<Place> {
    let outside = |what: String| {
        Err(Error::usage(what, format!("--pin takes a directory under {BPFFS_DIR}")))
    };
    if path.as_os_str().is_empty() {
        return outside("--pin: empty path".into());
    }
    // A bpffs may be mounted between two calls, which leaves us with the directory underneath.
    for _ in 0..3 {
        let (directory, missing) = nearest(path)?;
        let kind = fstatfs(&directory).map_err(|errno| failed("look at", path, errno))?;
        if kind.filesystem_type() == BPFFS {
            return Ok(match missing.is_empty() {
                true => Place::There(directory),
                false => Place::Missing(directory, missing),
            });
        }
        let below = path.strip_prefix(BPFFS_DIR).ok().filter(|rest| *rest != Path::new(""));
        let Some(below) = below else { break };
        if !mounts::is_bpffs_mounted()? {
            return Ok(Place::NoBpffs(below.iter().map(OsStr::to_owned).collect()));
        }
    }
    outside(format!("{} is not on a BPF file system", path.display()))
}

/// The last directory on a path that exists, and the names below it.
fn nearest(path: &Path) -> Result<(OwnedFd, Vec<OsString>)> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match (open(ancestor, PATH, Mode::empty()), ancestor.file_name()) {
            (Ok(directory), _) => return Ok((directory, missing)),
            (Err(Errno::ENOENT), Some(name)) => missing.insert(0, name.to_owned()),
            (Err(Errno::ENOTDIR), _) => {
                return Err(Error::foreign(format!("{} is not a directory", ancestor.display())));
            }
            (Err(errno), _) => return Err(failed("look at", ancestor, errno)),
        }
    }
    unreachable!("the root directory exists")
}

/// A step that a failed install reverts.
enum Undo {
    /// A name in a directory.
    Name(Rc<OwnedFd>, OsString, UnlinkatFlags),
    Link(Rc<OwnedFd>),
}

/// A locked pin directory: only this process may change it until this value is dropped.
pub(crate) struct Locked {
    path: PathBuf,
    fd: Rc<OwnedFd>,
    undo: Vec<Undo>,
    /// A bpffs that is not mounted yet, and the lock of its mount point.
    unmounted: Option<(OwnedFd, OwnedFd)>,
}

impl Locked {
    /// Locks the directory. Creates it if it is missing, and also the bpffs, which [`Locked::commit`] mounts.
    ///
    /// # Errors
    /// The kernel refuses it, other users could write to it, or another process holds the lock for too long.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut mount_point = None;
        for _ in 0..TURNS {
            let mut unmounted = None;
            let (directory, names) = match find(path)? {
                Place::There(directory) => {
                    mounts::refuse_private(directory.as_fd())?;
                    (directory, Vec::new())
                }
                Place::Missing(parent, names) => {
                    mounts::refuse_private(parent.as_fd())?;
                    refuse_open_parent(parent.as_fd(), path)?;
                    (parent, names)
                }
                Place::NoBpffs(names) => {
                    mounts::refuse_private_mount()?;
                    let Some(lock) = mount_point.take() else {
                        mount_point = Some(lock_mount_point()?);
                        // Another process may have mounted one meanwhile.
                        continue;
                    };
                    let root = mounts::new_bpffs()?;
                    let copy = root.try_clone().context("bpffs", hint::AGAIN)?;
                    unmounted = Some((root, lock));
                    (copy, names)
                }
            };
            let mut locked = Self::of(path, directory);
            locked.unmounted = unmounted;
            if !locked.make(&names)? {
                continue;
            }
            if locked.lock()? {
                return Ok(locked);
            }
            // It was removed while this process waited.
            locked.undo.clear();
        }
        Err(keeps_changing(path))
    }

    /// Locks the directory; None if it does not exist.
    pub(crate) fn existing(path: &Path) -> Result<Option<Self>> {
        for _ in 0..TURNS {
            let Place::There(directory) = find(path)? else { return Ok(None) };
            let mut locked = Self::of(path, directory);
            match locked.lock() {
                Ok(true) => return Ok(Some(locked)),
                Ok(false) => {}
                // The directory belongs to something else.
                Err(error) => match host::exists(locked.as_fd(), super::LINK) {
                    Ok(false) => return Ok(None),
                    _ => return Err(error),
                },
            }
        }
        Err(keeps_changing(path))
    }

    /// Not locked yet.
    fn of(path: &Path, directory: OwnedFd) -> Self {
        let (path, fd) = (path.to_owned(), Rc::new(directory));
        Self { path, fd, undo: Vec::new(), unmounted: None }
    }

    /// Creates the directories below `self.fd` and opens the last one. False if one was removed meanwhile.
    fn make(&mut self, names: &[OsString]) -> Result<bool> {
        for name in names {
            let parent = Rc::clone(&self.fd);
            match mkdirat(&*parent, name.as_os_str(), MODE) {
                Ok(()) => self.undo.push(Undo::Name(
                    Rc::clone(&parent),
                    name.clone(),
                    UnlinkatFlags::RemoveDir,
                )),
                Err(Errno::EEXIST) => {}
                Err(Errno::ENOENT) => return Ok(false),
                Err(errno) => return Err(failed("create", &self.path, errno)),
            }
            if !self.reopen(name, PATH | OFlag::O_NOFOLLOW)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a directory in `self.fd` in place of it. False if it is gone.
    fn reopen(&mut self, name: &OsStr, flags: OFlag) -> Result<bool> {
        match openat(&*self.fd, name, flags, Mode::empty()) {
            Ok(directory) => self.fd = Rc::new(directory),
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(failed("open", &self.path, errno)),
        }
        Ok(true)
    }

    /// Takes the lock. False if the directory was removed before it was ours.
    fn lock(&mut self) -> Result<bool> {
        refuse_others(self.fd.as_fd(), &self.path)?;
        if !self.reopen(OsStr::new("."), host::DIRECTORY)? {
            return Ok(false);
        }
        wait_for(self.fd.as_fd(), &self.path)?;
        Ok(state(self.fd.as_fd(), &self.path)?.st_nlink > 0)
    }

    /// The path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Pins an object under a name that is free.
    pub(crate) fn pin(&mut self, object: BorrowedFd<'_>, name: &str) -> Result<()> {
        bpf::pin(object, self.fd.as_fd(), name)
            .map_err(|errno| failed("pin", &self.path.join(name), errno))?;
        let flags = UnlinkatFlags::NoRemoveDir;
        self.undo.push(Undo::Name(Rc::clone(&self.fd), name.into(), flags));
        Ok(())
    }

    /// Registers a link that is in effect already, to be detached if the install fails.
    pub(crate) fn attached(&mut self, link: OwnedFd) -> Rc<OwnedFd> {
        let link = Rc::new(link);
        self.undo.push(Undo::Link(Rc::clone(&link)));
        link
    }

    /// Removes a name, which may be gone already.
    pub(crate) fn unpin(&self, name: &str) -> Result<()> {
        match unlinkat(&*self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Err(errno) if host::exists(self.as_fd(), name) != Ok(false) => {
                Err(failed("remove", &self.path.join(name), errno))
            }
            _ => Ok(()),
        }
    }

    /// Completes the install: nothing is reverted from here on. Mounts the bpffs if it is new.
    ///
    /// # Errors
    /// It cannot be mounted; then everything is reverted.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if let Some((bpffs, _)) = &self.unmounted {
            mounts::mount_bpffs(bpffs.as_fd())?;
        }
        self.undo.clear();
        Ok(())
    }

    /// Removes the directory if it is empty and was made by set-rto.
    pub(crate) fn remove_directory(self) -> Result<()> {
        let state = state(self.fd.as_fd(), &self.path)?;
        if state.st_mode & 0o7777 != MODE.bits() || state.st_uid != geteuid().as_raw() {
            return Ok(());
        }
        // Remove it through its parent, whichever path led here, and only if the parent has it by this name.
        let Some(name) = self.path.file_name() else { return Ok(()) };
        let parent = openat(&*self.fd, "..", PATH, Mode::empty());
        match parent.and_then(|parent| unlinkat(&parent, name, UnlinkatFlags::RemoveDir)) {
            Ok(()) | Err(Errno::ENOTEMPTY | Errno::ENOENT | Errno::ENOTDIR | Errno::EBUSY) => {
                Ok(())
            }
            Err(errno) => Err(failed("remove", &self.path, errno)),
        }
    }
}

impl AsFd for Locked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.fd).as_fd()
    }
}

impl Drop for Locked {
    /// Best effort, in reverse order: the error that brought us here is the one to report. The lock is still held.
    fn drop(&mut self) {
        for step in self.undo.drain(..).rev() {
            let _ = match step {
                Undo::Link(link) => bpf::detach((*link).as_fd()),
                Undo::Name(parent, name, flags) => unlinkat(&*parent, name.as_os_str(), flags),
            };
        }
    }
}

fn keeps_changing(path: &Path) -> Error {
    let message = format!("{} keeps being removed and created again", path.display());
    Error::new(message, hint::AGAIN)
}

fn state(directory: BorrowedFd<'_>, path: &Path) -> Result<FileStat> {
    fstat(directory).map_err(|errno| failed("look at", path, errno))
}

/// Refuses a directory that other users own, read or write: they could lock it or place something there.
fn refuse_others(directory: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let state = state(directory, path)?;
    let (mode, owner, path) = (state.st_mode & 0o7777, state.st_uid, path.display());
    if owner != geteuid().as_raw() {
        let hint = match owner {
            0 => hint::ROOT.into(),
            _ => format!("run it as that user, or choose another directory: --pin {path}2"),
        };
        return Err(Error::new(format!("{path} belongs to user {owner}"), hint));
    }
    if mode & 0o066 != 0 {
        return Err(Error::new(
            format!("{path} is open to others (mode {mode:o})"),
            format!("chmod 700 {path}, or choose another directory: --pin {path}2"),
        ));
    }
    Ok(())
}

/// Refuses to create a directory where other users could rename it.
fn refuse_open_parent(parent: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let state = state(parent, path)?;
    let (is_open, is_sticky) = (state.st_mode & 0o022 != 0, state.st_mode & 0o1000 != 0);
    if state.st_uid != geteuid().as_raw() || (is_open && !is_sticky) {
        return Err(Error::new(
            format!("others may replace what is in the directory above {}", path.display()),
            format!("mount -o remount,mode=0700 {BPFFS_DIR}"),
        ));
    }
    Ok(())
}

/// Locks the directory on which a bpffs will be mounted.
fn lock_mount_point() -> Result<OwnedFd> {
    let path = Path::new(BPFFS_DIR);
    let directory =
        open(path, host::DIRECTORY, Mode::empty()).map_err(|errno| failed("open", path, errno))?;
    wait_for(directory.as_fd(), path)?;
    Ok(directory)
}

/// Opens the directory for reading; None if it does not exist.
///
/// # Errors
/// As for [`find`]. It is foreign if others could have put something there.
pub(crate) fn open_to_look(path: &Path) -> Result<Option<OwnedFd>> {
    let Place::There(directory) = find(path)? else { return Ok(None) };
    let state = state(directory.as_fd(), path)?;
    // Directories of root are shown to every user who may read them.
    match [0, geteuid().as_raw()].contains(&state.st_uid) && state.st_mode & 0o022 == 0 {
        true => Ok(Some(directory)),
        false => Err(Error::foreign(format!("{} is open to others", path.display()))),
    }
}

/// True if a path is on a bpffs; if not, one must be mounted.
///
/// # Errors
/// As for [`find`].
pub(crate) fn is_on_bpffs(path: &Path) -> Result<bool> {
    Ok(!matches!(find(path)?, Place::NoBpffs(_)))
}
