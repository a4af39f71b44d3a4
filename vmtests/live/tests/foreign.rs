//! Foreign objects at or next to the pin. No verb touches them, whatever they look like and whichever call fails
//! while they are read.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::mount::MsFlags;
use nix::mount::mount;

use super::state::PIN;
use super::state::Snapshot;
use super::state::attached;
use super::state::lookups;
use super::state::make_directory;
use super::state::nothing_attached;
use crate::harness::Skip;
use crate::harness::asm;
use crate::harness::bpf;
use crate::harness::mounts;
use crate::harness::neighbour::Neighbour;
use crate::harness::restrict::CAP_BPF;
use crate::harness::restrict::CAP_NET_ADMIN;
use crate::harness::restrict::CAP_PERFMON;
use crate::harness::restrict::Restriction;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;
use crate::harness::trace::Verdict;
use crate::harness::trace::follow;

tests! {
    foreign_link_stays_whatever_fails: 300,
    foreign_link_stays_without_cap_sys_admin: 60,
    foreign_pins_with_our_names_stay: 60,
    foreign_directory_stays: 60,
    foreign_constants_are_read_with_care: 60,
    arrival_link_detached_by_others_is_said_and_put_back: 60,
    many_maps_are_all_read: 300,
    users_cannot_stop_root: 60,
}

/// A foreign link on the hook in the place of ours, and the directory of its pin.
fn foreign_link(program: &OwnedFd) -> Result<()> {
    if !Path::new(PIN).exists() {
        make_directory(PIN)?;
    }
    let link = bpf::link(bpf::SOCK_OPS, &sandbox::cgroup()?, program)?;
    bpf::pin(&link, &Path::new(PIN).join("link"))
}

/// A read error never makes it count as ours.
fn foreign_link_stays_whatever_fails() -> Result<()> {
    let a = SetRto::of("a")?;
    foreign_link(&Neighbour::Silent.load("foreign")?)?;
    let before = Snapshot::take()?;
    let errnos = [Errno::EMFILE, Errno::ENOENT, Errno::EPERM, Errno::ENOMEM];
    for verb in ["install", "remove"] {
        let mut calls = Vec::new();
        let run = follow(a.command(&[verb]), |call| {
            calls.push(call.clone());
            Verdict::Go
        })?;
        ensure!(run.code()? == 2, "{verb}: {run:?}");
        let looks = calls.iter().filter(|call| {
            call.number == libc::SYS_bpf || crate::harness::syscalls::is_look(call.number)
        });
        for (count, call) in looks.enumerate() {
            // A program cannot detect a false report that the pin is missing or open.
            let errno = errnos[count % errnos.len()];
            let by_path = crate::harness::syscalls::path_argument(call.number).is_some()
                || call.bpf() == Some(7);
            if errno == Errno::ENOENT && by_path {
                continue;
            }
            let run = follow(a.command(&[verb]), |other| {
                if other.at == call.at { Verdict::Fail(errno) } else { Verdict::Go }
            })?;
            let context = || format!("{verb}, {errno} at call {}, {}", call.at, call.name());
            ensure!([0, 2].contains(&run.code()?), "{}: {run:?}", context());
            before.still_soon().with_context(|| format!("{}: {run:?}", context()))?;
        }
    }
    Ok(())
}

/// A user who may not read programs never mistakes a foreign one for ours.
fn foreign_link_stays_without_cap_sys_admin() -> Result<()> {
    let few = Restriction::Only(vec![CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]);
    let a = SetRto::of("a")?.restricted(few)?;
    for name in ["foreign", "set_rto"] {
        foreign_link(&Neighbour::Silent.load(name)?)?;
        let before = Snapshot::take()?;
        for verb in ["install", "remove"] {
            let run = a.run(&[verb])?;
            run.refuses(2, &[]).with_context(|| format!("a foreign program called {name}"))?;
            before.still().with_context(|| format!("{run}"))?;
        }
        let code = a.run(&["status"])?.ends_well()?;
        ensure!([4, 5].contains(&code), "`status` of a foreign link: {code}");
        fs::remove_dir_all(PIN)?;
        nothing_attached()?;
    }
    Ok(())
}

/// The cases with and without a policy of ours.
fn foreign_pins_with_our_names_stay() -> Result<()> {
    let devices = SetRto::of("devices")?;
    let names =
        ["arrivals", "arrival-1", "arrival-4026531840", "prog", "program", "constants", "rodata"];
    make_directory(PIN)?;
    for name in names {
        bpf::pin(&bpf::map()?, &Path::new(PIN).join(name))?;
    }
    let theirs = Path::new(PIN).join("theirs");
    make_directory(&theirs)?;
    let before = Snapshot::take()?;
    devices.run(&["remove"])?.ends_well()?;
    before.still().context("after `remove` where nothing is installed")?;
    // The verb is refused, or works beside the foreign objects.
    let installed = devices.run(&["install"])?;
    match installed.ends_well()? {
        0 => drop(devices.ok(&["remove"])?),
        2 => {}
        _ => bail!("{installed}"),
    }
    before.still_soon().with_context(|| format!("after {installed} and `remove`"))
}

/// An empty directory of another owner is left alone.
fn foreign_directory_stays() -> Result<()> {
    let a = SetRto::of("a")?;
    make_directory("/sys/fs/bpf/theirs")?;
    let before = Snapshot::take()?;
    a.ok(&["remove", "--pin", "/sys/fs/bpf/theirs"])?;
    before.still()
}

/// A program has our name, but its `.rodata` differs from ours in shape. A per-CPU entry is longer than the value
/// size that the map reports, and a short one holds too little.
fn foreign_constants_are_read_with_care() -> Result<()> {
    let a = SetRto::of("a")?;
    let shapes = [
        (".rodata", 8, true),
        (".rodata", 8, false),
        (".rodata", 4096, false),
        ("set_rto.rodata", 4096, true),
        (".bss", 4096, true),
    ];
    for (name, size, per_cpu) in shapes {
        let map = bpf::map_named(name, size, per_cpu)?;
        // The reference makes the map part of the program.
        let reference = asm::load_map(1, &map);
        let code = [&reference[..], &[asm::mov(0, 1), asm::EXIT]].concat();
        foreign_link(&bpf::load(bpf::SOCK_OPS, "set_rto", &code)?)?;
        for own_name in ["rodata", "constants", "prog"] {
            let _ = bpf::pin(&map, &Path::new(PIN).join(own_name));
        }
        let before = Snapshot::take()?;
        let context = || format!("a map {name} of {size} bytes, per CPU: {per_cpu}");
        for verb in ["install", "remove"] {
            a.run(&[verb])?.refuses(2, &[]).with_context(context)?;
        }
        for arguments in [&["status"][..], &["status", "--json"]] {
            let said = a.run(arguments)?;
            ensure!([4, 5].contains(&said.ends_well()?), "{}: {said}", context());
        }
        before.still().with_context(context)?;
        fs::remove_dir_all(PIN)?;
        nothing_attached()?;
    }
    Ok(())
}

/// The pin of the second link, which is attached to a network namespace.
fn second_link() -> Result<OwnedFd> {
    for entry in fs::read_dir(PIN)? {
        let path = entry?.path();
        if !path.is_dir() && bpf::identify(&path)?.0 == bpf::LINK_OF_NETNS {
            return bpf::open_pin(&path);
        }
    }
    bail!(Skip::new("sk_lookup programs cannot read the interface before Linux 5.17"))
}

/// `bpftool link detach`.
fn arrival_link_detached_by_others_is_said_and_put_back() -> Result<()> {
    let devices = SetRto::of("devices")?;
    devices.ok(&["install"])?;
    let whole = devices.ok(&["status"])?.stdout;
    bpf::detach_link(&second_link()?)?;
    ensure!(lookups()?.is_empty(), "{:?} are attached", lookups()?);
    let said = devices.run(&["status"])?;
    let is_said = said.code != Some(0) || said.stdout.contains("not attached");
    ensure!(is_said, "detached, and {said}; before: {whole}");
    let json = devices.run(&["status", "--json"])?.json()?;
    ensure!(json["arrivals"] != true, "detached, and {json}");
    devices.ok(&["install"])?;
    ensure!(lookups()?.len() == 1, "not put back: {:?}", lookups()?);
    devices.ok(&["status"])?;
    devices.ok(&["remove"])?;
    ensure!(lookups()?.is_empty() && attached()?.is_empty(), "something stays attached");
    Ok(())
}

/// Tables for 100,000 prefixes: the constants are found among any number of maps.
fn many_maps_are_all_read() -> Result<()> {
    let large = SetRto::of("large")?;
    large.ok(&["install"])?;
    let status = large.status()?;
    ensure!(status.code == 0, "installed, and {status:?}");
    large.ok(&["install"])?.says(&["already"])?;
    ensure!(attached()?.len() == 1, "{:?} are attached", attached()?);
    large.ok(&["remove"])?;
    ensure!(attached()?.is_empty(), "{:?} are attached", attached()?);
    Ok(())
}

/// A world-writable bpffs.
fn users_cannot_stop_root() -> Result<()> {
    const NOBODY: u32 = 65534;
    let a = SetRto::of("a")?;
    mounts::unmount_all("bpf")?;
    let (bpffs, mode) = (Path::new(mounts::BPFFS), Some("mode=1777"));
    mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), mode)?;
    // Any user who may read the directory can hold a lock on it.
    let file = fs::File::open(bpffs)?;
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let begin = Instant::now();
    let installed = a.run(&["install"])?;
    let elapsed = begin.elapsed();
    drop(held);
    ensure!(
        elapsed < Duration::from_secs(3),
        "a user's lock stops root for {elapsed:?}: {installed}"
    );
    match installed.ends_well()? {
        0 => drop(a.ok(&["remove"])?),
        _ => installed.says(&["writ", "hint: "])?,
    }
    // The pin's directory belongs to another user, who could remove what is in it.
    fs::create_dir(PIN)?;
    fs::set_permissions(PIN, fs::Permissions::from_mode(0o777))?;
    chown(PIN, Some(NOBODY), Some(NOBODY))?;
    let before = Snapshot::take()?;
    a.run(&["install"])?.refuses(2, &[PIN])?;
    before.still()?;
    let status = a.run(&["status"])?;
    ensure!([3, 4, 5].contains(&status.ends_well()?), "{status}");
    fs::remove_dir(PIN)?;
    Ok(())
}
