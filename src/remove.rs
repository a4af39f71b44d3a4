//! `set-rto remove`: detach the link and unpin it.

use crate::device::arrivals;
use crate::error::{Error, Result};
use crate::host::mounts;
use crate::install;
use crate::installed::{self, State};
use crate::undo::remove_pin;
use libbpf_rs::Link;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// `set-rto remove`.
pub(crate) fn run(pin: &Path) -> Result<ExitCode> {
    let Some(bpffs) = mounts::bpffs_of(pin) else { return Ok(nothing(pin)) };
    let _lock = install::lock(&bpffs)?;
    match installed::look(pin)? {
        State::Foreign(what) => Err(Error::new(
            format!("not removed, something else is at the pin: {what}"),
            "only what set-rto installed is removed by it",
        )),
        State::Absent => {
            // What a killed install may have left.
            arrivals::clear(pin, false)?;
            let _ = fs::remove_dir(pin);
            Ok(nothing(pin))
        }
        State::Ours(_) => {
            let path = installed::link_path(pin);
            // Unpinning alone would leave the policy in force for some milliseconds: the kernel frees a
            // link from a work queue. A link that has been detached counts as not installed.
            let failed = |error| {
                Error::bpf(format_args!("detach {}", path.display()), &error, "run it as root")
            };
            Link::open(&path).and_then(|link| link.detach()).map_err(failed)?;
            remove_pin(&path)?;
            arrivals::clear(pin, false)?;
            // Not empty if somebody else put something there: then it stays.
            let _ = fs::remove_dir(pin);
            crate::print(&"removed: new connections have the kernel's own timers again");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn nothing(pin: &Path) -> ExitCode {
    eprintln!("set-rto: not installed: nothing is pinned at {}", pin.display());
    ExitCode::SUCCESS
}
