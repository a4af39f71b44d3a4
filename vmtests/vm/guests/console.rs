//! A virtual machine that runs: its output by lines, and its end.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The lines that an error shows.
const SHOWN: usize = 25;

/// A program that is killed with all its children when this is dropped: not every machine switches itself off.
pub(super) struct Console {
    program: Child,
    lines: mpsc::Receiver<String>,
    end: Instant,
    silence: Duration,
}

/// What comes next on a console.
pub(super) enum Next {
    /// A line without its end.
    Line(String),
    /// The program has closed its output.
    Closed,
    /// A limit of time was reached.
    Hung,
}

impl Console {
    /// Starts the program. It hangs if it runs longer than `limit`, or is silent longer than `silence`.
    pub(super) fn start(command: &mut Command, limit: Duration, silence: Duration) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let what = command.get_program().display().to_string();
        let mut program = command.spawn().with_context(|| format!("cannot run {what}"))?;
        let stdout = program.stdout.take().context("no pipe")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // The thread ends with the pipe. A broken pipe counts as the end.
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { program, lines, end: Instant::now() + limit, silence })
    }

    /// Waits for a line.
    pub(super) fn next(&self) -> Next {
        let left = self.end.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(self.silence.min(left)) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
            Err(RecvTimeoutError::Timeout) => Next::Hung,
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.program.id()) {
            // It may have ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.program.wait();
    }
}

/// The last lines, for an error.
pub(super) fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(SHOWN)..].join("\n    ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, limit: Duration, silence: Duration) -> Console {
        Console::start(Command::new("sh").args(["-c", script]), limit, silence).expect("a shell")
    }

    #[test]
    fn lines_end_with_the_output() {
        let console = shell(r"printf 'one\r\n\377two\nthree'", LONG, LONG);
        for expected in ["one", "\u{fffd}two", "three"] {
            assert!(matches!(console.next(), Next::Line(line) if line == expected), "{expected}");
        }
        assert!(matches!(console.next(), Next::Closed));
    }

    #[test]
    fn silence_and_length_are_limited_and_children_are_killed() {
        let short = Duration::from_millis(300);
        for (limit, silence) in [(LONG, short), (short, LONG)] {
            let console = shell("sleep 60 & echo $!; wait", limit, silence);
            let Next::Line(child) = console.next() else { panic!("no line") };
            assert!(matches!(console.next(), Next::Hung));
            drop(console);
            // It takes a moment, and init collects the child later.
            let gone = || {
                let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
                stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
            };
            let end = Instant::now() + LONG / 2;
            while !gone() && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            assert!(gone(), "{child} runs on");
        }
    }
}
