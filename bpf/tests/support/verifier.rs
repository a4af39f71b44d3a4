//! The kernel's verifier, asked about compiled programs: only where `SET_RTO_VERIFY` names a program that loads an
//! object (`cargo xtask test` and `fuzz` do so where they can have root), perhaps with words before it.

use super::minutes;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Only each of so many programs is asked about in the normal run: some take the kernel seconds. The fuzzer asks
/// about all.
const EACH: usize = 10;

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Milliseconds and verified instructions of the slowest program so far.
static WORST: Mutex<(u64, u64)> = Mutex::new((500, 0));

/// Loads the object, or says why the kernel refuses it.
pub(crate) fn verify(object: &[u8]) -> Result<(), String> {
    let Ok(words) = std::env::var("SET_RTO_VERIFY") else { return Ok(()) };
    if minutes().is_none() && !ASKED.fetch_add(1, Ordering::Relaxed).is_multiple_of(EACH) {
        return Ok(());
    }
    let mut words = words.split_whitespace();
    let Some(program) = words.next() else { return Ok(()) };
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), object).expect("the object");
    let ran = Command::new(program).args(words).arg(file.path()).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&ran.stdout);
    if !ran.status.success() {
        return Err(format!("the kernel: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    let mut numbers = said.split_whitespace().map_while(|it| it.parse::<u64>().ok());
    let found = (numbers.next().expect("milliseconds"), numbers.next().expect("instructions"));
    let mut worst = WORST.lock().expect("no panic while it is held");
    if found > *worst {
        *worst = found;
        eprintln!("the slowest to load so far: {} ms, {} instructions verified", found.0, found.1);
    }
    Ok(())
}
