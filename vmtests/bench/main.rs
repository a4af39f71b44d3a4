//! The bench of the rule compiler. For each rule set, one run compares no program, an empty one, the hand-written one,
//! a chain of comparisons, a map, and the compiler's program. `cargo xtask bench` builds and runs it.
//!
//!     bench [--quick]
//!
//! Writes `bench.md`, `readme.md` (the part that the README shows) and `bench.json` to `target/bench`, and leaves all
//! programs in `work` there. The part that needs root runs in a separate process, with sudo if necessary. That process
//! runs in a child cgroup and its own namespaces, and changes nothing outside them.

mod cargo;
mod compare;
mod compile;
mod count;
mod elf;
mod install;
mod kernel;
mod limited;
mod live;
#[allow(dead_code)]
#[path = "../../bpf/tests/support/machine.rs"]
mod machine;
mod net;
mod random;
mod readme;
mod report;
mod rivals;
mod row;
mod rule;
mod sample;
mod sandbox;
mod sets;
#[allow(dead_code)]
#[path = "../../src/shared.rs"]
mod shared;
mod targets;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use row::Row;
use sets::RuleSet;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// The time limit of a run. The last step may exceed it.
const LIMIT: Duration = Duration::from_secs(9 * 60);
const QUICK_LIMIT: Duration = Duration::from_secs(95);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &arguments[..] {
        [] => bench(false),
        ["--quick"] => bench(true),
        ["root", work, quick, begun, left] => as_root(&[work, quick, begun, left]),
        ["sandbox", cgroup, work, quick, begun, left] => {
            sandboxed(cgroup, Path::new(work), *quick == "true", begun, left)
        }
        ["trial", object, function @ ..] => {
            return trial(Path::new(object), function.first().copied());
        }
        _ => Err(anyhow::anyhow!("usage: bench [--quick]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(quick: bool) -> Result<()> {
    // The first build is not measured and does not count towards the limit.
    let kept = cargo::Kept::aside()?;
    cargo::first()?;
    let start = Instant::now();
    let end = start + if quick { QUICK_LIMIT } else { LIMIT };
    let folder = std::env::current_exe()?
        .ancestors()
        .nth(2)
        .map(|target| target.join("bench"))
        .context("this program is in no target directory")?;
    let work = folder.join("work");
    fs::create_dir_all(&work)?;
    say(start, "builds of set-rto");
    let builds = cargo::build(&work, quick, start + (end - start) / 3)?;
    drop(kept);
    let mut rows = Vec::new();
    for (shape, size) in sets::chosen(quick) {
        let set = RuleSet::new(shape, size);
        say(start, &format!("compile {}", set.name()));
        for program in compile::programs(&set) {
            rows.push(compile_one(&work, &set, program, &rows, quick, end)?);
        }
    }
    let mut installs = Vec::new();
    live(&work, quick, (start, end), |line| {
        let value: serde_json::Value =
            serde_json::from_str(line).context("a line of the root part")?;
        if value["install"].is_string() {
            installs.push(value);
        } else {
            let measured = Row::from_json(&value)?;
            let same = |row: &&mut Row| row.set == measured.set && row.program == measured.program;
            if let Some(row) = rows.iter_mut().find(same) {
                row.merge(measured);
            }
        }
        Ok(())
    })?;
    let targets = targets::all(&rows, &installs, &builds);
    let mut machine = machine();
    machine.push((
        "run",
        format!("{} s{}", start.elapsed().as_secs(), if quick { ", quick" } else { "" }),
    ));
    let results = report::Results { machine, rows, installs, builds, targets };
    let markdown = report::markdown(&results);
    fs::write(folder.join("bench.md"), &markdown)?;
    fs::write(folder.join("readme.md"), readme::markdown(&results))?;
    fs::write(folder.join("bench.json"), format!("{:#}\n", report::json(&results)))?;
    print!("{markdown}");
    eprintln!("written to {}", folder.display());
    Ok(())
}

/// Compiles one program, unless a smaller one of its kind already exceeded a limit.
fn compile_one(
    work: &Path,
    set: &RuleSet,
    program: row::Program,
    rows: &[Row],
    quick: bool,
    end: Instant,
) -> Result<Row> {
    let failed = rows.iter().find(|row| {
        let family = sets::named(&row.set).map(|it| it.0);
        row.program == program
            && family == Some(set.shape)
            && row.note.is_some()
            && program == row::Program::Chain
    });
    let mut row = Row::new(&set.name(), program);
    if let Some(failed) = failed {
        row.note = Some(format!("not tried, after {}", failed.set));
    } else if Instant::now() > end {
        row.note = Some("out of time".into());
    } else {
        return compile::measure(work, set, program, compile::patience(quick));
    }
    // The object of an earlier run must not be mistaken for one of this run.
    let _ = fs::remove_file(compile::object(work, set, program));
    Ok(row)
}

/// Runs the part that needs root and passes on each line that it prints.
fn live(
    work: &Path,
    quick: bool,
    (start, end): (Instant, Instant),
    mut line: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let left = end.saturating_duration_since(Instant::now()).as_secs().to_string();
    let begun = start.elapsed().as_secs().to_string();
    let exe = std::env::current_exe()?;
    let mut command = match nix::unistd::geteuid().is_root() {
        true => Command::new(exe),
        false => {
            let mut sudo = Command::new("sudo");
            sudo.arg(exe);
            sudo
        }
    };
    command.arg("root").arg(work).args([&quick.to_string(), &begun, &left]).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot become root")?;
    let output = child.stdout.take().context("no output")?;
    for text in BufReader::new(output).lines() {
        line(&text?)?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("the part that needs root: {status}");
    }
    Ok(())
}

/// Creates a cgroup for the worker process and removes it afterwards.
fn as_root(arguments: &[&str]) -> Result<()> {
    let cgroup = sandbox::Cgroup::create()?;
    let status = Command::new(std::env::current_exe()?)
        .arg("sandbox")
        .arg(cgroup.path())
        .args(arguments)
        .status()
        .context("cannot start the sandbox")?;
    if !status.success() {
        bail!("sandbox: {status}");
    }
    Ok(())
}

/// Prints progress: the run started `begun` seconds ago and has `left` seconds left.
fn sandboxed(cgroup: &str, work: &Path, quick: bool, begun: &str, left: &str) -> Result<()> {
    let now = Instant::now();
    let begun = now.checked_sub(Duration::from_secs(begun.parse()?)).unwrap_or(now);
    let end = now + Duration::from_secs(left.parse()?);
    sandbox::enter(Path::new(cgroup))?;
    net::prepare()?;
    for (name, ..) in cargo::POLICIES {
        let directory = cargo::directory(work, name);
        if directory.join("set-rto").exists() {
            say(begun, &format!("install {name}"));
            install::measure(name, &directory, if quick { 6 } else { 20 }, end)?;
        }
    }
    sandbox::hold_one_processor()?;
    let compare = Duration::from_millis(if quick { 1_500 } else { 4_000 });
    let effort = live::Effort { compare, patience: compile::patience(quick), end };
    for (shape, size) in sets::chosen(quick) {
        let set = RuleSet::new(shape, size);
        say(begun, &format!("run {}", set.name()));
        live::measure(work, &set, effort)?;
    }
    Ok(())
}

/// Tries to load an object. If that fails, the reason goes to standard output.
fn trial(object: &Path, function: Option<&str>) -> ExitCode {
    let loaded = fs::read(object)
        .map_err(anyhow::Error::from)
        .and_then(|bytes| kernel::load(&bytes, function, None));
    match loaded {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The environment on which the figures depend.
fn machine() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let said = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        text.unwrap_or_default().lines().next().unwrap_or("missing").to_owned()
    };
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    vec![
        ("kernel", format!("{}, HZ {}", read("/proc/sys/kernel/osrelease"), rivals::hz())),
        ("processor", format!("{} × {cores}", model.unwrap_or(std::env::consts::ARCH))),
        ("JIT", read("/proc/sys/net/core/bpf_jit_enable")),
        ("clang", said(&clang)),
        ("bpftool", said("bpftool")),
    ]
}

fn say(start: Instant, what: &str) {
    eprintln!("[{:4} s] {what}", start.elapsed().as_secs());
}
