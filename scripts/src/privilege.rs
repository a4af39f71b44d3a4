//! Root privilege, with sudo if needed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::needs::Host;

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// The words before a command that needs root. `what` completes "… needs root".
pub(crate) fn for_root(what: &str) -> Result<&'static [&'static str]> {
    prefix(is_root(), Host::here().find("sudo").is_some(), what)
}

/// [`for_root`], or no words if the user may write to `dir` or to its nearest existing ancestor.
pub(crate) fn for_writing(dir: &Path, what: &str) -> Result<&'static [&'static str]> {
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if Command::new("test").arg("-w").arg(existing).status().is_ok_and(|status| status.success()) {
        return Ok(&[]);
    }
    for_root(what)
}

fn prefix(root: bool, sudo: bool, what: &str) -> Result<&'static [&'static str]> {
    match (root, sudo) {
        (true, _) => Ok(&[]),
        (false, true) => Ok(&["sudo"]),
        (false, false) => bail!("{what} needs root, and there is no sudo here; run this as root"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_only_where_not_root() {
        assert!(prefix(true, true, "x").unwrap().is_empty());
        assert!(prefix(true, false, "x").unwrap().is_empty());
        assert_eq!(prefix(false, true, "x").unwrap(), ["sudo"]);
        let message = prefix(false, false, "installing packages").unwrap_err().to_string();
        assert!(message.starts_with("installing packages needs root"), "{message}");
    }

    #[test]
    fn no_root_needed_where_the_user_may_write() {
        let dir = std::env::temp_dir().join("not-there").join("nor-there");
        assert!(for_writing(&dir, "x").unwrap().is_empty());
    }
}
