//! The faults that a verb can meet, and how many of them are tried.

use std::time::Duration;

use nix::errno::Errno;

use crate::harness::clock::DEFAULT_RTO;
use crate::harness::runner::is_guest;
use crate::harness::sandbox;
use crate::harness::syscalls;
use crate::harness::trace::Call;
use crate::tests::state::A;
use crate::tests::state::B;

/// The error of a call that fails.
pub(crate) const ERRNOS: [Errno; 6] =
    [Errno::ENOMEM, Errno::EINTR, Errno::EACCES, Errno::ENOENT, Errno::EMFILE, Errno::EIO];

/// The kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Killed,
    /// One call fails.
    Once(Errno),
    /// The call fails, and so does every later call of its kind.
    FromThenOn(Errno),
}

impl Fault {
    /// Whether the kernel could produce this fault. Calls that do not return are left out. So are calls that fail
    /// only in a broken program (signals, freed memory, process IDs). Sleeping, waiting, closing and random numbers
    /// get only errors that they can return, because Rust's library treats others as bugs of its own.
    pub(super) fn applies(self, call: &Call) -> bool {
        let (Fault::Once(errno) | Fault::FromThenOn(errno)) = self else { return true };
        let for_good = matches!(self, Fault::FromThenOn(_));
        match call.number {
            libc::SYS_exit | libc::SYS_exit_group => false,
            libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_madvise => false,
            libc::SYS_rt_sigaction | libc::SYS_rt_sigprocmask | libc::SYS_sigaltstack => false,
            libc::SYS_getpid | libc::SYS_gettid | libc::SYS_getppid | libc::SYS_geteuid => false,
            libc::SYS_futex | libc::SYS_kill | libc::SYS_set_robust_list | libc::SYS_rseq => false,
            // Failing streams have tests of their own. Completed changes stay.
            libc::SYS_write if call.arguments[0] <= 2 => false,
            // A process that can no longer write to any cgroup cannot leave one.
            libc::SYS_write => !for_good,
            // The kernel resumes an interrupted sleep with this call.
            libc::SYS_restart_syscall => false,
            // A program without memory dies, which is judged like a kill.
            libc::SYS_mmap | libc::SYS_brk | libc::SYS_mremap => errno == Errno::ENOMEM,
            libc::SYS_clock_nanosleep
            | libc::SYS_nanosleep
            | libc::SYS_wait4
            | libc::SYS_waitid
            | libc::SYS_getrandom
            | libc::SYS_ppoll => errno == Errno::EINTR && !for_good,
            libc::SYS_close => [Errno::EINTR, Errno::EIO].contains(&errno),
            // An interrupted call is retried, forever if necessary.
            _ => !(for_good && errno == Errno::EINTR),
        }
    }
}

/// Whether the kernel reports that something is missing. A program must believe that, so a run that acts on a false
/// report is judged by how it ends.
pub(super) fn is_absence(fault: Fault, call: &Call) -> bool {
    const OBJ_GET: u64 = 7;
    let by_path = syscalls::path_argument(call.number).is_some() || call.bpf() == Some(OBJ_GET);
    by_path && matches!(fault, Fault::Once(Errno::ENOENT) | Fault::FromThenOn(Errno::ENOENT))
}

/// Whether the program may die if this call returns no memory.
pub(super) fn is_of_memory(call: &Call) -> bool {
    [libc::SYS_mmap, libc::SYS_brk, libc::SYS_mremap].contains(&call.number)
}

/// A verb and its initial state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The first install.
    Install,
    /// The first install, without a mounted bpffs.
    InstallAndMount,
    /// An install over other rules.
    Replace,
    /// A second install of the same rules.
    Again,
    Remove,
    /// With these rules installed.
    Status,
    /// With nothing installed.
    StatusOfNothing,
    Check,
    Try,
}

impl Verb {
    pub(super) fn installs(self) -> bool {
        matches!(self, Verb::Install | Verb::InstallAndMount | Verb::Replace | Verb::Again)
    }

    /// The timers before and after it.
    pub(super) fn timers(self) -> (Duration, Duration) {
        match self {
            Verb::Install | Verb::InstallAndMount => (DEFAULT_RTO, A),
            Verb::Replace => (B, A),
            Verb::Remove => (A, DEFAULT_RTO),
            Verb::StatusOfNothing => (DEFAULT_RTO, DEFAULT_RTO),
            Verb::Again | Verb::Status | Verb::Check | Verb::Try => (A, A),
        }
    }

    pub(super) fn codes(self) -> &'static [i32] {
        match self {
            Verb::Status => &[0, 2, 5],
            Verb::StatusOfNothing => &[2, 3, 5],
            _ => &[0, 2],
        }
    }
}

/// The number of faults that one test tries.
pub(crate) enum Share {
    /// This many, spread over all calls and errors. A guest, which may be emulated, tries a tenth of them.
    Some(usize),
    /// Each call with each error.
    All,
}

impl Share {
    /// All of them with `--thorough`.
    pub(crate) fn of(count: usize) -> Self {
        if sandbox::is_thorough() { Share::All } else { Share::Some(count) }
    }
}

/// All calls, except that a file read in hundreds of pieces contributes only the first two and the last.
pub(super) fn different(calls: &[Call]) -> Vec<&Call> {
    let is_next = |one: &Call, other: &Call| {
        one.number == libc::SYS_read && one.is_like(other) && one.arguments[0] == other.arguments[0]
    };
    let pieces = calls.chunk_by(is_next);
    pieces
        .flat_map(|pieces| match pieces {
            [first, second, .., last] => vec![first, second, last],
            few => few.iter().collect(),
        })
        .collect()
}

/// An evenly spread share of all, the same in each run.
pub(super) fn spread<T: Copy>(all: &[T], share: &Share) -> Vec<T> {
    let count = match share {
        Share::All => return all.to_vec(),
        Share::Some(count) if is_guest() => (count / 10).max(3),
        Share::Some(count) => *count,
    };
    // Steps of the golden ratio give an even spread for any number of steps.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let place =
        |step: u64| ((u128::from(step.wrapping_mul(GOLDEN)) * all.len() as u128) >> 64) as usize;
    let mut taken: Vec<usize> = (0..count as u64).map(place).collect();
    taken.sort_unstable();
    taken.dedup();
    taken.into_iter().filter_map(|at| all.get(at).copied()).collect()
}
