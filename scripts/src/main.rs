//! `cargo xtask`: sets up, builds, installs, removes and tests set-rto. One file per task.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use argh::SubCommands;
use xshell::Shell;

use crate::args::Task;

mod args;
mod bench;
mod build;
mod compiler;
mod cross;
mod demo;
mod dist;
#[cfg(test)]
mod documented;
mod elf;
mod image;
mod install;
mod large;
mod loaders;
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
mod trust;

fn main() -> ExitCode {
    let words: Result<Vec<_>, _> = env::args_os().skip(1).map(|word| word.into_string()).collect();
    let Ok(words) = words else {
        eprintln!("xtask: arguments must be UTF-8");
        return ExitCode::FAILURE;
    };
    match args::parse(&words) {
        Ok(task) => match run(task) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("xtask: {error:#}");
                ExitCode::FAILURE
            }
        },
        Err(exit) if exit.status.is_ok() => {
            println!("{}", exit.output.trim_end());
            ExitCode::SUCCESS
        }
        Err(exit) => {
            eprintln!("xtask: {}", exit.output.trim_end());
            let known = |word: &&String| Task::COMMANDS.iter().any(|task| task.name == **word);
            match words.first().filter(known) {
                Some(task) => eprintln!("hint: cargo xtask {task} --help lists its options"),
                None => eprintln!("hint: cargo xtask --help lists the tasks"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    // File names on the command line are relative to the caller's directory. Tasks run in the root.
    let caller = env::current_dir().context("cannot tell the current directory")?;
    let sh = Shell::new()?;
    sh.change_dir(project_root());
    let rules = |option: Option<String>| build::resolve_rules(option, &caller);
    // The name as it was given, for messages. The default file is that of the root.
    let shown = |option: Option<String>| -> Result<String> {
        if let Some(file) = option {
            return Ok(file);
        }
        let here = caller == sh.current_dir();
        let default = if here { "rules.toml".into() } else { sh.current_dir().join("rules.toml") };
        let file = rules(None)?.unwrap_or(default);
        file.into_os_string().into_string().map_err(|bad| anyhow::anyhow!("{bad:?} is not UTF-8"))
    };
    match task {
        Task::Install(task) => {
            let rules = rules(task.rules)?;
            install::run(&sh, rules.as_deref(), &caller.join(task.prefix), !task.no_activate)?;
        }
        Task::Remove(task) => remove::run(&sh, &caller.join(task.prefix))?,
        Task::Build(task) => {
            let rules = rules(task.rules)?;
            let binary = build::static_release(&sh, rules.as_deref(), task.target.as_deref())?;
            println!("{}", binary.display());
        }
        Task::Check(task) => compiler::rules(&sh, &caller, &["check", &shown(task.rules)?])?,
        Task::Show(task) => compiler::rules(&sh, &caller, &["show", &shown(task.rules)?])?,
        Task::Explain(task) => {
            compiler::rules(&sh, &caller, &["explain", &task.rules, &task.connection])?;
        }
        Task::Schema(_) => compiler::rules(&sh, &caller, &["schema"])?,
        Task::Dist(task) => {
            let btf = task.btf.iter().map(|file| dist::btf_file(file, &caller));
            let options = dist::Options {
                targets: task.targets,
                btf: btf.collect::<Result<_>>()?,
                revision: task.revision,
                record: task.record,
                symbols: task.symbols,
                source: task.source,
                twice: task.twice,
                if_possible: task.if_possible,
            };
            let into = build::target_dir(&sh)?.join("dist");
            for folder in dist::run(&sh, &options, rules(task.rules)?.as_deref(), &into)? {
                println!("{}", folder.display());
            }
        }
        Task::Test(task) => test::run(&sh, &task.filters, task.extent())?,
        Task::Fuzz(task) if task.text => trust::fuzz(&sh, task.minutes)?,
        Task::Fuzz(task) => compiler::fuzz(&sh, task.minutes)?,
        Task::Mutants(task) => trust::mutants(&sh, &task.files)?,
        Task::Bench(task) => bench::run(&sh, task.quick, task.readme)?,
        Task::Demo(task) => demo::run(&sh, &task.kernels, task.readme)?,
        Task::Image(task) => image::run(&sh, &task.words())?,
        Task::Matrix(task) => matrix::run(&sh, &task.words())?,
    }
    Ok(())
}

/// The workspace root, the directory above this crate.
fn project_root() -> PathBuf {
    // `cargo run` gives the current directory of the crate. The compiled-in path serves a binary that is run by hand.
    let here = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}
