//! The command line.

use anyhow::{Context as _, Result, bail};
use set_rto_vmtests::guests::kernels::Kernel;
use std::path::PathBuf;

/// The command line.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) suite: PathBuf,
    pub(crate) bin_dir: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) list: bool,
    /// The README shows the last whole run of each kernel.
    pub(crate) readme: bool,
    /// Tells only which files have the BTF that is to be built in.
    pub(crate) btf: bool,
    pub(crate) core: bool,
    pub(crate) filter: Option<String>,
    /// How many guests run at a time; by default as many as there are processors where each guest has a clock of
    /// its own, else one.
    pub(crate) jobs: Option<usize>,
    pub(crate) names: Vec<String>,
}

impl Options {
    /// Reads it.
    ///
    /// # Errors
    /// The word that is wrong.
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--suite" => options.suite = value()?.into(),
                "--bin-dir" => options.bin_dir = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--test" => options.filter = Some(value()?.clone()),
                "--jobs" => {
                    let number = value()?.parse().ok().filter(|number| *number > 0);
                    options.jobs = Some(number.context("--jobs needs a number above 0")?);
                }
                "--readme" => options.readme = true,
                "--list" => options.list = true,
                "--btf" => options.btf = true,
                "--core" => options.core = true,
                _ if word.starts_with('-') => bail!("unknown option {word}"),
                _ => options.names.push(word.clone()),
            }
        }
        Ok(options)
    }

    /// Whether a kernel is to be run.
    pub(crate) fn chooses(&self, kernel: &Kernel) -> bool {
        match self.names.as_slice() {
            [] => kernel.core || !self.core,
            names => names.contains(&kernel.name),
        }
    }
}
