//! Compiles the rules into the loader: rules.toml → C (the rule compiler, `bpf/`) → BPF object (clang) →
//! skeleton. Writes to `OUT_DIR` only.
//!
//! Environment variables: `SET_RTO_RULES` (another rules file), `SET_RTO_BTF` (vmlinux or raw BTF files for kernels
//! without built-in BTF, each `PATH` or `RELEASE=PATH`, separated by colons), `CLANG` (another clang),
//! `BPF_EXTRA_CFLAGS` (more flags for clang, separated by spaces).

use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::AsRawLibbpf as _;
use libbpf_rs::btf::Btf;
use libbpf_rs::libbpf_sys;
use set_rto_compiler::constants::Kernel;
use set_rto_compiler::diag::{self, Source};
use set_rto_compiler::place::places;
use set_rto_compiler::structures::MEMBERS;
use set_rto_compiler::{Policy, compile_with, release};
use std::io::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

#[path = "src/offsets.rs"]
mod offsets;

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
    println!("cargo::rerun-if-changed=build.rs");
    let (name, file) = rules_file()?;
    println!("cargo::rerun-if-changed={}", file.display());
    let text = fs::read_to_string(&file).map_err(|error| {
        format!(
            "error: cannot read the rules file {}: {error}\nhelp: set SET_RTO_RULES, or create rules.toml",
            file.display()
        )
    })?;
    let source = Source { name: &name, text: &text };
    let version = env!("CARGO_PKG_VERSION");
    let folder = file.parent().unwrap_or(Path::new(""));
    let load = |list: &str| {
        let path = folder.join(list);
        println!("cargo::rerun-if-changed={}", path.display());
        fs::read_to_string(&path).map_err(|error| error.to_string())
    };
    let policy = compile_with(&source, version, &load)
        .map_err(|diagnostics| diag::render(&source, &diagnostics))?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("error: no OUT_DIR: run by cargo only")?);
    let c = out.join("set_rto.bpf.c");
    write(&c, &policy.c)?;
    // `set-rto rules --source`
    write(&out.join("rules.toml"), &policy.source)?;
    for note in diag::render_notes(&source, &policy.notes) {
        // One directive per line: cargo shows the text after the colon.
        note.lines().for_each(|line| println!("cargo::warning={line}"));
    }
    skeleton(&c, &out.join("set_rto.o"), &out)?;
    let mut kernels = kernels()?;
    if !policy.asks_for_interface {
        // Nothing in these files is read.
        kernels.clear();
    }
    let constants = policy.constants(version, &kernels);
    write(&out.join("policy.rs"), constants)
}

/// The rules file: as it is given, and where it is.
fn rules_file() -> Result<(String, PathBuf), String> {
    let root = env::current_dir().map_err(|error| format!("error: current directory: {error}"))?;
    let Some(name) = variable("SET_RTO_RULES") else {
        return Ok(("rules.toml".into(), root.join("rules.toml")));
    };
    // Only a relative path makes the build depend on where one stands.
    let shell = Path::new(&name).is_relative().then(|| variable("PWD")).flatten();
    let places = places(&name, shell.as_deref(), &root);
    if let Some(place) = places.iter().find(|place| place.exists()) {
        return Ok((name, place.clone()));
    }
    let places: Vec<_> = places.iter().map(|it| it.display().to_string()).collect();
    let places = places.join(" or ");
    Err(format!("error: no rules file {places}\nhelp: set SET_RTO_RULES to the path of one"))
}

fn skeleton(c: &Path, object: &Path, out: &Path) -> Result<(), String> {
    let clang = variable("CLANG").unwrap_or_else(|| "clang".into());
    let extra = variable("BPF_EXTRA_CFLAGS").unwrap_or_default();
    let is_big = env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let mut flags = Policy::clang_flags(is_big, &arch);
    // The object must not contain paths of the build. Its BTF names the source relative to the directory of the
    // compilation.
    flags.push("-fdebug-compilation-dir=.".into());
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
            format!("error: {error:#}\nhelp: `{clang}` compiles the BPF program: install clang, or name another one with CLANG")
        })
}

/// The kernels that `SET_RTO_BTF` names. Kernels with the same offsets are one entry with all their releases.
fn kernels() -> Result<Vec<Kernel>, String> {
    libbpf_rs::set_print(None);
    let mut kernels: Vec<Kernel> = Vec::new();
    for path in env::split_paths(&variable("SET_RTO_BTF").unwrap_or_default()) {
        let text = path.to_string_lossy();
        let entry = release::entry(&text);
        if entry.path.is_empty() {
            continue;
        }
        println!("cargo::rerun-if-changed={}", entry.path);
        let path = Path::new(entry.path);
        let file = read(path).map_err(|error| {
            format!("{error}\nhelp: SET_RTO_BTF takes vmlinux or BTF files: PATH or RELEASE=PATH, separated by colons")
        })?;
        let offsets = offsets_of(path, &file).map_err(|(error, help)| {
            format!("error: SET_RTO_BTF: {}: {error}\nhelp: {help}", path.display())
        })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let release = entry.release.map(Into::into).or_else(|| release::release(&file, &name));
        if release.is_none() {
            println!(
                "cargo::warning=SET_RTO_BTF: cannot find the release of {}; write RELEASE={}",
                path.display(),
                path.display()
            );
        }
        let is_same =
            |it: &&mut Kernel| (it.pointer, &it.offsets) == (offsets.pointer, &offsets.at);
        match kernels.iter_mut().find(is_same) {
            Some(known) => known.releases.extend(release),
            None => kernels.push(Kernel {
                releases: release.into_iter().collect(),
                pointer: offsets.pointer,
                offsets: offsets.at,
            }),
        }
    }
    Ok(kernels)
}

/// The offsets of a kernel.
///
/// # Errors
/// Describes the problem with the file and its remedy.
fn offsets_of(path: &Path, file: &[u8]) -> Result<offsets::Offsets, (String, &'static str)> {
    const MAGIC: u16 = 0xeb9f;
    let is_elf = file.starts_with(b"\x7fELF");
    if !is_elf && !file.starts_with(&MAGIC.to_le_bytes()) && !file.starts_with(&MAGIC.to_be_bytes())
    {
        return Err((
            "neither an ELF file nor BTF".into(),
            "give the kernel's `vmlinux` (not vmlinuz, bzImage or zImage), or raw BTF as in /sys/kernel/btf/vmlinux",
        ));
    }
    let btf = Btf::from_path(path).map_err(|error| {
        let error = format!("{error:#}");
        match is_elf && error.contains("No data available") {
            true => (
                "an ELF file without BTF (no section `.BTF`)".into(),
                "`pahole --btf_encode_detached FILE vmlinux` makes BTF from a vmlinux with DWARF; or build the kernel with CONFIG_DEBUG_INFO_BTF",
            ),
            false => (
                format!("broken BTF: {error}"),
                "make or copy the file again; it must be the BTF of the kernel, not of a module",
            ),
        }
    })?;
    // SAFETY: the object is still alive.
    let order = unsafe { libbpf_sys::btf__endianness(btf.as_libbpf_object().as_ptr()) };
    let names = ["little", "big"];
    let target = usize::from(env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() == Ok("big"));
    let own = usize::from(order == libbpf_sys::BTF_BIG_ENDIAN);
    if own != target {
        return Err((
            format!("BTF of a {}-endian kernel for a {}-endian target", names[own], names[target]),
            "give the BTF of the kernel that the binary is built for",
        ));
    }
    let members: Vec<_> = MEMBERS.iter().map(|(_, paths)| *paths).collect();
    offsets::resolve(&btf, &members).map_err(|what| {
        (what, "is it the BTF of a Linux kernel, with CONFIG_NET and CONFIG_INET, 5.10 or newer?")
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let content = fs::metadata(path).and_then(|it| match it.is_file() {
        true => fs::read(path),
        false => Err(Error::other("not a regular file")),
    });
    content.map_err(|error| format!("error: cannot read {}: {error}", path.display()))
}

/// Returns an environment variable that is set and not empty. A change of the variable runs this script again.
fn variable(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    fs::write(path, content)
        .map_err(|error| format!("error: cannot write {}: {error}", path.display()))
}
