//! First file systems that are all there is: busybox, the static binary, and a script that runs there.

use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Lays one out: `room` has the script, test.sh, beside it is lib.sh, and `built` has set-rto.
///
/// # Errors
/// Something is not there, or the disk is full.
pub fn lay_out(busybox: &Path, room: &Path, built: &Path, root: &Path) -> Result<()> {
    for dir in ["bin", "sbin", "lib", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    copy(busybox, &root.join("bin/busybox"))?;
    copy(&room.join("../lib.sh"), &root.join("payload/lib.sh"))?;
    copy(&room.join("test.sh"), &root.join("payload/test.sh"))?;
    copy(&built.join("set-rto"), &root.join("usr/sbin/set-rto"))
}

/// Copies a program to its place.
///
/// # Errors
/// It is not there, or the disk is full.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}
