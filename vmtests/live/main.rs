//! The tests of set-rto that need a kernel, run on the present one.
//!
//!     live [--bin-dir DIR] [--thorough] [arguments of a Rust test binary]
//!     live --bin-dir DIR --demo            the demonstration's scenes (see `demo`)
//!
//! DIR has one set-rto executable for each file of `vmtests/live/rules/`, with the same name: `a.toml` makes `DIR/a`.
//! Without `--bin-dir`, only the tests of the harness itself run. Each test is a process in its own cgroup, network and
//! mount namespaces, with its own bpffs. The host is not changed. Tests that try a share of many cases try all of them
//! with `--thorough`.

#[path = "../demo/scenes/mod.rs"]
mod demo;
mod harness;
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use harness::Test;
use harness::cgroup;
use harness::runner;
use harness::sandbox;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == runner::INSIDE) {
        return inside(&arguments[2..]);
    }
    if let [_, first, cgroup, bin_dir] = arguments.as_slice()
        && first == demo::INSIDE
    {
        return demo::inside(cgroup.as_ref(), bin_dir.into());
    }
    let bin_dir = match take_bin_dir(&mut arguments) {
        Ok(bin_dir) => bin_dir,
        Err(message) => {
            eprintln!("live: {message}");
            return ExitCode::FAILURE;
        }
    };
    if arguments.get(1).is_some_and(|first| first == demo::DEMO) {
        return demo::run(bin_dir.as_deref());
    }
    let is_thorough = arguments.iter().any(|argument| argument == "--thorough");
    arguments.retain(|argument| argument != "--thorough");
    let mut arguments = Arguments::from_iter(arguments);
    // Timers are measured. Tests that share processors disturb each other.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    if let Err(error) = cgroup::sweep() {
        eprintln!("live: cannot remove what an earlier run left: {error:#}");
    }
    let trials = all().map(|test| runner::trial(test, bin_dir.clone(), is_thorough)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    for note in runner::notes() {
        println!("{note}");
    }
    conclusion.exit_code()
}

fn all() -> impl Iterator<Item = &'static Test> {
    tests::ALL.iter().flat_map(|tests| tests.iter())
}

/// Runs one test in this process. The arguments are its name, its cgroup and optionally the directory of executables.
fn inside(arguments: &[OsString]) -> ExitCode {
    let (name, cgroup, bin_dir) = match arguments {
        [name, cgroup] => (name, cgroup, None),
        [name, cgroup, bin_dir] => (name, cgroup, Some(PathBuf::from(bin_dir))),
        _ => return ExitCode::FAILURE,
    };
    match all().find(|test| name == test.name) {
        Some(test) => sandbox::run(test, cgroup.as_ref(), bin_dir),
        None => ExitCode::FAILURE,
    }
}

/// Removes `--bin-dir DIR` (or `--bin-dir=DIR`) from the arguments.
fn take_bin_dir(arguments: &mut Vec<OsString>) -> Result<Option<PathBuf>, String> {
    const OPTION: &str = "--bin-dir";
    let Some(at) = arguments.iter().position(|argument| {
        argument.to_str().is_some_and(|text| text.split('=').next() == Some(OPTION))
    }) else {
        return Ok(None);
    };
    let argument = arguments.remove(at);
    let value = match argument.to_str().and_then(|text| text.split_once('=')) {
        Some((_, value)) => PathBuf::from(value),
        None if at < arguments.len() => PathBuf::from(arguments.remove(at)),
        None => return Err(format!("{OPTION} needs a directory")),
    };
    let path = std::path::absolute(value).map_err(|error| error.to_string())?;
    if !path.is_dir() {
        return Err(format!("{OPTION}: no directory {}", path.display()));
    }
    Ok(Some(path))
}
