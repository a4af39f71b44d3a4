//! `cargo xtask bench`: figures of the compiled programs, side by side with other ways to write them.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::needs::{BUILD, LIVE, Need, cargo};
use crate::setup;
use crate::step::step;

/// Builds and runs the bench, as root. It prints a table and leaves it in `target/bench`.
pub(crate) fn run(sh: &Shell, quick: bool) -> Result<()> {
    setup::ensure(sh, &BUILD.iter().chain(LIVE).collect::<Vec<&Need>>())?;
    step("bench", || {
        let cargo = cargo();
        let bench = cmd!(sh, "{cargo} run --release --package set-rto-vmtests --bin bench --");
        Ok(bench.args(quick.then_some("--quick")).run()?)
    })
}
