//! The system's state: the policy in effect, pins, attached programs and mounts, before and after a test's actions.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::support::expect_armed;
use crate::harness::bpf;
use crate::harness::lab::Cable;
use crate::harness::mounts;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;

/// The timer that `a.toml` gives to every connection.
pub(crate) const A: Duration = Duration::from_secs(3);
/// The timer that `b.toml` gives to every connection.
pub(crate) const B: Duration = Duration::from_secs(5);
/// The default of `--pin`.
pub(crate) const PIN: &str = "/sys/fs/bpf/set-rto";

/// The start of the names of the cgroups of trial connections.
pub(crate) const TRIAL: &str = "set-rto-probe-";

/// Checks the timer of a new connection to any address.
pub(crate) fn expect_timer(cable: &Cable, rto: Duration) -> Result<()> {
    expect_armed(&Connection::open(cable.remote4(80))?, rto)
}

/// The sock_ops programs attached to the test's cgroup.
pub(crate) fn attached() -> Result<Vec<u32>> {
    bpf::attached(bpf::SOCK_OPS, &sandbox::cgroup()?)
}

/// Waits until the hook is empty. After the last descriptor of a link is closed, some kernels detach it from a work
/// queue.
pub(crate) fn nothing_attached() -> Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    while !attached()?.is_empty() {
        ensure!(Instant::now() < end, "still attached: {:?}", attached()?);
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// All paths below the bpffs mount point.
pub(crate) fn pins() -> Result<Vec<String>> {
    let mut found = tree(Path::new(mounts::BPFFS))?;
    found.sort();
    Ok(found)
}

fn tree(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(tree(&path)?);
        }
    }
    Ok(found)
}

/// Creates a directory on the bpffs that is accessible only to its owner, as set-rto does.
pub(crate) fn make_directory(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// The programs that see the SYNs of the current network namespace.
pub(crate) fn lookups() -> Result<Vec<u32>> {
    bpf::attached(bpf::SK_LOOKUP, Path::new("/proc/thread-self/ns/net"))
}

/// The cgroups below the test's own cgroup. A loader that has ended leaves none.
pub(crate) fn cgroups() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(sandbox::cgroup()?)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Everything that set-rto could change: mounts, pins and their objects, the hooks, cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    mounts: String,
    pins: Vec<(String, Option<(bpf::Kind, u32)>)>,
    pub(crate) attached: Option<Vec<u32>>,
    pub(crate) lookups: Option<Vec<u32>>,
    cgroups: Option<Vec<String>>,
}

impl Snapshot {
    /// Takes the current state.
    pub(crate) fn take() -> Result<Self> {
        // Without a cgroup2 mount or cgroup BPF, the hook cannot be queried.
        let is_there = sandbox::cgroup().is_ok() && bpf::has_cgroups();
        let pinned = |path: String| {
            let object = bpf::identify(Path::new(&path)).ok();
            (path, object)
        };
        Ok(Snapshot {
            mounts: mounts::all()?,
            pins: pins()?.into_iter().map(pinned).collect(),
            attached: is_there.then(attached).transpose()?,
            // Needs Linux 5.9 and is not in every kernel.
            lookups: lookups().ok(),
            cgroups: sandbox::cgroup().is_ok().then(cgroups).transpose()?,
        })
    }

    /// Checks that nothing has changed, except for these cgroups of trials, which may have come.
    pub(crate) fn still_but(&self, names: &[String]) -> Result<()> {
        let mut now = Snapshot::take()?;
        if let Some(cgroups) = &mut now.cgroups {
            cgroups.retain(|name| !(name.starts_with(TRIAL) && names.contains(name)));
        }
        self.is(&now)
    }

    /// Checks that nothing has changed.
    pub(crate) fn still(&self) -> Result<()> {
        self.is(&Snapshot::take()?)
    }

    /// Checks that nothing has changed once the kernel's deferred work is done. Some kernels detach from a work
    /// queue.
    pub(crate) fn still_soon(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && self != &Snapshot::take()? {
            sleep(Duration::from_millis(5));
        }
        self.still()
    }

    fn is(&self, now: &Self) -> Result<()> {
        let only = |one: &Self, other: &Self| -> Vec<String> {
            let theirs: Vec<&str> = other.mounts.lines().collect();
            one.mounts.lines().filter(|line| !theirs.contains(line)).map(str::to_owned).collect()
        };
        let (gone, come) = (only(self, now), only(now, self));
        ensure!(
            now.mounts == self.mounts,
            "mounts that are gone: {gone:?}, that are new: {come:?}"
        );
        ensure!(now.pins == self.pins, "pins {:?} became {:?}", self.pins, now.pins);
        ensure!(now.attached == self.attached, "{:?} became {:?}", self.attached, now.attached);
        ensure!(
            now.lookups == self.lookups,
            "sk_lookup programs {:?} became {:?}",
            self.lookups,
            now.lookups
        );
        ensure!(now.cgroups == self.cgroups, "cgroups {:?} became {:?}", self.cgroups, now.cgroups);
        Ok(())
    }
}

/// Requires a refusal with exit code 2 that contains all of `words` and changes nothing.
pub(crate) fn refused(set_rto: &SetRto, arguments: &[&str], words: &[&str]) -> Result<()> {
    refused_by(&[2], set_rto, arguments, words)
}

/// The same with any of these exit codes.
pub(crate) fn refused_by(
    codes: &[i32],
    set_rto: &SetRto,
    arguments: &[&str],
    words: &[&str],
) -> Result<()> {
    let before = Snapshot::take()?;
    let output = set_rto.run(arguments)?;
    let code = output.ends_well()?;
    ensure!(codes.contains(&code), "expected one of the exit codes {codes:?}: {output}");
    output.refuses(code, words)?;
    before.still().with_context(|| format!("{output}"))
}
