//! `set-rto remove`: detach the link and unpin it.

use crate::bpf;
use crate::error::{Error, Result, hint};
use crate::output;
use crate::pin::{self, Locked, State};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// `set-rto remove`.
///
/// # Errors
/// Whatever is pinned is not ours, cannot be identified, or the kernel refuses to remove it.
pub(crate) fn run(pin: &Path) -> Result<ExitCode> {
    let Some(directory) = Locked::existing(pin)? else { return Ok(nothing(pin)) };
    let mut known = None;
    let was_there = match pin::look(directory.as_fd(), pin)? {
        State::Foreign(what) => {
            return Err(Error::new(
                format!("not removed, something else is at the pin: {what}"),
                "set-rto removes only what it installed",
            ));
        }
        State::Absent => false,
        State::Ours(installed) => {
            // Unpinning alone would leave the policy in effect for some milliseconds: the kernel frees links in a work
            // queue. A detached link counts as not installed.
            bpf::detach(installed.link.as_fd()).map_err(|errno| {
                Error::call(format_args!("detach {}", directory.name("link")), errno, hint::ROOT)
            })?;
            pin::remove_link(&directory)?;
            known = Some(installed.program_id);
            installed.cgroup.is_some()
        }
    };
    // This also removes what killed runs have left.
    pin::sweep(&directory, None, known)?;
    directory.remove_directory()?;
    if !was_there {
        return Ok(nothing(pin));
    }
    output::print(&"removed: new connections have the kernel's own timers again");
    Ok(ExitCode::SUCCESS)
}

fn nothing(pin: &Path) -> ExitCode {
    output::note(&format_args!("not installed: nothing is pinned at {}", pin.display()));
    ExitCode::SUCCESS
}
