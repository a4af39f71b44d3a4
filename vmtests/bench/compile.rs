//! Measurements that need no kernel: rules to C, C to an object, instructions executed per decision.

use crate::count;
use crate::elf;
use crate::limited;
use crate::rivals;
use crate::row::Measure;
use crate::row::Program;
use crate::row::Row;
use crate::rule;
use crate::sample;
use crate::sets::RuleSet;
use crate::sets::Shape;
use anyhow::Context as _;
use anyhow::Result;
use set_rto_compiler::Policy;
use set_rto_compiler::diag;
use set_rto_compiler::diag::Source;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// The time limit of clang and of the verifier for one program.
pub(crate) fn patience(quick: bool) -> Duration {
    Duration::from_secs(if quick { 4 } else { 12 })
}

/// Measurements are repeated for up to this time.
const QUICK: Duration = Duration::from_millis(500);
const REPEATS: usize = 3;

/// The number of connections that each program decides in the interpreter.
const CONNECTIONS: usize = 2_000;
/// The total number of instructions, which limits the time for long chains.
const CHAIN_BUDGET: usize = 40_000_000;

/// The path of the object of a program for a set.
pub(crate) fn object(work: &Path, set: &RuleSet, program: Program) -> PathBuf {
    work.join(format!("{}.{}.o", set.slug(), program.name().replace(' ', "-")))
}

/// The programs of a set.
pub(crate) fn programs(set: &RuleSet) -> Vec<Program> {
    let is_port = set.shape == Shape::Ports && set.size == 1;
    let fits = |program: &Program| match program {
        Program::Hand | Program::Evidence | Program::Learned => is_port,
        Program::Map => set.shape != Shape::Mixed,
        _ => true,
    };
    Program::ALL.into_iter().filter(fits).collect()
}

/// Compiles one program and counts its instructions. The object, if any, stays in `work`.
pub(crate) fn measure(
    work: &Path,
    set: &RuleSet,
    program: Program,
    patience: Duration,
) -> Result<Row> {
    let mut row = Row::new(&set.name(), program);
    let output = object(work, set, program);
    let input = output.with_extension("c");
    if output.exists() {
        fs::remove_file(&output)?;
    }
    let mut entries = None;
    let c = match program {
        Program::Nothing => return Ok(row),
        Program::Empty => rivals::EMPTY.to_string(),
        Program::Hand => rivals::HAND_WRITTEN.to_string(),
        Program::Chain => rivals::chain(set),
        Program::Map => match rivals::map(set) {
            Some((c, filling)) => {
                entries = Some(filling);
                c
            }
            None => return Ok(row),
        },
        Program::Ours | Program::Evidence | Program::Learned => {
            match generate(set, program, &input, &mut row)? {
                Some(c) => c,
                None => return Ok(row),
            }
        }
    };
    fs::write(&input, c).with_context(|| format!("cannot write {}", input.display()))?;
    // The compiler's C has no warnings. The C of the rivals has variables that some sets do not use.
    let extra = if program.is_compiled() { &[][..] } else { &["-Wno-unused"] };
    if let Err(why) = clang(&input, &output, extra, patience, &mut row) {
        row.note = Some(why);
        return Ok(row);
    }
    let jiffies: Vec<u32> = (0..set.rules.len()).map(rivals::jiffies).collect();
    let mut bytes = fs::read(&output)?;
    row.put(Measure::Bytes, bytes.len() as f64);
    if program.is_compiled() {
        elf::complete(&mut bytes, &jiffies)?;
        fs::write(&output, &bytes)?;
    }
    let function = (program == Program::Hand).then_some(rivals::HAND_FUNCTION);
    let mut image = elf::image(&bytes, function)?;
    if program.is_observed() {
        let connections = sample::connections(set, CONNECTIONS);
        match count::observed(&mut image, &connections) {
            Ok((median, worst, calls)) => {
                row.put(Measure::StepsMedian, median as f64);
                row.put(Measure::StepsWorst, worst as f64);
                row.put(Measure::Calls, calls as f64);
            }
            Err(error) => row.note = Some(format!("WRONG: {error:#}")),
        }
        return Ok(row);
    }
    let budget = match program {
        Program::Chain => CHAIN_BUDGET / image.program.instructions().len().max(1),
        _ => CONNECTIONS,
    };
    let connections = sample::connections(set, CONNECTIONS.min(budget.max(100)));
    let lookup = entries.as_ref().map(|entries| (count::Lookup::new(entries), entries));
    let lookup = lookup.as_ref().map(|(lookup, entries)| (lookup, *entries));
    let rules = count::expected(&set.rules, &connections);
    // The hand-written program contains its own HZ, and the empty one decides nothing.
    let checked = !matches!(program, Program::Empty | Program::Hand) || {
        program == Program::Hand && rivals::hz() == rivals::HAND_HZ
    };
    let expected = checked.then_some((&rules[..], &jiffies[..]));
    match count::count(&mut image, lookup, &connections, expected) {
        Ok(counts) => {
            row.put(Measure::StepsMedian, counts.median as f64);
            row.put(Measure::StepsWorst, counts.worst as f64);
            row.put(Measure::Calls, counts.calls as f64);
            row.put(Measure::Idle, counts.idle as f64);
        }
        Err(error) => row.note = Some(format!("WRONG: {error:#}")),
    }
    Ok(row)
}

/// The compiler's C, or `None` with a note if the compiler refuses the rules.
fn generate(
    set: &RuleSet,
    program: Program,
    input: &Path,
    row: &mut Row,
) -> Result<Option<String>> {
    let text = rule::toml(&set.rules, program);
    fs::write(input.with_extension("toml"), &text)?;
    let source = Source { name: "rules.toml", text: &text };
    let mut times = Vec::new();
    let mut c = None;
    let begin = Instant::now();
    while times.is_empty() || (times.len() < REPEATS && begin.elapsed() < QUICK) {
        let start = Instant::now();
        match set_rto_compiler::compile(&source, env!("CARGO_PKG_VERSION")) {
            Ok(policy) => c = Some(policy.c),
            Err(diagnostics) => {
                let all = diag::render(&source, &diagnostics);
                let few: Vec<_> = all.lines().take(8).collect();
                row.note = Some(format!("refused: {}", few.join(" | ")));
                return Ok(None);
            }
        }
        times.push(milliseconds(start.elapsed()));
    }
    row.put_median(Measure::Generator, times);
    Ok(c)
}

/// Compiles with the options of build.rs.
fn clang(
    input: &Path,
    output: &Path,
    extra: &[&str],
    patience: Duration,
    row: &mut Row,
) -> Result<(), String> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.is_empty() || (times.len() < REPEATS && begin.elapsed() < QUICK) {
        let mut command = Command::new(&clang);
        command.args(Policy::clang_flags(cfg!(target_endian = "big"), std::env::consts::ARCH));
        command
            .args(["-g", "-O2", "-target", "bpf", "-c"])
            .args(extra)
            .arg(input)
            .arg("-o")
            .arg(output);
        let start = Instant::now();
        let ran = limited::run(command, patience).map_err(|error| format!("{clang}: {error:#}"))?;
        match ran {
            None => return Err(format!("clang: over {} s", patience.as_secs())),
            Some(ran) if !ran.success => {
                // Omits the position: the file belongs to the bench.
                let first = ran.output.lines().find_map(|line| line.split_once("error: "));
                return Err(format!("clang: {}", first.map_or("failed", |it| it.1)));
            }
            Some(_) => times.push(milliseconds(start.elapsed())),
        }
    }
    row.put_median(Measure::Clang, times);
    Ok(())
}

/// Formats an error for a row.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
