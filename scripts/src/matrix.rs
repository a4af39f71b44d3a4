//! `cargo xtask matrix`: the live suite on other kernels, each in a virtual machine.

use std::path::Path;

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::needs::{BUILD, LIVE, MATRIX, Need, SYSTEM};
use crate::step::{step, tee};
use crate::{build, setup, test};

/// Builds the suite and its executables once, boots each kernel and runs them there.
pub(crate) fn run(sh: &Shell, options: &[String]) -> Result<()> {
    let needs = BUILD.iter().chain(LIVE).chain(MATRIX).chain(SYSTEM);
    let matrix = step("build the matrix", || build::dev(sh, "matrix", None))?;
    if options.iter().any(|word| word == "--list") {
        return Ok(cmd!(sh, "{matrix} --list").run()?);
    }
    setup::ensure(sh, &needs.collect::<Vec<&Need>>())?;
    let suite = build::dev(sh, "live", None)?;
    let target = build::target_dir(sh)?;
    let bin_dir = target.join("live").join("bin");
    let kernels = step("get the kernels whose BTF is built in", || btf(&matrix, options))?;
    test::build_loaders(sh, &bin_dir, &kernels)?;
    let out = target.join("matrix");
    let mut command = std::process::Command::new(&matrix);
    command.arg("--suite").arg(&suite).arg("--bin-dir").arg(&bin_dir).arg("--out").arg(&out);
    let (status, _) = step("matrix", || tee(command.args(options)))?;
    println!("tables and consoles are in {}", out.display());
    if !status.success() {
        bail!("not all kernels did as expected");
    }
    Ok(())
}

/// The BTF of those of the kernels that do not carry it themselves, a file each.
fn btf(matrix: &Path, options: &[String]) -> Result<Vec<String>> {
    let mut command = std::process::Command::new(matrix);
    let (status, output) = tee(command.arg("--btf").args(options))?;
    if !status.success() {
        bail!("not all kernels are to be had");
    }
    Ok(output.lines().filter_map(|line| line.strip_prefix("btf: ")).map(str::to_owned).collect())
}
