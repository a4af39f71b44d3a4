//! Compiles generated C with clang and reads the instructions back.

use object::{Object, ObjectSection};
use set_rto_compiler::diag::{Source, render};
use set_rto_compiler::{Policy, compile};
use std::process::Command;

/// One BPF instruction (struct bpf_insn, include/uapi/linux/bpf.h).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    pub(crate) offset: i16,
}

/// The program's instructions for a rules file.
pub(crate) fn instructions(text: &str) -> Vec<Instruction> {
    let source = Source { name: "rules.toml", text };
    let policy =
        compile(&source, "0.0.0").unwrap_or_else(|errors| panic!("{}", render(&source, &errors)));
    decode(&section(&clang(&policy.c)))
}

/// The instructions of a C file.
pub(crate) fn compile_c(c: &str) -> Vec<Instruction> {
    decode(&section(&clang(c)))
}

fn clang(c: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("set_rto.bpf.c"), folder.path().join("set_rto.o"));
    std::fs::write(&input, c).expect("the C");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let ran = Command::new(&clang)
        .args(Policy::clang_flags(false))
        .args(["-g", "-O2", "-target", "bpf", "-c"])
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .output()
        .unwrap_or_else(|error| panic!("{clang}: {error}"));
    assert!(ran.status.success(), "{clang}:\n{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::read(output).expect("the object")
}

fn section(object: &[u8]) -> Vec<u8> {
    let file = object::File::parse(object).expect("an object file");
    let section = file.section_by_name("sockops").expect("a program");
    section.data().expect("its instructions").to_vec()
}

fn decode(bytes: &[u8]) -> Vec<Instruction> {
    bytes
        .chunks_exact(8)
        .map(|raw| Instruction {
            code: raw[0],
            dst: raw[1] & 15,
            src: raw[1] >> 4,
            offset: i16::from_le_bytes([raw[2], raw[3]]),
        })
        .collect()
}
