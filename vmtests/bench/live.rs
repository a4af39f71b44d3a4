//! Measurements that need a kernel: loading, and connections with the programs attached. Runs in the sandbox.

use crate::compare;
use crate::compile;
use crate::compile::milliseconds;
use crate::kernel;
use crate::limited;
use crate::net::Wire;
use crate::rivals;
use crate::row::Measure;
use crate::row::Program;
use crate::row::Row;
use crate::row::median;
use crate::sample;
use crate::sandbox;
use crate::sets::RuleSet;
use anyhow::Context as _;
use anyhow::Result;
use libbpf_rs::Link;
use libbpf_rs::Object;
use std::fs;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

/// The number of loads of each program, and the time limit for them.
const LOADS: usize = 9;
const LOAD_TIME: Duration = Duration::from_millis(800);

/// The number of different connections.
const TARGETS: usize = 48;
/// Rounds of the statistics, and connections per program in each round.
const ROUNDS: usize = 27;
const PER_ROUND: usize = 144;
/// Connections with one program per turn, and the number of warm-up connections before them.
const BLOCK: usize = TARGETS / 2;
const WARM_UP: usize = 3;
/// When the bounds are this close, no more turns are needed.
const PRECISE: f64 = 0.004;

/// How thorough to be.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// The limit for comparing one program with the empty one.
    pub(crate) compare: Duration,
    /// The time limit of the verifier.
    pub(crate) patience: Duration,
    pub(crate) end: Instant,
}

/// A program in the kernel, or none for [`Program::Nothing`].
struct Candidate {
    row: Row,
    object: Option<Object>,
}

/// Loads a program in a separate process, which is killed if the verifier takes too long.
fn trial(object: &Path, program: Program, patience: Duration) -> Result<Result<(), String>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("trial").arg(object).args(function(program));
    let start = Instant::now();
    let took = |start: Instant| format!("{:.1} s", start.elapsed().as_secs_f64());
    Ok(match limited::run(command, patience)? {
        None => Err(format!("verifier: over {} s", patience.as_secs())),
        Some(ended) if ended.success => Ok(()),
        Some(ended) => Err(format!("refused after {}: {}", took(start), ended.output.trim())),
    })
}

fn function(program: Program) -> Option<&'static str> {
    (program == Program::Hand).then_some(rivals::HAND_FUNCTION)
}

/// Loads a program several times.
fn load(
    work: &Path,
    set: &RuleSet,
    program: Program,
    patience: Duration,
) -> Result<Option<Candidate>> {
    let mut row = Row::new(&set.name(), program);
    if program == Program::Nothing {
        return Ok(Some(Candidate { row, object: None }));
    }
    let path = compile::object(work, set, program);
    if !path.exists() {
        return Ok(None);
    }
    if let Err(why) = trial(&path, program, patience)? {
        row.note = Some(why);
        println!("{}", row.to_json());
        return Ok(None);
    }
    let bytes = fs::read(&path)?;
    let filling = (program == Program::Map).then(|| rivals::map(set)).flatten();
    let entries = filling.as_ref().map(|(_, entries)| entries);
    let mut times = Vec::new();
    let begin = Instant::now();
    let mut last = None;
    while times.len() < LOADS && (times.is_empty() || begin.elapsed() < LOAD_TIME) {
        drop(last.take());
        let start = Instant::now();
        let object = kernel::load(&bytes, function(program), entries)?;
        times.push(milliseconds(start.elapsed()));
        last = Some(object);
    }
    row.put_median(Measure::Load, times);
    let object = last.context("nothing was loaded")?;
    {
        let program = kernel::program(&object, function(program))?;
        let info = kernel::info(program.as_fd())?;
        row.put(Measure::Verified, info.verified.into());
        row.put(Measure::Translated, info.translated.into());
        row.put(Measure::Memory, kernel::memory(&object, program.as_fd()) as f64);
    }
    Ok(Some(Candidate { row, object: Some(object) }))
}

/// Measures all programs of a set side by side and prints a row for each.
pub(crate) fn measure(work: &Path, set: &RuleSet, effort: Effort) -> Result<()> {
    let mut all = Vec::new();
    for program in compile::programs(set) {
        all.extend(load(work, set, program, effort.patience)?);
    }
    let wire = Wire::new(&sample::connections(set, TARGETS))?;
    let mut hook = Hook::open()?;
    if Instant::now() < effort.end {
        callbacks(&mut all, &wire, &mut hook)?;
    }
    ratios(&mut all, &wire, &mut hook, effort)?;
    shares(&mut all);
    for candidate in &all {
        println!("{}", candidate.row.to_json());
    }
    Ok(())
}

/// Measures ns per callback with the kernel's statistics. The programs take turns.
fn callbacks(all: &mut [Candidate], wire: &Wire, hook: &mut Hook) -> Result<()> {
    let _on = kernel::statistics()?;
    let mut times = vec![Vec::new(); all.len()];
    let mut counts = vec![Vec::new(); all.len()];
    for round in 0..ROUNDS {
        for (at, candidate) in all.iter().enumerate() {
            let Some(object) = &candidate.object else { continue };
            let function = function(candidate.row.program);
            hook.set(Some((object, function)))?;
            let program = kernel::program(object, function)?;
            // As in the measurement of connect(): the previous program has filled the caches.
            for connection in 0..WARM_UP {
                wire.open(connection)?;
            }
            let before = kernel::info(program.as_fd())?;
            for connection in 0..PER_ROUND {
                wire.open(round * PER_ROUND + connection)?;
            }
            let after = kernel::info(program.as_fd())?;
            let runs = (after.runs - before.runs).max(1) as f64;
            times[at].push((after.run_ns - before.run_ns) as f64 / runs);
            counts[at].push(runs / PER_ROUND as f64);
        }
    }
    let each = |at: usize| -> Vec<f64> {
        times[at].iter().zip(&counts[at]).map(|(time, count)| time * count).collect()
    };
    let empty = all.iter().position(|it| it.row.program == Program::Empty).map(each);
    for (at, candidate) in all.iter_mut().enumerate() {
        let pairs = each(at).into_iter().zip(empty.iter().flatten());
        let more: Vec<f64> = pairs.map(|(own, empty)| own - empty).collect();
        if let Some(compare::Estimate { high, .. }) = compare::estimate(&more) {
            candidate.row.put(Measure::ExtraMost, high);
        }
        candidate.row.put_median(Measure::Extra, more);
    }
    for (candidate, (times, counts)) in all.iter_mut().zip(times.into_iter().zip(counts)) {
        candidate.row.put_median(Measure::Callback, times);
        candidate.row.put_median(Measure::Callbacks, counts);
    }
    Ok(())
}

/// The programs' own share of the time of a connection.
fn shares(all: &mut [Candidate]) {
    let empty = all.iter().find(|it| it.row.program == Program::Empty);
    let Some(connect) = empty.and_then(|it| it.row.get(Measure::Connect)) else { return };
    for row in all.iter_mut().map(|it| &mut it.row) {
        for (extra, share) in
            [(Measure::Extra, Measure::Share), (Measure::ExtraMost, Measure::ShareMost)]
        {
            if let Some(ns) = row.get(extra) {
                row.put(share, ns / (connect * 1_000.0));
            }
        }
    }
}

/// Compares connect() with each program to connect() with the empty one, in turns: see [`compare`].
fn ratios(all: &mut [Candidate], wire: &Wire, hook: &mut Hook, effort: Effort) -> Result<()> {
    let empty = all.iter().position(|it| it.row.program == Program::Empty);
    // There was not enough time to compile it.
    let Some(empty) = empty else { return Ok(()) };
    let block = |hook: &mut Hook, candidate: &Candidate, first: usize| -> Result<Vec<f64>> {
        let function = function(candidate.row.program);
        hook.set(candidate.object.as_ref().map(|object| (object, function)))?;
        for connection in 0..WARM_UP {
            wire.open(first + connection)?;
        }
        let time = |connection| Ok(wire.open(first + connection)?.as_secs_f64() * 1e6);
        (0..BLOCK).map(time).collect()
    };
    for at in 0..all.len() {
        // The empty program against itself shows the precision of the method.
        let patience = match all[at].row.program {
            it if it.is_compiled() => effort.compare,
            Program::Empty => effort.compare / 2,
            _ => effort.compare / 6,
        };
        let (mut turns, mut times) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        while begin.elapsed() < patience && Instant::now() < effort.end {
            let first = turns.len() * BLOCK;
            let is_even = turns.len() % 2 == 0;
            let (outer, inner) = if is_even { (empty, at) } else { (at, empty) };
            let mut run = |who: usize| block(hook, &all[who], first);
            let (a, b, c, d) = (run(outer)?, run(inner)?, run(inner)?, run(outer)?);
            let (ends, middle) = ([a.as_slice(), &d], [b.as_slice(), &c]);
            let (base, own) = if is_even { (ends, middle) } else { (middle, ends) };
            turns.extend(compare::turn(base, own));
            times.extend(median(own.concat()));
            let is_done = |it: compare::Estimate| it.high - it.low < PRECISE;
            if turns.len() % 64 == 0 && compare::estimate(&turns).is_some_and(is_done) {
                break;
            }
        }
        all[at].row.put_median(Measure::Connect, times);
        if let Some(compare::Estimate { middle, low, high }) = compare::estimate(&turns) {
            all[at].row.put(Measure::Ratio, middle);
            all[at].row.put(Measure::RatioLow, low);
            all[at].row.put(Measure::RatioHigh, high);
        }
    }
    hook.set(None)
}

/// The sock_ops hook of the sandbox's cgroup.
struct Hook {
    cgroup: File,
    link: Option<Link>,
}

impl Hook {
    fn open() -> Result<Self> {
        Ok(Hook { cgroup: File::open(sandbox::cgroup_root()?)?, link: None })
    }

    /// Replaces the attached program by that one.
    fn set(&mut self, to: Option<(&Object, Option<&str>)>) -> Result<()> {
        let Some((object, function)) = to else {
            self.link = None;
            return Ok(());
        };
        let program = kernel::program(object, function)?;
        match &mut self.link {
            Some(link) => link.update_prog(&program).context("cannot swap the program")?,
            None => {
                let link = program.attach_cgroup(self.cgroup.as_raw_fd());
                self.link = Some(link.context("cannot attach")?);
            }
        }
        Ok(())
    }
}
