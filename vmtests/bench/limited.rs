//! Runs programs with a time limit.

use anyhow::Context as _;
use anyhow::Result;
use std::io::Read as _;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The end of a program.
pub(crate) struct Ended {
    pub(crate) success: bool,
    /// Standard output and error.
    pub(crate) output: String,
}

/// Runs a program. Returns `None` if the limit expired, and returns without delay when the program ends.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<Option<Ended>> {
    let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot be started")?;
    // Only the child then holds write ends of the pipe.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        let _ = reader.read_to_end(&mut output);
        // The receiver may have given up already.
        let _ = sender.send(output);
    });
    match receiver.recv_timeout(limit) {
        Ok(output) => {
            let success = child.wait()?.success();
            Ok(Some(Ended { success, output: String::from_utf8_lossy(&output).into_owned() }))
        }
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_limit() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = run(command, Duration::from_secs(60)).expect("a run").expect("an end");
        assert_eq!((ended.success, ended.output.as_str()), (false, "out\nerr\n"));
        let mut command = Command::new("sleep");
        command.arg("60");
        assert!(run(command, Duration::from_millis(50)).expect("a run").is_none());
    }
}
