//! `cargo xtask dist`: for each target a folder `target/dist/NAME` with the static binary, its Debian package, the
//! manual pages, completions, unit, init script, the rules that it was built from, and checksums of all.

mod deb;
mod epoch;
mod files;
mod sums;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::Shell;

use crate::build;
use crate::step::step;
use targets::Target;

/// What `dist` was asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// Names or triples; none: this machine's.
    pub(crate) targets: Vec<String>,
    /// The rules file to compile in.
    pub(crate) rules: Option<String>,
    /// What stands behind the version of the Debian package: another set of rules needs a higher one.
    pub(crate) revision: String,
}

/// Makes everything for all targets that were asked for.
pub(crate) fn run(sh: &Shell, options: &Options, rules: Option<&Path>) -> Result<()> {
    let targets = targets::chosen(&options.targets)?;
    deb::check_revision(&options.revision)?;
    for target in targets {
        let folder = one(sh, target, rules, &options.revision)?;
        println!("{}", folder.display());
    }
    Ok(())
}

fn one(sh: &Shell, target: &Target, rules: Option<&Path>, revision: &str) -> Result<PathBuf> {
    let binary = build::static_release(sh, rules, Some(target.triple))?;
    step(&format!("put together what {} gets", target.name), || {
        let folder = build::target_dir(sh)?.join("dist").join(target.name);
        if folder.exists() {
            // A file of earlier rules must not stay beside those of these.
            fs::remove_dir_all(&folder).with_context(|| cannot("empty", &folder))?;
        }
        fs::create_dir_all(&folder).with_context(|| cannot("make", &folder))?;
        let root = sh.current_dir();
        let sources = files::Sources { root: &root, binary: &binary, rules };
        for file in files::LOOSE {
            file.copy(&sources, &folder)?;
        }
        if let Some(architecture) = target.debian {
            let epoch = epoch::seconds(sh)?;
            let package = deb::Package { architecture, revision, epoch };
            package.build(sh, &sources, &folder)?;
        }
        sums::write(sh, &folder)?;
        Ok(folder)
    })
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}
