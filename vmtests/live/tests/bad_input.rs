//! Bad input and a hostile environment: invalid paths, streams that are closed or full, limits, signals. Each gives a
//! clear error or succeeds. None kills set-rto, and nothing is lost.

use std::fs;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::state::A;
use super::state::PIN;
use super::state::Snapshot;
use super::state::attached;
use super::state::lookups;
use super::state::make_directory;
use super::state::nothing_attached;
use super::state::refused_by;
use super::sweep::Scene;
use crate::harness::restrict::Restriction;
use crate::harness::runner::is_guest;
use crate::harness::sandbox;
use crate::harness::setrto::Output;
use crate::harness::setrto::SetRto;
use crate::harness::tests;
use crate::harness::trace::Verdict;
use crate::harness::trace::follow;
use crate::harness::wait::until;

tests! {
    pin_that_is_no_place: 60,
    pin_by_a_symlink: 60,
    pin_with_a_slash_at_its_end: 60,
    cgroup_removed_meanwhile: 300,
    bpffs_without_room: 60,
    streams_that_are_full: 120,
    streams_that_are_closed: 120,
    few_descriptors: 180,
    no_locked_memory: 60,
    no_file_size: 60,
    arguments_of_a_megabyte: 60,
    stopped_and_continued: 120,
    children_that_are_not_kept: 60,
}

fn pin_that_is_no_place() -> Result<()> {
    let a = SetRto::of("a")?;
    let long_name = format!("/sys/fs/bpf/{}", "n".repeat(300));
    let long_path = format!("/sys/fs/bpf{}", "/name".repeat(1000));
    let cases: [(&str, &[i32], &[&str]); 9] = [
        ("", &[1], &["--pin"]),
        ("/", &[1], &["bpf"]),
        ("/etc/hostname", &[1, 2], &["/etc/hostname"]),
        ("/sys/fs/bpf/maps.debug", &[2], &["/sys/fs/bpf/maps.debug"]),
        ("/sys/fs/bpf/maps.debug/below", &[2], &["/sys/fs/bpf/maps.debug"]),
        ("/sys/fs/bpf/a.b", &[2], &["dot"]),
        ("/sys/fs/bpf/a.b/c", &[2], &["dot"]),
        (&long_name, &[1, 2], &["too long"]),
        (&long_path, &[1, 2], &["too long"]),
    ];
    for (pin, codes, words) in cases {
        let context = || format!("--pin {pin:.60}");
        for verb in ["install", "remove", "status"] {
            let arguments = [verb, "--pin", pin];
            if verb == "install" {
                refused_by(codes, &a, &arguments, words).with_context(context)?;
                continue;
            }
            // `remove` and `status` find nothing, or report an error.
            let before = Snapshot::take()?;
            let code = a.run(&arguments)?.ends_well()?;
            let expected: &[i32] = if verb == "remove" { &[0, 1, 2] } else { &[1, 2, 3, 4, 5] };
            ensure!(expected.contains(&code), "{verb} {}: {code}", context());
            before.still().with_context(context)?;
        }
    }
    Ok(())
}

/// The target of a symlink, or a missing path: every verb sees the same thing.
fn pin_by_a_symlink() -> Result<()> {
    let scene = Scene::of("a")?;
    make_directory("/sys/fs/bpf/real")?;
    let links = [
        ("/sys/fs/bpf/link", "/sys/fs/bpf/real"),
        ("/sys/fs/bpf/dangling", "/sys/fs/bpf/nowhere"),
        ("/sys/fs/bpf/out", "/dev/shm"),
        ("/sys/fs/bpf/self", "/sys/fs/bpf/self"),
    ];
    for (link, to) in links {
        symlink(to, link)?;
        let before = Snapshot::take()?;
        let installed = scene.a.run(&["install", "--pin", link])?;
        let context = || format!("{link} to {to}: {installed}");
        match installed.ends_well()? {
            0 => {
                ensure!(scene.timer()? == A, "{}", context());
                let said = scene.a.run(&["status", "--pin", link])?;
                ensure!(said.code == Some(0), "{}, {said}", context());
                scene.a.ok(&["remove", "--pin", link])?;
            }
            code @ (1 | 2) => installed.refuses(code, &[link]).with_context(context)?,
            _ => bail!("{}", context()),
        }
        nothing_attached().with_context(context)?;
        ensure!(Path::new(link).symlink_metadata().is_ok(), "the symlink is gone: {}", context());
        fs::remove_file(link)?;
        if !Path::new("/sys/fs/bpf/real").exists() {
            make_directory("/sys/fs/bpf/real")?;
        }
        symlink(to, link)?;
        before.still().with_context(context)?;
        fs::remove_file(link)?;
    }
    Ok(())
}

fn pin_with_a_slash_at_its_end() -> Result<()> {
    let scene = Scene::of("a")?;
    scene.a.ok(&["install", "--pin", "/sys/fs/bpf/set-rto/"])?;
    ensure!(scene.timer()? == A, "the timer is {:?}", scene.timer()?);
    scene.a.ok(&["status"])?;
    scene.a.ok(&["install"])?.says(&["already"])?;
    scene.a.ok(&["status", "--pin", "/sys/fs/bpf/set-rto//"])?;
    scene.a.ok(&["remove", "--pin", "//sys/fs/bpf/./set-rto/"])?;
    scene.clear()
}

/// The cgroup disappears during each of the calls in turn. A link without a cgroup is not a policy.
fn cgroup_removed_meanwhile() -> Result<()> {
    let scene = Scene::of("devices")?;
    let cgroup = sandbox::cgroup()?.join("meanwhile");
    let path = cgroup.to_str().context("no text")?;
    let arguments = ["install", "--cgroup", path];
    fs::create_dir(&cgroup)?;
    let whole = follow(scene.a.command(&arguments), |_| Verdict::Go)?;
    scene.a.ok(&["remove"])?;
    let steps = if is_guest() { 5 } else { 40 };
    for step in 0..steps {
        if !cgroup.exists() {
            fs::create_dir(&cgroup)?;
        }
        let at = 1 + step * whole.calls / steps;
        let run = follow(scene.a.command(&arguments), |call| {
            if call.at == at {
                // The cgroup remains while a probe is in it.
                let _ = fs::remove_dir(&cgroup);
            }
            Verdict::Go
        })?;
        let context = || format!("removed at call {at} of {}: {run:?}", whole.calls);
        let code = run.code().with_context(context)?;
        ensure!(!run.stderr.contains("panicked"), "{}", context());
        ensure!((0..=2).contains(&code), "{}", context());
        ensure!(attached()?.is_empty(), "{}: on the root {:?}", context(), attached()?);
        if !cgroup.exists() {
            // The kernel detaches the program from a work queue.
            until(format_args!("{}: `status` does not see it", context()), || {
                Ok([3, 5].contains(&scene.a.run(&["status"])?.ends_well()?))
            })?;
        }
        scene.a.ok(&["install"]).or_else(|error| {
            // If the cgroup was not removed after all, the policy is attached to it.
            if cgroup.exists() { scene.a.ok(&["remove"]) } else { Err(error) }
        })?;
        scene.clear().or_else(|error| if cgroup.exists() { Ok(()) } else { Err(error) })?;
    }
    scene.a.ok(&["remove"])?;
    Ok(())
}

/// A bpffs has no size limit of its own, so the error of a full one is injected.
fn bpffs_without_room() -> Result<()> {
    const OBJ_PIN: u64 = 6;
    let scene = Scene::of("devices")?;
    let before = Snapshot::take()?;
    let mut pins = 0;
    follow(scene.a.command(&["install"]), |call| {
        pins += u32::from(call.bpf() == Some(OBJ_PIN));
        Verdict::Go
    })?;
    scene.clear()?;
    for full in 1..=pins {
        let mut seen = 0;
        let run = follow(scene.a.command(&["install"]), |call| {
            let is_pin = call.bpf() == Some(OBJ_PIN);
            seen += u32::from(is_pin);
            if is_pin && seen >= full { Verdict::Fail(Errno::ENOSPC) } else { Verdict::Go }
        })?;
        let context = || format!("full from pin {full} of {pins} on: {run:?}");
        ensure!(run.code()? == 2, "{}", context());
        ensure!(run.stderr.contains("No space left"), "{}", context());
        before.still_soon().with_context(context)?;
    }
    Ok(())
}

/// The verbs, in an order in which each prints something to stdout or stderr.
fn verbs(scene: &Scene) -> Vec<Vec<String>> {
    let try_it = format!("try {}", scene.cable.remote4(80));
    let lines = [
        "install",
        "install",
        "status",
        "status --json",
        "check",
        "check --json",
        "rules",
        "rules --json",
        "--version",
        "--help",
        "nonsense",
        "install --cgroup /nowhere",
        "status --pin /nowhere",
        &try_it,
        "remove",
        "remove",
        "status",
    ];
    lines.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// Runs all verbs with unusual streams: the outcome is the same as with normal ones, except that a result that cannot
/// be written may be an error.
fn with_streams(scene: &Scene, spoil: &dyn Fn(&mut Command) -> Result<()>) -> Result<()> {
    for words in verbs(scene) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let before = attached()?.len();
        let mut command = scene.a.command(&words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        spoil(&mut command)?;
        let status = command.status()?;
        let code = status.code().with_context(|| format!("{words:?} ends with {status}"))?;
        let after = attached()?.len();
        // Run it again with normal streams, from the same initial state.
        match words[0] {
            "install" if words.len() == 1 && before == 0 => drop(scene.a.ok(&["remove"])?),
            "remove" if before == 1 => drop(scene.a.ok(&["install"])?),
            _ => {}
        }
        let good = scene.a.run(&words)?;
        ensure!(
            Some(code) == good.code || code == 2,
            "{words:?} ends with {code}, and with good streams {good}"
        );
        ensure!(after == attached()?.len(), "{words:?}: {after} programs, exit code {code}");
    }
    scene.clear()
}

fn streams_that_are_full() -> Result<()> {
    let scene = Scene::of("a")?;
    let full = || File::options().write(true).open("/dev/full").context("no /dev/full");
    let stdout = |command: &mut Command| {
        full().map(|to| {
            command.stdout(to);
        })
    };
    let stderr = |command: &mut Command| {
        full().map(|to| {
            command.stderr(to);
        })
    };
    with_streams(&scene, &stderr).context("stderr")?;
    with_streams(&scene, &stdout).context("stdout")?;
    with_streams(&scene, &|command| stdout(command).and_then(|()| stderr(command))).context("both")
}

fn streams_that_are_closed() -> Result<()> {
    let scene = Scene::of("a")?;
    // The reading end of the pipe is closed.
    let pipe = || -> Result<Stdio> { Ok(std::io::pipe()?.1.into()) };
    let stdout = |command: &mut Command| {
        pipe().map(|to| {
            command.stdout(to);
        })
    };
    let stderr = |command: &mut Command| {
        pipe().map(|to| {
            command.stderr(to);
        })
    };
    with_streams(&scene, &stderr).context("stderr")?;
    with_streams(&scene, &stdout).context("stdout")?;
    for closed in [&[0][..], &[1], &[2], &[0, 1, 2]] {
        let mut a = scene.a.clone();
        for number in closed {
            a = a.restricted(Restriction::Closed(*number))?;
        }
        for (verb, code) in [
            ("install", 0),
            ("install", 0),
            ("status", 0),
            ("check", 0),
            ("remove", 0),
            ("remove", 0),
            ("status", 3),
        ] {
            let run = a.run(&[verb])?;
            ensure!(run.ends_well()? == code, "closed {closed:?}: {run}");
        }
        scene.clear()?;
    }
    Ok(())
}

/// The exit code is correct under any limit.
fn under_limits(scene: &Scene, limited: &SetRto, what: &str) -> Result<()> {
    // The dynamic loader must load the C library before set-rto runs at all.
    let has_not_run =
        |run: &Output| run.code == Some(127) && run.stderr.contains("shared libraries");
    let run = |verb: &str| -> Result<Option<(i32, Output)>> {
        let run = limited.run(&[verb])?;
        if has_not_run(&run) {
            return Ok(None);
        }
        let code = run.ends_well().with_context(|| what.to_owned())?;
        ensure!(!run.stderr.contains("something else"), "{what}: {run}");
        Ok(Some((code, run)))
    };
    let before = Snapshot::take()?;
    match run("install")? {
        Some((0, run)) => {
            ensure!(scene.a.status()?.code == 0, "{what}: {run}, {:?}", scene.a.status()?);
        }
        other => {
            ensure!(other.as_ref().is_none_or(|(code, _)| *code == 2), "{what}: {other:?}");
            before.still_soon().with_context(|| format!("{what}: {other:?}"))?;
        }
    }
    scene.a.ok(&["install"])?;
    let before = Snapshot::take()?;
    for verb in ["install", "status", "check"] {
        if let Some((code, run)) = run(verb)? {
            let expected: &[i32] = if verb == "status" { &[0, 2, 5] } else { &[0, 2] };
            ensure!(expected.contains(&code), "{what}: {run}");
        }
        before.still_soon().with_context(|| format!("{what}: after {verb}"))?;
    }
    if let Some((0, run)) = run("remove")? {
        ensure!(attached()?.is_empty(), "{what}: {run}, and {:?} stay", attached()?);
        ensure!(lookups().unwrap_or_default().is_empty(), "{what}: {run}, the second one stays");
    }
    scene.a.ok(&["install"])?;
    scene.clear().with_context(|| what.to_owned())
}

fn few_descriptors() -> Result<()> {
    let scene = Scene::of("devices")?;
    for most in 3..=16 {
        let limited = scene.a.restricted(Restriction::Limit(Resource::RLIMIT_NOFILE, most))?;
        under_limits(&scene, &limited, &format!("{most} descriptors"))?;
    }
    Ok(())
}

fn no_locked_memory() -> Result<()> {
    let scene = Scene::of("devices")?;
    let limited = scene.a.restricted(Restriction::Limit(Resource::RLIMIT_MEMLOCK, 0))?;
    under_limits(&scene, &limited, "no locked memory")
}

/// Writing to a file or a memfd then raises SIGXFSZ.
fn no_file_size() -> Result<()> {
    let scene = Scene::of("devices")?;
    let limited = scene.a.restricted(Restriction::Limit(Resource::RLIMIT_FSIZE, 0))?;
    under_limits(&scene, &limited, "no file size")
}

fn arguments_of_a_megabyte() -> Result<()> {
    let a = SetRto::of("a")?;
    // The kernel limits one argument to 128 KiB.
    let word = "x".repeat(120_000);
    let path = format!("/sys/fs/bpf/{word}");
    let before = Snapshot::take()?;
    let many: Vec<&str> = std::iter::once("install").chain([word.as_str(); 9]).collect();
    let cases: [(&[&str], &[i32]); 6] = [
        (&many, &[1]),
        (&["install", "--pin", &path], &[1, 2]),
        (&["remove", "--pin", &path], &[0, 1, 2]),
        (&["status", "--pin", &path], &[1, 2, 3, 4, 5]),
        (&["install", "--cgroup", &path], &[1, 2]),
        (&["try", &word], &[1]),
    ];
    for (arguments, codes) in cases {
        let run = a.run(arguments)?;
        let code = run.ends_well()?;
        let words = arguments.iter().map(|word| format!("{word:.20} ")).collect::<String>();
        ensure!(codes.contains(&code), "{words} ends with {code}");
        // The message must not repeat the whole argument.
        let said = run.stderr.len();
        ensure!(said < 10_000, "{words} has {said} bytes on stderr");
    }
    before.still()
}

/// A shell user or a supervisor stops the process. Nothing is lost.
fn stopped_and_continued() -> Result<()> {
    let scene = Scene::of("devices")?;
    // The verifier returns EAGAIN when a signal is pending. If stops follow each other too fast, an install may
    // report that and change nothing.
    let mut before = crate::harness::clock::DEFAULT_RTO;
    for round in 0..if is_guest() { 1 } else { 5 } {
        for (verb, timer) in [("install", A), ("remove", crate::harness::clock::DEFAULT_RTO)] {
            let mut child = scene.a.command(&[verb]).stdout(Stdio::null()).spawn()?;
            let pid = Pid::from_raw(child.id().cast_signed());
            let begin = Instant::now();
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                ensure!(begin.elapsed() < Duration::from_secs(40), "{verb} does not end");
                kill(pid, Signal::SIGSTOP)?;
                sleep(Duration::from_micros(500));
                kill(pid, Signal::SIGCONT)?;
                sleep(Duration::from_micros(500 << (2 * round)));
            };
            let is_done = status.success();
            ensure!(is_done || status.code() == Some(2), "{verb} ends with {status}");
            ensure!(is_done || round < 4, "{verb} does not get on between stops");
            before = if is_done { timer } else { before };
            ensure!(scene.timer()? == before, "{verb}: the timer is {:?}", scene.timer()?);
        }
    }
    scene.clear()
}

/// A parent that ignores SIGCHLD passes this on to its children.
fn children_that_are_not_kept() -> Result<()> {
    let scene = Scene::of("devices")?;
    scene.a.ok(&["install"])?;
    let method = scene.a.status()?.json["interface_method"].clone();
    scene.clear()?;
    let careless = scene.a.restricted(Restriction::NoChildren)?;
    let installed = careless.run(&["install"])?;
    match installed.ends_well()? {
        0 => {
            let now = scene.a.status()?.json["interface_method"].clone();
            ensure!(now == method, "devices are found by {now}, not {method}: {installed}");
            careless.ok(&["status"])?;
        }
        _ => installed.refuses(2, &[])?,
    }
    ensure!(careless.run(&["check"])?.ends_well()? != 1, "check");
    ensure!(Path::new(PIN).exists() == (installed.code == Some(0)), "{installed}");
    careless.ok(&["remove"])?;
    scene.clear()
}
