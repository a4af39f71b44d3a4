//! `cargo xtask bench`: figures of the compiled programs next to other ways to write them.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::needs::{BUILD, LIVE, Need, cargo};
use crate::readme::{self, Place};
use crate::setup;
use crate::step::step;

/// The file that shows the figures.
const FIGURES: Place = Place {
    file: "vmtests/bench/README.md",
    begin: "<!-- `cargo xtask bench --readme` writes from here -->\n",
    end: "<!-- to here -->\n",
};

/// Builds the bench and runs it as root. It prints a table and writes it to `target/bench`. With `to_readme` the short
/// form goes to [`FIGURES`].
pub(crate) fn run(sh: &Shell, quick: bool, to_readme: bool) -> Result<()> {
    if to_readme {
        readme::check(sh, &FIGURES)?;
    }
    setup::ensure(sh, &BUILD.iter().chain(LIVE).collect::<Vec<&Need>>())?;
    step("bench", || {
        let cargo = cargo();
        let bench = cmd!(sh, "{cargo} run --release --package set-rto-vmtests --bin bench --");
        Ok(bench.args(quick.then_some("--quick")).run()?)
    })?;
    if to_readme {
        let figures = sh.read_file("target/bench/readme.md")?;
        // The file may have changed in the meantime.
        readme::update(sh, &FIGURES, &figures)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_a_place_for_them() {
        let readme = include_str!("../../vmtests/bench/README.md");
        assert!(FIGURES.replace(readme, "").is_ok());
    }
}
