//! `cargo xtask bench`: figures of the compiled programs, side by side with other ways to write them.

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::needs::{BUILD, LIVE, Need, cargo};
use crate::setup;
use crate::step::step;

/// Between these lines of the README are the figures.
const BEGIN: &str = "<!-- `cargo xtask bench --readme` writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Builds and runs the bench, as root. It prints a table and leaves it in `target/bench`; its short form goes into the
/// README where asked for.
pub(crate) fn run(sh: &Shell, quick: bool, readme: bool) -> Result<()> {
    if readme {
        // Better now than after the minutes that it takes.
        replace(&sh.read_file("README.md")?, "")?;
    }
    setup::ensure(sh, &BUILD.iter().chain(LIVE).collect::<Vec<&Need>>())?;
    step("bench", || {
        let cargo = cargo();
        let bench = cmd!(sh, "{cargo} run --release --package set-rto-vmtests --bin bench --");
        Ok(bench.args(quick.then_some("--quick")).run()?)
    })?;
    if readme {
        let figures = sh.read_file("target/bench/readme.md")?;
        // The file may have changed meanwhile.
        let text = replace(&sh.read_file("README.md")?, &figures)?;
        sh.write_file("README.md", text)?;
    }
    Ok(())
}

/// The README with other figures.
fn replace(readme: &str, figures: &str) -> Result<String> {
    let (before, rest) =
        readme.split_once(BEGIN).context("README.md lacks the line before the figures")?;
    let (_, after) = rest.split_once(END).context("README.md lacks the line behind the figures")?;
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_figures_change() {
        let readme = format!("# a\n{BEGIN}old\n{END}b\n");
        let once = replace(&readme, "| 1 |\n").expect("both lines");
        assert_eq!(once, format!("# a\n{BEGIN}\n| 1 |\n\n{END}b\n"));
        assert_eq!(replace(&once, "| 1 |\n").expect("both lines"), once);
        assert!(replace("# a\n", "").is_err() && replace(BEGIN, "").is_err());
    }

    #[test]
    fn the_readme_has_a_place_for_them() {
        let readme = include_str!("../../README.md");
        assert!(replace(readme, "").is_ok());
    }
}
