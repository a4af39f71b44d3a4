//! The only file that writes to standard output and standard error. A failing stream never ends the process: the failed
//! write decides the exit code.

use crate::error::Error;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first failed write to standard output.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Set by `--quiet`: only errors are printed.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Suppresses everything but errors from now on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Writes a line to standard output.
pub(crate) fn print(line: &dyn Display) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    write(&format_args!("{line}\n"));
}

/// Writes text to standard output as it is.
pub(crate) fn write(text: &dyn Display) {
    let mut stream = io::stdout().lock();
    if let Err(error) = write!(stream, "{text}").and_then(|()| stream.flush())
        && let Ok(mut failure) = FAILURE.lock()
    {
        failure.get_or_insert(error);
    }
}

/// True if a write to standard output has failed.
pub(crate) fn has_failed() -> bool {
    FAILURE.lock().is_ok_and(|failure| failure.is_some())
}

/// Writes a note to standard error.
pub(crate) fn note(line: &dyn Display) {
    if !QUIET.load(Ordering::Relaxed) {
        complain(&format_args!("set-rto: {line}"));
    }
}

/// Writes an error to standard error.
pub(crate) fn error(error: &Error) {
    complain(error);
}

/// Writes a line to standard error, shortened if it repeats an argument of a megabyte. A failure is ignored: there is
/// no other place to report it.
pub(crate) fn complain(line: &dyn Display) {
    let _ = writeln!(io::stderr().lock(), "{:.8000}", line.to_string());
}

/// The exit code of the process: `refused` if the result could not be written. A reader that leaves early
/// (`set-rto rules | head -1`) is not a failure.
pub(crate) fn finish(code: ExitCode, refused: u8) -> ExitCode {
    let failure = FAILURE.lock().map(|mut failure| failure.take());
    match failure {
        Ok(Some(failed)) if failed.kind() != ErrorKind::BrokenPipe => {
            let hint = "is the disk full, or the size of files limited?";
            error(&Error::failed(&"write to standard output", &failed, hint));
            ExitCode::from(refused)
        }
        _ => code,
    }
}
