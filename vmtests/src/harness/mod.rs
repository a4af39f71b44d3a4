//! What the tests use: a sandbox for each test, networks, captures, and set-rto itself as a program.

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

/// One test: a name, a limit, and what to do inside the sandbox.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// Seconds after which it is killed and counts as failed.
    pub(crate) limit: u64,
    /// Whether it runs only where programs can be attached to cgroups, as all do that are not marked `anywhere`.
    pub(crate) needs_bpf: bool,
    /// Whether it works on the whole machine, its root cgroup and mounts: for guests of the matrix only.
    pub(crate) whole_machine: bool,
    pub(crate) run: fn() -> anyhow::Result<()>,
}

/// Names a test function and its limit in seconds; `anywhere` marks one that a kernel without BPF for cgroups runs, too.
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

/// The error of a test that cannot run here; it is counted as ignored and its reason printed.
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

/// Says something a reader of the results should know (a measure, a part left out); it is printed
/// with the test's name at the end of the run.
pub(crate) fn note(text: impl fmt::Display) {
    println!("{}{text}", runner::NOTE);
}
