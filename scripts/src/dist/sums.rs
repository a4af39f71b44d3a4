//! `SHA256SUMS` of a directory, for `sha256sum -c SHA256SUMS` in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use super::cannot;

const NAME: &str = "SHA256SUMS";

/// Writes the sums of all files below the directory.
pub(crate) fn write(sh: &Shell, folder: &Path) -> Result<()> {
    let mut files = below(folder)?;
    files.sort();
    let _dir = sh.push_dir(folder);
    let sums = cmd!(sh, "sha256sum {files...}").quiet().read()?;
    fs::write(folder.join(NAME), sums + "\n").with_context(|| cannot("write", folder))
}

/// All files below the directory, relative to it.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).with_context(|| cannot("read", &dir))? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().is_none_or(|name| name != NAME) {
                found.push(path.strip_prefix(folder).unwrap_or(&path).to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_sha256sum_checks() {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        fs::create_dir(temp.path().join("sub")).unwrap();
        fs::write(temp.path().join("a"), "one").unwrap();
        fs::write(temp.path().join("sub/b"), "two").unwrap();
        write(&sh, temp.path()).unwrap();
        // The second run must not include the file of sums.
        write(&sh, temp.path()).unwrap();
        let text = fs::read_to_string(temp.path().join(NAME)).unwrap();
        let names: Vec<_> = text.lines().filter_map(|line| line.split_once("  ")).collect();
        assert_eq!(names.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["a", "sub/b"]);
        let _dir = sh.push_dir(temp.path());
        cmd!(sh, "sha256sum --quiet -c {NAME}").quiet().run().unwrap();
        fs::write(temp.path().join("a"), "changed").unwrap();
        assert!(
            cmd!(sh, "sha256sum --quiet -c {NAME}")
                .quiet()
                .ignore_stdout()
                .ignore_stderr()
                .run()
                .is_err()
        );
    }
}
