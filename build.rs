//! Compiles the rules into the loader: rules.toml → C (the rule compiler, `bpf/`) → BPF object (clang) →
//! skeleton. Writes to `OUT_DIR` only.
//!
//! Environment read: `SET_RTO_RULES` (another rules file), `SET_RTO_BTF` (kernels without BTF of their own: vmlinux
//! or raw BTF files, parted as `PATH` is, each `PATH` or `RELEASE=PATH`), `CLANG` (another clang),
//! `BPF_EXTRA_CFLAGS` (more flags for it, parted by spaces).

use libbpf_cargo::SkeletonBuilder;
use set_rto_compiler::btf::{self, release};
use set_rto_compiler::diag::{self, Source};
use set_rto_compiler::{Policy, compile};
use std::io::Error;
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
    println!("cargo::rustc-env=SET_RTO_ARRIVALS={}", u8::from(policy.needs_arrivals));
    println!("cargo::rustc-env=SET_RTO_PERFMON={}", u8::from(policy.needs_perfmon));
    let patterns = policy.interfaces.iter().map(|pattern| format!("{pattern}\n"));
    write(&out.join("interfaces.txt"), patterns.collect::<String>())?;
    let object = out.join("set_rto.o");
    skeleton(&c, &object, &out)?;
    embed_btf(&object, &out)
}

fn skeleton(c: &Path, object: &Path, out: &Path) -> Result<(), String> {
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
        .obj(object)
        .clang(&clang)
        .clang_args(&flags)
        .reference_obj(true)
        .build_and_generate(out.join("set_rto.skel.rs"))
        .map_err(|error| {
            format!("error: {error:#}\nhelp: the BPF program is compiled by `{clang}`: is clang installed? CLANG names another one")
        })
}

/// Of the kernels that `SET_RTO_BTF` names just the types that the program in the object reads, for `src/btf.rs`:
/// those that are the same once, with the releases of all of them.
fn embed_btf(object: &Path, out: &Path) -> Result<(), String> {
    let object = read(object)?;
    let mut kernels: Vec<(Vec<u8>, Vec<String>)> = Vec::new();
    for path in env::split_paths(&variable("SET_RTO_BTF").unwrap_or_default()) {
        let text = path.to_string_lossy();
        let entry = release::entry(&text);
        if entry.path.is_empty() {
            continue;
        }
        println!("cargo::rerun-if-changed={}", entry.path);
        let path = Path::new(entry.path);
        let file = read(path).map_err(|error| {
            format!("{error}\nhelp: SET_RTO_BTF names vmlinux or BTF files: PATH or RELEASE=PATH, with colons between")
        })?;
        let small = btf::minimal(&object, &file).map_err(|error| {
            format!("error: SET_RTO_BTF: {}: {error}\nhelp: {}", path.display(), error.help())
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let release = entry.release.map(Into::into).or_else(|| release::release(&file, &name));
        if release.is_none() {
            println!(
                "cargo::warning=SET_RTO_BTF: {} does not tell its release; RELEASE={} does",
                path.display(),
                path.display()
            );
        }
        match kernels.iter_mut().find(|(known, _)| *known == small) {
            // No rule asks for an interface.
            _ if small.is_empty() => {}
            Some((_, releases)) => releases.extend(release),
            None => kernels.push((small, release.into_iter().collect())),
        }
    }
    let mut list = String::from("&[\n");
    for (number, (bytes, releases)) in kernels.iter().enumerate() {
        write(&out.join(format!("btf-{number}.bin")), bytes)?;
        let bytes = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/btf-{number}.bin\"))");
        list.push_str(&format!("    ({:?}, {bytes}),\n", releases.join(" ")));
    }
    write(&out.join("btf.rs"), list + "]\n")
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let content = fs::metadata(path).and_then(|it| match it.is_file() {
        true => fs::read(path),
        false => Err(Error::other("it is no file")),
    });
    content.map_err(|error| format!("error: cannot read {}: {error}", path.display()))
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
