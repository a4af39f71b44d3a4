//! Initramfs images without another root: busybox, the static binary, and a script.

use super::apt::Suite;
use super::{cache, kernel};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// Fetches Debian's busybox package for another architecture.
///
/// # Errors
/// There is no such package, the mirror does not answer, or the disk is full.
pub fn packaged(suite: &Suite, architecture: &str) -> Result<PathBuf> {
    let version = suite.version("busybox-static")?;
    let name = format!("debian/busybox-static_{version}_{architecture}");
    let dir = cache::entry(&name, |dir| {
        let parts = dir.join("package");
        let deb = suite.download("busybox-static", &parts)?;
        kernel::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir))?;
        Ok(fs::remove_dir_all(parts)?)
    })?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| dir.join(place));
    places.into_iter().find(|path| path.is_file()).context("no busybox in its package")
}

/// Builds busybox from Debian's source package for an architecture without packages. `tools` is the prefix of the
/// compiler and linker names.
///
/// # Errors
/// The step that failed.
pub fn built(suite: &str, tools: &str) -> Result<PathBuf> {
    let sources = Suite::fetch_sources(suite)?;
    let version = sources.source_version("busybox")?;
    // make treats a colon in a path as its own syntax.
    let plain = version.replace(':', "_");
    let dir = cache::entry(&format!("built/busybox_{plain}_{tools}"), |dir| {
        let tree = dir.join("tree");
        let release = sources.download_source(&format!("busybox={version}"), &tree)?;
        let tar = ["--strip-components=1", "-xf"];
        kernel::run(Command::new("tar").arg("-C").arg(&tree).args(tar).arg(release))?;
        let make = || {
            let mut make = Command::new("make");
            make.current_dir(&tree).arg("-s").arg(format!("CROSS_COMPILE={tools}"));
            make
        };
        kernel::run(make().arg("defconfig"))?;
        let file = tree.join(".config");
        let config = fs::read_to_string(&file)?;
        // Newer kernel headers do not have what busybox's tc needs.
        let config = config.replace("# CONFIG_STATIC is not set", "CONFIG_STATIC=y");
        fs::write(&file, config.replace("CONFIG_TC=y", "# CONFIG_TC is not set"))?;
        let jobs = thread::available_parallelism().map_or(2, usize::from);
        kernel::run(make().arg(format!("-j{jobs}")).arg("busybox"))?;
        fs::copy(tree.join("busybox"), dir.join("busybox"))?;
        Ok(fs::remove_dir_all(tree)?)
    })?;
    Ok(dir.join("busybox"))
}

/// Creates the file tree. `room` has the script test.sh, its parent has lib.sh, and `built` has set-rto.
///
/// # Errors
/// A file is missing, or the disk is full.
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
/// The file is missing, or the disk is full.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(0o755))?)
}
