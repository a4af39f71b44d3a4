//! SIGKILL at every system call, and each call of bpf(2) refused: afterwards the new policy is in force or exactly what was
//! there before.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::state::A;
use super::state::B;
use super::state::PIN;
use super::state::attached;
use super::state::pins;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::mounts;
use crate::harness::note;
use crate::harness::runner::is_guest;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::tests;
use crate::harness::trace::End;
use crate::harness::trace::kill_at;
use crate::harness::trace::refuse_at;

/// At how many calls one test does its worst.
struct Pace {
    /// Where it takes longer than that, some calls are left out.
    budget: Duration,
    /// So many are not.
    least: u32,
    /// So many steps lead over the others.
    steps: u32,
}

impl Pace {
    /// An emulated guest takes seconds for each.
    fn of_this_machine() -> Self {
        if is_guest() {
            Self { budget: Duration::ZERO, least: 10, steps: 8 }
        } else {
            Self { budget: Duration::from_secs(10), least: 20, steps: 10 }
        }
    }

    /// From one of `calls` to the next, after `done` of them.
    fn step(&self, start: Instant, done: u32, calls: u32) -> u32 {
        let is_late = start.elapsed() > self.budget && done >= self.least;
        if is_late { (calls / self.steps).max(1) } else { 1 }
    }
}

tests! {
    killed_in_a_first_install: 180,
    killed_in_an_install_over_another: 180,
    killed_in_an_install_that_mounts_bpffs: 180,
    killed_in_remove: 180,
    killed_where_devices_are_asked_for: 400,
    refused_at_each_call_of_bpf: 400,
}

/// What a killed run has to leave: a policy, or none.
struct Scene {
    a: SetRto,
    b: SetRto,
    cable: Cable,
    _lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let (lab, cable) = Lab::with_cable()?;
        Ok(Scene { a: SetRto::of("a")?, b: SetRto::of("b")?, cable, _lab: lab })
    }

    /// Kills `victim` at each of its system calls, from the last one back; before each run comes
    /// `reset`, after it the state is judged: the policy is one of two, and `status` agrees.
    fn kill_everywhere(
        &self,
        (victim, arguments): (&SetRto, &[&str]),
        reset: impl Fn() -> Result<()>,
        (old, new): (Duration, Duration),
    ) -> Result<()> {
        reset()?;
        let calls = match kill_at(victim.command(arguments), u32::MAX)? {
            End::Exited(0, calls) => calls,
            other => bail!("traced, {arguments:?} ends with {other:?}"),
        };
        let (pace, start) = (Pace::of_this_machine(), Instant::now());
        let (mut seen_old, mut seen_new) = (0, 0);
        let (mut last, mut left_out) = (calls, 0);
        while last > 0 {
            reset()?;
            let context = || format!("killed at system call {last} of {calls} of {arguments:?}");
            let end = kill_at(victim.command(arguments), last)?;
            // The number of system calls may differ by one or two from run to run.
            ensure!(matches!(end, End::Killed | End::Exited(0, _)), "{}: {end:?}", context());
            let rto = self.judge().with_context(context)?;
            ensure!(rto == old || rto == new, "{}: the timer is {rto:?}", context());
            seen_old += u32::from(rto == old);
            seen_new += u32::from(rto == new);
            // From the last to the first in any case.
            let step = pace.step(start, seen_old + seen_new, calls).min(last);
            left_out += step - 1;
            last -= step;
        }
        if left_out > 0 {
            note(format!("{left_out} of {calls} system calls left out on this slow machine"));
        }
        ensure!(seen_old > 0 && seen_new > 0, "{seen_old} times the old, {seen_new} the new");
        note(format!(
            "killed at {} of {calls} places: {seen_old} times the old policy, {seen_new} the new",
            seen_old + seen_new
        ));
        Ok(())
    }

    /// Has each call of bpf(2) fail once in an install. One that says so leaves exactly what was there before; where there
    /// is another way, the new policy is in force.
    fn refuse_everywhere(
        &self,
        victim: &SetRto,
        reset: impl Fn() -> Result<()>,
        (old, new): (Duration, Duration),
    ) -> Result<()> {
        reset()?;
        let (code, calls) = refuse_at(victim.command(&["install"]), u32::MAX)?;
        ensure!(code == 0, "traced, install exits with {code}");
        let (pace, start) = (Pace::of_this_machine(), Instant::now());
        let (mut failed, mut went_on, mut left_out, mut last) = (0, 0, 0, 1);
        while last <= calls {
            reset()?;
            let before = (pins()?, attached()?);
            let (code, _) = refuse_at(victim.command(&["install"]), last)?;
            let context = || format!("call {last} of {calls} refused, exit code {code}");
            if code == 2 {
                // Some kernels detach from a work queue.
                let limit = Instant::now() + Duration::from_secs(5);
                while (pins()?, attached()?) != before {
                    let is_late = Instant::now() > limit;
                    ensure!(!is_late, "{}: left {:?}, not {before:?}", context(), pins()?);
                }
                failed += 1;
            } else {
                ensure!(code == 0, "{}", context());
                went_on += 1;
            }
            let rto = self.judge().with_context(context)?;
            let expected = if code == 0 { new } else { old };
            ensure!(rto == expected, "{}: the timer is {rto:?}", context());
            let step = pace.step(start, failed + went_on, calls);
            left_out += step - 1;
            last += step;
        }
        if left_out > 0 {
            note(format!("{left_out} of {calls} calls left out on this slow machine"));
        }
        note(format!("{failed} of {calls} refusals end an install, {went_on} do not"));
        // The first calls, which ask what the kernel can do, are refused in any case.
        let least = if left_out > 0 { 1 } else { 6 };
        ensure!(failed >= least && went_on > 0, "{failed} failed, {went_on} went on");
        Ok(())
    }

    /// The timer in force. Everything else has to agree with it: how many programs are attached,
    /// and what `status` says.
    fn judge(&self) -> Result<Duration> {
        let rto = Connection::open(self.cable.remote4(80))?.rto()?;
        let programs = attached()?.len();
        let (count, codes) = match rto {
            A => (1, (0, 4)),
            B => (1, (4, 0)),
            _ => (0, (3, 3)),
        };
        ensure!(programs == count, "{programs} programs attached with a timer of {rto:?}");
        let said = (self.a.status()?, self.b.status()?);
        let exits = (said.0.code, said.1.code);
        let in_words = self.a.run(&["status"])?;
        ensure!(exits == codes, "a timer of {rto:?}, status exits with {exits:?}: {in_words}");
        Ok(rto)
    }

    /// No policy, no pins: what `remove` has to make of anything a killed run left.
    fn clear(&self) -> Result<()> {
        self.a.ok(&["remove"])?;
        let left = attached()?;
        ensure!(left.is_empty(), "{left:?} are attached after remove");
        ensure!(!Path::new(PIN).exists(), "a pin is left after remove");
        Ok(())
    }
}

fn killed_in_a_first_install() -> Result<()> {
    let scene = Scene::new()?;
    scene.kill_everywhere((&scene.a, &["install"]), || scene.clear(), (DEFAULT_RTO, A))
}

fn killed_in_an_install_over_another() -> Result<()> {
    let scene = Scene::new()?;
    let reset = || scene.a.ok(&["install"]).map(drop);
    scene.kill_everywhere((&scene.b, &["install"]), reset, (A, B))?;
    scene.clear()
}

fn killed_in_an_install_that_mounts_bpffs() -> Result<()> {
    let scene = Scene::new()?;
    let reset = || {
        scene.clear()?;
        mounts::unmount_all("bpf")
    };
    scene.kill_everywhere((&scene.a, &["install"]), reset, (DEFAULT_RTO, A))?;
    scene.clear()
}

/// Then there are two programs and two links.
fn killed_where_devices_are_asked_for() -> Result<()> {
    let scene = Scene { a: SetRto::of("devices")?, ..Scene::new()? };
    scene.kill_everywhere((&scene.a, &["install"]), || scene.clear(), (DEFAULT_RTO, A))?;
    let reset = || scene.b.ok(&["install"]).map(drop);
    scene.kill_everywhere((&scene.a, &["install"]), reset, (B, A))?;
    let reset = || scene.a.ok(&["install"]).map(drop);
    scene.kill_everywhere((&scene.b, &["install"]), reset, (A, B))?;
    scene.kill_everywhere((&scene.a, &["remove"]), reset, (A, DEFAULT_RTO))
}

/// A program, a map, a link or a pin that can't be had.
fn refused_at_each_call_of_bpf() -> Result<()> {
    let scene = Scene { a: SetRto::of("devices")?, ..Scene::new()? };
    scene.refuse_everywhere(&scene.a, || scene.clear(), (DEFAULT_RTO, A))?;
    let reset = || scene.b.ok(&["install"]).map(drop);
    scene.refuse_everywhere(&scene.a, reset, (B, A))?;
    let reset = || scene.a.ok(&["install"]).map(drop);
    scene.refuse_everywhere(&scene.b, reset, (A, B))
}

fn killed_in_remove() -> Result<()> {
    let scene = Scene::new()?;
    let reset = || scene.a.ok(&["install"]).map(drop);
    scene.kill_everywhere((&scene.a, &["remove"]), reset, (A, DEFAULT_RTO))
}
