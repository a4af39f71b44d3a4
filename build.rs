//! Compiles the rules into the loader: rules.toml → C (the rule compiler, `bpf/`) → BPF object (clang) →
//! skeleton. Writes to `OUT_DIR` only.
//!
//! Environment read: `SET_RTO_RULES` (another rules file), `CLANG` (another clang), `BPF_EXTRA_CFLAGS`
//! (more flags for it, parted by spaces).

use libbpf_cargo::SkeletonBuilder;
use set_rto_compiler::diag::{self, Source};
use set_rto_compiler::{Policy, compile};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let name = variable("SET_RTO_RULES").unwrap_or_else(|| "rules.toml".into());
    println!("cargo::rerun-if-changed={name}");
    println!("cargo::rerun-if-changed=build.rs");
    let text = fs::read_to_string(&name).map_err(|error| {
        format!("error: cannot read the rules file {name}: {error}\nhelp: set SET_RTO_RULES, or create rules.toml")
    })?;
    let source = Source { name: &name, text: &text };
    let version = env!("CARGO_PKG_VERSION");
    let policy =
        compile(&source, version).map_err(|diagnostics| diag::render(&source, &diagnostics))?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("error: no OUT_DIR: run by cargo only")?);
    let c = out.join("set_rto.bpf.c");
    write(&c, &policy.c)?;
    let table = policy.table();
    write(&out.join("settings.bin"), &table.settings)?;
    write(&out.join("rules.bin"), &table.rules)?;
    write(&out.join("rules.tsv"), table.text)?;
    write(&out.join("settings.tsv"), table.settings_text)?;
    write(&out.join("columns.tsv"), table.columns)?;
    for note in diag::render_notes(&source, &policy.notes) {
        // A line each: cargo shows what is behind the colon.
        note.lines().for_each(|line| println!("cargo::warning={line}"));
    }
    println!("cargo::rustc-env=SET_RTO_DIGEST={}", policy.digest);
    println!("cargo::rustc-env=SET_RTO_INTERFACE={}", u8::from(policy.asks_for_interface));
    println!("cargo::rustc-env=SET_RTO_PERFMON={}", u8::from(policy.needs_perfmon));
    skeleton(&c, &out)
}

fn skeleton(c: &Path, out: &Path) -> Result<(), String> {
    let clang = variable("CLANG").unwrap_or_else(|| "clang".into());
    let extra = variable("BPF_EXTRA_CFLAGS").unwrap_or_default();
    let is_big = env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let mut flags = Policy::clang_flags(is_big, &arch);
    // The object must not tell where it was built.
    flags.push(format!("-fdebug-prefix-map={}=.", out.display()));
    flags.extend(extra.split_whitespace().map(String::from));
    SkeletonBuilder::new()
        .source(c)
        .clang(&clang)
        .clang_args(&flags)
        .reference_obj(true)
        .build_and_generate(out.join("set_rto.skel.rs"))
        .map_err(|error| {
            format!("error: {error:#}\nhelp: the BPF program is compiled by `{clang}`: is clang installed? CLANG names another one")
        })
}

/// An environment variable that is set and not empty; a change of it runs this script again.
fn variable(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    fs::write(path, content)
        .map_err(|error| format!("error: cannot write {}: {error}", path.display()))
}
