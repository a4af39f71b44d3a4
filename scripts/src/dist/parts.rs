//! What is linked into the static binary: crates, as cargo resolves them, and C libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::cannot;
use crate::cross;
use crate::needs::cargo;
use crate::targets::Target;

/// A library in the binary, or the program itself.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) license: String,
    /// A package URL, for what has one.
    pub(crate) purl: Option<String>,
    /// The texts of its licences.
    pub(crate) texts: Vec<PathBuf>,
    /// What it is linked with, as [`Part::id`] names it.
    pub(crate) needs: BTreeSet<String>,
}

impl Part {
    pub(crate) fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// The parts of the binary for a target, the program first.
///
/// # Errors
/// cargo cannot tell, or a library has no licence text.
pub(crate) fn linked(sh: &Shell, target: &Target) -> Result<Vec<Part>> {
    let cargo = cargo();
    let triple = target.triple;
    let text = cmd!(sh, "{cargo} metadata --format-version 1 --locked --filter-platform {triple}");
    let metadata: Value = serde_json::from_str(&text.quiet().read()?)?;
    let mut parts = crates(&metadata)?;
    let program = parts.first().context("no package set-rto")?.id();
    let libbpf_sys =
        parts.iter().find(|part| part.name == "libbpf-sys").context("no libbpf-sys")?;
    let c = libraries(sh, libbpf_sys, &sh.current_dir())?;
    // The C library and Rust's are in every binary.
    let names: BTreeSet<_> = c.iter().map(Part::id).collect();
    for part in parts.iter_mut().filter(|part| part.id() == program || part.name == "libbpf-sys") {
        part.needs.extend(names.iter().cloned());
    }
    parts.extend(c);
    for part in &parts {
        ensure!(!part.texts.is_empty(), "{} has no text of its licence", part.id());
    }
    Ok(parts)
}

/// The crates that are linked, by the answer of `cargo metadata`.
fn crates(metadata: &Value) -> Result<Vec<Part>> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<_, _> =
        list(metadata, "packages").into_iter().map(|it| (text(&it, "id"), it)).collect();
    let nodes: BTreeMap<_, _> =
        list(&metadata["resolve"], "nodes").into_iter().map(|it| (text(&it, "id"), it)).collect();
    let root = packages.iter().find(|(_, it)| it["name"] == "set-rto");
    let mut left = vec![root.context("cargo metadata has no set-rto")?.0.clone()];
    let mut seen = BTreeSet::new();
    let mut parts = Vec::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let package = packages.get(&id).with_context(|| format!("no package {id}"))?;
        let mut part = part(package)?;
        for dependency in list(nodes.get(&id).unwrap_or(&Value::Null), "deps") {
            let is_normal = list(&dependency, "dep_kinds").iter().any(|it| it["kind"].is_null());
            let needed = packages.get(&text(&dependency, "pkg"));
            let needed = needed.with_context(|| format!("no package {}", dependency["pkg"]))?;
            // A macro runs in the compiler.
            let is_macro = list(needed, "targets").iter().any(|it| it["kind"][0] == "proc-macro");
            if is_normal && !is_macro {
                part.needs.insert(format!("{}@{}", text(needed, "name"), text(needed, "version")));
                left.push(text(&dependency, "pkg"));
            }
        }
        parts.push(part);
    }
    parts[1..].sort_by_key(Part::id);
    Ok(parts)
}

fn part(package: &Value) -> Result<Part> {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("version"));
    let folder = PathBuf::from(text("manifest_path"));
    let folder = folder.parent().with_context(|| format!("{name} has no folder"))?;
    let is_ours = package["source"].is_null();
    // Ours are all licensed as the root is.
    let root = folder.ancestors().find(|it| it.join("LICENSE-MIT").exists() && is_ours);
    let purl = (!is_ours).then(|| format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")));
    Ok(Part {
        // Cargo's older way to write OR.
        license: text("license").replace('/', " OR "),
        texts: texts_in(root.unwrap_or(folder))?,
        needs: BTreeSet::new(),
        name,
        version,
        purl,
    })
}

/// Files in a folder that are the text of a licence.
fn texts_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| cannot("read", folder))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_one = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
        if path.is_file() && is_one.iter().any(|start| name.starts_with(start)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The C libraries in it, and Rust's standard library.
fn libraries(sh: &Shell, libbpf_sys: &Part, root: &Path) -> Result<Vec<Part>> {
    let sources = libbpf_sys.texts.first().and_then(|text| text.parent());
    let sources = sources.context("libbpf-sys has no folder")?;
    let libbpf = libbpf_sys.version.split_once("+v").context("libbpf-sys names no libbpf")?.1;
    let news = sources.join("elfutils/NEWS");
    let news = fs::read_to_string(&news).with_context(|| cannot("read", &news))?;
    // "Version 0.191 …" in the first line.
    let elfutils = news.split_whitespace().nth(1).context("elfutils has no version")?;
    let musl = cross::musl()?;
    let rustc = cmd!(sh, "rustc --version").quiet().read()?;
    let rust = rustc.split_whitespace().nth(1).context("rustc has no version")?;
    let library = |name: &str, version: &str, license: &str, texts: Vec<PathBuf>| Part {
        name: name.to_owned(),
        version: version.to_owned(),
        license: license.to_owned(),
        purl: Some(format!("pkg:generic/{name}@{version}")),
        texts,
        needs: BTreeSet::new(),
    };
    let elfutils_texts =
        ["COPYING-LGPLV3", "COPYING-GPLV2"].map(|name| sources.join("elfutils").join(name));
    Ok(vec![
        library(
            "libbpf",
            libbpf,
            "LGPL-2.1-only OR BSD-2-Clause",
            texts_in(&sources.join("libbpf"))?,
        ),
        library("libelf", elfutils, "LGPL-3.0-or-later OR GPL-2.0-or-later", elfutils_texts.into()),
        library("musl", &musl.version, "MIT", vec![musl.copyright]),
        // Its packages come without the texts, which are the same for every crate of these licences.
        library(
            "rust-std",
            rust,
            "MIT OR Apache-2.0",
            vec![root.join("LICENSE-APACHE"), root.join("LICENSE-MIT")],
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_workspace() {
        let sh = Shell::new().unwrap();
        sh.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        let cargo = cargo();
        let text = cmd!(sh, "{cargo} metadata --format-version 1 --locked --offline");
        // All others would have to be fetched.
        let text = text.args(["--filter-platform", "x86_64-unknown-linux-musl"]);
        let metadata = serde_json::from_str(&text.quiet().read().unwrap()).unwrap();
        let parts = crates(&metadata).unwrap();
        assert_eq!(parts[0].name, "set-rto");
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        for linked in ["argh", "libbpf-rs", "libbpf-sys", "libc", "nix", "set-rto-libelf"] {
            assert!(names.contains(&linked), "{names:?}");
        }
        // Of the build, of tests, and a macro.
        for other in ["libbpf-cargo", "toml", "proptest", "argh_derive", "syn"] {
            assert!(!names.contains(&other), "{other}");
        }
        // Debian's file of copyrights names each.
        let copyright = include_str!("../../packaging/debian/copyright");
        for part in &parts {
            assert!(!part.license.is_empty() && !part.texts.is_empty(), "{}", part.id());
            assert!(copyright.contains(&part.name), "debian/copyright lacks {}", part.name);
        }
    }
}
