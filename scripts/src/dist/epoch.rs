//! The time stamp in packages. It is not the time of the build, because the same sources must give the same bytes.

use std::env;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

/// Seconds since 1970: `SOURCE_DATE_EPOCH` if it is set, else the time of the last commit, else the time of
/// CHANGELOG.md.
pub(crate) fn seconds(sh: &Shell) -> Result<u64> {
    if let Some(text) = env::var("SOURCE_DATE_EPOCH").ok().filter(|text| !text.is_empty()) {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is not a number: {text}"));
    }
    let commit = cmd!(sh, "git log -1 --format=%ct").quiet().ignore_stderr().read();
    if let Some(seconds) = commit.ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(seconds);
    }
    let time = sh.current_dir().join("CHANGELOG.md").metadata()?.modified()?;
    Ok(time.duration_since(UNIX_EPOCH)?.as_secs())
}
