//! Measures builds of set-rto itself: the duration of a build after the first one. Keeps the binaries for `install`.

use crate::row::Program;
use crate::rule;
use crate::sets::RuleSet;
use crate::sets::Shape;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// The policies that are installed.
pub(crate) const POLICIES: [(&str, Shape, usize, Program); 4] = [
    ("1 rule", Shape::Ports, 1, Program::Ours),
    ("1 learned rule", Shape::Ports, 1, Program::Learned),
    ("10,000 rules", Shape::Ports, 10_000, Program::Ours),
    ("100,000 prefixes", Shape::List { is_v4: true }, 100_000, Program::Ours),
];

/// The results.
#[derive(Default)]
pub(crate) struct Builds {
    /// Policy, seconds of a build after the first, and bytes of the binary.
    pub(crate) built: Vec<(String, f64, u64)>,
}

/// The directory with `set-rto` and `set_rto.o` of a policy.
pub(crate) fn directory(work: &Path, policy: &str) -> PathBuf {
    work.join(policy.replace(',', "").replace(' ', "-"))
}

/// Makes a first build, which compiles all dependencies of set-rto.
pub(crate) fn first() -> Result<()> {
    cargo(Path::new("rules.toml")).map(drop)
}

/// Builds every policy once, then builds those of up to 10,000 rules again with one timer changed.
pub(crate) fn build(work: &Path, quick: bool, end: Instant) -> Result<Builds> {
    let mut builds = Builds::default();
    for (name, shape, size, program) in POLICIES {
        let directory = directory(work, name);
        // The result of an earlier run must not be mistaken for a result of this one.
        let _ = fs::remove_dir_all(&directory);
        if quick && size > 10_000 || Instant::now() > end {
            continue;
        }
        fs::create_dir_all(&directory)?;
        let rules = directory.join("rules.toml");
        let text = rule::toml(&RuleSet::new(shape, size).rules, program);
        fs::write(&rules, &text)?;
        let (binary, out) = cargo(&rules)?;
        copy(&binary, &out, &directory)?;
        let mut times = Vec::new();
        let rounds = if quick || size > 10_000 { 1 } else { 3 };
        for round in 0..rounds {
            // Another timer for the last rule gives another digest and another object.
            fs::write(&rules, format!("{text}# {round}\n").replacen("20000ms", "20100ms", round))?;
            let start = Instant::now();
            cargo(&rules)?;
            times.push(start.elapsed().as_secs_f64());
            if Instant::now() > end {
                break;
            }
        }
        let bytes = fs::metadata(&binary)?.len();
        builds.built.push((name.into(), crate::row::median(times).unwrap_or_default(), bytes));
    }
    Ok(builds)
}

/// Moves an earlier binary away. The bench's rules must not be installed by mistake.
pub(crate) struct Kept {
    place: PathBuf,
    aside: PathBuf,
}

impl Kept {
    /// Moves the binary away until this value is dropped.
    pub(crate) fn aside() -> Result<Self> {
        // Cargo writes it to the directory of this binary.
        let place = std::env::current_exe()?.with_file_name("set-rto");
        let kept = Kept { aside: place.with_extension("before-bench"), place };
        if kept.place.exists() {
            fs::rename(&kept.place, &kept.aside)?;
        }
        Ok(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // If there was no binary before, none remains.
        let _ = fs::remove_file(&self.place);
        let _ = fs::rename(&self.aside, &self.place);
    }
}

/// Builds with these rules. Returns the binary and the output of build.rs.
fn cargo(rules: &Path) -> Result<(PathBuf, PathBuf)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "set-rto", "--bin", "set-rto"])
        .args(["--message-format", "json-render-diagnostics"])
        .env("SET_RTO_RULES", rules)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build: {}", output.status);
    let (mut binary, mut out) = (None, None);
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages")?;
        let is_ours = message["target"]["name"] == "set-rto"
            || message["package_id"]
                .as_str()
                .is_some_and(|id| id.contains("set-rto@") || id.contains("set-rto#"));
        let path = |key: &str| message[key].as_str().map(PathBuf::from);
        if is_ours {
            binary = path("executable").or(binary);
            out = path("out_dir").or(out);
        }
    }
    Ok((binary.context("cargo built no binary")?, out.context("build.rs did not run")?))
}

/// Keeps the binary and the object inside it.
fn copy(binary: &Path, out: &Path, to: &Path) -> Result<()> {
    fs::copy(binary, to.join("set-rto"))?;
    let is_object = |path: &PathBuf| path.extension().is_some_and(|it| it == "o");
    let objects = fs::read_dir(out)?.flatten().map(|entry| entry.path()).filter(is_object);
    // Earlier builds may have left their own.
    let made = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    let object = objects.max_by_key(made).context("build.rs left no object")?;
    fs::copy(object, to.join("set_rto.o"))?;
    Ok(())
}
