//! Debian root file systems, and the payload folder of a guest.

use anyhow::{Context as _, Result};
use set_rto_vmtests::guests::{apt, cache, kernel};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SUITE: &str = "trixie";

/// A minimal Debian with these packages. mmdebstrap creates it once from the host's own mirror.
///
/// # Errors
/// No mmdebstrap, no mirror, or a missing package.
pub(crate) fn debian(packages: &[&str]) -> Result<PathBuf> {
    let packages = packages.join(",");
    let name = format!("image/{SUITE}_{:016x}", kernel::fingerprint(&packages));
    let dir = cache::entry(&name, |dir| {
        println!("making a Debian with {packages}: a minute or two");
        let root = dir.join("root");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=minbase"]);
        mmdebstrap.arg(format!("--include={packages}"));
        mmdebstrap.arg(SUITE).arg(&root).arg(apt::mirror()?);
        kernel::run(&mut mmdebstrap)?;
        // The package source is valid on this host only.
        Ok(fs::write(root.join("etc/apt/sources.list"), "")?)
    })?;
    Ok(dir.join("root"))
}

/// Creates the folder that the guest mounts as /payload: one file, and the files of some folders.
///
/// # Errors
/// A file is missing.
pub(crate) fn payload(file: &Path, folders: &[PathBuf], to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let copy = |from: &Path| -> Result<()> {
        let name = from.file_name().context("no file")?;
        fs::copy(from, to.join(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    copy(file)?;
    for folder in folders {
        let entries = fs::read_dir(folder);
        for entry in entries.with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_file() {
                copy(&path)?;
            }
        }
    }
    Ok(())
}
