//! Waiting for another process that holds the lock.

use super::proof::failed;
use crate::error::{Error, Result};
use crate::host;
use crate::output;
use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::fstat;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for another process. An install takes about 30 ms; on a busy machine many may be waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the lock of a file. After a second a note names the holder.
pub(super) fn wait_for(file: BorrowedFd<'_>, path: &Path) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let start = Instant::now();
    let mut is_told = false;
    loop {
        match host::flock(file) {
            Ok(()) => return Ok(()),
            Err(Errno::EWOULDBLOCK) => {}
            Err(errno) => return Err(failed("lock", path, errno)),
        }
        if start.elapsed() > PATIENCE {
            let holder = holder(file);
            return Err(Error::new(
                format!("{} is locked by {holder}", path.display()),
                "nothing was changed; is that process stopped? end it, or try again later",
            ));
        }
        if !is_told && start.elapsed() > Duration::from_secs(1) {
            output::note(&format_args!("waiting for {}", holder(file)));
            is_told = true;
        }
        thread::sleep(PAUSE);
    }
}

/// The holder of a file's lock, for display (`/proc/locks`, proc(5)).
fn holder(file: BorrowedFd<'_>) -> String {
    let unknown = || "another process".to_string();
    let (Ok(state), Ok(locks)) = (fstat(file), fs::read_to_string("/proc/locks")) else {
        return unknown();
    };
    let (major, minor) = (libc::major(state.st_dev), libc::minor(state.st_dev));
    let place = format!("{major:02x}:{minor:02x}:{}", state.st_ino);
    let is_it = |fields: &Vec<&str>| fields.contains(&place.as_str()) && !fields.contains(&"->");
    let lines = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let mut holders = lines.filter(is_it);
    // `1: FLOCK ADVISORY WRITE 1234 00:1c:5678 0 EOF`
    match holders.next().and_then(|fields| fields.get(4).copied()) {
        None | Some("0" | "-1") => unknown(),
        Some(pid) => {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{} (PID {pid})", Some(name.trim()).filter(|it| !it.is_empty()).unwrap_or("?"))
        }
    }
}
