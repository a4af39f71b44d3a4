//! The table of kernels in the README: written where asked for, between two marks.

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
    use crate::results::Outcome;
    use crate::tables;
    use set_rto_vmtests::guests::kernels;

    const AGAIN: &str = "run `cargo xtask matrix --readme`";

    /// The run itself is too long for a unit test; what it would write has this shape.
    #[test]
    fn the_table_in_the_readme_is_of_these_kernels() {
        let readme = include_str!("../../../../README.md");
        let (_, text, _) = split(readme).expect("the marks");
        let mut tables = text.trim().split("\n\n").map(|table| table.lines().collect::<Vec<_>>());
        let (table, parts) = (tables.next().expect("of kernels"), tables.next().expect("of parts"));
        let kernels = kernels::parse(include_str!("../../../KERNELS")).expect("good lines");
        let none: Vec<_> = kernels.iter().map(|kernel| Outcome::none(&kernel.name)).collect();
        let expected = tables::summary(&none);
        let (head, names) = expected.split_once("\n\n").expect("two tables");
        assert!(head.lines().take(2).eq(table[..2].iter().copied()), "{AGAIN}");
        assert!(names.lines().take(2).eq(parts[..2].iter().copied()), "{AGAIN}");
        let rows = table[2..].iter().map(|row| row.split('|').nth(1).unwrap_or_default().trim());
        let names = kernels.iter().map(|kernel| kernel.name.as_str());
        assert!(rows.eq(names), "other kernels than in KERNELS: {AGAIN}");
    }
}
