//! System calls as a tracer sees them: identifies them, names them, and makes them fail.

use anyhow::Context as _;
use anyhow::Result;
use nix::errno::Errno;
use nix::unistd::Pid;

/// `struct ptrace_syscall_info` (include/uapi/linux/ptrace.h) at the entry of a call.
#[repr(C)]
#[derive(Default)]
struct Info {
    op: u8,
    padding: [u8; 3],
    arch: u32,
    instruction: u64,
    stack: u64,
    number: u64,
    arguments: [u64; 6],
    /// For calls that a seccomp filter has stopped.
    data: u32,
}

/// The call that a stopped process is entering, or `None` if it is leaving one.
///
/// # Errors
/// The process is gone, or the kernel is older than Linux 5.3.
pub(crate) fn entered(pid: Pid) -> Result<Option<(i64, [u64; 6])>> {
    const PTRACE_GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    const ENTRY: u8 = 1;
    let mut info = Info::default();
    // SAFETY: the kernel writes at most the given number of bytes.
    let ret = unsafe {
        libc::ptrace(PTRACE_GET_SYSCALL_INFO as _, pid.as_raw(), size_of_val(&info), &raw mut info)
    };
    match Errno::result(ret) {
        // The process was killed between its stop and this call.
        Err(Errno::ESRCH) => return Ok(None),
        other => other.context("cannot ask for the system call")?,
    };
    Ok((info.op == ENTRY).then_some((info.number.cast_signed(), info.arguments)))
}

/// Prevents the call that is being entered.
///
/// # Errors
/// [`super::Skip`] where this harness does not know the registers of the processor.
#[cfg(target_arch = "x86_64")]
pub(crate) fn skip(pid: Pid) -> Result<()> {
    let mut registers = nix::sys::ptrace::getregs(pid)?;
    // No call has this number.
    registers.orig_rax = u64::MAX;
    Ok(nix::sys::ptrace::setregs(pid, registers)?)
}

/// Makes the call that is being left return an error.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_result(pid: Pid, errno: Errno) -> Result<()> {
    let mut registers = nix::sys::ptrace::getregs(pid)?;
    registers.rax = i64::from(-(errno as i32)).cast_unsigned();
    Ok(nix::sys::ptrace::setregs(pid, registers)?)
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn skip(_: Pid) -> Result<()> {
    anyhow::bail!(super::Skip::new("system calls are made to fail on x86_64 only"));
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn set_result(_: Pid, _: Errno) -> Result<()> {
    anyhow::bail!(super::Skip::new("system calls are made to fail on x86_64 only"));
}

macro_rules! names {
    ($($name:ident)*) => {
        /// The name of the call, or its number if the loader is not known to make it.
        pub(crate) fn name(number: i64) -> String {
            $(if number == libc::$name {
                return stringify!($name).trim_start_matches("SYS_").to_owned();
            })*
            #[cfg(target_arch = "x86_64")]
            for (known, name) in OF_X86 {
                if number == known {
                    return name.to_owned();
                }
            }
            format!("system call {number}")
        }
    };
}

names! {
    SYS_read SYS_write SYS_openat SYS_close SYS_lseek SYS_mmap SYS_munmap SYS_mprotect SYS_brk SYS_ioctl SYS_pread64
    SYS_readv SYS_writev SYS_madvise SYS_socket SYS_connect SYS_accept SYS_accept4 SYS_sendto SYS_recvfrom SYS_sendmsg
    SYS_recvmsg SYS_bind SYS_listen SYS_getsockname SYS_setsockopt SYS_getsockopt SYS_clone SYS_clone3 SYS_execve
    SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_uname SYS_fcntl SYS_flock SYS_ftruncate SYS_getcwd
    SYS_fchdir SYS_fchmod SYS_fchown SYS_fstat SYS_getpid SYS_getppid SYS_gettid SYS_getuid SYS_geteuid SYS_prlimit64
    SYS_statfs SYS_fstatfs SYS_prctl SYS_mount SYS_umount2 SYS_futex SYS_getdents64 SYS_clock_gettime
    SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_newfstatat SYS_statx SYS_mkdirat SYS_unlinkat SYS_renameat
    SYS_renameat2 SYS_readlinkat SYS_faccessat SYS_faccessat2 SYS_ppoll SYS_pipe2 SYS_unshare SYS_setns SYS_dup
    SYS_dup3 SYS_name_to_handle_at SYS_open_by_handle_at SYS_getrandom SYS_memfd_create SYS_bpf SYS_sigaltstack
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_tgkill SYS_openat2 SYS_pidfd_open SYS_fsopen SYS_fsconfig SYS_fsmount
    SYS_move_mount SYS_open_tree SYS_capget SYS_perf_event_open SYS_epoll_create1
}

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OF_X86: [(i64, &str); 11] = [
    (libc::SYS_open, "open"),
    (libc::SYS_stat, "stat"),
    (libc::SYS_lstat, "lstat"),
    (libc::SYS_access, "access"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_readlink, "readlink"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_poll, "poll"),
    (libc::SYS_rename, "rename"),
];

#[cfg(target_arch = "x86_64")]
const BY_PATH: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_readlink,
];
#[cfg(not(target_arch = "x86_64"))]
const BY_PATH: &[i64] = &[];

/// The index of the path argument, if the call has one.
pub(crate) fn path_argument(number: i64) -> Option<usize> {
    const AT: [i64; 11] = [
        libc::SYS_openat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_mkdirat,
        libc::SYS_unlinkat,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_name_to_handle_at,
        libc::SYS_openat2,
        libc::SYS_mount,
    ];
    if AT.contains(&number) {
        return Some(1);
    }
    let is_first =
        BY_PATH.contains(&number) || [libc::SYS_statfs, libc::SYS_umount2].contains(&number);
    is_first.then_some(0)
}

/// Calls that only read: by path, by descriptor, or a list.
pub(crate) fn is_look(number: i64) -> bool {
    const LOOKS: [i64; 13] = [
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_newfstatat,
        libc::SYS_fstat,
        libc::SYS_statx,
        libc::SYS_statfs,
        libc::SYS_fstatfs,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_getdents64,
        libc::SYS_read,
        libc::SYS_name_to_handle_at,
    ];
    LOOKS.contains(&number) || BY_PATH.contains(&number)
}
