//! `cargo xtask build`: the static binary that is shipped, and the simpler builds that tests use.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use set_rto_downloads::cache;
use xshell::{Cmd, Shell, cmd};

use crate::cross::{self, Cross};
use crate::elf;
use crate::needs::cargo;
use crate::step::step;
use crate::targets::{self, Target};

/// For rustc: static, and without unwind tables, which are a tenth of the binary: a panic prints its message and ends the
/// process. rustc cannot remove the tables of a precompiled standard library; the linker can.
const STATIC: &[&str] = &[
    "-C",
    "target-feature=+crt-static",
    "-C",
    "relocation-model=static",
    "-C",
    "link-arg=-Wl,--no-eh-frame-hdr",
    // Relative to the repository, where cargo calls rustc, and rustc the linker.
    "-C",
    "link-arg=-Wl,-T,scripts/no-unwinding.ld",
];

/// The rules file, for build.rs of the root package.
const RULES_VARIABLE: &str = "SET_RTO_RULES";
/// Flags for rustc, separated by the byte 0x1f.
const ENCODED_VARIABLE: &str = "CARGO_ENCODED_RUSTFLAGS";
/// Kernels whose BTF it embeds.
pub(crate) const BTF_VARIABLE: &str = "SET_RTO_BTF";

/// The rules file to compile in, absolute: the option, else SET_RTO_RULES, else none, which means
/// `rules.toml` of the root. An error if the file does not exist.
pub(crate) fn resolve_rules(option: Option<String>, caller: &Path) -> Result<Option<PathBuf>> {
    rules_file(option, env::var_os(RULES_VARIABLE).map(PathBuf::from), caller)
}

fn rules_file(
    option: Option<String>,
    variable: Option<PathBuf>,
    caller: &Path,
) -> Result<Option<PathBuf>> {
    let (file, origin) = match (option, variable) {
        (Some(file), _) => (PathBuf::from(file), "--rules"),
        (None, Some(file)) if !file.as_os_str().is_empty() => (file, RULES_VARIABLE),
        _ => return Ok(None),
    };
    let file = caller.join(file);
    if !file.is_file() {
        bail!("{origin}: no such rules file: {}", file.display());
    }
    Ok(Some(file))
}

/// Builds the static binary that is shipped and checks that it is static: for a target that `dist` knows by name or
/// triple as `dist` does, for another with what this machine has, for this machine with its own C library when none.
/// Gives its path.
pub(crate) fn static_release(
    sh: &Shell,
    rules: Option<&Path>,
    target: Option<&str>,
) -> Result<PathBuf> {
    let known = target.and_then(targets::known);
    let target = match (known, target) {
        (Some(known), _) => known.triple.to_owned(),
        (None, Some(target)) => target.to_owned(),
        (None, None) => host_triple(sh)?,
    };
    let shown = rules.map_or_else(|| "rules.toml".to_owned(), |file| file.display().to_string());
    step(&format!("build the static binary for {target} with {shown}"), || {
        let cross = match known {
            Some(known) => cross::prepare(sh, &target, &known.zig, &cross_dir(sh)?)?,
            None => Cross::default(),
        };
        let from = |variable| env::var(variable).ok();
        let folders = folders(sh)?;
        let flags = cross.flags.iter().map(|flag| (*flag).to_owned()).chain(remap(&folders));
        let value =
            static_flags(from(ENCODED_VARIABLE), from("RUSTFLAGS"), flags.collect::<Vec<_>>());
        eprintln!("{ENCODED_VARIABLE}={value:?}");
        let build = cargo_build(sh, rules).args(["--package", "set-rto", "--bin", "set-rto"]);
        let build = build.args(["--profile", "dist", "--target", &target]).args(cross.arguments);
        let build = build.envs(cross.environment).env(ENCODED_VARIABLE, value);
        let binary = executable(build)?;
        let bytes = fs::read(&binary).with_context(|| cannot_read(&binary))?;
        elf::check_static(&bytes).map_err(|why| {
            anyhow!(
                "{} is not static: {why}; this target's Rust or C library cannot be linked statically",
                binary.display()
            )
        })?;
        // An unstripped binary is a sixth larger.
        let symbols = elf::symbols(&bytes).map_err(|why| anyhow!("{}: {why}", binary.display()))?;
        ensure!(
            symbols.is_empty(),
            "{} is not stripped: {} symbols",
            binary.display(),
            symbols.len()
        );
        let named = |folder: &Path| folder.components().count() > 2 && names(&bytes, folder);
        if let Some((folder, _)) = folders.iter().find(|(folder, _)| named(folder)) {
            bail!("{} contains the folder {}, of this machine", binary.display(), folder.display());
        }
        println!("static, {} bytes: {}", bytes.len(), binary.display());
        Ok(binary)
    })
}

/// Fetches what [`static_release`] needs besides this machine's own tools for a target of `dist`.
///
/// # Errors
/// What could not be fetched, and from where.
pub(crate) fn prepare(sh: &Shell, target: &Target) -> Result<()> {
    cross::prepare(sh, target.triple, &target.zig, &cross_dir(sh)?).map(drop)
}

/// Builds one binary of the workspace in the dev profile, which links faster. Gives its path.
pub(crate) fn dev(sh: &Shell, binary: &str, rules: Option<&Path>) -> Result<PathBuf> {
    dev_with_btf(sh, binary, rules, None)
}

/// The same with the BTF of these kernels in it, as `SET_RTO_BTF` has them.
pub(crate) fn dev_with_btf(
    sh: &Shell,
    binary: &str,
    rules: Option<&Path>,
    btf: Option<&str>,
) -> Result<PathBuf> {
    // With --package, dependencies would lose the features that the other members ask for, and
    // the C libraries would be built once more than `cargo test --workspace` has done.
    let build = cargo_build(sh, rules);
    let build = match btf {
        Some(btf) => build.env(BTF_VARIABLE, btf),
        None => build.env_remove(BTF_VARIABLE),
    };
    executable(build.args(["--workspace", "--bin", binary]))
}

/// Builds set-rto with the libbpf, libelf and zlib of this machine, dynamic, as packages of distributions do.
pub(crate) fn dev_with_system(sh: &Shell, rules: &Path) -> Result<PathBuf> {
    let build = cargo_build(sh, Some(rules)).env_remove(BTF_VARIABLE);
    let build = build.args(["--package", "set-rto", "--bin", "set-rto"]);
    executable(build.args(["--no-default-features", "--features", "system"]))
}

/// Cargo's target directory, wherever CARGO_TARGET_DIR or a configuration puts it.
pub(crate) fn target_dir(sh: &Shell) -> Result<PathBuf> {
    let cargo = cargo();
    let metadata = cmd!(sh, "{cargo} metadata --format-version 1 --no-deps --offline").read()?;
    json_string(&metadata, "target_directory")
        .map(PathBuf::from)
        .ok_or_else(|| anyhow!("cargo metadata names no target_directory"))
}

/// The one for builds with zig. In the usual one, the other tools would make build scripts run again.
pub(crate) fn cross_dir(sh: &Shell) -> Result<PathBuf> {
    Ok(target_dir(sh)?.join("cross"))
}

/// `cargo build` with these rules, or with the default ones whatever the caller's environment is.
fn cargo_build<'a>(sh: &'a Shell, rules: Option<&Path>) -> Cmd<'a> {
    let cargo = cargo();
    let build = cmd!(sh, "{cargo} build --message-format json-render-diagnostics");
    match rules {
        Some(rules) => build.env(RULES_VARIABLE, rules),
        None => build.env_remove(RULES_VARIABLE),
    }
}

/// Runs a build of one binary and reads its path from cargo's messages.
fn executable(build: Cmd<'_>) -> Result<PathBuf> {
    eprintln!("$ {build}");
    let messages = build.read()?;
    messages
        .lines()
        .filter_map(|line| json_string(line, "executable"))
        .next_back()
        .map(PathBuf::from)
        .ok_or_else(|| anyhow!("cargo built no executable"))
}

/// The triple that rustc builds for by itself.
pub(crate) fn host_triple(sh: &Shell) -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = cmd!(sh, "{rustc} -vV").read().context("cannot ask rustc for its host")?;
    host_of(&version).ok_or_else(|| anyhow!("rustc -vV names no host"))
}

fn host_of(version: &str) -> Option<String> {
    version.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// Folders of this machine whose names source files have, and what the binary has instead.
fn folders(sh: &Shell) -> Result<[(PathBuf, &'static str); 4]> {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let registry = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = cmd!(sh, "{rustc} --print sysroot").quiet().read().context("cannot ask rustc")?;
    Ok([
        (sh.current_dir(), "/set-rto"),
        (registry, "/cargo"),
        (cache::dir()?, "/cache"),
        (sysroot.trim().into(), "/rust"),
    ])
}

fn remap(folders: &[(PathBuf, &str)]) -> impl Iterator<Item = String> {
    folders.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
}

/// True if the bytes contain the path.
fn names(bytes: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    bytes.windows(path.len()).any(|window| window == path)
}

/// The flags of the caller, and those for static linking. Cargo ignores RUSTFLAGS where CARGO_ENCODED_RUSTFLAGS is set,
/// which separates by the byte 0x1f: paths may contain blanks.
fn static_flags(encoded: Option<String>, plain: Option<String>, more: Vec<String>) -> String {
    let before: Vec<_> = match encoded.filter(|flags| !flags.is_empty()) {
        Some(flags) => flags.split('\x1f').map(str::to_owned).collect(),
        None => plain.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
    };
    let ours = STATIC.iter().map(|flag| (*flag).to_owned());
    before.into_iter().chain(ours).chain(more).collect::<Vec<_>>().join("\x1f")
}

/// The string with this key in a JSON object.
pub(crate) fn json_string(text: &str, key: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(text).ok()?;
    object.get(key)?.as_str().map(str::to_owned)
}

fn cannot_read(file: &Path) -> String {
    format!("cannot read {}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_appended() {
        let ours = STATIC.join("\x1f");
        let flags = |encoded: Option<&str>, plain: Option<&str>, more: &[&str]| {
            let more = more.iter().map(|flag| (*flag).to_owned()).collect();
            static_flags(encoded.map(str::to_owned), plain.map(str::to_owned), more)
        };
        assert_eq!(flags(None, None, &[]), ours);
        let expected = format!("-L\x1fx\x1f{ours}\x1f-C\x1fa b");
        assert_eq!(flags(None, Some("-L x"), &["-C", "a b"]), expected);
        assert_eq!(flags(Some(""), Some("-L x"), &[]), format!("-L\x1fx\x1f{ours}"));
        assert_eq!(flags(Some("-L\x1fy z"), Some("-L x"), &[]), format!("-L\x1fy z\x1f{ours}"));
    }

    #[test]
    fn folders_of_this_machine_are_found() {
        assert!(names(b"...from /work/main/src.", Path::new("/work/main")));
        assert!(!names(b"/work/mai", Path::new("/work/main")) && !names(b"", Path::new("/work")));
        let folders = [(PathBuf::from("/a b"), "/set-rto")];
        assert_eq!(remap(&folders).collect::<Vec<_>>(), ["--remap-path-prefix=/a b=/set-rto"]);
    }

    #[test]
    fn rules_are_absolute_and_there() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = Some(here.join("Cargo.toml"));
        let option = || Some("Cargo.toml".to_owned());
        assert_eq!(rules_file(option(), None, here).unwrap(), manifest);
        assert_eq!(rules_file(option(), Some("other".into()), here).unwrap(), manifest);
        assert_eq!(rules_file(None, Some("Cargo.toml".into()), here).unwrap(), manifest);
        assert_eq!(rules_file(None, Some("".into()), here).unwrap(), None);
        assert_eq!(rules_file(None, None, here).unwrap(), None);
        let message = |option: Option<&str>, variable: Option<&str>| {
            let option = option.map(str::to_owned);
            rules_file(option, variable.map(PathBuf::from), here).unwrap_err().to_string()
        };
        let absolute = here.join("no.toml").display().to_string();
        assert_eq!(
            message(Some("no.toml"), None),
            format!("--rules: no such rules file: {absolute}")
        );
        assert!(message(None, Some("no.toml")).starts_with("SET_RTO_RULES: "));
        assert!(message(Some("src"), None).contains("no such rules file"), "a directory");
    }

    #[test]
    fn strings_out_of_json() {
        let line = r#"{"reason":"x","note":"\"executable\":\"no\"","executable":"/a b/\"c\"\\d"}"#;
        assert_eq!(json_string(line, "executable").as_deref(), Some(r#"/a b/"c"\d"#));
        assert_eq!(json_string(r#"{"executable":null}"#, "executable"), None);
    }

    #[test]
    fn host_out_of_the_version() {
        let version =
            "rustc 1.95.0\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(host_of(version).as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(host_of("rustc 1.95.0"), None);
    }
}
