//! Errors as users see them: what failed, the errno in words, and what to do.

use nix::errno::Errno;
use std::fmt;

/// Everything that the kernel, a privilege or a mount refused: exit code 2.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    hint: String,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its help, one line each.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    /// What failed, and why; without the hint.
    pub(crate) fn cause(&self) -> &str {
        &self.message
    }

    /// All of it in one line.
    pub(crate) fn in_a_line(&self) -> String {
        format!("{}; hint: {}", self.message, self.hint).replace('\n', "; ")
    }

    /// A call that failed: `what: errno in words`.
    pub(crate) fn call(what: impl fmt::Display, errno: Errno, hint: impl Into<String>) -> Self {
        Self::new(format!("{what}: {}", errno.desc()), hint)
    }

    /// A file operation that failed.
    pub(crate) fn io(
        what: impl fmt::Display,
        error: &std::io::Error,
        hint: impl Into<String>,
    ) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::call(what, Errno::from_raw(code), hint),
            None => Self::new(format!("{what}: {error}"), hint),
        }
    }

    /// Of libbpf, whose negative return values are errno.
    pub(crate) fn bpf(
        what: impl fmt::Display,
        error: &libbpf_rs::Error,
        hint: impl Into<String>,
    ) -> Self {
        // "Operation not permitted (os error 1)": the number says nothing that the words don't.
        let text = format!("{error:#}");
        let words = text.split(" (os error").next().unwrap_or_default();
        Self::new(format!("{what}: {words}"), hint)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set-rto: {}\nhint: {}", self.message, self.hint)
    }
}
