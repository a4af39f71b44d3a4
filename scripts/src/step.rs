//! A long step prints a headline, its output while it runs, and how long it took.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use xshell::{Cmd, Shell};

/// Runs `work` under a headline and prints how long it took.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {title}");
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done in" } else { "failed after" };
    println!("-- {title}: {verdict} {}", seconds(start.elapsed()));
    result
}

/// A duration as `12.3 s`.
pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

/// A command to run in the workspace root. `before` is `sudo` or nothing.
pub(crate) fn command<'a>(sh: &'a Shell, before: &[&str], program: impl AsRef<OsStr>) -> Cmd<'a> {
    match before.split_first() {
        Some((first, rest)) => sh.cmd(first).args(rest).arg(program),
        None => sh.cmd(program.as_ref()),
    }
}

/// Runs a command. Shows its standard output as it arrives, and returns it with the status.
pub(crate) fn tee(command: &mut Command) -> Result<(ExitStatus, String)> {
    let mut line = String::from("$");
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        // Writing to a string cannot fail.
        let _ = write!(line, " {}", word.to_string_lossy());
    }
    eprintln!("{line}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("the child has no output"))?;
    let kept = copy_lines(BufReader::new(stdout), io::stdout().lock());
    // This is necessary even if copying failed, because the child would remain a zombie.
    let status = child.wait().context("cannot wait for the child")?;
    Ok((status, kept?))
}

/// Copies chunk by chunk, which shows an unfinished line before it ends.
fn copy_lines(mut from: impl BufRead, mut to: impl Write) -> Result<String> {
    let mut kept = Vec::new();
    loop {
        let chunk = from.fill_buf().context("cannot read the output of the child")?;
        if chunk.is_empty() {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        to.write_all(chunk).and_then(|()| to.flush()).context("cannot write output")?;
        kept.extend_from_slice(chunk);
        let length = chunk.len();
        from.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_shown_and_kept() {
        let mut shown = Vec::new();
        let kept = copy_lines(&b"one\ntwo \xff\nunfinished"[..], &mut shown).unwrap();
        assert_eq!(shown, b"one\ntwo \xff\nunfinished");
        assert_eq!(kept, "one\ntwo \u{fffd}\nunfinished");
    }

    #[test]
    fn status_and_output_of_a_child() {
        let (status, kept) = tee(Command::new("sh").args(["-c", "echo kept; exit 3"])).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(kept, "kept\n");
        let error = tee(&mut Command::new("/nowhere/program")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/program"), "{error}");
    }

    #[test]
    fn sudo_goes_before_the_program() {
        let sh = Shell::new().unwrap();
        let line = |before: &[&str]| command(&sh, before, "mv").args(["a", "b"]).to_string();
        assert_eq!(line(&[]), "mv a b");
        assert_eq!(line(&["sudo", "-n"]), "sudo -n mv a b");
    }
}
