//! Files that are kept between runs outside the repository: downloads and built kernels.

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// `$XDG_CACHE_HOME/set-rto`, or `~/.cache/set-rto`.
///
/// # Errors
/// Neither is set, or the directory cannot be created.
pub fn dir() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let dir = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("set-rto");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// Locks an entry for one run. Other runs wait and print a message.
///
/// # Errors
/// The cache cannot be written.
pub fn lock(name: &str) -> Result<Flock<File>> {
    let locks = dir()?.join("locks");
    fs::create_dir_all(&locks)?;
    let file = File::create(locks.join(name.replace('/', "_")))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            println!("another run works on {name}: waiting for it");
            Ok(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?)
        }
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot lock {name}")),
    }
}

/// A directory of the cache, which `make` builds if it does not exist. It appears complete or not at all.
///
/// # Errors
/// `make` fails, or the disk is full.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = dir()?.join(name);
    if path.is_dir() {
        return Ok(path);
    }
    let _lock = lock(name)?;
    // Another run may have built it in the meantime.
    if !path.is_dir() {
        appear(&path, make)?;
    }
    Ok(path)
}

/// Builds a directory that appears complete or not at all.
fn appear(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().context("no parent")?;
    fs::create_dir_all(parent)?;
    // Unfinished directories of earlier runs are useless.
    let unfinished =
        parent.join(format!(".{}.partial", path.file_name().unwrap_or_default().display()));
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(&unfinished)?;
    let made = make(&unfinished);
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    made?;
    fs::rename(&unfinished, path)
        .with_context(|| format!("cannot put {} into place", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn whole_or_not_at_all() {
        let base = env::temp_dir().join(format!("set-rto-cache-{}", std::process::id()));
        let path = base.join("parts/kernel");
        let names = || {
            let entries = fs::read_dir(base.join("parts")).expect("a directory").flatten();
            entries.map(|entry| entry.file_name().into_string()).collect::<Vec<_>>()
        };
        let half = |dir: &Path| {
            fs::write(dir.join("half"), "x")?;
            bail!("the mirror does not answer")
        };
        assert!(appear(&path, half).is_err());
        assert_eq!(names(), Vec::<Result<String, _>>::new());
        // The leftovers of a killed run must not get into the next one.
        let left = base.join("parts/.kernel.partial");
        fs::create_dir_all(&left).expect("a directory");
        fs::write(left.join("half"), "x").expect("a file");
        appear(&path, |dir| Ok(fs::write(dir.join("whole"), "x")?)).expect("an entry");
        assert_eq!(names(), [Ok("kernel".to_owned())]);
        assert!(path.join("whole").exists() && !path.join("half").exists());
        fs::remove_dir_all(&base).expect("removed");
    }
}
