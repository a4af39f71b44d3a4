//! Errors as users see them: what failed, the errno in words, and what to do.

use nix::errno::Errno;
use std::fmt;

/// Hints that are used in several places.
pub(crate) mod hint {
    pub(crate) const ROOT: &str = "run it as root";
    pub(crate) const CHECK: &str = "`set-rto check` shows what is missing";
    pub(crate) const DAMAGED: &str = "the binary is damaged";
    pub(crate) const PROC: &str = "is /proc mounted?";
    /// For a failed attachment to a cgroup.
    pub(crate) fn attach(errno: super::Errno) -> &'static str {
        match errno {
            super::Errno::EPERM => {
                "a program that was attached without BPF_F_ALLOW_MULTI admits no other: `bpftool cgroup tree` shows it"
            }
            super::Errno::ENODEV | super::Errno::ENOENT => "was the cgroup removed?",
            _ => CHECK,
        }
    }
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
    /// The errno of the kernel or of libbpf.
    code: Option<i32>,
    is_usage: bool,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its hint, one line each.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), code: None, is_usage: false }
    }

    /// An argument that is wrong on every host.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(message, hint) }
    }

    /// The kernel's errno as a number: some have no name in user space (ENOTSUPP, 524).
    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }

    /// The kernel's errno by name.
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.code.map(Errno::from_raw)
    }

    /// What failed and why, without the hint.
    pub(crate) fn cause(&self) -> &str {
        &self.message
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
        let error = Self::new(format!("{what}: {}", errno.desc()), hint);
        Self { code: Some(errno as i32), ..error }
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

    /// An error of libbpf, which returns negative errno values.
    pub(crate) fn bpf(
        what: impl fmt::Display,
        error: &libbpf_rs::Error,
        hint: impl Into<String>,
    ) -> Self {
        // "Operation not permitted (os error 1)": the number adds nothing for a reader, but libbpf-rs exposes it only
        // in this text.
        let text = format!("{error:#}");
        let (words, number) = text.split_once(" (os error ").unwrap_or((&text, ""));
        let code = number.split(')').next().and_then(|number| number.parse().ok());
        Self { code, ..Self::new(format!("{what}: {words}"), hint) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set-rto: {}\nhint: {}", self.message, self.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_libbpf() {
        let code = |code| Error::bpf("a", &libbpf_rs::Error::from_raw_os_error(code), "").code();
        for number in [Errno::ENOMEM as i32, 524] {
            assert_eq!(code(number), Some(number));
        }
        let error = libbpf_rs::Error::from_raw_os_error(Errno::EMFILE as i32);
        let error = libbpf_rs::ErrorExt::context(error, "open (os) it");
        let error = Error::bpf("a", &error, "");
        assert_eq!(error.errno(), Some(Errno::EMFILE));
        assert_eq!(error.cause(), "a: open (os) it: Too many open files");
    }
}
