//! The table of rules that `status` prints: at most 80 columns, numbers to the right.

use crate::output;

const COLUMNS: usize = 8;
const HEADING: [&str; COLUMNS] =
    ["rule", "timer (hosts)", "connections", "retransmitted", "late", "gave up", "median", "95 %"];
/// What a heading becomes if the table is too wide.
const SHORT: [&str; COLUMNS] =
    ["rule", "timer (hosts)", "conns", "retrans", "late", "gave up", "median", "95 %"];

/// What fits on a terminal.
const WIDTH: usize = 80;
/// Between columns.
const GAP: usize = 2;
/// A name is not cut below this.
const SHORTEST_NAME: usize = 8;

/// Rows of cells, the name first.
pub(crate) struct Table(Vec<[String; COLUMNS]>);

impl Table {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.0.push(cells);
    }

    /// The lines, the heading first. None without rows.
    fn lines(&self) -> Vec<String> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut heading = HEADING;
        let widths = |heading: &[&str; COLUMNS]| -> Vec<usize> {
            let width = |at: usize| {
                let cells = self.0.iter().map(|row| row[at].chars().count());
                cells.chain([heading[at].len()]).max().unwrap_or(0)
            };
            (0..COLUMNS).map(width).collect()
        };
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * (COLUMNS - 1);
        let mut wide = widths(&heading);
        if total(&wide) > WIDTH {
            heading = SHORT;
            wide = widths(&heading);
        }
        let excess = total(&wide).saturating_sub(WIDTH);
        wide[0] = wide[0].saturating_sub(excess).max(SHORTEST_NAME.min(wide[0]));
        let line = |cells: [&str; COLUMNS]| {
            let mut line = format!("{:<1$}", cut(cells[0], wide[0]), wide[0]);
            for (cell, width) in cells.iter().zip(&wide).skip(1) {
                line.push_str(&format!("{cell:>0$}", width + GAP));
            }
            line
        };
        let rows = self.0.iter().map(|row| line(row.each_ref().map(String::as_str)));
        std::iter::once(line(heading)).chain(rows).collect()
    }

    pub(crate) fn print(&self) {
        self.lines().iter().for_each(|line| output::print(line));
    }
}

/// A name that is too long loses its end.
fn cut(name: &str, width: usize) -> String {
    match name.len() > width {
        true => format!("{}~", &name[..width - 1]),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_fit_a_terminal() {
        let mut table = Table::new();
        assert!(table.lines().is_empty());
        table.row(["a", "20s", "1", "0", "0", "0", "-", "-"].map(String::from));
        assert_eq!(table.lines()[1].len(), table.lines()[0].len());
        let name = "n".repeat(63);
        let row =
            [&name, "9.12s (4096)", "9999999", "12.3M", "12.3M", "9999999", "9.99ms", "99.9ms"];
        table.row(row.map(String::from));
        let lines = table.lines();
        assert!(lines.iter().all(|line| line.len() == 80), "{lines:?}");
        assert!(lines[2].starts_with("nnnnnnn") && lines[2].contains("~ "), "{lines:?}");
    }
}
