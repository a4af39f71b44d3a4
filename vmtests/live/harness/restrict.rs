//! Restrictions on a program under test: missing capabilities, a kernel without BPF, no connections, few descriptors, a
//! host's mounts.

use std::io;
use std::os::fd::RawFd;

use anyhow::Result;
use anyhow::bail;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::resource::Resource;
use nix::sys::resource::setrlimit;
use nix::unistd::ForkResult;
use nix::unistd::fork;

use super::Skip;

/// The number of a capability in linux/capability.h.
pub(crate) type Capability = u8;
pub(crate) const CAP_NET_ADMIN: Capability = 12;
pub(crate) const CAP_PERFMON: Capability = 38;
pub(crate) const CAP_BPF: Capability = 39;

/// The highest number that has a bit in the capability sets.
const LAST_CAPABILITY: Capability = 63;
/// An ordinary user: `nobody` on most systems.
const NOBODY: libc::uid_t = 65534;

/// Commands of bpf(2) that return EINVAL in a kernel without CONFIG_CGROUP_BPF.
const OF_CGROUPS: [u32; 3] = [8, 16, 28];

/// A restriction on a program, applied between fork and exec.
#[derive(Debug, Clone)]
pub(crate) enum Restriction {
    /// Runs as an ordinary user without any capability.
    Unprivileged,
    /// Runs as root with these capabilities only.
    Only(Vec<Capability>),
    /// bpf(2) fails with ENOSYS, as without CONFIG_BPF_SYSCALL.
    NoBpf,
    /// bpf(2) fails with EINVAL for cgroups, as without CONFIG_CGROUP_BPF.
    NoCgroupBpf,
    /// connect(2) fails with EPERM, as under a strict service manager.
    NoConnect,
    /// UNIX sockets cannot be created, as in the sandbox of a service.
    NoUnixSockets,
    /// Runs in its own mount namespace, which ends with it: `unshare -m`.
    OwnMounts,
    /// Runs as process 1 of a new PID namespace, as in a container.
    FirstProcess,
    /// Limits a resource to this value.
    Limit(Resource, u64),
    /// Closes this descriptor: 0, 1 or 2.
    Closed(RawFd),
    /// The exit status of its children is discarded (SIGCHLD is ignored).
    NoChildren,
}

impl Restriction {
    /// Restricts the calling process. Safe between fork and exec: system calls only.
    ///
    /// # Errors
    /// The errno of the system call that failed.
    pub(crate) fn apply(&self) -> io::Result<()> {
        match self {
            Restriction::Unprivileged => become_nobody(),
            Restriction::Only(kept) => keep_only(kept),
            Restriction::NoBpf => filter(&no_call(libc::SYS_bpf, libc::ENOSYS)),
            Restriction::NoCgroupBpf => filter(&no_cgroup_bpf()),
            Restriction::NoConnect => filter(&no_call(libc::SYS_connect, libc::EPERM)),
            Restriction::NoUnixSockets => filter(&no_unix_sockets()),
            Restriction::OwnMounts => Ok(unshare(CloneFlags::CLONE_NEWNS)?),
            Restriction::FirstProcess => become_first(),
            Restriction::Limit(resource, most) => Ok(setrlimit(*resource, *most, *most)?),
            // SAFETY: only the program that is about to start owns the descriptor.
            Restriction::Closed(number) => unsafe { check(libc::close(*number).into()) },
            // SAFETY: no handler, and exec keeps what is ignored.
            Restriction::NoChildren => unsafe {
                match libc::signal(libc::SIGCHLD, libc::SIG_IGN) {
                    libc::SIG_ERR => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            },
        }
    }

    /// Skips the test if this kernel cannot apply such a restriction.
    pub(crate) fn require(&self) -> Result<()> {
        let needs_seccomp = matches!(
            self,
            Restriction::NoBpf
                | Restriction::NoCgroupBpf
                | Restriction::NoConnect
                | Restriction::NoUnixSockets
        );
        if needs_seccomp {
            // SAFETY: reads one number of this process.
            if unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) } < 0 {
                bail!(Skip::new("this kernel has no seccomp, which plays what others refuse"));
            }
        }
        Ok(())
    }
}

fn become_nobody() -> io::Result<()> {
    // SAFETY: system calls on plain numbers (no supplementary groups: a null list of length 0).
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        check(libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY))?;
        check(libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY))
    }
}

/// Continues as the first process of a new namespace. The process that forked waits for it and ends as it does.
fn become_first() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: both sides only make system calls until they end or exec.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        ForkResult::Parent { child } => {
            // SAFETY: nothing uses these descriptors in this process any more. A process that waits for the exec would
            // also wait for this end of the pipe. The rest is plain system calls.
            unsafe {
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
                let mut status = 0;
                libc::waitpid(child.as_raw(), &raw mut status, 0);
                let by_signal = 128 + libc::WTERMSIG(status);
                libc::_exit(if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    by_signal
                })
            }
        }
    }
}

/// An exec by root grants the bounding set, so capabilities are dropped there.
fn keep_only(kept: &[Capability]) -> io::Result<()> {
    for capability in 0..=LAST_CAPABILITY {
        if kept.contains(&capability) {
            continue;
        }
        // SAFETY: plain numbers.
        let outcome =
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        match check(outcome.into()) {
            // The number exceeds the last capability that this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the filter outlives the calls; the kernel only reads it.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
        check(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0).into())
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Offsets in `struct seccomp_data`: the number of the call and the low half of its first argument.
const NUMBER: u32 = 0;
const ARGUMENT: u32 = if cfg!(target_endian = "big") { 20 } else { 16 };

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn no_call(number: libc::c_long, errno: i32) -> [libc::sock_filter; 4] {
    [step(LOAD, 0, 0, NUMBER), step(JUMP_IF_EQUAL, 0, 1, number as u32), fail(errno), ALLOW]
}

fn no_unix_sockets() -> [libc::sock_filter; 6] {
    [
        step(LOAD, 0, 0, NUMBER),
        step(JUMP_IF_EQUAL, 0, 3, libc::SYS_socket as u32),
        step(LOAD, 0, 0, ARGUMENT),
        step(JUMP_IF_EQUAL, 0, 1, libc::AF_UNIX as u32),
        fail(libc::EAFNOSUPPORT),
        ALLOW,
    ]
}

fn no_cgroup_bpf() -> [libc::sock_filter; 8] {
    [
        step(LOAD, 0, 0, NUMBER),
        step(JUMP_IF_EQUAL, 0, 5, libc::SYS_bpf as u32),
        step(LOAD, 0, 0, ARGUMENT),
        step(JUMP_IF_EQUAL, 2, 0, OF_CGROUPS[0]),
        step(JUMP_IF_EQUAL, 1, 0, OF_CGROUPS[1]),
        step(JUMP_IF_EQUAL, 0, 1, OF_CGROUPS[2]),
        fail(libc::EINVAL),
        ALLOW,
    ]
}

const ALLOW: libc::sock_filter = step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);

fn fail(errno: i32) -> libc::sock_filter {
    step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}
