//! Errors as users see them: what failed, the errno in words, and what to do.

use nix::errno::Errno;
use std::fmt;

/// The hints that several places give.
pub(crate) mod hint {
    pub(crate) const ROOT: &str = "run it as root";
    pub(crate) const CHECK: &str = "`set-rto check` shows what is missing";
    pub(crate) const DAMAGED: &str = "the binary is damaged";
    pub(crate) const PROC: &str = "is /proc mounted?";
    pub(crate) const AGAIN: &str = "nothing was changed; try again";
    pub(crate) const NO_BPF: &str = "this kernel is built without CONFIG_BPF_SYSCALL";
    pub(crate) const NO_CGROUP_BPF: &str = "this kernel is built without CONFIG_CGROUP_BPF";
    pub(crate) const CGROUP2: &str =
        "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified";
}

/// A refusal by the kernel, a privilege or a mount (exit code 2), or a wrong argument (exit code 1).
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    hint: String,
    errno: Option<Errno>,
    is_usage: bool,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its hint, one line each.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), errno: None, is_usage: false }
    }

    /// An argument that no host could serve.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(message, hint) }
    }

    /// What failed, and why; without the hint.
    pub(crate) fn cause(&self) -> &str {
        &self.message
    }

    /// The kernel's answer, if that is the cause.
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// True for a wrong argument.
    pub(crate) fn is_usage(&self) -> bool {
        self.is_usage
    }

    /// All of it in one line.
    pub(crate) fn in_a_line(&self) -> String {
        format!("{}; hint: {}", self.message, self.hint).replace('\n', "; ")
    }

    /// A call that failed: `what: errno in words`.
    pub(crate) fn call(what: impl fmt::Display, errno: Errno, hint: impl Into<String>) -> Self {
        Self { errno: Some(errno), ..Self::new(format!("{what}: {}", errno.desc()), hint) }
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
        let (words, rest) = text.split_once(" (os error ").unwrap_or((&text, ""));
        let number = rest.split(')').next().and_then(|number| number.parse().ok());
        let errno = number.map(Errno::from_raw);
        Self { errno, ..Self::new(format!("{what}: {words}"), hint) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set-rto: {}\nhint: {}", self.message, self.hint)
    }
}
