//! `cargo xtask dist --twice`: the last commit, built in another folder, gives the same bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use super::cannot;
use crate::needs::cargo;
use crate::targets::Target;

/// Compares what was made for these targets, in `into`, with what a clone makes.
///
/// # Errors
/// A build fails, or something differs.
pub(super) fn run(sh: &Shell, targets: &[&Target], into: &Path) -> Result<()> {
    let changed = cmd!(sh, "git status --porcelain --untracked-files=no").quiet().read()?;
    ensure!(changed.is_empty(), "--twice builds the last commit, and something has changed since");
    let root = sh.current_dir();
    let temp = sh.create_temp_dir()?;
    // Longer than this folder's name, to move what depends on its length.
    let clone = temp.path().join("a-clone-of-the-repository-in-another-folder");
    cmd!(sh, "git clone --quiet {root} {clone}").run()?;
    let _dir = sh.push_dir(&clone);
    let _target = sh.push_env("CARGO_TARGET_DIR", clone.join("target"));
    let cargo = cargo();
    for target in targets {
        let name = target.name;
        cmd!(sh, "{cargo} xtask dist --target {name}").run()?;
        let read = |folder: &Path| {
            let file = folder.join(name).join("SHA256SUMS");
            fs::read_to_string(&file).with_context(|| cannot("read", &file))
        };
        let (first, second) = (read(into)?, read(&clone.join("target/dist"))?);
        let differ: Vec<_> = first.lines().filter(|line| !second.contains(line)).collect();
        ensure!(
            first == second,
            "{name}: not the same in {} and in {}: {}",
            root.display(),
            clone.display(),
            differ.join(", ")
        );
        println!("{name}: the same bytes");
    }
    Ok(())
}
