//! `cargo xtask`: set up, build, install, remove and test set-rto. One file per task.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use xshell::Shell;

use crate::args::Task;

mod args;
mod bench;
mod build;
mod compiler;
mod cross;
mod demo;
mod dist;
mod elf;
mod image;
mod install;
mod large;
mod managers;
mod matrix;
mod needs;
#[cfg(test)]
mod packaging;
mod privilege;
mod readme;
mod remove;
mod report;
#[cfg(test)]
mod scratch;
mod setup;
mod step;
mod targets;
mod test;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = env::args_os()
        .skip(1)
        .map(|word| word.into_string().map_err(|bad| anyhow::anyhow!("{bad:?} is not UTF-8")))
        .collect::<Result<Vec<_>>>()?;
    let task = args::parse(&arguments).map_err(anyhow::Error::msg)?;
    // File names on the command line mean those of the caller's directory, tasks run in the root.
    let caller = env::current_dir().context("cannot tell the current directory")?;
    let sh = Shell::new()?;
    sh.change_dir(project_root());
    match task {
        Task::Help => print!("{}", args::USAGE),
        Task::Install { rules, prefix, activate } => {
            let rules = build::resolve_rules(rules, &caller)?;
            install::run(&sh, rules.as_deref(), &caller.join(prefix), activate)?;
        }
        Task::Remove { prefix } => remove::run(&sh, &caller.join(prefix))?,
        Task::Build { rules, target } => {
            let rules = build::resolve_rules(rules, &caller)?;
            let binary = build::static_release(&sh, rules.as_deref(), target.as_deref())?;
            println!("{}", binary.display());
        }
        Task::Dist { mut options } => {
            for file in &mut options.btf {
                *file = dist::btf_file(file, &caller)?;
            }
            let rules = build::resolve_rules(options.rules.clone(), &caller)?;
            let into = build::target_dir(&sh)?.join("dist");
            for folder in dist::run(&sh, &options, rules.as_deref(), &into)? {
                println!("{}", folder.display());
            }
        }
        Task::Test { filters, thorough } => test::run(&sh, &filters, thorough)?,
        Task::Show { rules } => {
            let rules = build::resolve_rules(rules, &caller)?;
            compiler::show(&sh, rules.as_deref())?;
        }
        Task::Explain { rules, connection } => {
            compiler::explain(&sh, &caller.join(rules), &connection)?;
        }
        Task::Fuzz { minutes } => compiler::fuzz(&sh, minutes)?,
        Task::Bench { quick, readme } => bench::run(&sh, quick, readme)?,
        Task::Demo { kernels, readme } => demo::run(&sh, &kernels, readme)?,
        Task::Image { options } => image::run(&sh, &options)?,
        Task::Matrix { options } => matrix::run(&sh, &options)?,
    }
    Ok(())
}

/// The workspace root: the directory above this crate's.
fn project_root() -> PathBuf {
    // `cargo run` tells where the crate is now; the compiled-in place serves a binary run by hand.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}
