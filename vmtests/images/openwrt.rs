//! An image like OpenWrt's: busybox, init scripts like OpenWrt's and the static binary, all in the initramfs. It has no
//! /boot, no kernel configuration, and only the mounts of OpenWrt.

use anyhow::{Context as _, Result};
use set_rto_vmtests::guests::busybox::{self, copy};
use set_rto_vmtests::guests::initramfs;
use std::fs;
use std::path::Path;

/// Files added to the busybox image: source (below the scripts or the built files) and destination.
const FILES: [(&str, &str); 3] =
    [("init.sh", "init"), ("rc.common", "etc/rc.common"), ("set-rto.init", "etc/init.d/set-rto")];

/// Writes the initramfs; `room` has the scripts.
///
/// # Errors
/// A file is missing, or the disk is full.
pub(crate) fn write(room: &Path, built: &Path, scratch: &Path, file: &Path) -> Result<()> {
    let root = scratch.join("root");
    let own = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let own = Path::new(own.context("no busybox (package busybox-static)")?);
    busybox::lay_out(own, room, built, &root)?;
    fs::create_dir_all(root.join("etc/rc.d"))?;
    for (from, to) in FILES {
        let file = room.join(from);
        copy(&if file.exists() { file } else { built.join(from) }, &root.join(to))?;
    }
    initramfs::pack(&root, file)
}
