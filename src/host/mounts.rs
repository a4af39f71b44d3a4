//! Mounted file systems: bpffs for the pins, and cgroup2.

use crate::error::{Error, Result, hint};
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::getpid;
use std::collections::BTreeSet;
use std::ffi::{CStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
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
    of("self").map_err(|error| Error::io("read /proc/self/mountinfo", &error, hint::PROC))
}

fn of(process: &str) -> std::io::Result<Vec<Mount>> {
    let text = fs::read(format!("/proc/{process}/mountinfo"))?;
    Ok(text.split(|&byte| byte == b'\n').filter_map(mount).collect())
}

/// proc_pid_mountinfo(5): `id parent device root point options … - type source options`.
fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |at: usize| std::str::from_utf8(fields.get(at)?).ok();
    let (major, minor) = text(2)?.split_once(':')?;
    Some(Mount {
        id: text(0)?.parse().ok()?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape(fields.get(3)?),
        point: unescape(fields.get(4)?),
        kind: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
    })
}

/// `\040` and the like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while let Some(&byte) = field.get(at) {
        let octal = field.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(out).into()
}

/// How this process's mounts compare with those of PID 1.
struct Shared {
    /// The mounts are the same: both are in one mount namespace.
    mounts: bool,
    devices: BTreeSet<(u32, u32)>,
}

impl Shared {
    /// Compares the mounts. /proc/1/ns/mnt would be simpler, but root cannot always read it.
    fn ask() -> Result<Self> {
        let first =
            of("1").map_err(|error| Error::io("read /proc/1/mountinfo", &error, hint::PROC))?;
        let ids: BTreeSet<_> = first.iter().map(|mount| mount.id).collect();
        // If PID 1 has no other mounts, this is a container, which ends with that process.
        let is_first = getpid().as_raw() == 1;
        let mounts = !is_first && all()?.iter().any(|mount| ids.contains(&mount.id));
        Ok(Self { mounts, devices: first.iter().map(|mount| mount.device).collect() })
    }
}

/// Refuses to mount a bpffs that would disappear with this process.
///
/// # Errors
/// This is a private mount namespace, or the mounts cannot be read.
pub(crate) fn refuse_private_mount() -> Result<()> {
    if Shared::ask()?.mounts {
        return Ok(());
    }
    Err(Error::new(
        format!(
            "no bpffs at {BPFFS_DIR}, and one mounted in this private mount namespace would end with it"
        ),
        "mount it on the host, and share it; from `ip netns exec`: nsenter --net=/run/netns/NAME set-rto install",
    ))
}

/// True for a file on a mount that only this mount namespace has.
pub(crate) fn is_private(file: BorrowedFd<'_>) -> Result<bool> {
    let state =
        fstat(file).map_err(|errno| Error::call("look at the bpffs", errno, hint::AGAIN))?;
    let device = (libc::major(state.st_dev), libc::minor(state.st_dev));
    Ok(!Shared::ask()?.devices.contains(&device))
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
            b"41 31 0:38 / /sys/fs/cgroup/un\\040ified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let mount = mount(line).expect("a mount");
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/un ified"));
        assert_eq!((mount.root.as_path(), mount.kind.as_str()), (Path::new("/"), "cgroup2"));
        assert_eq!((mount.id, mount.device), (41, (0, 38)));
        assert!(super::mount(b"short").is_none());
    }
}
