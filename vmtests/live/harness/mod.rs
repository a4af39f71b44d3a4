//! The test harness: a sandbox for each test, networks, captures, and set-rto as a program.

pub(crate) mod asm;
pub(crate) mod bpf;
pub(crate) mod btf;
pub(crate) mod capture;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod lab;
pub(crate) mod links;
pub(crate) mod mounts;
pub(crate) mod neighbour;
pub(crate) mod netns;
pub(crate) mod packet;
pub(crate) mod pair;
pub(crate) mod peer;
pub(crate) mod requests;
pub(crate) mod restrict;
pub(crate) mod rtnetlink;
pub(crate) mod runner;
pub(crate) mod sandbox;
pub(crate) mod setrto;
pub(crate) mod sockets;
pub(crate) mod syscalls;
pub(crate) mod trace;
pub(crate) mod wait;
pub(crate) mod wire;

use std::fmt;

/// One test: a name, a limit, and a function that runs inside the sandbox.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// The limit in seconds. A test that exceeds it is killed and fails.
    pub(crate) limit: u64,
    /// True if the test runs only where programs can be attached to cgroups. Tests marked `anywhere` run without that.
    pub(crate) needs_bpf: bool,
    /// True if the test uses the whole machine, its root cgroup and mounts. It runs only in guests of the matrix.
    pub(crate) whole_machine: bool,
    pub(crate) run: fn() -> anyhow::Result<()>,
}

/// Lists a test function and its limit in seconds. A kernel without cgroup BPF also runs tests marked `anywhere`.
macro_rules! tests {
    ($($name:ident: $limit:literal $($anywhere:ident)?,)*) => {
        crate::harness::tests! { in whole_machine = false; $($name: $limit $($anywhere)?,)* }
    };
    (in whole_machine = $whole:literal; $($name:ident: $limit:literal $($anywhere:ident)?,)*) => {
        /// The tests of this file.
        pub(crate) const TESTS: &[crate::harness::Test] = &[
            $(crate::harness::Test {
                name: stringify!($name),
                limit: $limit,
                needs_bpf: <[&str]>::is_empty(&[$(stringify!($anywhere),)?]),
                whole_machine: $whole,
                run: $name,
            },)*
        ];
    };
}
pub(crate) use tests;

/// The error of a test that cannot run here. The test counts as ignored and the reason is printed.
#[derive(Debug)]
pub(crate) struct Skip {
    reason: String,
}

impl Skip {
    /// `reason` completes "ignored: …".
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Skip { reason: reason.into() }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Skip {}

/// Prints information for readers of the results (a measurement, a part left out) with the test's name at the end of
/// the run.
pub(crate) fn note(text: impl fmt::Display) {
    println!("{}{text}", runner::NOTE);
}
