//! The sources of Rust's standard library, which is compiled for size. They come from a rustup component or from
//! Debian's package of the same release.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use set_rto_downloads::apt::Suite;
use set_rto_downloads::cache;
use xshell::{Shell, cmd};

/// The path where cargo expects them, below rustc's own directory.
const PLACE: &str = "lib/rustlib/src/rust";

/// A file that exists if they are installed.
const MARK: &str = "library/Cargo.lock";

/// Debian suites that may have a newer release than stable.
const SUITES: [&str; 5] = ["trixie", "trixie-backports", "forky", "sid", "experimental"];

/// Makes the sources available to cargo. Returns the rustc to use if it is not the usual one.
///
/// # Errors
/// The sources are not available.
pub(super) fn rustc(sh: &Shell) -> Result<Option<PathBuf>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = cmd!(sh, "{rustc} --print sysroot").quiet().read().context("cannot ask rustc")?;
    let sysroot = PathBuf::from(sysroot.trim());
    let is_there = || sysroot.join(PLACE).join(MARK).exists();
    if is_there() {
        return Ok(None);
    }
    println!("the sources of the standard library are missing");
    let rustup = cmd!(sh, "rustup component add rust-src").run();
    if rustup.is_ok() && is_there() {
        return Ok(None);
    }
    let version = cmd!(sh, "{rustc} --version").quiet().read()?;
    let Some(version) = version.split_whitespace().nth(1) else { bail!("rustc has no version") };
    let source = cache::entry(&format!("rust-src/{version}"), |dir| {
        debians(version, dir).with_context(|| {
            format!(
                "cannot find the sources of Rust {version}'s standard library: install them with `rustup \
                 component add rust-src` or from the distribution, in {}",
                sysroot.join(PLACE).display()
            )
        })
    })?;
    let source = source.join(format!("usr/src/rustc-{version}"));
    if !source.join(MARK).exists() {
        bail!("no {MARK} in {}", source.display());
    }
    let own = cache::dir()?.join("rust-src").join(format!("sysroot-{version}"));
    imitate(&sysroot, &source, &own)?;
    let wrapper = own.join("rustc");
    // The path is absolute because rustup's proxy would choose a toolchain by the current directory.
    let real = sysroot.join("bin/rustc");
    let text =
        format!("#!/bin/sh\nexec '{}' --sysroot '{}' \"$@\"\n", real.display(), own.display());
    fs::write(&wrapper, text)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(Some(wrapper))
}

/// Unpacks Debian's package of the sources of exactly this release, from the first suite that has it.
fn debians(release: &str, into: &Path) -> Result<()> {
    let mut reasons = String::new();
    for name in SUITES {
        let found = Suite::fetch(name).and_then(|suite| {
            let version = suite.of_release("rust-src", release)?;
            println!("fetching rust-src {version} of {name}");
            let package = suite.download(&format!("rust-src={version}"), &into.join("deb"))?;
            let unpacked =
                Command::new("dpkg-deb").arg("-x").arg(&package).arg(into).status()?.success();
            ensure!(unpacked, "cannot unpack {}", package.display());
            Ok(fs::remove_dir_all(into.join("deb"))?)
        });
        match found {
            Ok(()) => return Ok(()),
            Err(error) => reasons += &format!("\n  {error}"),
        }
    }
    bail!("no suite of Debian has them:{reasons}")
}

/// A directory of links that looks like rustc's own and contains the sources.
fn imitate(sysroot: &Path, source: &Path, own: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(own);
    let lib = own.join("lib/rustlib");
    fs::create_dir_all(lib.join("src"))?;
    symlink(source, lib.join("src/rust"))?;
    let theirs = sysroot.join("lib/rustlib");
    let entries = fs::read_dir(&theirs);
    for entry in entries.with_context(|| format!("cannot read {}", theirs.display()))? {
        let entry = entry?;
        if entry.file_name() != "src" {
            symlink(entry.path(), lib.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_like_rustcs_own() {
        let temp = Shell::new().unwrap().create_temp_dir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::create_dir_all(path("theirs/lib/rustlib/x86_64/lib")).unwrap();
        fs::create_dir_all(path("theirs/lib/rustlib/src")).unwrap();
        fs::create_dir_all(path("source/library")).unwrap();
        fs::write(path("source").join(MARK), "").unwrap();
        for _ in 0..2 {
            imitate(&path("theirs"), &path("source"), &path("own")).unwrap();
            assert!(path("own").join(PLACE).join(MARK).exists());
            assert!(path("own/lib/rustlib/x86_64/lib").is_dir());
        }
    }
}
