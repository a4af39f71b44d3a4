//! What can go wrong in a verb, and how much of it is tried.

use std::time::Duration;

use nix::errno::Errno;

use crate::harness::clock::DEFAULT_RTO;
use crate::harness::runner::is_guest;
use crate::harness::sandbox;
use crate::harness::syscalls;
use crate::harness::trace::Call;
use crate::tests::state::A;
use crate::tests::state::B;

/// What a call that fails says.
pub(crate) const ERRNOS: [Errno; 6] =
    [Errno::ENOMEM, Errno::EINTR, Errno::EACCES, Errno::ENOENT, Errno::EMFILE, Errno::EIO];

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Killed,
    /// One call fails.
    Once(Errno),
    /// It fails, and every later call of its kind.
    FromThenOn(Errno),
}

impl Fault {
    /// Whether the kernel could do that. The calls that are left out: those that do not return; those that only fail
    /// where a program is wrong (signals, memory that is given back, numbers of processes); sleeping, waiting, closing
    /// and random numbers with errors that they do not have, which Rust's library takes for its own.
    pub(super) fn applies(self, call: &Call) -> bool {
        let (Fault::Once(errno) | Fault::FromThenOn(errno)) = self else { return true };
        let for_good = matches!(self, Fault::FromThenOn(_));
        match call.number {
            libc::SYS_exit | libc::SYS_exit_group => false,
            libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_madvise => false,
            libc::SYS_rt_sigaction | libc::SYS_rt_sigprocmask | libc::SYS_sigaltstack => false,
            libc::SYS_getpid | libc::SYS_gettid | libc::SYS_getppid | libc::SYS_geteuid => false,
            libc::SYS_futex | libc::SYS_kill | libc::SYS_set_robust_list | libc::SYS_rseq => false,
            // A sleep continues with this call after a stop.
            libc::SYS_restart_syscall => false,
            // A program that runs out of memory dies, which is judged as a kill.
            libc::SYS_mmap | libc::SYS_brk | libc::SYS_mremap => errno == Errno::ENOMEM,
            libc::SYS_clock_nanosleep
            | libc::SYS_nanosleep
            | libc::SYS_wait4
            | libc::SYS_waitid
            | libc::SYS_getrandom
            | libc::SYS_ppoll => errno == Errno::EINTR && !for_good,
            libc::SYS_close => [Errno::EINTR, Errno::EIO].contains(&errno),
            // An interrupted program retries, forever if necessary.
            _ => !(for_good && errno == Errno::EINTR),
        }
    }
}

/// True if the kernel reports that something is missing. A program must believe that, so its conclusions from a false
/// report are judged only by how it ends.
pub(super) fn is_absence(fault: Fault, call: &Call) -> bool {
    const OBJ_GET: u64 = 7;
    let by_path = syscalls::path_argument(call.number).is_some() || call.bpf() == Some(OBJ_GET);
    by_path && matches!(fault, Fault::Once(Errno::ENOENT) | Fault::FromThenOn(Errno::ENOENT))
}

/// Whether a program that gets no memory here may die.
pub(super) fn is_of_memory(call: &Call) -> bool {
    [libc::SYS_mmap, libc::SYS_brk, libc::SYS_mremap].contains(&call.number)
}

/// A verb, and what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The first install.
    Install,
    /// The same where no bpffs is mounted.
    InstallAndMount,
    /// Over other rules.
    Replace,
    /// The same rules once more.
    Again,
    Remove,
    /// Where these rules are installed.
    Status,
    /// Where nothing is.
    StatusOfNothing,
    Check,
    Try,
}

impl Verb {
    pub(super) fn installs(self) -> bool {
        matches!(self, Verb::Install | Verb::InstallAndMount | Verb::Replace | Verb::Again)
    }

    /// The timers before it and after it.
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

/// How many faults one test tries.
pub(crate) enum Share {
    /// So many, spread over all calls and errors; a guest, which may be emulated, a tenth of them.
    Some(usize),
    /// Each call with each error.
    All,
}

impl Share {
    /// All with `--thorough`.
    pub(crate) fn of(count: usize) -> Self {
        if sandbox::is_thorough() { Share::All } else { Share::Some(count) }
    }
}

/// All calls, but of a file that is read in hundreds of pieces only the first two and the last one.
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

/// A share of all, the same in each run, and no two neighbours one after the other.
pub(super) fn spread<T: Copy>(all: &[T], share: &Share) -> Vec<T> {
    let count = match share {
        Share::All => return all.to_vec(),
        Share::Some(count) if is_guest() => (count / 10).max(3),
        Share::Some(count) => *count,
    };
    // Steps of the golden ratio: however many are taken, they lie evenly.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let place =
        |step: u64| ((u128::from(step.wrapping_mul(GOLDEN)) * all.len() as u128) >> 64) as usize;
    let mut taken: Vec<usize> = (0..count as u64).map(place).collect();
    taken.sort_unstable();
    taken.dedup();
    taken.into_iter().filter_map(|at| all.get(at).copied()).collect()
}
