//! For tests: programs made up on the spot.

use std::path::Path;
use std::process::Command;

/// Writes a shell script of this body to `path`. A child process writes it: written by this one,
/// whose other threads start children too, one of those could hold it open for writing just when
/// it is to be run ("text file busy").
pub(crate) fn script(path: &Path, body: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
    let status = Command::new("sh").args(["-c", write]).arg(path).arg(body).status().unwrap();
    assert!(status.success(), "{}", path.display());
}
