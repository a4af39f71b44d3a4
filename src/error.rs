//! Errors as users see them: what failed, the errno in words, and what to do.

use nix::errno::Errno;
use std::fmt;

/// Hints that are used in several places.
pub(crate) mod hint {
    pub(crate) const ROOT: &str = "run it as root";
    pub(crate) const CHECK: &str = "`set-rto check` shows what is missing";
    pub(crate) const DAMAGED: &str = "the binary is damaged";
    pub(crate) const PROC: &str = "is /proc mounted?";
    pub(crate) const AGAIN: &str = "nothing was changed; try again";
    pub(crate) const RETRY: &str = "try again";
}

/// A refusal by the kernel, a privilege or a mount (exit code 2), or a wrong argument (exit code 1).
#[derive(Debug)]
pub(crate) struct Error {
    kind: Kind,
    message: String,
    hint: String,
    /// The errno of the kernel or of libbpf.
    code: Option<i32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Refused,
    Usage,
    /// What is at the pin is not ours; the message describes it.
    Foreign,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with its hint, one line each.
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: Kind::Refused, message: message.into(), hint: hint.into(), code: None }
    }

    /// An argument that is wrong on every host.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, ..Self::new(message, hint) }
    }

    /// Something that is not ours is at the pin.
    pub(crate) fn foreign(what: impl Into<String>) -> Self {
        let hint = "set-rto changes only what it installed; --pin takes another directory";
        Self { kind: Kind::Foreign, ..Self::new(what, hint) }
    }

    /// A call that failed: `what: errno in words`.
    pub(crate) fn call(what: impl fmt::Display, errno: Errno, hint: &str) -> Self {
        Self::failed(&what, &errno, hint)
    }

    /// As [`Context::context`].
    pub(crate) fn failed(what: &dyn fmt::Display, failure: &dyn Failure, hint: &str) -> Self {
        let (words, code) = failure.describe();
        Self { code, ..Self::new(format!("{what}: {words}"), hint) }
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
        self.kind == Kind::Usage
    }

    /// True for something at the pin that is not ours; the cause describes it.
    pub(crate) fn is_foreign(&self) -> bool {
        self.kind == Kind::Foreign
    }

    /// All of it in one line.
    pub(crate) fn in_a_line(&self) -> String {
        format!("{}; hint: {}", self.message, self.hint).replace('\n', "; ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = if self.is_foreign() { "something else is at the pin: " } else { "" };
        write!(f, "set-rto: {found}{}\nhint: {}", self.message, self.hint)
    }
}

/// An error of a library: in words, and its errno.
pub(crate) trait Failure {
    fn describe(&self) -> (String, Option<i32>);
}

impl Failure for Errno {
    fn describe(&self) -> (String, Option<i32>) {
        (self.desc().into(), Some(*self as i32))
    }
}

impl Failure for std::io::Error {
    fn describe(&self) -> (String, Option<i32>) {
        match self.raw_os_error() {
            Some(code) => Errno::from_raw(code).describe(),
            None => (self.to_string(), None),
        }
    }
}

impl Failure for libbpf_rs::Error {
    /// "Operation not permitted (os error 1)": the number adds nothing for a reader, but libbpf-rs exposes it only in
    /// this text.
    fn describe(&self) -> (String, Option<i32>) {
        let text = format!("{self:#}");
        let (words, number) = text.split_once(" (os error ").unwrap_or((&text, ""));
        let code = number.split(')').next().and_then(|number| number.parse().ok());
        (words.into(), code)
    }
}

/// Says what failed, and what to do about it.
pub(crate) trait Context<T> {
    fn context(self, what: impl fmt::Display, hint: &str) -> Result<T>;
}

impl<T, E: Failure> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display, hint: &str) -> Result<T> {
        self.map_err(|failure| Error::failed(&what, &failure, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_libbpf() {
        for number in [Errno::ENOMEM as i32, 524] {
            let error = libbpf_rs::Error::from_raw_os_error(number);
            assert_eq!(error.describe().1, Some(number));
        }
        let error = libbpf_rs::Error::from_raw_os_error(Errno::EMFILE as i32);
        let error = libbpf_rs::ErrorExt::context(error, "open (os) it");
        let error = Err::<(), _>(error).context("a", "").expect_err("it is one");
        assert_eq!(error.errno(), Some(Errno::EMFILE));
        assert_eq!(error.cause(), "a: open (os) it: Too many open files");
    }
}
