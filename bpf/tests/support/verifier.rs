//! The kernel's verifier, asked about compiled programs where `SET_RTO_VERIFY` names a program that loads an object,
//! perhaps with words before it (`cargo xtask test` and `fuzz` do so where they can have root).

use std::process::Command;
use std::sync::Mutex;

/// Instructions that the verifier may follow for a program. A million is the limit; kernels before this one join fewer
/// of the ways that they have followed.
pub(crate) const MOST_VERIFIED: u64 = 250_000;

/// Milliseconds and verified instructions of the slowest program so far.
static WORST: Mutex<(u64, u64)> = Mutex::new((500, 0));

/// Loads the object with a kernel's BTF: each program by its name, with its instructions as libbpf made them for that
/// kernel. None where the verifier is not asked.
pub(crate) fn relocated(object: &[u8], btf: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let words = std::env::var("SET_RTO_VERIFY").ok()?;
    let mut words = words.split_whitespace();
    let program = words.next()?;
    let folder = tempfile::tempdir().expect("a folder");
    let (input, types) = (folder.path().join("a.o"), folder.path().join("a.btf"));
    std::fs::write(&input, object).expect("the object");
    std::fs::write(&types, btf).expect("the BTF");
    let ran = Command::new(program).args(words).arg("--btf").args([&types, &input]).output();
    let ran = ran.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).expect("text");
    let read = |line: &str| {
        let (name, digits) = line.split_once(' ').expect("a name and instructions");
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
        (name.to_owned(), (0..digits.len()).step_by(2).map(byte).collect())
    };
    Some(said.lines().skip(1).map(read).collect())
}

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
