//! Two concurrent loaders: one mount, one policy, one lock. Neither undoes the other's work or waits for it forever.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sys::signal::Signal;

use super::state::A;
use super::state::B;
use super::state::attached;
use super::state::cgroups;
use super::state::lookups;
use super::state::make_directory;
use super::sweep::Scene;
use crate::harness::cgroup;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::mounts;
use crate::harness::note;
use crate::harness::restrict::Restriction;
use crate::harness::runner::is_guest;
use crate::harness::sandbox;
use crate::harness::setrto::Output;
use crate::harness::setrto::SetRto;
use crate::harness::syscalls;
use crate::harness::tests;
use crate::harness::trace::Call;
use crate::harness::trace::End;
use crate::harness::trace::Run;
use crate::harness::trace::Verdict;
use crate::harness::trace::follow;

tests! {
    two_installs_mount_one_bpffs: 180,
    undo_takes_nothing_of_another: 120,
    lock_is_one_however_the_path_is_written: 120,
    lock_is_waited_for_and_its_holder_named: 180,
    frozen_cgroup_stops_nobody: 180,
    probe_of_a_killed_install_is_swept: 60,
    probes_of_two_containers_do_not_collide: 120,
    probe_cgroups_of_others_stay: 60,
    killed_beside_another: 600,
    held_up_beside_another: 1800,
}

/// bpf(2): `BPF_OBJ_PIN`, `BPF_LINK_CREATE`.
const OBJ_PIN: u64 = 6;
const LINK_CREATE: u64 = 28;

/// Longer than a loader may take while another one is running.
const BOUND: Duration = Duration::from_secs(45);

fn joined<T>(handle: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().map_err(|_| anyhow!("a thread of the test panicked"))?
}

/// Traces one program while another thread runs `second`. The second one starts when `hold` first returns true, or
/// when the program has ended. `hold` is called at each system call and may block.
fn beside<T: Send>(
    command: Command,
    mut hold: impl FnMut(&Call) -> (Verdict, Option<Duration>),
    second: impl FnOnce() -> Result<T> + Send,
) -> Result<(Run, T)> {
    let (start, started) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let second = scope.spawn(move || {
            // The second one also starts if the other side has ended.
            let _ = started.recv();
            second()
        });
        let first = follow(command, |call| {
            let (verdict, pause) = hold(call);
            if let Some(pause) = pause {
                let _ = start.send(());
                sleep(pause);
            }
            verdict
        });
        drop(start);
        Ok((first?, joined(second)?))
    })
}

/// Stops a program just before it creates its first link.
fn at_the_link(pause: Duration) -> impl FnMut(&Call) -> (Verdict, Option<Duration>) {
    let mut held = false;
    move |call| {
        let is_first = call.bpf() == Some(LINK_CREATE) && !held;
        held |= is_first;
        (Verdict::Go, is_first.then_some(pause))
    }
}

/// The mount is made under the lock, so the second loader finds it.
fn two_installs_mount_one_bpffs() -> Result<()> {
    let scene = Scene::of("a")?;
    let rounds = if is_guest() { 3 } else { 15 };
    for round in 0..rounds {
        mounts::unmount_all("bpf")?;
        // One loader is stopped just before it mounts, or both run freely.
        let (mut held, at_mount) = (false, round % 2 == 0);
        let pause = Duration::from_millis(if at_mount { 300 } else { 0 });
        let hold = |call: &Call| {
            let is_there = if at_mount { call.number == libc::SYS_mount } else { call.at == 1 };
            let pauses = is_there && !held;
            held |= pauses;
            (Verdict::Go, pauses.then_some(pause))
        };
        let second = || scene.b.run(&["install"]);
        let (first, second) = beside(scene.a.command(&["install"]), hold, second)?;
        ensure!(first.code()? == 0, "round {round}: {first:?}");
        second.exits(0).with_context(|| format!("round {round}"))?;
        let bpffs = mounts::of_type("bpf")?;
        ensure!(bpffs == [Path::new(mounts::BPFFS)], "round {round}: mounted at {bpffs:?}");
        let programs = attached()?;
        ensure!(programs.len() == 1, "round {round}: {programs:?} are attached");
        let timer = scene.timer()?;
        ensure!(timer == A || timer == B, "round {round}: the timer is {timer:?}");
        scene.clear().with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// An install that fails at its end rolls back what it made. The next one waits for that.
fn undo_takes_nothing_of_another() -> Result<()> {
    let scene = Scene::of("devices")?;
    let other = SetRto::of("interfaces")?;
    other.ok(&["install"])?;
    let alone = (other.status()?.json["arrivals"].clone(), attached()?.len(), lookups()?.len());
    other.ok(&["remove"])?;
    let mut pins = 0;
    let is_pin = |call: &Call| call.bpf() == Some(OBJ_PIN);
    follow(scene.a.command(&["install"]), |call| {
        pins += u32::from(is_pin(call));
        Verdict::Go
    })?;
    scene.clear()?;
    for refused in 1..=pins {
        let (mut seen, mut held) = (0, false);
        let hold = |call: &Call| {
            if is_pin(call) {
                seen += 1;
                if seen == refused {
                    return (Verdict::Fail(Errno::ENOMEM), None);
                }
            }
            let is_undo = [libc::SYS_unlinkat, libc::SYS_umount2].contains(&call.number)
                || ["unlink", "rmdir"].contains(&call.name().as_str());
            let pauses = seen >= refused && is_undo && !held;
            held |= pauses;
            (Verdict::Go, pauses.then_some(Duration::from_secs(1)))
        };
        let (first, second) =
            beside(scene.a.command(&["install"]), hold, || other.run(&["install"]))?;
        let context = || format!("pin {refused} of {pins} refused: {first:?}, {second}");
        ensure!(first.code()? == 2, "{}", context());
        second.exits(0).with_context(context)?;
        let status = other.status()?;
        ensure!(status.code == 0, "{}: {status:?}", context());
        let now = (status.json["arrivals"].clone(), attached()?.len(), lookups()?.len());
        ensure!(now == alone, "{}: arrivals, programs {now:?}, not {alone:?}", context());
        other.ok(&["remove"])?;
        scene.clear().with_context(context)?;
    }
    Ok(())
}

/// Different spellings of the same pin path.
struct Spellings;

impl Spellings {
    const SUB: &str = "/sys/fs/bpf/sub";

    /// A directory for the alternative names.
    const PLACE: &str = "/mnt";

    fn new() -> Result<Self> {
        make_directory(Self::SUB)?;
        mounts::mount_fresh("tmpfs", Path::new(Self::PLACE))?;
        let there = |name: &str| Path::new(Self::PLACE).join(name);
        std::fs::create_dir(there("bound"))?;
        symlink(Self::SUB, there("link"))?;
        let bind = MsFlags::MS_BIND;
        mount(Some(Self::SUB), &there("bound"), None::<&str>, bind, None::<&str>)?;
        Ok(Spellings)
    }

    /// The working directory, and the path to pass.
    fn all(&self) -> Vec<(PathBuf, String)> {
        let there = |name: &str| format!("{}/{name}/p", Self::PLACE);
        vec![
            (Self::SUB.into(), "p".into()),
            (mounts::BPFFS.into(), "./sub/p".into()),
            ("/".into(), "/sys/fs/bpf//sub/../sub/p/".into()),
            ("/".into(), there("link")),
            ("/".into(), there("bound")),
        ]
    }
}

fn lock_is_one_however_the_path_is_written() -> Result<()> {
    let scene = Scene::of("a")?;
    let spellings = Spellings::new()?;
    let pin = format!("{}/p", Spellings::SUB);
    for (place, path) in spellings.all() {
        // Stop it halfway, while it holds the lock.
        let hold = at_the_link(Duration::from_millis(700));
        let second = || {
            let mut command = scene.b.command(&["install", "--pin", &path]);
            scene.b.finish(command.current_dir(&place))
        };
        let (first, second) = beside(scene.a.command(&["install", "--pin", &pin]), hold, second)?;
        let context = || format!("{path} in {}: {first:?}, {second}", place.display());
        ensure!(first.code()? == 0, "{}", context());
        let programs = attached()?;
        ensure!(programs.len() == 1, "{}: {programs:?}", context());
        // A refused path does not create a second lock.
        let expected = match second.ends_well()? {
            0 => B,
            2 => A,
            _ => bail!("{}", context()),
        };
        let timer = scene.timer()?;
        ensure!(timer == expected, "{}: the timer is {timer:?}", context());
        scene.a.ok(&["remove", "--pin", &pin])?;
        ensure!(attached()?.is_empty(), "{}: {:?} stay", context(), attached()?);
    }
    Ok(())
}

/// Runs one loader while another is stopped in the middle of an install. Returns its output and duration.
fn beside_a_stopped_one(scene: &Scene, stopped: Duration) -> Result<(Output, Duration)> {
    let second = || {
        let begin = Instant::now();
        Ok((scene.b.run(&["install"])?, begin.elapsed()))
    };
    Ok(beside(scene.a.command(&["install"]), at_the_link(stopped), second)?.1)
}

/// The time a healthy install needs under load.
fn lock_is_waited_for_and_its_holder_named() -> Result<()> {
    let scene = Scene::of("a")?;
    let (second, _) = beside_a_stopped_one(&scene, Duration::from_secs(8))?;
    second.exits(0)?;
    // Match by the process name, which is that of the executable.
    second.says(&["waiting for a (PID "])?;
    ensure!(attached()?.len() == 1, "{:?} are attached", attached()?);
    scene.clear()?;
    if sandbox::is_thorough() {
        // It does not wait forever.
        let (second, elapsed) = beside_a_stopped_one(&scene, BOUND)?;
        second.exits(2)?;
        second.says(&["waiting for a (PID ", "locked by a (PID ", "hint: "])?;
        ensure!(elapsed < BOUND, "it waited for {elapsed:?}");
        scene.clear()?;
    }
    Ok(())
}

/// A started program. It is killed if it does not end.
struct Started {
    child: Child,
    begin: Instant,
}

impl Started {
    fn new(mut command: Command) -> Result<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Started { child, begin: Instant::now() })
    }

    /// Its exit code, if it ends in time.
    fn end(mut self) -> Result<i32> {
        while self.begin.elapsed() < BOUND {
            if let Some(status) = self.child.try_wait()? {
                return status.code().with_context(|| format!("it ended with {status}"));
            }
            sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("it has not ended after {BOUND:?}")
    }
}

/// The probe's child is stuck in a frozen cgroup. Neither this install nor another waits for it forever.
fn frozen_cgroup_stops_nobody() -> Result<()> {
    let scene = Scene::of("devices")?;
    let frozen = sandbox::cgroup()?.join("frozen");
    std::fs::create_dir(&frozen)?;
    std::fs::write(frozen.join("cgroup.freeze"), "1").context("cannot freeze a cgroup")?;
    let path = frozen.to_str().context("no text")?;
    let there = ["install", "--cgroup", path, "--pin", "/sys/fs/bpf/frozen"];
    let first = Started::new(scene.a.command(&there))?;
    sleep(Duration::from_millis(200));
    let second = Started::new(scene.b.command(&["install"]))?;
    let second = second.end().context("the install beside it");
    let first = first.end().context("the install on a frozen cgroup");
    std::fs::write(frozen.join("cgroup.freeze"), "0")?;
    ensure!(second? == 0, "the install beside it failed");
    let first = first?;
    ensure!([0, 2].contains(&first), "exit code {first}");
    ensure!(scene.timer()? == B, "the timer is {:?}", scene.timer()?);
    scene.a.ok(&["remove", "--pin", "/sys/fs/bpf/frozen"])?;
    scene.b.ok(&["remove"])?;
    let left = std::fs::read_dir(&frozen)?.filter_map(Result::ok).filter(|it| it.path().is_dir());
    let left: Vec<_> = left.map(|it| it.file_name()).collect();
    ensure!(left.is_empty(), "{left:?} are left in the frozen cgroup");
    cgroup::remove_empty(&frozen)
}

fn is_fork(call: &Call) -> bool {
    [libc::SYS_clone, libc::SYS_clone3].contains(&call.number)
        || syscalls::name(call.number).ends_with("fork")
}

fn probe_of_a_killed_install_is_swept() -> Result<()> {
    let scene = Scene::of("devices")?;
    let run = follow(scene.a.command(&["install"]), |call| {
        if is_fork(call) { Verdict::Kill } else { Verdict::Go }
    })?;
    ensure!(run.end == End::Killed(Signal::SIGKILL), "there was no probe to be killed: {run:?}");
    let left = cgroups()?;
    note(format!("a killed install leaves {left:?}"));
    scene.a.ok(&["install"])?;
    let left = cgroups()?;
    ensure!(left.is_empty(), "{left:?} are left after the next install");
    scene.clear()
}

/// set-rto is process 1 in each of these PID namespaces.
fn probes_of_two_containers_do_not_collide() -> Result<()> {
    let scene = Scene::of("devices")?;
    let contained = scene.a.restricted(Restriction::FirstProcess)?;
    // Leftovers of a killed run.
    let left = sandbox::cgroup()?.join("set-rto-probe-1");
    std::fs::create_dir(&left)?;
    contained.ok(&["install"]).context("beside what a killed one has left")?;
    scene.a.ok(&["remove"])?;
    let _ = std::fs::remove_dir(&left);
    for round in 0..5 {
        thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| contained.run(&["install"]))).collect();
            all.into_iter().try_for_each(|one| joined(one)?.exits(0))
        })
        .with_context(|| format!("round {round}"))?;
        scene.clear().with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// One cgroup has a process in it, and another has a name like ours.
fn probe_cgroups_of_others_stay() -> Result<()> {
    let scene = Scene::of("devices")?;
    let theirs = sandbox::cgroup()?.join("set-rto-probe-theirs");
    let inside = theirs.join("inside");
    std::fs::create_dir_all(&inside)?;
    let mut sleeper = Command::new("sleep").arg("60").spawn()?;
    std::fs::write(inside.join("cgroup.procs"), sleeper.id().to_string())?;
    let ran = scene.a.ok(&["install"]).and_then(|_| scene.a.ok(&["remove"]));
    let is_there = inside.exists();
    let is_alive = sleeper.try_wait()?.is_none();
    sleeper.kill()?;
    sleeper.wait()?;
    cgroup::remove_empty(&inside)?;
    cgroup::remove_empty(&theirs)?;
    ran?;
    ensure!(is_there && is_alive, "a cgroup of somebody else was cleared");
    Ok(())
}

/// Two loaders start together and one of them is killed. The other one's output is correct.
fn killed_beside_another() -> Result<()> {
    let scene = Scene::of("devices")?;
    let count = if is_guest() { 2 } else { 12 };
    let pairs = [
        ("install", "install"),
        ("install", "remove"),
        ("remove", "install"),
        ("remove", "remove"),
    ];
    let mut at = 0;
    for (victim, survivor) in pairs {
        let prepare = || scene.b.ok(&["install"]);
        prepare()?;
        let whole = follow(scene.a.command(&[victim]), |_| Verdict::Go)?;
        for _ in 0..count {
            prepare()?;
            // The steps have no pattern but are the same in each run.
            at = (at * 31 + 7) % 1009;
            let last = 1 + at % whole.calls;
            // Both run concurrently from the first call on.
            let kill = |call: &Call| {
                let verdict = if call.at == last { Verdict::Kill } else { Verdict::Go };
                (verdict, (call.at == 1).then_some(Duration::ZERO))
            };
            let (first, second) =
                beside(scene.a.command(&[victim]), kill, || scene.b.run(&[survivor]))?;
            judge_pair(&scene, (victim, survivor), &second)
                .with_context(|| format!("{victim} killed at call {last}: {first:?}"))?;
        }
    }
    Ok(())
}

fn judge_pair(scene: &Scene, (victim, survivor): (&str, &str), second: &Output) -> Result<()> {
    second.exits(0)?;
    let timer = scene.timer()?;
    let possible: &[Duration] = match (victim, survivor) {
        ("install", "install") => &[A, B],
        ("remove", "install") => &[B, DEFAULT_RTO],
        ("install", _) => &[A, DEFAULT_RTO],
        _ => &[DEFAULT_RTO],
    };
    ensure!(possible.contains(&timer), "the timer is {timer:?}: {second}");
    let count = attached()?.len();
    ensure!(count == usize::from(timer != DEFAULT_RTO), "{count} programs, timer {timer:?}");
    scene.a.ok(&["install"])?;
    ensure!(scene.timer()? == A, "the next install: {:?}", scene.timer()?);
    scene.clear()
}

/// One loader is stopped before each of its calls in turn while another one runs as far as it can. Both succeed, and
/// their output is correct. This is also tried without a mounted bpffs.
fn held_up_beside_another() -> Result<()> {
    let scene = Scene::of("a")?;
    let pause = Duration::from_millis(100);
    for (verb, other, has_bpffs) in [
        ("install", "install", false),
        ("install", "install", true),
        ("install", "remove", true),
        ("remove", "install", true),
        ("status", "install", true),
        ("status", "remove", true),
    ] {
        let prepare = || match has_bpffs {
            true => scene.b.ok(&["install"]).map(drop),
            false => mounts::unmount_all("bpf"),
        };
        prepare()?;
        let calls = follow(scene.a.command(&[verb]), |_| Verdict::Go)?.calls;
        let places = if sandbox::is_thorough() {
            calls
        } else if is_guest() {
            3
        } else {
            15
        };
        for place in 0..places {
            scene.a.ok(&["remove"])?;
            prepare()?;
            let at = 1 + place * calls / places;
            let hold = |call: &Call| (Verdict::Go, (call.at == at).then_some(pause));
            let (first, second) = beside(scene.a.command(&[verb]), hold, || scene.b.run(&[other]))?;
            let context = || format!("{verb} held up at call {at} of {calls}: {first:?}, {second}");
            let codes: &[i32] = if verb == "status" { &[3, 4] } else { &[0] };
            ensure!(codes.contains(&first.code()?), "{}", context());
            let pair = if verb == "status" { ("remove", other) } else { (verb, other) };
            judge_pair(&scene, pair, &second).with_context(context)?;
        }
    }
    Ok(())
}
