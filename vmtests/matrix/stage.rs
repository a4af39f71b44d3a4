//! Prepares the programs that run in the guests: the live suite and its executables, stripped. A guest copies all of
//! them into its memory, because each program start over 9p costs many messages to the host.

use anyhow::{Context as _, Result};
use set_rto_vmtests::guests::kernel::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of a guest's copy.
const THERE: &str = "/run/set-rto-matrix";

/// The directory that guests copy.
pub(crate) struct Stage {
    dir: PathBuf,
}

impl Stage {
    /// Creates the directory again.
    ///
    /// # Errors
    /// No `strip`, or a full disk.
    pub(crate) fn make(dir: &Path, suite: &Path, bin_dir: &Path) -> Result<Self> {
        let _ = fs::remove_dir_all(dir);
        let bin = dir.join("bin");
        fs::create_dir_all(&bin)?;
        strip(suite, &dir.join("live"))?;
        let read = || fs::read_dir(bin_dir)?.collect::<Result<Vec<_>, _>>();
        for entry in read().with_context(|| format!("cannot read {}", bin_dir.display()))? {
            let (from, to) = (entry.path(), bin.join(entry.file_name()));
            // Executables have no extension. Files with one are rules that tests read.
            match from.extension() {
                None => strip(&from, &to)?,
                Some(_) => drop(fs::copy(&from, &to).context("cannot copy the suite's files")?),
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The command for bash in a guest, which runs the tests whose names contain the filter. Files in the guest are
    /// private to root by default.
    pub(crate) fn command(&self, filter: Option<&str>) -> String {
        let filter = filter.map(|filter| format!(" '{filter}'")).unwrap_or_default();
        format!(
            "cp -r '{}' {THERE} && chmod -R a+rX {THERE} && {THERE}/live --bin-dir {THERE}/bin --test-threads 1{filter}",
            self.dir.display()
        )
    }
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip").arg("-o").arg(to).arg(from))
}
