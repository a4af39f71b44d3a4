//! The kernel's verifier, asked about compiled programs where `SET_RTO_VERIFY` names a program that loads an object,
//! perhaps with words before it (`cargo xtask test` and `fuzz` do so where they can have root).

use std::process::Command;
use std::sync::Mutex;

/// Instructions that the verifier may follow for a program. A million is the limit; kernels before this one join fewer
/// of the ways that they have followed.
pub(crate) const MOST_VERIFIED: u64 = 250_000;

/// Milliseconds and verified instructions of the slowest program so far.
static WORST: Mutex<(u64, u64)> = Mutex::new((500, 0));

/// Loads the object, or says why the kernel refuses it; the instructions that the verifier followed, 0 where it is not
/// asked.
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
