//! `cargo xtask remove`: undoes `cargo xtask install`. Installed packages stay.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::Shell;

use crate::install::destination;
use crate::privilege::{for_root, for_writing};
use crate::step::{command, step};

/// Detaches the rules and deletes the binary below `prefix`. Without a binary there is nothing to do.
pub(crate) fn run(sh: &Shell, prefix: &Path) -> Result<()> {
    let binary = destination(prefix);
    // A dangling link must be deleted as well.
    if binary.symlink_metadata().is_err() {
        println!("nothing to remove: {} does not exist", binary.display());
        return Ok(());
    }
    step(&format!("remove {}", binary.display()), || {
        let sudo = for_root("detaching the program")?;
        delete(sh, sudo, &binary)
    })
}

/// Detaching needs the binary, so it is deleted last and only if detaching succeeded.
fn delete(sh: &Shell, sudo: &[&str], binary: &Path) -> Result<()> {
    command(sh, sudo, binary).arg("remove").run().with_context(|| {
        format!("`set-rto remove` failed; {} is left in place to try again", binary.display())
    })?;
    let dir = binary.parent().unwrap_or(Path::new("/"));
    let sudo = for_writing(dir, &format!("deleting {}", binary.display()))?;
    command(sh, sudo, "rm").arg("-f").arg(binary).run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::script;

    /// A stand-in for set-rto that writes its arguments to a file next to it.
    fn stand_in(prefix: &Path, exit: i32) -> std::path::PathBuf {
        let binary = destination(prefix);
        fs::create_dir_all(binary.parent().unwrap()).unwrap();
        script(&binary, &format!("echo \"$*\" >> \"$0.calls\"\nexit {exit}"));
        binary
    }

    #[test]
    fn detaches_then_deletes() {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        let binary = stand_in(temp.path(), 0);
        delete(&sh, &[], &binary).unwrap();
        assert!(!binary.exists());
        assert_eq!(fs::read_to_string(binary.with_extension("calls")).unwrap(), "remove\n");
        // Removal runs twice, and once where nothing was installed.
        run(&sh, temp.path()).unwrap();
        run(&sh, Path::new("/nowhere")).unwrap();
    }

    #[test]
    fn stays_when_it_cannot_detach() {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        let binary = stand_in(temp.path(), 2);
        let message = format!("{:#}", delete(&sh, &[], &binary).unwrap_err());
        assert!(message.contains("left in place"), "{message}");
        assert!(binary.exists());
    }
}
