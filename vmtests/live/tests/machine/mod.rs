//! Tests on a whole machine with its real root cgroup and mounts. They run only in guests of the matrix.

pub(super) mod layouts;
pub(super) mod net_cls;
pub(super) mod root;

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;

use crate::harness::cgroup;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::sandbox;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::tests::support::expect_armed;
use crate::tests::support::expect_synack_timer;
use crate::tests::support::far_port;

/// A cgroup on the machine, removed at the end. The test's process moves in and out.
struct Part {
    root: PathBuf,
    path: PathBuf,
}

impl Part {
    /// Creates it below the machine's root or below one of its cgroups.
    fn new(parent: &Path, name: &str) -> Result<Self> {
        let (root, path) = (sandbox::cgroup()?, parent.join(name));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Part { root, path })
    }

    /// Runs `work` as a process in this cgroup.
    fn inside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        move_to(&self.path)?;
        let result = work();
        move_to(&self.root)?;
        result
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Err(error) = cgroup::remove_empty(&self.path) {
            // Otherwise the next test would find it.
            assert!(std::thread::panicking(), "{error}");
        }
    }
}

/// Moves this process into a cgroup.
fn move_to(cgroup: &Path) -> Result<()> {
    std::fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("cannot move into {}", cgroup.display()))
}

/// Checks the timers of a SYN to a port and of a SYN-ACK from it.
fn expect_both(lab: &Lab, cable: &Cable, port: u16, rto: Duration) -> Result<()> {
    expect_armed(&Connection::open(cable.remote4(port))?, rto)
        .with_context(|| format!("SYN to port {port}"))?;
    let here: SocketAddr = (cable.here4(), port).into();
    let _listener = listen(here, None)?;
    expect_synack_timer(lab, cable, cable.remote4(far_port()), here, rto)
        .with_context(|| format!("SYN-ACK from port {port}"))
}
