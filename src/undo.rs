//! What an install leaves behind on its way, and takes back where it fails.

use crate::error::{Error, Result};
use crate::host::mounts;
use nix::mount::{MntFlags, umount2};
use std::fs;
use std::path::{Path, PathBuf};

/// What has to be undone if the install fails.
#[derive(Default)]
pub(crate) struct Undo {
    mounted: bool,
    directories: Vec<PathBuf>,
    pins: Vec<PathBuf>,
}

impl Undo {
    /// A bpffs was mounted where it belongs.
    pub(crate) fn mounted(&mut self) {
        self.mounted = true;
    }

    /// A directory that was not there before.
    pub(crate) fn created(&mut self, path: PathBuf) {
        self.directories.push(path);
    }

    /// A pin that was not there before.
    pub(crate) fn pinned(&mut self, path: PathBuf) {
        self.pins.push(path);
    }

    /// All went well.
    pub(crate) fn keep(mut self) {
        self.mounted = false;
        self.directories.clear();
        self.pins.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Best effort, in reverse order: the error that brought us here is the one to report.
        for path in self.pins.iter().rev() {
            let _ = fs::remove_file(path);
        }
        for directory in self.directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
        if self.mounted {
            let _ = umount2(mounts::BPFFS_DIR, MntFlags::MNT_DETACH);
        }
    }
}

/// Removes a name from the bpffs.
pub(crate) fn remove_pin(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| {
        Error::io(format_args!("remove {}", path.display()), &error, "run it as root")
    })
}
