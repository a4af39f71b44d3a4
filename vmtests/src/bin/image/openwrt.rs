//! An image like OpenWrt's: busybox, its kind of init scripts, the static binary, all in the initramfs; no /boot, no
//! kernel configuration, nothing mounted that OpenWrt does not mount.

use anyhow::{Context as _, Result};
use set_rto_vmtests::guests::kernel::run;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The files: from where (below the scripts, or what was built), to where.
const FILES: [(&str, &str); 6] = [
    ("init.sh", "init"),
    ("rc.common", "etc/rc.common"),
    ("test.sh", "payload/test.sh"),
    ("set-rto", "usr/sbin/set-rto"),
    ("set-rto.init", "etc/init.d/set-rto"),
    ("set-rto.hotplug", "etc/hotplug.d/iface/90-set-rto"),
];

/// Writes the initramfs.
///
/// # Errors
/// Something is not there, or the disk is full.
pub(crate) fn write(scripts: &Path, built: &Path, scratch: &Path, file: &Path) -> Result<()> {
    let root = scratch.join("root");
    for dir in ["bin", "sbin", "proc", "sys", "dev", "tmp", "etc/rc.d"] {
        fs::create_dir_all(root.join(dir))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let busybox = Path::new(busybox.context("no busybox (package busybox-static)")?);
    copy(busybox, &root.join("bin/busybox"))?;
    copy(&scripts.join("lib.sh"), &root.join("payload/lib.sh"))?;
    for (from, to) in FILES {
        let own = scripts.join("openwrt").join(from);
        copy(&if own.exists() { own } else { built.join(from) }, &root.join(to))?;
    }
    let script = format!("find . | cpio --quiet -o -H newc | gzip -1 > '{}'", file.display());
    run(Command::new("sh").arg("-c").arg(script).current_dir(&root))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}
