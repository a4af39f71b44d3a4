//! The code that the tests share. Random rule sets ([`generate`]) are separate models. They are printed as text for
//! the compiler, and interpreted naively ([`oracle`]) to determine what the compiled program must answer. Neither
//! shares code with the compiler's checks, plan or emission.

// Each test binary uses only a part of it.
#![allow(dead_code)]

mod adapt;
pub(crate) mod check;
pub(crate) mod connection;
pub(crate) mod generate;
pub(crate) mod handshake;
pub(crate) mod hazards;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod layout;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod observed;
pub(crate) mod oracle;
pub(crate) mod print;
pub(crate) mod random;
pub(crate) mod runner;
pub(crate) mod sample;
mod second;
pub(crate) mod settings;
#[path = "../../../src/shared.rs"]
pub(crate) mod shared;
pub(crate) mod tangle;
pub(crate) mod verifier;

use machine::Instruction;
use set_rto_compiler::diag::{Source, render};
use set_rto_compiler::{Policy, compile_with};
use std::path::Path;
use std::process::Command;

/// The version in compiled programs. It is fixed, because a release must not rewrite golden files.
pub(crate) const VERSION: &str = "0.0.0";

/// The addition of most tests to their rules, which gives programs that only decide. `tests/learn.rs` tests the
/// others.
pub(crate) const WITHOUT_EVIDENCE: &str = "\n[evidence]\noff = true\n";

/// Compiles rules that must be valid, without evidence unless they configure it.
pub(crate) fn policy(text: &str) -> Policy {
    let text = match text.contains("[evidence]") {
        true => text.to_owned(),
        false => format!("{text}{WITHOUT_EVIDENCE}"),
    };
    let source = Source { name: "rules.toml", text: &text };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good");
    let load =
        |list: &str| std::fs::read_to_string(folder.join(list)).map_err(|error| error.to_string());
    compile_with(&source, VERSION, &load)
        .unwrap_or_else(|errors| panic!("{}", render(&source, &errors)))
}

/// The program's instructions for a rules file.
pub(crate) fn instructions(text: &str) -> Vec<Instruction> {
    compile_c(&policy(text).c)
}

/// The instructions of a C file.
pub(crate) fn compile_c(c: &str) -> Vec<Instruction> {
    let object = clang(c, false).unwrap_or_else(|error| panic!("{error}"));
    image::Image::read(&object, false).program.instructions().to_vec()
}

/// Returns the object file, or clang's error messages.
pub(crate) fn clang(c: &str, big_endian: bool) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("set_rto.bpf.c"), folder.path().join("set_rto.o"));
    std::fs::write(&input, c).expect("the C");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let ran = Command::new(&clang)
        .args(["-g", "-O2", "-target", "bpf", "-c"])
        .args(Policy::clang_flags(big_endian, ""))
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap_or_else(|error| panic!("{clang}: {error}"));
    if ran.status.success() {
        Ok(std::fs::read(output).expect("the object"))
    } else {
        Err(format!("{clang}:\n{}", String::from_utf8_lossy(&ran.stderr)))
    }
}

/// How long to continue with new seeds. None for the normal run, which is deterministic.
pub(crate) fn minutes() -> Option<std::time::Duration> {
    let minutes: f64 = std::env::var("SET_RTO_FUZZ_MINUTES").ok()?.parse().expect("minutes");
    Some(std::time::Duration::from_secs_f64(minutes * 60.0))
}
