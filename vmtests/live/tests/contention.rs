//! A hundred processes with two sets of rules install, remove and query for some seconds (a minute with `--thorough`),
//! while a watcher queries the kernel's hook as fast as it can.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;

use super::state::A;
use super::state::B;
use super::state::attached;
use super::sweep::Scene;
use crate::harness::mounts;
use crate::harness::note;
use crate::harness::runner::is_guest;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    contention_of_installs: 300,
    contention_of_installs_and_removes: 300,
    contention_without_bpffs: 300,
    contention_where_devices_are_asked_for: 300,
}

/// The number of concurrent processes, and the duration.
fn measure() -> (usize, Duration) {
    match () {
        () if sandbox::is_thorough() => (100, Duration::from_secs(60)),
        () if is_guest() => (6, Duration::from_secs(3)),
        () => (100, Duration::from_secs(4)),
    }
}

/// What the watcher has seen.
#[derive(Default)]
struct Watch {
    ended: AtomicBool,
    looks: AtomicUsize,
}

impl Watch {
    /// Checks until the end that the number of programs is valid and that there is at most one mount.
    fn run(&self, fewest: usize) -> Result<()> {
        while !self.ended.load(Ordering::Relaxed) {
            // Check both before and after: a second mount on top would hide the pins in the first.
            for _ in 0..100 {
                let programs = attached()?;
                ensure!((fewest..=1).contains(&programs.len()), "{programs:?} are attached");
                self.looks.fetch_add(1, Ordering::Relaxed);
            }
            let bpffs = mounts::of_type("bpf")?;
            ensure!(bpffs.len() <= 1, "mounted at {bpffs:?}");
        }
        Ok(())
    }
}

/// Runs verbs in a loop until the end. The number selects remove, install or query.
fn work(sets: [&SetRto; 2], number: usize, removes: bool, end: Instant) -> Result<usize> {
    let mut count = 0;
    while count == 0 || Instant::now() < end {
        let at = number + count;
        let set = sets[at % 2];
        let (verb, expected): (_, &[i32]) = match at % 5 {
            0 | 1 => ("install", &[0]),
            2 if removes => ("remove", &[0]),
            // The query may have run while nothing was installed, so its answer may be stale.
            3 if removes => ("status", &[0, 3, 4]),
            3 => ("status", &[0, 4]),
            _ => ("install", &[0]),
        };
        let run = set.run(&[verb])?;
        let code = run.ends_well()?;
        ensure!(expected.contains(&code), "{run}");
        ensure!(!run.stdout.contains("CAP_SYS_ADMIN"), "{run}");
        count += 1;
    }
    Ok(count)
}

fn contend(rules: &str, removes: bool, has_bpffs: bool) -> Result<()> {
    let scene = Scene::of(rules)?;
    let (processes, duration) = measure();
    let watch = Watch::default();
    match has_bpffs {
        true => drop(scene.a.ok(&["install"])?),
        false => mounts::unmount_all("bpf")?,
    }
    let fewest = usize::from(has_bpffs && !removes);
    let end = Instant::now() + duration;
    let done = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch.run(fewest));
        let workers: Vec<_> = (0..processes)
            .map(|number| {
                let sets = [&scene.a, &scene.b];
                scope.spawn(move || work(sets, number, removes, end))
            })
            .collect();
        let mut done = 0;
        let mut wrong = Vec::new();
        for worker in workers {
            match worker.join().map_err(|_| anyhow!("a thread of the test panicked"))? {
                Ok(count) => done += count,
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        watch.ended.store(true, Ordering::Relaxed);
        let watched = watcher.join().map_err(|_| anyhow!("the watcher panicked"))?;
        if let Err(error) = watched {
            wrong.insert(0, format!("{error:#}"));
        }
        if let Some(first) = wrong.first() {
            bail!("{} of {processes} processes, or the watcher: {first}", wrong.len());
        }
        Ok(done)
    })?;
    let looks = watch.looks.load(Ordering::Relaxed);
    note(format!("{done} runs of {processes} at a time, {looks} looks at the hook"));
    let bpffs = mounts::of_type("bpf")?;
    ensure!(bpffs == [Path::new(mounts::BPFFS)], "mounted at {bpffs:?}");
    scene.a.ok(&["install"])?;
    let timer = scene.timer()?;
    ensure!(timer == A, "the timer is {timer:?}");
    scene.b.ok(&["install"])?;
    let timer = scene.timer()?;
    ensure!(timer == B, "the timer is {timer:?}");
    scene.clear().context("at the end")
}

fn contention_of_installs() -> Result<()> {
    contend("a", false, true)
}

fn contention_of_installs_and_removes() -> Result<()> {
    contend("a", true, true)
}

fn contention_without_bpffs() -> Result<()> {
    contend("a", true, false)
}

fn contention_where_devices_are_asked_for() -> Result<()> {
    contend("devices", true, true)
}
