//! Small programs for tests.

use std::path::Path;
use std::process::Command;

/// Writes a shell script with this body to `path`. A child process writes it. Other threads of this process start
/// children, which could inherit the file open for writing when it is run ("text file busy").
pub(crate) fn script(path: &Path, body: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
    let status = Command::new("sh").args(["-c", write]).arg(path).arg(body).status().unwrap();
    assert!(status.success(), "{}", path.display());
}
