//! Follows a program from system call to system call. Each call can be delayed or made to fail, or the program can be
//! killed.
//!
//! Child processes are followed, too: a fault in a process that the loader forks counts as one in the loader.

use std::collections::HashMap;
use std::io;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::ptrace::Options;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::syscalls;

/// Longer than any wait of the loader. After this time it is killed and counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// A system call that the traced program is about to make.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Its position among the calls of the program and its children, from 1. Calls before `main` have 0.
    pub(crate) at: u32,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
    /// True if a child of the program makes it.
    pub(crate) of_child: bool,
    pid: Pid,
}

impl Call {
    /// The command, if the call is bpf(2).
    pub(crate) fn bpf(&self) -> Option<u64> {
        (self.number == libc::SYS_bpf).then_some(self.arguments[0])
    }

    /// The string that an argument points to.
    pub(crate) fn text(&self, argument: usize) -> String {
        let read = || -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let mut at = self.arguments[argument];
            // Reads eight bytes at a time, because a string may end where the mapping ends.
            while bytes.len() < libc::PATH_MAX as usize && !bytes.contains(&0) {
                let word = ptrace::read(self.pid, at as ptrace::AddressType)?;
                bytes.extend_from_slice(&word.to_ne_bytes());
                at += size_of_val(&word) as u64;
            }
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The path argument of the call, if it has one.
    pub(crate) fn path(&self) -> Option<String> {
        syscalls::path_argument(self.number).map(|argument| self.text(argument))
    }

    /// The name of the call, with the command of bpf(2).
    pub(crate) fn name(&self) -> String {
        let name = syscalls::name(self.number);
        let what = match self.bpf() {
            Some(command) => format!("{name}({command})"),
            None => name,
        };
        if self.of_child { format!("{what} of the child") } else { what }
    }

    /// True for calls of the same kind: the same number and, for bpf(2), the same command.
    pub(crate) fn is_like(&self, other: &Call) -> bool {
        self.number == other.number && self.bpf() == other.bpf()
    }
}

/// The decision about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    /// The call is not made and returns this value.
    Fail(Errno),
    /// The program is killed before the call.
    Kill,
}

/// How a followed program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Killed(Signal),
}

/// A program's run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) end: End,
    /// The number of calls from `main` on, including those of its children.
    pub(crate) calls: u32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The exit code.
    ///
    /// # Errors
    /// The program did not end with an exit code.
    pub(crate) fn code(&self) -> Result<i32> {
        match self.end {
            End::Exited(code) => Ok(code),
            End::Killed(signal) => bail!("it died of {signal}: {}", self.stderr),
        }
    }
}

/// Runs a program to its end and calls `decide` for each system call. The program is stopped while `decide` runs.
///
/// # Errors
/// It cannot be started or followed, or hangs.
pub(crate) fn follow(command: Command, decide: impl FnMut(&Call) -> Verdict) -> Result<Run> {
    follow_both(command, decide, |_| Ok(()))
}

/// Like [`follow`], but also calls `after` when a call that was allowed has returned.
///
/// # Errors
/// As for [`follow`], and those of `after`.
pub(crate) fn follow_both(
    mut command: Command,
    decide: impl FnMut(&Call) -> Verdict,
    after: impl FnMut(&Call) -> Result<()>,
) -> Result<Run> {
    // SAFETY: between fork and exec, one system call.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start a program to follow")?;
    // This process alone keeps the program's streams after its end, and reads them then.
    let pid = Pid::from_raw(child.id().cast_signed());
    let (done, watchdog) = mpsc::channel::<()>();
    let watch = thread::spawn(move || match watchdog.recv_timeout(LIMIT) {
        Err(RecvTimeoutError::Timeout) => kill(pid, Signal::SIGKILL).is_ok(),
        _ => false,
    });
    let outcome = Follower::new(pid, decide, after).run();
    if outcome.is_err() {
        // The run has failed already. Leave no stopped process behind.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = child.wait();
    }
    drop(done);
    let hung = watch.join().unwrap_or_default();
    let (end, calls, last) = outcome?;
    if hung {
        bail!("it hung for {LIMIT:?}; the last call was {last}");
    }
    let (stdout, stderr) = streams(&mut child);
    Ok(Run { end, calls, stdout, stderr })
}

fn streams(child: &mut Child) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    // Shows as much output as could be read. A failed read does not change the verdict.
    let _ = child.stdout.take().map(|mut stream| stream.read_to_end(&mut stdout));
    let _ = child.stderr.take().map(|mut stream| stream.read_to_end(&mut stderr));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(stdout), text(stderr))
}

/// The state of one traced process.
#[derive(Default)]
struct Place {
    inside: Option<(Call, Verdict)>,
}

struct Follower<D, A> {
    main: Pid,
    decide: D,
    after: A,
    places: HashMap<Pid, Place>,
    calls: u32,
    /// The number of sigaltstack(2) calls: the runtime makes two before `main`.
    stacks: u32,
    last: String,
}

impl<D: FnMut(&Call) -> Verdict, A: FnMut(&Call) -> Result<()>> Follower<D, A> {
    fn new(main: Pid, decide: D, after: A) -> Self {
        let (places, last) = (HashMap::new(), String::from("none"));
        Follower { main, decide, after, places, calls: 0, stacks: 0, last }
    }

    fn run(mut self) -> Result<(End, u32, String)> {
        match waitpid(self.main, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            other => bail!("the followed program begins with {other:?}"),
        }
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE;
        ptrace::setoptions(self.main, options)?;
        self.places.insert(self.main, Place::default());
        proceed(self.main, None)?;
        let mut end = None;
        loop {
            // Waits only for processes of this thread: other threads may trace other programs.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitpid(None::<Pid>, Some(flags)) {
                Err(Errno::ECHILD) => break,
                other => other?,
            };
            match status {
                WaitStatus::PtraceSyscall(pid) => self.stop(pid)?,
                WaitStatus::PtraceEvent(pid, ..) => proceed(pid, None)?,
                WaitStatus::Stopped(pid, signal) => {
                    // A new child begins with a stop that is not a signal for it.
                    let is_new = self.places.insert(pid, Place::default()).is_none();
                    proceed(pid, (!is_new).then_some(signal))?;
                }
                WaitStatus::Exited(pid, code) if pid == self.main => end = Some(End::Exited(code)),
                WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                    end = Some(End::Killed(signal));
                }
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.places.remove(&pid);
                }
                other => bail!("the followed program: {other:?}"),
            }
        }
        let end = end.context("the followed program has not ended")?;
        Ok((end, self.calls, self.last))
    }

    fn stop(&mut self, pid: Pid) -> Result<()> {
        let place = self.places.entry(pid).or_default();
        if let Some((call, verdict)) = place.inside.take() {
            match verdict {
                Verdict::Fail(errno) => syscalls::set_result(pid, errno)?,
                _ if call.at > 0 => (self.after)(&call)?,
                _ => {}
            }
            return proceed(pid, None);
        }
        let Some((number, arguments)) = syscalls::entered(pid)? else { return proceed(pid, None) };
        let is_in_main = self.stacks >= 2;
        self.stacks += u32::from(number == libc::SYS_sigaltstack);
        self.calls += u32::from(is_in_main);
        let at = if is_in_main { self.calls } else { 0 };
        let call = Call { at, number, arguments, of_child: pid != self.main, pid };
        let verdict = if is_in_main { (self.decide)(&call) } else { Verdict::Go };
        self.last = call.name();
        match verdict {
            Verdict::Kill => {
                // A detached child continues without tracing.
                kill(self.main, Signal::SIGKILL)?;
            }
            Verdict::Fail(_) => syscalls::skip(pid)?,
            Verdict::Go => {}
        }
        self.places.insert(pid, Place { inside: Some((call, verdict)) });
        proceed(pid, None)
    }
}

/// Continues a process until its next stop. It may have been killed in the meantime.
fn proceed(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Err(Errno::ESRCH) | Ok(()) => Ok(()),
        Err(errno) => Err(errno).context("cannot let the followed program go on"),
    }
}
