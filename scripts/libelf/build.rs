//! Compiles libelf into `OUT_DIR` from the sources of elfutils in the crate libbpf-sys. The crate's own build runs
//! autotools inside cargo's registry, and a killed build leaves the registry permanently broken.
//!
//! Its libbpf finds the headers through `LIBBPF_SYS_EXTRA_CFLAGS`, which `.cargo/config.toml` sets.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

/// The path is relative to libbpf's own directory, where its `make` runs.
const HEADERS: &str = "-I../../elfutils/libelf -I../../zlib";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=LIBBPF_SYS_EXTRA_CFLAGS");
    if !env::var("LIBBPF_SYS_EXTRA_CFLAGS").is_ok_and(|flags| flags.contains(HEADERS)) {
        return Err(format!(
            "LIBBPF_SYS_EXTRA_CFLAGS lacks `{HEADERS}`\nhelp: call cargo inside the repository, whose \
             .cargo/config.toml sets it, or add that to yours"
        ));
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    let out = PathBuf::from(variable("OUT_DIR")?);
    let package = libbpf_sys(&out)?;
    let elfutils = package.join("elfutils");
    let libelf = elfutils.join("libelf");
    let entries = fs::read_dir(&libelf).map_err(|error| cannot("read", &libelf, error))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "c"));
    files.sort();
    let mut build = cc::Build::new();
    build.flag("-std=gnu99").warnings(false).define("_GNU_SOURCE", None);
    build.define("HAVE_CONFIG_H", None);
    // Its assertions name source files; no binary contains a folder of the machine that built it.
    build.flag_if_supported(format!("-ffile-prefix-map={}=/libbpf-sys", package.display()));
    // This comes first, because a file of that name in elfutils' directory is the leftover of another build.
    build.include("src");
    build.includes([elfutils.join("lib"), libelf, package.join("zlib")]);
    let compiled = build.files(files).try_compile("elf");
    compiled.map_err(|error| format!("{error}\n{}", heal(&package)))?;
    cc::Build::new().file("src/zlib.c").try_compile("z").map_err(|error| error.to_string())
}

/// How to restore the sources.
fn heal(package: &Path) -> String {
    format!(
        "help: if the compiler finds sources damaged, as an older set-rto could leave them: rm -r '{}'; cargo unpacks \
         them anew",
        package.display()
    )
}

/// The directory of libbpf-sys's sources, according to cargo. The query names a package that needs only this crate.
/// For the whole workspace, cargo would also require the crates of tests and of other systems.
fn libbpf_sys(out: &Path) -> Result<PathBuf, String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let lock = here.join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let probe = out.join("probe");
    let manifest = probe.join("Cargo.toml");
    let text = "[package]\nname = \"probe\"\nedition = \"2021\"\n[lib]\npath = \"Cargo.toml\"\n\
                [dependencies]\nlibbpf-sys = \"1\"\n[workspace]\n";
    fs::create_dir_all(&probe).map_err(|error| cannot("make", &probe, error))?;
    fs::write(&manifest, text).map_err(|error| cannot("write", &manifest, error))?;
    fs::copy(&lock, probe.join("Cargo.lock")).map_err(|error| cannot("copy", &lock, error))?;
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["metadata", "--format-version", "1", "--offline", "--filter-platform"]);
    cargo.arg(variable("TARGET")?).arg("--manifest-path").arg(&manifest);
    let answer = cargo.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let entry = text.split_once("\"name\":\"libbpf-sys\",\"version\":");
    let path = entry.and_then(|(_, entry)| entry.split_once("\"manifest_path\":\""));
    let path = path.and_then(|(_, path)| path.split('"').next()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&answer.stderr);
        format!("cargo metadata does not tell where libbpf-sys is: {said}")
    })?;
    Ok(Path::new(path).parent().unwrap_or(Path::new("")).to_owned())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("no {name}: run by cargo only"))
}

fn cannot(what: &str, path: &Path, error: std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}
