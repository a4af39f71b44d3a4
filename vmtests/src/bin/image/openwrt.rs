//! An image like OpenWrt's: busybox, its kind of init scripts, the static binary, all in the initramfs; no /boot, no
//! kernel configuration, nothing mounted that OpenWrt does not mount.

use anyhow::{Context as _, Result};
use set_rto_vmtests::guests::initramfs;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The files beside those of every image of busybox: from where (below the scripts, or what was built), to where.
const FILES: [(&str, &str); 4] = [
    ("init.sh", "init"),
    ("rc.common", "etc/rc.common"),
    ("set-rto.init", "etc/init.d/set-rto"),
    ("set-rto.hotplug", "etc/hotplug.d/iface/90-set-rto"),
];

/// Writes the initramfs; `room` has the scripts.
///
/// # Errors
/// Something is not there, or the disk is full.
pub(crate) fn write(room: &Path, built: &Path, scratch: &Path, file: &Path) -> Result<()> {
    let root = scratch.join("root");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let busybox = Path::new(busybox.context("no busybox (package busybox-static)")?);
    busybox_image(busybox, room, built, &root)?;
    fs::create_dir_all(root.join("etc/rc.d"))?;
    for (from, to) in FILES {
        let own = room.join(from);
        copy(&if own.exists() { own } else { built.join(from) }, &root.join(to))?;
    }
    initramfs::pack(&root, file)
}

/// Lays out what every image of busybox has: the static binary, and the script that runs there.
///
/// # Errors
/// Something is not there, or the disk is full.
pub(crate) fn busybox_image(busybox: &Path, room: &Path, built: &Path, root: &Path) -> Result<()> {
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
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}
