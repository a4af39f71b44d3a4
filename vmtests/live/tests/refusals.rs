//! The response to bad input and to kernels that refuse: an exit code, one line with the cause, one hint, and no
//! changes.

use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::state::PIN;
use super::state::Snapshot;
use super::state::make_directory;
use super::state::nothing_attached;
use super::state::refused;
use super::state::refused_by;
use crate::harness::bpf;
use crate::harness::mounts;
use crate::harness::neighbour::Neighbour;
use crate::harness::neighbour::pass_all;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    refuses_wrong_arguments: 60,
    refuses_without_cgroup2: 60,
    mounts_bpffs_where_it_is_missing: 60,
    refuses_a_foreign_object_at_the_pin: 60,
    refuses_a_pin_that_is_an_object_itself: 60,
    refuses_a_cgroup_that_is_none: 60,
    refuses_a_pin_outside_of_bpffs: 60,
}

/// The exit code for wrong arguments.
const USAGE: &[i32] = &[1];

fn refuses_wrong_arguments() -> Result<()> {
    let a = SetRto::of("a")?;
    let before = Snapshot::take()?;
    let cases: [&[&str]; 17] = [
        &[],
        &["instal"],
        &["install", "remove"],
        &["install", "--force"],
        &["install", "--cgroup"],
        &["install", "--pin"],
        &["install", "here"],
        &["remove", "--cgroup", "/sys/fs/cgroup"],
        &["status", "--jason"],
        &["try"],
        &["try", "192.0.2.1"],
        &["try", "192.0.2.1:65536"],
        &["try", "[::1:80"],
        &["try", "host.example:80"],
        &["rules", "\u{1b}[31m"],
        &["--versio"],
        &["install", ""],
    ];
    for arguments in cases {
        a.run(arguments)?.refuses(1, &[]).with_context(|| format!("{arguments:?}"))?;
    }
    before.still()
}

fn refuses_without_cgroup2() -> Result<()> {
    let a = SetRto::of("a")?;
    mounts::unmount_all("cgroup2")?;
    refused(&a, &["install"], &["cgroup2", "mount -t cgroup2"])?;
    let check = a.run(&["check"])?;
    check.exits(2)?;
    ensure!(check.stdout.contains("mount -t cgroup2"), "no advice in {check}");
    ensure!(a.status()?.code == 3, "expected not installed: {:?}", a.status()?);
    a.ok(&["remove"])?;
    Ok(())
}

fn mounts_bpffs_where_it_is_missing() -> Result<()> {
    let a = SetRto::of("a")?;
    mounts::unmount_all("bpf")?;
    ensure!(a.status()?.code == 3, "expected not installed: {:?}", a.status()?);
    a.ok(&["check"])?;
    ensure!(mounts::of_type("bpf")?.is_empty(), "`status` or `check` has mounted bpffs");
    a.ok(&["install"])?;
    let mounted = mounts::of_type("bpf")?;
    ensure!(mounted == [Path::new(mounts::BPFFS)], "bpffs is mounted at {mounted:?}");
    ensure!(a.status()?.code == 0, "not installed: {:?}", a.status()?);
    a.ok(&["remove"])?;
    // A failed install leaves no mount behind.
    mounts::unmount_all("bpf")?;
    let alone = Neighbour::Silent.load("alone")?;
    bpf::attach(bpf::SOCK_OPS, &sandbox::cgroup()?, &alone, 0)?;
    refused(&a, &["install"], &["ALLOW_MULTI"])
}

/// Foreign objects in the place of our link are never replaced and never removed.
fn refuses_a_foreign_object_at_the_pin() -> Result<()> {
    let a = SetRto::of("a")?;
    let place = Path::new(PIN).join("link");
    let cgroup = sandbox::cgroup()?;
    for what in ["map", "program", "sock_ops link", "link of our name", "egress link"] {
        make_directory(PIN)?;
        let object = match what {
            "map" => bpf::map()?,
            "program" => Neighbour::Silent.load("foreign")?,
            "sock_ops link" => {
                bpf::link(bpf::SOCK_OPS, &cgroup, &Neighbour::Silent.load("foreign")?)?
            }
            "link of our name" => {
                bpf::link(bpf::SOCK_OPS, &cgroup, &Neighbour::Silent.load("set_rto")?)?
            }
            _ => {
                let program = bpf::load(bpf::EGRESS, "foreign", &pass_all())?;
                bpf::link(bpf::EGRESS, &cgroup, &program)?
            }
        };
        bpf::pin(&object, &place)?;
        let context = || format!("a foreign {what} at the pin");
        refused(&a, &["install"], &["something else", PIN, "--pin"]).with_context(context)?;
        refused(&a, &["remove"], &["something else", PIN]).with_context(context)?;
        let status = a.status()?;
        ensure!(status.code == 4, "{}: {status:?}", context());
        ensure!(!status.installed()?, "{}: {status:?}", context());
        a.run(&["status"])?.exits(4)?;
        // Following the hint works.
        let other = "/sys/fs/bpf/set-rto2";
        a.ok(&["install", "--pin", other]).with_context(context)?;
        a.ok(&["remove", "--pin", other]).with_context(context)?;
        std::fs::remove_file(&place)?;
        std::fs::remove_dir(PIN)?;
        drop(object);
        nothing_attached()?;
    }
    Ok(())
}

fn refuses_a_pin_that_is_an_object_itself() -> Result<()> {
    let a = SetRto::of("a")?;
    bpf::pin(&bpf::map()?, Path::new(PIN))?;
    refused(&a, &["install"], &[PIN])?;
    refused(&a, &["remove"], &[PIN])?;
    ensure!(a.status()?.code == 4, "expected something foreign: {:?}", a.status()?);
    Ok(())
}

fn refuses_a_cgroup_that_is_none() -> Result<()> {
    let a = SetRto::of("a")?;
    let mut places: Vec<String> =
        ["/proc", "/dev/null", mounts::BPFFS, ""].map(String::from).to_vec();
    // A version 1 cgroup, if there is one.
    let old = mounts::of_type("cgroup")?.into_iter().next();
    places.extend(old.map(|path| path.display().to_string()));
    let file = sandbox::cgroup()?.join("cgroup.procs");
    places.push(file.display().to_string());
    for place in places {
        // A missing cgroup may have existed when the command was written, so either code is valid.
        refused_by(&[1, 2], &a, &["install", "--cgroup", &place], &["cgroup"]).context(place)?;
    }
    // This cgroup may exist at another time.
    refused(&a, &["install", "--cgroup", "/no/such/place"], &["/no/such/place", "--cgroup"])
}

fn refuses_a_pin_outside_of_bpffs() -> Result<()> {
    let a = SetRto::of("a")?;
    for place in ["/dev/shm/set-rto", "/proc/set-rto", "/no/such/place", "/", "relative", ""] {
        let arguments = ["install", "--pin", place];
        let words: &[&str] = if place.is_empty() { &["--pin"] } else { &["bpf"] };
        refused_by(USAGE, &a, &arguments, words).context(place)?;
        ensure!(place == "/" || !Path::new(place).exists(), "{place} was made");
    }
    // Names on a bpffs contain no dot.
    refused(&a, &["install", "--pin", "/sys/fs/bpf/a.b"], &["dot"])?;
    // The same applies before anything is mounted.
    mounts::unmount_all("bpf")?;
    refused_by(USAGE, &a, &["install", "--pin", "/dev/shm/set-rto"], &["bpf"])
}
