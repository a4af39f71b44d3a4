//! Killing a program at a chosen system call, or having one refused.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::sys::ptrace;
use nix::sys::ptrace::Options;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    /// By itself, with that exit code and after so many system calls.
    Exited(i32, u32),
}

/// Runs a program and kills it as it enters its `last`-th system call, which is not carried out.
pub(crate) fn kill_at(command: Command, last: u32) -> Result<End> {
    traced(command, |pid| follow(pid, last))
}

/// Runs a program whose `last`-th call of bpf(2) fails for lack of memory. Gives its exit code, and how often it has
/// called that.
pub(crate) fn refuse_at(command: Command, last: u32) -> Result<(i32, u32)> {
    traced(command, |pid| follow_bpf(pid, last))
}

/// Starts a program that stops where it begins, and follows it.
fn traced<T>(mut command: Command, follow: impl Fn(Pid) -> Result<T>) -> Result<T> {
    // SAFETY: between fork and exec, one system call.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().context("cannot start a program to trace")?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let begin = || match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
            Ok(ptrace::setoptions(pid, options)?)
        }
        other => bail!("the traced program begins with {other:?}"),
    };
    begin().and_then(|()| follow(pid)).inspect_err(|_| {
        // Already failing: nothing shall be left stopped.
        let _ = kill(pid, Signal::SIGKILL);
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn follow_bpf(_: Pid, _: u32) -> Result<(i32, u32)> {
    bail!(super::Skip::new("system calls are refused on x86_64 only"));
}

#[cfg(target_arch = "x86_64")]
fn follow_bpf(pid: Pid, last: u32) -> Result<(i32, u32)> {
    let (mut calls, mut inside, mut refused, mut signal) = (0, false, false, None);
    loop {
        ptrace::syscall(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => inside = !inside,
            WaitStatus::Stopped(_, other) => {
                signal = Some(other);
                continue;
            }
            WaitStatus::Exited(_, code) => return Ok((code, calls)),
            other => bail!("the traced program ended with {other:?} after {calls} calls"),
        }
        let mut registers = ptrace::getregs(pid)?;
        if inside && registers.orig_rax == libc::SYS_bpf.cast_unsigned() {
            calls += 1;
            refused = calls == last;
            if refused {
                // There is no such call; what it answers is set as it returns.
                registers.orig_rax = u64::MAX;
                ptrace::setregs(pid, registers)?;
            }
        } else if !inside && refused {
            refused = false;
            registers.rax = i64::from(-libc::ENOMEM).cast_unsigned();
            ptrace::setregs(pid, registers)?;
        }
    }
}

/// Follows the traced program from its exec on.
fn follow(pid: Pid, last: u32) -> Result<End> {
    let (mut calls, mut inside, mut signal) = (0, false, None);
    loop {
        ptrace::syscall(pid, signal.take())?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceSyscall(_) => inside = !inside,
            WaitStatus::Stopped(_, other) => {
                signal = Some(other);
                continue;
            }
            WaitStatus::Exited(_, code) => return Ok(End::Exited(code, calls)),
            other => bail!("the traced program ended with {other:?} after {calls} system calls"),
        }
        calls += u32::from(inside);
        if inside && calls == last {
            kill(pid, Signal::SIGKILL)?;
            return match waitpid(pid, None)? {
                WaitStatus::Signaled(_, Signal::SIGKILL, _) => Ok(End::Killed),
                other => bail!("killed, the traced program ended with {other:?}"),
            };
        }
    }
}
