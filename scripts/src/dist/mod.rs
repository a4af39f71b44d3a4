//! `cargo xtask dist`: for each target a folder `target/dist/NAME` with the static binary, its Debian package, the
//! manual pages, completions, schema, unit, init script, the rules that it was built from, a bill of materials, the notices
//! of licences, and checksums of all.

mod deb;
mod epoch;
mod files;
mod parts;
mod sbom;
mod sizes;
mod source;
mod sums;
mod symbols;
mod twice;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::build;
use crate::step::step;
use crate::targets::{self, Target};

/// The options of `dist`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Names or triples; none: this machine's.
    pub(crate) targets: Vec<String>,
    /// BTF to build in, `PATH` or `RELEASE=PATH`. None: what `SET_RTO_BTF` names.
    pub(crate) btf: Vec<String>,
    /// The revision of the Debian package. Other rules need a higher one.
    pub(crate) revision: String,
    /// Record the sizes for the next comparison.
    pub(crate) record: bool,
    /// Only print what takes the room in each binary.
    pub(crate) symbols: bool,
    /// Also pack the sources and the recipes.
    pub(crate) source: bool,
    /// Build once more elsewhere, and compare.
    pub(crate) twice: bool,
    /// Succeed, with a message, if zig or the sources of the standard library cannot be fetched: for a test of the sizes
    /// on machines with limited network access.
    pub(crate) if_possible: bool,
}

/// A BTF file as `--btf` names it, with an absolute path and its release, if given.
pub(crate) fn btf_file(word: &str, caller: &Path) -> Result<String> {
    let (release, path) = match word.split_once('=') {
        Some((release, path)) => (format!("{release}="), path),
        None => (String::new(), word),
    };
    let path = caller.join(path);
    if !path.is_file() {
        bail!("--btf: no such file: {}", path.display());
    }
    Ok(format!("{release}{}", path.display()))
}

/// Makes a folder for each target. Returns the folders.
pub(crate) fn run(
    sh: &Shell,
    options: &Options,
    rules: Option<&Path>,
    into: &Path,
) -> Result<Vec<PathBuf>> {
    let targets = targets::chosen(&options.targets)?;
    deb::check_revision(&options.revision)?;
    if !options.btf.is_empty() {
        sh.set_var("SET_RTO_BTF", options.btf.join(":"));
    }
    if options.symbols {
        return symbols::run(sh, &targets, rules).map(|()| Vec::new());
    }
    if options.if_possible
        && let Err(error) = targets.iter().try_for_each(|target| build::prepare(sh, target))
    {
        println!("sizes: 0 passed, 0 failed, {} skipped: {error:#}", targets.len());
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    let mut built = Vec::new();
    if options.source {
        folders.push(step("pack the sources", || source::run(sh, into))?);
    }
    for &target in &targets {
        let (folder, size) = one(sh, target, rules, &options.revision, into)?;
        folders.push(folder);
        built.push((target.name, size));
    }
    // Other rules have other sizes.
    if rules.is_none() && options.btf.is_empty() && env::var_os(build::BTF_VARIABLE).is_none() {
        compare(sh, &built, options.record)?;
    }
    if options.twice {
        step("build again in another folder", || twice::run(sh, &targets, into))?;
    }
    Ok(folders)
}

fn compare(sh: &Shell, built: &[sizes::Built], record: bool) -> Result<()> {
    let file = sh.current_dir().join("scripts/SIZES");
    let text = fs::read_to_string(&file).with_context(|| cannot("read", &file))?;
    let known = sizes::parse(&text)?;
    println!("\n{}", sizes::table(built, &known));
    sizes::check(built, &known)?;
    println!("sizes: {} passed, 0 failed, 0 skipped", built.len());
    if record {
        fs::write(&file, sizes::record(&text, built)).with_context(|| cannot("write", &file))?;
    }
    Ok(())
}

fn one(
    sh: &Shell,
    target: &Target,
    rules: Option<&Path>,
    revision: &str,
    into: &Path,
) -> Result<(PathBuf, u64)> {
    let binary = build::static_release(sh, rules, Some(target.triple))?;
    let size = fs::metadata(&binary).with_context(|| cannot("read", &binary))?.len();
    step(&format!("package for {}", target.name), || {
        let folder = into.join(target.name);
        if folder.exists() {
            // No file of earlier rules may stay.
            fs::remove_dir_all(&folder).with_context(|| cannot("empty", &folder))?;
        }
        fs::create_dir_all(&folder).with_context(|| cannot("make", &folder))?;
        let root = sh.current_dir();
        let sources = files::Sources { root: &root, binary: &binary, rules };
        for file in files::LOOSE {
            file.copy(&sources, &folder)?;
        }
        let epoch = epoch::seconds(sh)?;
        let Target { debian: architecture, boards, .. } = *target;
        let package = deb::Package { architecture, boards, revision, epoch };
        package.build(sh, &sources, &folder)?;
        let parts = parts::linked(sh, target)?;
        let since = epoch.to_string();
        let time = cmd!(sh, "date -u -d @{since} +%Y-%m-%dT%H:%M:%SZ").quiet().read()?;
        let bill = sbom::bill(&parts, env!("CARGO_PKG_REPOSITORY"), &time)?;
        files::put(&folder, "set-rto.cdx.json", bill.as_bytes(), 0o644)?;
        files::put(&folder, "NOTICES", sbom::notices(&parts)?.as_bytes(), 0o644)?;
        sums::write(sh, &folder)?;
        Ok((folder, size))
    })
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn btf_files_are_absolute_and_there() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = here.join("Cargo.toml").display().to_string();
        assert_eq!(btf_file("Cargo.toml", here).unwrap(), manifest);
        assert_eq!(btf_file("6.1.0=Cargo.toml", here).unwrap(), format!("6.1.0={manifest}"));
        assert!(btf_file("6.1.0=no.btf", here).unwrap_err().to_string().contains("no.btf"));
    }
}
