//! `cargo xtask matrix`: the live suite on other kernels, in virtual machines, and the boards of `image`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::needs::{BOARDS, BUILD, LIVE, MATRIX, Need, PACKAGING, SYSTEM};
use crate::step::{step, tee};
use crate::{build, image, loaders, setup};

/// The files that the program needs to run the given kernels and boards.
#[derive(Debug, Default, PartialEq)]
struct Wants {
    /// The live suite and its executables.
    suite: bool,
    /// Targets of `dist`, for boards.
    targets: Vec<String>,
}

impl Wants {
    fn read(output: &str) -> Self {
        let mut wants = Self::default();
        for line in output.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["needs:", "suite"] => wants.suite = true,
                ["needs:", "target", target] if wants.targets.iter().all(|it| it != target) => {
                    wants.targets.push(target.to_owned());
                }
                _ => {}
            }
        }
        wants
    }
}

/// Builds everything that runs there once, and boots each kernel and each board.
pub(crate) fn run(sh: &Shell, options: &[String]) -> Result<()> {
    let matrix = step("build the matrix", || build::dev(sh, "matrix", None))?;
    if options.iter().any(|word| word == "--list") {
        return Ok(cmd!(sh, "{matrix} --list").run()?);
    }
    let (status, output) = tee(Command::new(&matrix).arg("--needs").args(options))?;
    if !status.success() {
        bail!("nothing was run");
    }
    let wants = Wants::read(&output);
    let mut needs: Vec<&Need> = BUILD.iter().chain(LIVE).chain(MATRIX).collect();
    if wants.suite {
        needs.extend(SYSTEM);
    }
    if !wants.targets.is_empty() {
        needs.extend(PACKAGING.iter().chain(BOARDS));
    }
    setup::ensure(sh, &needs)?;
    image::tools(sh, &wants.targets);
    let out = build::target_dir(sh)?.join("matrix");
    let mut command = Command::new(&matrix);
    command.arg("--out").arg(&out);
    if wants.suite {
        let (suite, bin_dir) = suite(sh, &matrix, options)?;
        command.arg("--suite").arg(suite).arg("--bin-dir").arg(bin_dir);
    }
    let built = out.join("built");
    command.arg("--built").arg(&built);
    let room = sh.current_dir().join("vmtests").join("images").join("board");
    for target in &wants.targets {
        image::packages(sh, &room, target, &built.join(format!("board-{target}")))?;
    }
    let (status, _) = step("matrix", || tee(command.args(options)))?;
    println!("tables and consoles are in {}", out.display());
    if !status.success() {
        bail!("some kernels or boards failed");
    }
    Ok(())
}

/// The live suite and the directory of its executables.
fn suite(sh: &Shell, matrix: &Path, options: &[String]) -> Result<(PathBuf, PathBuf)> {
    let suite = build::dev(sh, "live", None)?;
    let bin_dir = build::target_dir(sh)?.join("live").join("bin");
    let kernels = step("fetch the kernels that need BTF built in", || btf(matrix, options))?;
    loaders::build_all(sh, &bin_dir, &kernels)?;
    Ok((suite, bin_dir))
}

/// The BTF of the kernels that have no built-in BTF, one file each.
fn btf(matrix: &Path, options: &[String]) -> Result<Vec<String>> {
    let (status, output) = tee(Command::new(matrix).arg("--btf").args(options))?;
    if !status.success() {
        bail!("some kernels cannot be fetched or built");
    }
    Ok(output.lines().filter_map(|line| line.strip_prefix("btf: ")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_are_read() {
        assert_eq!(Wants::read(""), Wants::default());
        let output =
            "needs: suite\nneeds: target aarch64\nneeds: target s390x\nneeds: target aarch64\n";
        let targets = ["aarch64", "s390x"].map(str::to_owned).to_vec();
        assert_eq!(Wants::read(output), Wants { suite: true, targets });
    }
}
