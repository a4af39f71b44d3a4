//! The kernel's verifier, asked about compiled programs: only where `SET_RTO_VERIFY` names a program that loads an
//! object (`cargo xtask fuzz` does so where it can have root; there are sets that it refuses still), perhaps with words before it.

use std::process::Command;
use std::sync::Mutex;

/// Milliseconds and verified instructions of the slowest program so far.
static WORST: Mutex<(u64, u64)> = Mutex::new((500, 0));

/// Loads the object, or says why the kernel refuses it.
pub(crate) fn verify(object: &[u8]) -> Result<(), String> {
    let Ok(words) = std::env::var("SET_RTO_VERIFY") else { return Ok(()) };
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
