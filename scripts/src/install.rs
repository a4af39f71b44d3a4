//! `cargo xtask install`: takes a machine that has only Rust to attached rules.

use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};
use xshell::Shell;

use crate::privilege::{for_root, for_writing};
use crate::step::{command, step};
use crate::{build, needs, setup};

/// The path of the binary below a prefix.
pub(crate) fn destination(prefix: &Path) -> PathBuf {
    prefix.join("sbin").join("set-rto")
}

/// Installs missing packages, builds, copies to `PREFIX/sbin`, and, with `activate`, attaches the
/// rules and shows them.
pub(crate) fn run(sh: &Shell, rules: Option<&Path>, prefix: &Path, activate: bool) -> Result<()> {
    step("look for what the build needs", || {
        setup::ensure(sh, &needs::BUILD.iter().collect::<Vec<_>>())
    })?;
    let binary = build::static_release(sh, rules, None)?;
    let destination = destination(prefix);
    step(&format!("install {}", destination.display()), || place(sh, &binary, &destination))?;
    if !activate {
        println!("rules not attached (--no-activate): run `{} install`", destination.display());
        return Ok(());
    }
    step("attach the rules", || {
        let sudo = for_root("attaching the program")?;
        for verb in ["install", "status"] {
            command(sh, sudo, &destination).arg(verb).run().with_context(|| {
                format!(
                    "{0} is installed, but `set-rto {verb}` failed; `{0} check` shows what is \
                     missing",
                    destination.display()
                )
            })?;
        }
        Ok(())
    })
}

/// Copies under another name and renames. A process that starts the binary in the meantime gets either the old or the
/// new one, complete.
fn place(sh: &Shell, binary: &Path, destination: &Path) -> Result<()> {
    if destination.is_dir() {
        bail!("{} is a directory", destination.display());
    }
    let dir = destination.parent().context("no directory to install into")?;
    let sudo = for_writing(dir, &format!("writing to {}", dir.display()))?;
    let fresh = dir.join(format!(".set-rto.{}.new", process::id()));
    if !dir.is_dir() {
        command(sh, sudo, "mkdir").args(["-p", "-m", "755"]).arg(dir).run()?;
    }
    let placed = command(sh, sudo, "install")
        .args(["-m", "755"])
        .args([binary, fresh.as_path()])
        .run()
        .and_then(|()| {
            command(sh, sudo, "mv").arg("-f").args([fresh.as_path(), destination]).run()
        });
    if placed.is_err() {
        // The error above is the one to report.
        let _ = command(sh, sudo, "rm").arg("-f").arg(&fresh).quiet().ignore_stderr().run();
    }
    placed.with_context(|| format!("cannot write {}", destination.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn places_whole_files_and_leaves_nothing_beside_them() {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        let binary = temp.path().join("built");
        let destination = destination(&temp.path().join("new").join("prefix"));
        for text in ["one", "two"] {
            fs::write(&binary, text).unwrap();
            place(&sh, &binary, &destination).unwrap();
            assert_eq!(fs::read_to_string(&destination).unwrap(), text);
        }
        assert_eq!(fs::metadata(&destination).unwrap().permissions().mode() & 0o777, 0o755);
        let dir = destination.parent().unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1);

        fs::remove_file(&binary).unwrap();
        let error = place(&sh, &binary, &destination).unwrap_err();
        assert!(format!("{error:#}").contains("cannot write"), "{error:#}");
        assert_eq!(fs::read_to_string(&destination).unwrap(), "two", "a failure keeps the old one");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_in_the_way_is_refused() {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        let destination = destination(temp.path());
        fs::create_dir_all(&destination).unwrap();
        let error = place(&sh, Path::new("/bin/sh"), &destination).unwrap_err();
        assert!(error.to_string().ends_with("is a directory"), "{error}");
    }
}
