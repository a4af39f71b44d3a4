//! Killing a program at a chosen system call.

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
pub(crate) fn kill_at(mut command: Command, last: u32) -> Result<End> {
    // SAFETY: between fork and exec, one system call.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().context("cannot start a program to trace")?;
    let pid = Pid::from_raw(child.id().cast_signed());
    follow(pid, last).inspect_err(|_| {
        // Already failing: nothing shall be left stopped.
        let _ = kill(pid, Signal::SIGKILL);
    })
}

/// Follows the traced program from its exec on.
fn follow(pid: Pid, last: u32) -> Result<End> {
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
        other => bail!("the traced program begins with {other:?}"),
    }
    ptrace::setoptions(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)?;
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
