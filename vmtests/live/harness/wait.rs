//! Waits for actions that the kernel completes asynchronously.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::ensure;

/// Longer than the stalls of a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// Waits until a condition is true.
///
/// # Errors
/// Returns `failed` if the condition does not become true within ten seconds. It is checked once more after that time,
/// because the machine may have stalled.
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
