//! Network namespaces: creates one, and runs code or programs inside it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use nix::sched::CloneFlags;
use nix::sched::setns;
use nix::sched::unshare;

use super::rtnetlink;

/// A network namespace. It lives as long as this value, or a socket or process in it.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// The namespace of the calling thread.
    pub(crate) fn present() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")
            .context("cannot open the present network namespace")?;
        Ok(Namespace { file })
    }

    /// Creates a namespace: loopback up, no duplicate address detection, no reverse path filter.
    pub(crate) fn create() -> Result<Self> {
        thread::scope(|scope| {
            join(scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
                prepare()?;
                Self::present()
            }))
        })
    }

    /// Runs `work` in a thread of this namespace. Sockets created there stay in it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            join(scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .context("cannot enter a network namespace")?;
                work()
            }))
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Brings the current, new namespace into the initial state of every test.
pub(crate) fn prepare() -> Result<()> {
    rtnetlink::set_up("lo")?;
    for setting in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
        write_sysctl(setting, "0")?;
    }
    if has_ipv6() {
        for scope in ["all", "default"] {
            write_sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
            write_sysctl(&format!("ipv6/conf/{scope}/router_solicitations"), "0")?;
            write_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        }
    }
    Ok(())
}

/// True if this kernel supports IPv6.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Reads a setting under `/proc/sys/net` of the calling thread's namespace.
pub(crate) fn sysctl(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/net").join(name)).ok()?;
    Some(text.trim().to_owned())
}

/// Changes a setting under `/proc/sys/net` of the calling thread's namespace.
pub(crate) fn write_sysctl(name: &str, value: &str) -> Result<()> {
    std::fs::write(Path::new("/proc/sys/net").join(name), value)
        .with_context(|| format!("cannot set net/{name} to {value}"))
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().map_err(|_| anyhow!("the thread in the other namespace panicked"))?
}
