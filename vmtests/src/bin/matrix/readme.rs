//! The table of kernels in the README: written after a whole run, between two marks.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- kernels: written by `cargo xtask matrix` -->\n";
const END: &str = "<!-- kernels: end -->\n";

/// Puts the table into the README.
///
/// # Errors
/// The marks are gone.
pub(crate) fn update(readme: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(readme)?;
    let (before, _, after) =
        split(&text).context("README.md has lost the marks around the kernels")?;
    Ok(fs::write(readme, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?)
}

fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (table, after) = rest.split_once(END)?;
    Some((before, table, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use set_rto_vmtests::guests::kernels;

    #[test]
    fn the_readme_has_a_row_for_each_kernel() {
        let readme = include_str!("../../../../README.md");
        let (_, table, _) = split(readme).expect("the marks");
        let kernels = kernels::parse(include_str!("../../../KERNELS")).expect("good lines");
        for kernel in kernels {
            let row = format!("| {} | ", kernel.name);
            assert!(table.contains(&row), "no {row}: run `cargo xtask matrix`");
        }
    }
}
