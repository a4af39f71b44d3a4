//! Mounted file systems: bpffs for the pins, and cgroup2.

use crate::error::{Context as _, Error, Result, hint};
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::getpid;
use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

/// The usual mount point of bpffs.
pub(crate) const BPFFS_DIR: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC`, include/uapi/linux/magic.h.
pub(crate) const BPFFS: FsType = FsType(0xcafe_4a11_u32 as _);

/// One line of /proc/PID/mountinfo.
pub(crate) struct Mount {
    /// Unique among all mounts of the machine, in all namespaces.
    id: u64,
    device: (u32, u32),
    pub(crate) root: PathBuf,
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
}

/// All mounts of this mount namespace, oldest first.
pub(crate) fn all() -> Result<Vec<Mount>> {
    of("self")
}

fn of(process: &str) -> Result<Vec<Mount>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = fs::read(&path).context(format_args!("read {path}"), hint::PROC)?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(mount).collect())
}

/// proc_pid_mountinfo(5): `id parent device root point options … - type source options`.
fn mount(line: &str) -> Option<Mount> {
    let (fields, kind) = line.split_once(" - ")?;
    let mut fields = fields.split(' ');
    let id = fields.next()?.parse().ok()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    Some(Mount { id, device, root, point, kind: kind.split(' ').next()?.into() })
}

/// The kernel escapes the characters that separate fields (`seq_path()`, fs/proc_namespace.c).
fn unescape(field: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(field.to_owned(), |text, (code, plain)| text.replace(code, plain)).into()
}

/// Refuses to mount a bpffs that would disappear with this process.
///
/// # Errors
/// This is a private mount namespace, or the mounts cannot be read.
pub(crate) fn refuse_private_mount() -> Result<()> {
    // In one mount namespace, this process and PID 1 have the same mounts. /proc/1/ns/mnt would be simpler, but root
    // cannot always read it. A PID 1 that is this process or has other mounts is that of a container.
    let (own, first) = (all()?, of("1")?);
    let is_shared = own.iter().any(|mount| first.iter().any(|it| it.id == mount.id));
    match is_shared && getpid().as_raw() != 1 {
        true => Ok(()),
        false => Err(private(format!(
            "no bpffs at {BPFFS_DIR}, and one mounted in this private mount namespace would end with it"
        ))),
    }
}

/// Refuses a bpffs that only this mount namespace has.
///
/// # Errors
/// It is private, or the mounts cannot be read.
pub(crate) fn refuse_private(bpffs: BorrowedFd<'_>) -> Result<()> {
    let state = fstat(bpffs).context("look at the bpffs", hint::AGAIN)?;
    let device = (libc::major(state.st_dev), libc::minor(state.st_dev));
    match of("1") {
        Ok(mounts) if mounts.iter().any(|mount| mount.device == device) => Ok(()),
        Ok(_) => Err(private(
            "the bpffs is in this private mount namespace only: a policy would end with it".into(),
        )),
        // /proc may hide the processes of others (`hidepid`, proc(5)).
        Err(error)
            if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES | Errno::EPERM)) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn private(message: String) -> Error {
    const HINT: &str = "mount it on the host, and share it; from `ip netns exec`: nsenter --net=/run/netns/NAME set-rto install";
    Error::new(message, HINT)
}

/// A new bpffs that is not mounted yet. Until then it ends with its last descriptor.
pub(crate) fn new_bpffs() -> Result<OwnedFd> {
    let bpffs = c"bpf";
    let context = owned(libc::SYS_fsopen, [bpffs.as_ptr() as _, FSOPEN_CLOEXEC, 0, 0, 0])?;
    let set = |key: &CStr, value: &CStr| {
        let arguments = [FSCONFIG_SET_STRING, key.as_ptr() as _, value.as_ptr() as _, 0];
        configure(&context, arguments)
    };
    set(c"source", bpffs)?;
    set(c"mode", c"0700")?;
    configure(&context, [FSCONFIG_CMD_CREATE, 0, 0, 0])?;
    owned(libc::SYS_fsmount, [context.as_raw_fd() as _, FSMOUNT_CLOEXEC, 0, 0, 0])
}

/// True if a bpffs is mounted at its usual mount point.
///
/// # Errors
/// The mount point cannot be read, or does not exist for lack of sysfs or BPF.
pub(crate) fn is_bpffs_mounted() -> Result<bool> {
    statfs(BPFFS_DIR).map(|it| it.filesystem_type() == BPFFS).map_err(failed)
}

/// Mounts it at the usual mount point. The caller holds the lock of that directory.
pub(crate) fn mount_bpffs(bpffs: BorrowedFd<'_>) -> Result<()> {
    // Other programs, such as bpftool, do not know the lock.
    if is_bpffs_mounted()? {
        return Err(Error::new(
            format!("another program has mounted a bpffs at {BPFFS_DIR} meanwhile"),
            hint::AGAIN,
        ));
    }
    let path = std::ffi::CString::new(BPFFS_DIR).map_err(|_| failed(Errno::EINVAL))?;
    let here = libc::AT_FDCWD as libc::c_long;
    let empty = c"".as_ptr() as libc::c_long;
    let arguments =
        [bpffs.as_raw_fd() as _, empty, here, path.as_ptr() as _, MOVE_MOUNT_F_EMPTY_PATH];
    call(libc::SYS_move_mount, arguments).map(drop).map_err(failed)
}

// include/uapi/linux/mount.h
const FSOPEN_CLOEXEC: libc::c_long = 1;
const FSMOUNT_CLOEXEC: libc::c_long = 1;
const FSCONFIG_SET_STRING: libc::c_long = 1;
const FSCONFIG_CMD_CREATE: libc::c_long = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_long = 4;

fn call(number: libc::c_long, [a, b, c, d, e]: [libc::c_long; 5]) -> nix::Result<libc::c_long> {
    // SAFETY: the callers pass valid arguments for each system call: descriptors, flags, NUL-terminated strings.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e) })
}

fn owned(number: libc::c_long, arguments: [libc::c_long; 5]) -> Result<OwnedFd> {
    let fd = call(number, arguments).map_err(failed)?;
    // SAFETY: the call has just created this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn configure(context: &OwnedFd, [command, key, value, aux]: [libc::c_long; 4]) -> Result<()> {
    let arguments = [context.as_raw_fd() as _, command, key, value, aux];
    call(libc::SYS_fsconfig, arguments).map(drop).map_err(failed)
}

fn failed(errno: Errno) -> Error {
    let what = format!("mount bpffs at {BPFFS_DIR}");
    Error::call(what, errno, "as root of the host: mount -t bpf bpf /sys/fs/bpf")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn mountinfo() {
        let line =
            "41 31 0:38 / /sys/fs/cgroup/un\\040ified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let mount = mount(line).expect("a mount");
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/un ified"));
        assert_eq!((mount.root.as_path(), mount.kind.as_str()), (Path::new("/"), "cgroup2"));
        assert_eq!((mount.id, mount.device), (41, (0, 38)));
        assert!(super::mount("short").is_none());
    }
}
