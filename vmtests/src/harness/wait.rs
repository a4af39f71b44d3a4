//! Waiting for what the kernel does in its own time.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;

/// Longer than the pauses of a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits until a condition is true.
///
/// # Errors
/// `failed` where it does not within ten seconds. It is asked once more after them, lest a machine that stood still
/// meanwhile looks at nothing.
pub(crate) fn until(
    failed: impl fmt::Display,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let is_late = Instant::now() > end;
        if condition()? {
            return Ok(());
        }
        ensure!(!is_late, "{failed} after {LIMIT:?}");
        sleep(Duration::from_millis(1));
    }
}
