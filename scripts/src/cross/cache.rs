//! Where downloads are kept, as with the kernel matrix.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result};

/// `$XDG_CACHE_HOME/set-rto`, or `~/.cache/set-rto`.
pub(super) fn dir() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("set-rto"))
}

/// A folder of the cache, filled by `make` if it is not there. It appears whole or not at all.
pub(super) fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let path = dir()?.join(name);
    if path.is_dir() {
        return Ok(path);
    }
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(format!(".partial-{}", process::id()));
    let unfinished = PathBuf::from(unfinished);
    let cannot = || format!("cannot make {}", path.display());
    fs::create_dir_all(&unfinished).with_context(cannot)?;
    let made = make(&unfinished).and_then(|()| match fs::rename(&unfinished, &path) {
        // Another run was faster.
        Err(_) if path.is_dir() => Ok(()),
        renamed => renamed.with_context(cannot),
    });
    let _ = fs::remove_dir_all(&unfinished);
    made.map(|()| path)
}
