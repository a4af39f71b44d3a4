//! Injects a fault into each system call of a verb in turn. Afterwards the policy is the new one or exactly the
//! previous one, the exit code is correct, and the next commands work and leave nothing behind.

mod what;

use std::cell::Cell;
use std::cell::RefCell;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::errno::Errno;

pub(crate) use what::ERRNOS;
pub(crate) use what::Fault;
pub(crate) use what::Share;
pub(crate) use what::Verb;
use what::different;
use what::is_absence;
use what::is_of_memory;
use what::spread;

use super::state::A;
use super::state::B;
use super::state::Snapshot;
use super::state::TRIAL;
use super::state::attached;
use super::state::lookups;
use super::state::pins;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::mounts;
use crate::harness::note;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::syscalls;
use crate::harness::trace::Call;
use crate::harness::trace::End;
use crate::harness::trace::Run;
use crate::harness::trace::Verdict;
use crate::harness::trace::follow;
use crate::harness::trace::follow_both;

/// The place of a fault.
struct Place {
    call: Call,
    /// A description.
    what: String,
}

/// True for a call that removes something.
fn removes(call: &Call) -> bool {
    [libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_unlinkat, libc::SYS_umount2]
        .contains(&call.number)
}

/// Two sets of rules and a network.
pub(crate) struct Scene {
    pub(crate) a: SetRto,
    pub(crate) b: SetRto,
    pub(crate) cable: Cable,
    pub(crate) lab: Lab,
}

impl Scene {
    /// Starts with `rules`, whose timer is that of `a.toml`.
    pub(crate) fn of(rules: &str) -> Result<Self> {
        let (lab, cable) = Lab::with_cable()?;
        Ok(Scene { a: SetRto::of(rules)?, b: SetRto::of("b")?, cable, lab })
    }

    /// The timer of a new connection.
    pub(crate) fn timer(&self) -> Result<Duration> {
        Connection::open(self.cable.remote4(80))?.rto()
    }

    fn command(&self, verb: Verb) -> Vec<String> {
        let words = match verb {
            Verb::Install | Verb::InstallAndMount | Verb::Replace | Verb::Again => "install",
            Verb::Remove => "remove",
            Verb::Status | Verb::StatusOfNothing => "status",
            Verb::Check => "check",
            Verb::Try => return vec!["try".into(), self.cable.remote4(80).to_string()],
        };
        vec![words.into()]
    }

    /// Prepares the state that the verb expects.
    fn prepare(&self, verb: Verb) -> Result<()> {
        match verb {
            Verb::Install | Verb::StatusOfNothing => Ok(()),
            Verb::InstallAndMount => mounts::unmount_all("bpf"),
            Verb::Replace => self.b.ok(&["install"]).map(drop),
            _ => self.a.ok(&["install"]).map(drop),
        }
    }

    /// Injects faults into the calls of a verb that `chosen` picks, each from the same initial state.
    pub(crate) fn sweep(
        &self,
        verb: Verb,
        faults: &[Fault],
        share: &Share,
        chosen: impl Fn(&Call) -> bool,
    ) -> Result<()> {
        let words = self.command(verb);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.prepare(verb)?;
        let mut calls = Vec::new();
        let whole = follow(self.a.command(&words), |call| {
            calls.push(call.clone());
            Verdict::Go
        })?;
        let expected = i32::from(verb == Verb::StatusOfNothing) * 3;
        ensure!(whole.code()? == expected, "followed, {verb:?} ends with {whole:?}");
        let method = self.method()?;
        self.clear()?;

        let all: Vec<(u32, Fault)> = different(&calls)
            .into_iter()
            .filter(|call| chosen(call))
            .flat_map(|call| faults.iter().map(move |fault| (call, *fault)))
            .filter(|(call, fault)| fault.applies(call))
            .map(|(call, fault)| (call.at, fault))
            .collect();
        let (start, mut tried, mut is_ready) = (Instant::now(), 0, false);
        let (mut wrong, mut slowest) = (Vec::new(), (Duration::ZERO, String::new()));
        for (at, fault) in spread(&all, share) {
            let (begin, mut found) = (Instant::now(), None);
            let outcome = match is_ready {
                true => Ok(()),
                false => self.prepare(verb),
            };
            let outcome =
                outcome.and_then(|()| self.one(verb, &words, (at, fault), &method, &mut found));
            // An unchanged state needs no cleanup and serves the next fault.
            is_ready = matches!(outcome, Ok(true));
            let name = found.map_or_else(|| "none".into(), |call| call.what);
            let place = format!("{fault:?} at call {at} of {}, {name}", calls.len());
            if begin.elapsed() > slowest.0 {
                slowest = (begin.elapsed(), place.clone());
            }
            if let Err(error) = outcome {
                wrong.push(format!("{place}: {error:#}"));
                // Report every failure, but stop if the scene cannot be reset.
                self.reset().with_context(|| wrong.join("\n"))?;
            }
            tried += 1;
        }
        if is_ready {
            self.afterwards()?;
        }
        note(format!(
            "{verb:?}: {tried} of {} faults at {} calls, {} wrong, {:.1} s, the slowest {:.1} s: {}",
            all.len(),
            calls.len(),
            wrong.len(),
            start.elapsed().as_secs_f64(),
            slowest.0.as_secs_f64(),
            slowest.1
        ));
        const SHOWN: usize = 12;
        let first = wrong[..wrong.len().min(SHOWN)].join("\n");
        ensure!(wrong.is_empty(), "{verb:?}: {} of {tried} go wrong:\n{first}", wrong.len());
        ensure!(tried > 0, "{verb:?}: no call to try");
        Ok(())
    }

    /// Injects one fault. Returns whether the state is unchanged; otherwise it is cleaned up.
    fn one(
        &self,
        verb: Verb,
        words: &[&str],
        (at, fault): (u32, Fault),
        method: &str,
        found: &mut Option<Place>,
    ) -> Result<bool> {
        let before = Snapshot::take()?;
        let (old, new) = verb.timers();
        let fewest = usize::from(old != DEFAULT_RTO && new != DEFAULT_RTO);
        // Whether the program has received an error that something is missing.
        let was_absent = Cell::new(false);
        // What it could not remove.
        let kept = RefCell::new(Vec::new());
        let decide = |call: &Call| {
            let is_like = found.as_ref().is_some_and(|first| call.is_like(&first.call));
            // The number of such calls may differ by one or two from run to run.
            let is_first = found.is_none() && call.at == at && fault.applies(call);
            if is_first {
                let path = call.path().map(|path| format!(" {path}")).unwrap_or_default();
                *found = Some(Place { call: call.clone(), what: call.name() + &path });
                was_absent.set(is_absence(fault, call));
            }
            let verdict = match fault {
                Fault::Killed if is_first => Verdict::Kill,
                Fault::Once(errno) if is_first => Verdict::Fail(errno),
                Fault::FromThenOn(errno) if is_first || is_like => Verdict::Fail(errno),
                _ => Verdict::Go,
            };
            if removes(call) && matches!(verdict, Verdict::Fail(_)) {
                kept.borrow_mut().extend(call.path());
            }
            verdict
        };
        // Check after every call that may change the hook.
        let watch = |call: &Call| {
            if [libc::SYS_bpf, libc::SYS_unlinkat, libc::SYS_close].contains(&call.number)
                || syscalls::path_argument(call.number) == Some(0)
            {
                let count = attached()?.len();
                let most = 1 + usize::from(was_absent.get());
                ensure!((fewest..=most).contains(&count), "{count} programs after {}", call.name());
            }
            Ok(())
        };
        let run = follow_both(self.a.command(words), decide, watch)?;
        let Some(Place { call, .. }) = found else {
            return self.clear().map(|()| false);
        };
        let kept = kept.take();
        self.judge(verb, fault, call, &run, &before, &kept)?;
        if was_absent.get() {
            // What the kernel calls gone is gone.
            for name in kept.iter().filter(|name| name.starts_with(TRIAL)) {
                let _ = std::fs::remove_dir(sandbox::cgroup()?.join(name));
            }
        }
        // EACCES or ENOENT may be the kernel's verdict on a method.
        let is_plain = match fault {
            Fault::Once(errno) => ![Errno::EACCES, Errno::ENOENT].contains(&errno),
            _ => false,
        };
        if verb.installs() && run.end == End::Exited(0) && is_plain {
            let now = self.method()?;
            ensure!(now == method, "devices are found by {now}, not {method}: {run:?}");
        }
        if Snapshot::take()? == before {
            return Ok(true);
        }
        self.told_soon(&run)?;
        self.afterwards().map(|()| false)
    }

    /// `kept` could not be removed: `check` and `try` leave it for the next install.
    fn judge(
        &self,
        verb: Verb,
        fault: Fault,
        call: &Call,
        run: &Run,
        before: &Snapshot,
        kept: &[String],
    ) -> Result<()> {
        let (old, new) = verb.timers();
        let absent = is_absence(fault, call);
        let code = match run.end {
            End::Exited(code) => Some(code),
            End::Killed(_) if fault == Fault::Killed || is_of_memory(call) => None,
            End::Killed(signal) => bail!("it died of {signal}: {run:?}"),
        };
        ensure!(!run.stderr.contains("panicked"), "it panicked: {run:?}");
        // This would be advice to remove our own policy.
        ensure!(!run.stderr.contains("something else"), "ours is called foreign: {run:?}");
        if let Some(code) = code {
            // A missing cgroup also counts as a wrong argument.
            let is_believed = absent && (code == 1 || verb == Verb::Status && code == 3);
            ensure!(verb.codes().contains(&code) || is_believed, "exit code {code}: {run:?}");
        }
        let timer = self.timer_soon(old, new, code.filter(|_| !absent))?;
        let count = attached()?.len();
        ensure!(count == usize::from(timer != DEFAULT_RTO), "{count} programs, timer {timer:?}");
        let at_once = matches!(fault, Fault::Once(_));
        match (verb, code) {
            (Verb::Remove, Some(0)) if !absent => {
                ensure!(count == 0, "removed, and {timer:?}: {run:?}");
                ensure!(lookups().unwrap_or_default().is_empty(), "the second one stays: {run:?}");
            }
            (Verb::Try, Some(0)) if !run.stdout.is_empty() => {
                ensure!(run.stdout.contains("timer 3 s "), "not the timer: {run:?}");
                before.still_but(kept).with_context(|| format!("{run:?}"))?;
            }
            (Verb::Status | Verb::StatusOfNothing | Verb::Check | Verb::Try, Some(_)) => {
                before.still_but(kept).with_context(|| format!("{run:?}"))?;
            }
            (_, Some(0)) => ensure!(absent || timer == new, "installed, and {timer:?}: {run:?}"),
            // After a permanent fault, what has already been replaced may have to stay replaced.
            (_, Some(_))
                if verb.installs() && (at_once || timer == old && !removes(call)) && !absent =>
            {
                before.still_soon().with_context(|| format!("{run:?}"))?;
            }
            _ => {}
        }
        let bpffs = mounts::of_type("bpf")?;
        ensure!(bpffs.len() <= 1, "{bpffs:?} are mounted: {run:?}");
        Ok(())
    }

    /// Waits until the timer is one of the two, or the one that the exit code implies. Some kernels detach from a
    /// work queue.
    fn timer_soon(&self, old: Duration, new: Duration, code: Option<i32>) -> Result<Duration> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let timer = self.timer()?;
            let is_right = match code {
                Some(0) => timer == new,
                _ => timer == old || timer == new,
            };
            let is_settled = is_right && attached()?.len() == usize::from(timer != DEFAULT_RTO);
            if is_settled || Instant::now() > end {
                ensure!(timer == old || timer == new, "the timer is {timer:?}");
                return Ok(timer);
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Without a fault, `status` is soon correct: a work queue detaches what a process leaves behind unpinned.
    fn told_soon(&self, run: &Run) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let (timer, said) = (self.timer()?, self.a.run(&["status"])?);
            let expected = match timer {
                A => 0,
                B => 4,
                _ => 3,
            };
            // This is correct if the second program is lost.
            let is_half = said.code == Some(4) && timer == A && run.end != End::Exited(0);
            if said.code == Some(expected) || is_half {
                return Ok(());
            }
            let is_late = Instant::now() > end;
            ensure!(!is_late, "a timer of {timer:?}, and {said}, after {run:?}");
            sleep(Duration::from_millis(5));
        }
    }

    /// The next commands work and leave nothing behind.
    fn afterwards(&self) -> Result<()> {
        self.a.ok(&["install"])?;
        let timer = self.timer()?;
        ensure!(timer == A, "installed afterwards, and the timer is {timer:?}");
        ensure!(attached()?.len() == 1, "{:?} are attached", attached()?);
        let said = self.a.run(&["status"])?;
        ensure!(said.code == Some(0), "installed afterwards, and {said}");
        self.clear()
    }

    /// No policy, no pins, no cgroup of a probe, and a single bpffs.
    pub(crate) fn clear(&self) -> Result<()> {
        self.a.ok(&["remove"])?;
        self.is_clear()
    }

    fn is_clear(&self) -> Result<()> {
        super::state::nothing_attached()?;
        let left = lookups().unwrap_or_default();
        ensure!(left.is_empty(), "the sk_lookup programs {left:?} are left");
        let bpffs = mounts::of_type("bpf")?;
        ensure!(bpffs.len() <= 1, "{bpffs:?} are mounted");
        if bpffs.is_empty() {
            mounts::mount_fresh("bpf", Path::new(mounts::BPFFS))?;
        }
        let left = pins()?;
        // The kernel's own two iterators may be present.
        let is_ours = |pin: &String| !pin.ends_with(".debug");
        ensure!(!left.iter().any(is_ours), "the pins {left:?} are left");
        let left = super::state::cgroups()?;
        ensure!(left.is_empty(), "the cgroups {left:?} are left");
        Ok(())
    }

    /// Resets the state after a fault: a new bpffs, and with it no pins and no links.
    fn reset(&self) -> Result<()> {
        mounts::unmount_all("bpf")?;
        mounts::mount_fresh("bpf", Path::new(mounts::BPFFS))?;
        let end = Instant::now() + Duration::from_secs(5);
        while !(attached()?.is_empty() && lookups().unwrap_or_default().is_empty()) {
            ensure!(Instant::now() < end, "what was pinned stays attached");
        }
        for name in super::state::cgroups()? {
            let _ = std::fs::remove_dir(sandbox::cgroup()?.join(name));
        }
        Ok(())
    }

    /// The method of finding devices; empty if no rule needs one.
    fn method(&self) -> Result<String> {
        let status = self.a.status()?;
        Ok(status.json["interface_method"].as_str().unwrap_or_default().to_owned())
    }
}
