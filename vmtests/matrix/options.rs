//! The command line.

use anyhow::{Context as _, Result, bail};
use set_rto_vmtests::boards::Board;
use set_rto_vmtests::guests::kernels::Kernel;
use std::path::PathBuf;

/// The command line.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) suite: PathBuf,
    pub(crate) bin_dir: PathBuf,
    /// The output for boards: a folder `board-TARGET` for each target.
    pub(crate) built: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) list: bool,
    /// Writes the last whole run of each kernel to `matrix/README.md`.
    pub(crate) readme: bool,
    /// Only prints what must be built for the chosen kernels and boards.
    pub(crate) needs: bool,
    /// Only prints the files with the BTF to build in.
    pub(crate) btf: bool,
    pub(crate) core: bool,
    pub(crate) filter: Option<String>,
    /// The number of concurrent guests. The default is the number of processors if each guest has its own clock, else
    /// one.
    pub(crate) jobs: Option<usize>,
    pub(crate) names: Vec<String>,
}

impl Options {
    /// Parses the command line.
    ///
    /// # Errors
    /// The invalid word.
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--suite" => options.suite = value()?.into(),
                "--bin-dir" => options.bin_dir = value()?.into(),
                "--built" => options.built = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--test" => options.filter = Some(value()?.clone()),
                "--jobs" => {
                    let number = value()?.parse().ok().filter(|number| *number > 0);
                    options.jobs = Some(number.context("--jobs needs a number above 0")?);
                }
                "--readme" => options.readme = true,
                "--list" => options.list = true,
                "--needs" => options.needs = true,
                "--btf" => options.btf = true,
                "--core" => options.core = true,
                _ if word.starts_with('-') => bail!("unknown option {word}"),
                _ => options.names.push(word.clone()),
            }
        }
        Ok(options)
    }

    /// True if a kernel was chosen.
    pub(crate) fn chooses(&self, kernel: &Kernel) -> bool {
        match self.names.as_slice() {
            [] => kernel.core || !self.core,
            names => names.contains(&kernel.name),
        }
    }

    /// True if a board was chosen. A board has its own checks instead of the suite's tests.
    pub(crate) fn chooses_board(&self, board: &Board) -> bool {
        match self.names.as_slice() {
            [] => !self.core && self.filter.is_none(),
            names => names.iter().any(|name| name == board.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use set_rto_vmtests::boards::BOARDS;
    use set_rto_vmtests::guests::kernels;

    /// The kernels and boards chosen by a command line.
    fn chosen(line: &str) -> (Vec<String>, Vec<&'static str>) {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let options = Options::read(&words).expect("good words");
        let kernels = kernels::parse("a debian sid core\nb debian sid").expect("good lines");
        let kernels = kernels.into_iter().filter(|kernel| options.chooses(kernel));
        let boards = BOARDS.iter().filter(|board| options.chooses_board(board));
        (kernels.map(|kernel| kernel.name).collect(), boards.map(|board| board.name).collect())
    }

    #[test]
    fn kernels_and_boards_by_name() {
        let (kernels, boards) = chosen("");
        assert_eq!((kernels.len(), boards.len()), (2, BOARDS.len()));
        assert_eq!(chosen("--core"), (vec!["a".to_owned()], vec![]));
        assert_eq!(chosen("--test wire_").1, [""; 0]);
        assert_eq!(chosen("armv7 b s390x"), (vec!["b".to_owned()], vec!["armv7", "s390x"]));
    }
}
