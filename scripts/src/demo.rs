//! `cargo xtask demo`: what set-rto is for, measured on slow radio channels and in a datacentre, in virtual machines.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};
use xshell::Shell;

use crate::needs::{BUILD, LIVE, MATRIX, Need};
use crate::readme::{self, Place};
use crate::step::{step, tee};
use crate::{build, setup};

/// The directory that shows the tables.
const TABLES: Place = Place {
    file: "vmtests/demo/README.md",
    begin: "<!-- `cargo xtask demo --readme` writes from here -->\n",
    end: "<!-- demo: to here -->\n",
};
/// The picture, which the README of the root shows as well.
const TIMELINE: &str = "vmtests/demo/timeline.svg";

/// Builds, boots the kernels and measures in them. It prints tables and writes them with a timeline to `target/demo`.
/// With `to_readme` both go to `vmtests/demo`.
pub(crate) fn run(sh: &Shell, kernels: &[String], to_readme: bool) -> Result<()> {
    if to_readme {
        readme::check(sh, &TABLES)?;
    }
    setup::ensure(sh, &BUILD.iter().chain(LIVE).chain(MATRIX).collect::<Vec<&Need>>())?;
    let demo = step("build the demonstration", || build::dev(sh, "demo", None))?;
    let suite = build::dev(sh, "live", None)?;
    let out = build::target_dir(sh)?.join("demo");
    let bin_dir = out.join("bin");
    fs::create_dir_all(&bin_dir)?;
    let rules = sh.current_dir().join("vmtests").join("demo").join("rules.toml");
    let binary = step("build set-rto with its rules", || build::dev(sh, "set-rto", Some(&rules)))?;
    fs::copy(&binary, bin_dir.join("rules"))?;
    let mut command = Command::new(&demo);
    command.arg("--suite").arg(&suite).arg("--bin-dir").arg(&bin_dir).arg("--out").arg(&out);
    let (status, _) = step("demonstrate", || tee(command.args(kernels)))?;
    if !status.success() {
        bail!("the demonstration failed; logs and consoles are in {}", out.display());
    }
    println!("tables and timeline are in {}", out.display());
    if to_readme {
        let tables = sh.read_file(out.join("demo.md"))?;
        readme::update(sh, &TABLES, &tables)?;
        sh.copy_file(out.join("timeline.svg"), TIMELINE)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readmes_have_a_place_for_it() {
        let tables = include_str!("../../vmtests/demo/README.md");
        assert!(TABLES.replace(tables, "").is_ok());
        assert!(tables.contains("timeline.svg"));
        assert!(include_str!("../../README.md").contains(TIMELINE));
    }
}
