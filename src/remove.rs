//! `set-rto remove`: detach the link and unpin it.

use crate::bpf;
use crate::error::{Context as _, Result, hint};
use crate::output;
use crate::pin::{self, LINK, Locked};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// `set-rto remove`; `own`: only if the policy is this binary's.
///
/// # Errors
/// Whatever is pinned is not ours, cannot be identified, or the kernel refuses to remove it.
pub(crate) fn run(pin: &Path, own: bool) -> Result<ExitCode> {
    let Some(directory) = Locked::existing(pin)? else { return Ok(nothing(pin)) };
    let found = pin::look(&directory)?;
    if own && found.as_ref().is_some_and(|it| !it.is_current()) {
        output::note(&"not removed: these are the rules of another binary");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(installed) = &found {
        let place = pin.join(LINK);
        bpf::detach(installed.link.as_fd())
            .context(format_args!("detach {}", place.display()), hint::ROOT)?;
        directory.unpin(LINK)?;
    }
    // This also removes what killed runs have left.
    pin::sweep(&directory, None, found.as_ref().map(|it| it.program_id))?;
    directory.remove_directory()?;
    // A detached link counts as not installed.
    if found.is_none_or(|it| it.cgroup.is_none()) {
        return Ok(nothing(pin));
    }
    output::print(&"removed: new connections have the kernel's own timers again");
    Ok(ExitCode::SUCCESS)
}

fn nothing(pin: &Path) -> ExitCode {
    output::note(&format_args!("not installed: nothing is pinned at {}", pin.display()));
    ExitCode::SUCCESS
}
