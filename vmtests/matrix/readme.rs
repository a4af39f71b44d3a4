//! Writes the tables of kernels and boards to `kernels/README.md` with `--readme`, between two marks.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// The subject of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Kernels,
    Boards,
}

impl Of {
    /// The marks before and after the table.
    fn marks(self) -> [String; 2] {
        let what = match self {
            Self::Kernels => "kernels",
            Self::Boards => "boards",
        };
        let begin = format!("<!-- {what}: written by `cargo xtask matrix` -->\n");
        [begin, format!("<!-- {what}: end -->\n")]
    }

    fn split(self, text: &str) -> Option<(&str, &str, &str)> {
        let [begin, end] = self.marks();
        let (before, rest) = text.split_once(&begin)?;
        let (table, after) = rest.split_once(&end)?;
        Some((before, table, after))
    }
}

/// Writes the table to that file.
///
/// # Errors
/// A mark is missing.
pub(crate) fn update(readme: &Path, of: Of, table: &str) -> Result<()> {
    let text = fs::read_to_string(readme)?;
    let (before, _, after) = of
        .split(&text)
        .with_context(|| format!("{} lacks the marks around {of:?}", readme.display()))?;
    let [begin, end] = of.marks();
    Ok(fs::write(readme, format!("{before}{begin}\n{table}\n{end}{after}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Outcome;
    use crate::tables;
    use set_rto_vmtests::boards::BOARDS;
    use set_rto_vmtests::guests::kernels;

    const AGAIN: &str = "run `cargo xtask matrix --readme`";

    /// A real run takes too long for a unit test. Its output has this shape.
    #[test]
    fn the_table_in_the_readme_is_of_these_kernels() {
        let readme = include_str!("README.md");
        let (_, text, _) = Of::Kernels.split(readme).expect("the marks");
        let mut tables = text.trim().split("\n\n").map(|table| table.lines().collect::<Vec<_>>());
        let (table, parts) = (tables.next().expect("of kernels"), tables.next().expect("of parts"));
        let kernels = kernels::parse(include_str!("../vm/KERNELS")).expect("good lines");
        let none: Vec<_> = kernels.iter().map(|kernel| Outcome::none(&kernel.name)).collect();
        let expected = tables::summary(&none);
        let (head, names) = expected.split_once("\n\n").expect("two tables");
        assert!(head.lines().take(2).eq(table[..2].iter().copied()), "{AGAIN}");
        assert!(names.lines().take(2).eq(parts[..2].iter().copied()), "{AGAIN}");
        let rows = table[2..].iter().map(|row| row.split('|').nth(1).unwrap_or_default().trim());
        let names = kernels.iter().map(|kernel| kernel.name.as_str());
        assert!(rows.eq(names), "other kernels than in KERNELS: {AGAIN}");
    }

    #[test]
    fn the_table_in_the_readme_is_of_these_boards() {
        let readme = include_str!("README.md");
        let (_, text, _) = Of::Boards.split(readme).expect("the marks");
        let boards: Vec<_> = BOARDS.iter().map(|board| Outcome::none(board.name)).collect();
        let expected = tables::boards(&boards);
        let names = |table: &str| -> Vec<_> {
            let rows = table.trim().lines().filter_map(|row| row.split('|').nth(1));
            rows.map(str::to_owned).collect()
        };
        assert_eq!(names(text), names(&expected), "other boards: {AGAIN}");
    }
}
