//! Runs the kernel's verifier on compiled programs if `SET_RTO_VERIFY` names a program that loads an object, with
//! optional words before it (`cargo xtask test` and `fuzz` set it if they can have root).

use std::process::Command;
use std::sync::Mutex;

/// The maximum number of instructions that the verifier may process for a program. The kernel's limit is a million,
/// and older kernels join fewer paths.
pub(crate) const MOST_VERIFIED: u64 = 250_000;

/// Milliseconds and verified instructions of the slowest program so far.
static WORST: Mutex<(u64, u64)> = Mutex::new((500, 0));

/// Loads the object, or returns the reason why the kernel refuses it. Returns the number of instructions that the
/// verifier processed, or 0 if it was not run.
pub(crate) fn verify(object: &[u8]) -> Result<u64, String> {
    let Ok(words) = std::env::var("SET_RTO_VERIFY") else { return Ok(0) };
    let mut words = words.split_whitespace();
    let Some(program) = words.next() else { return Ok(0) };
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
    drop(worst);
    if found.1 > MOST_VERIFIED {
        return Err(format!("the verifier followed {} instructions", found.1));
    }
    Ok(found.1)
}
