//! Mounted file systems: the one for pins, and the one of the cgroups.

use nix::sys::statfs::{FsType, statfs};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where bpffs belongs.
pub(crate) const BPFFS_DIR: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC`, include/uapi/linux/magic.h.
const BPFFS: FsType = FsType(0xcafe_4a11_u32 as _);

/// One line of /proc/self/mountinfo: mount point, root within the file system, type.
pub(crate) struct Mount {
    pub(crate) root: PathBuf,
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
}

/// All mounts of this mount namespace, in the order that they were made.
pub(crate) fn all() -> Vec<Mount> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(mount).collect()
}

/// proc_pid_mountinfo(5): `id parent dev root point options … - type source options`.
fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    Some(Mount {
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

/// The mount point of the bpffs that the path lies in; None if it lies in none.
pub(crate) fn bpffs_of(path: &Path) -> Option<PathBuf> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    if statfs(existing).ok()?.filesystem_type() != BPFFS {
        return None;
    }
    let device = fs::metadata(existing).ok()?.dev();
    let same = |ancestor: &&Path| fs::metadata(ancestor).is_ok_and(|meta| meta.dev() == device);
    existing.ancestors().take_while(same).last().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo() {
        let line =
            b"41 31 0:38 / /sys/fs/cgroup/un\\040ified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let mount = mount(line).expect("a mount");
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/un ified"));
        assert_eq!((mount.root.as_path(), mount.kind.as_str()), (Path::new("/"), "cgroup2"));
        assert!(super::mount(b"short").is_none());
    }
}
