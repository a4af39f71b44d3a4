//! The executables that the live suite tests: set-rto with each of its rules files. One whose sources have not changed
//! since an earlier run is used again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use xshell::{Shell, cmd};

use crate::needs::SYSTEM;
use crate::step::step;
use crate::{build, large, setup};

/// The rules file of the live suite from which the static binary is built.
const DEFAULT: &str = "default";

/// What every loader is made from, besides its rules. Paths in the repository.
const SOURCES: [&str; 9] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "bpf/Cargo.toml",
    "bpf/src",
    "build.rs",
    "scripts/libelf",
    "scripts/no-unwinding.ld",
    "src",
];

/// The variables that a build reads.
const VARIABLES: [&str; 5] =
    ["BPF_EXTRA_CFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CC", "CLANG", "RUSTFLAGS"];

/// Builds set-rto once for each rules file of the suite, with [`DEFAULT`] as the static release binary. Each binary
/// goes to `bin_dir` under the name of its rules file. There are two more builds of the rules on interfaces:
/// `interfaces-btf` with the BTF of these kernels (in the format of `SET_RTO_BTF`) and of the running one, and
/// `interfaces-system` with the libbpf of this machine if it is installed. `large` uses [`large::rules`].
pub(crate) fn build_all(sh: &Shell, bin_dir: &Path, kernels: &[String]) -> Result<()> {
    let rules = rules(sh)?;
    let mut loaders = Loaders::new(sh, bin_dir)?;
    let btf = carried(kernels)?.join(":");
    let interfaces = folder(sh).join("interfaces.toml");
    let title = format!("build set-rto with the BTF of {btf}");
    loaders.make("interfaces-btf", &title, &interfaces, &btf, || {
        build::dev_with_btf(sh, "set-rto", Some(&interfaces), Some(&btf))
    })?;
    if setup::still_missing(SYSTEM).is_empty() {
        let title = "build set-rto with the libbpf of this machine";
        loaders.make("interfaces-system", title, &interfaces, "system", || {
            build::dev_with_system(sh, &interfaces)
        })?;
    }
    for file in &rules {
        loaders.of(file)?;
    }
    // The suite reads them as well.
    let file = bin_dir.join("large.toml");
    fs::write(&file, large::rules()).with_context(|| format!("cannot write {}", file.display()))?;
    loaders.of(&file)?;
    loaders.keep_only(&["large.toml"])
}

/// Builds set-rto with some rules files of the suite only.
pub(crate) fn build_some(sh: &Shell, bin_dir: &Path, names: &[&str]) -> Result<()> {
    let mut loaders = Loaders::new(sh, bin_dir)?;
    names.iter().try_for_each(|name| loaders.of(&folder(sh).join(format!("{name}.toml"))))
}

fn folder(sh: &Shell) -> PathBuf {
    sh.current_dir().join("vmtests").join("live").join("rules")
}

fn rules(sh: &Shell) -> Result<Vec<PathBuf>> {
    let mut files = sh.read_dir(folder(sh))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    Ok(files)
}

struct Loaders<'a> {
    sh: &'a Shell,
    bin_dir: &'a Path,
    /// Of each executable, the sum of what it was made from.
    sums: PathBuf,
    sources: u64,
    made: BTreeSet<OsString>,
}

impl<'a> Loaders<'a> {
    fn new(sh: &'a Shell, bin_dir: &'a Path) -> Result<Self> {
        let sums = bin_dir.with_extension("sums");
        for dir in [bin_dir, &sums] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let clang = std::env::var_os("CLANG").unwrap_or_else(|| "clang".into());
        let tools = [
            cmd!(sh, "{rustc} -vV").quiet().read()?,
            cmd!(sh, "{clang} --version").quiet().read()?,
        ];
        let mut sum = DefaultHasher::new();
        (tools, VARIABLES.map(std::env::var_os)).hash(&mut sum);
        let root = sh.current_dir();
        SOURCES.iter().try_for_each(|path| add(&root.join(path), &mut sum))?;
        // Files that rules name.
        let mut lists = sh.read_dir(folder(sh))?;
        lists.retain(|file| file.extension().is_none_or(|extension| extension != "toml"));
        lists.iter().try_for_each(|file| add(file, &mut sum))?;
        Ok(Self { sh, bin_dir, sums, sources: sum.finish(), made: BTreeSet::new() })
    }

    /// The loader of a rules file, under its name.
    fn of(&mut self, file: &Path) -> Result<()> {
        let name = file.file_stem().ok_or_else(|| anyhow!("{} has no name", file.display()))?;
        let name = name.to_string_lossy();
        let title = format!("build set-rto with {}", file.display());
        let sh = self.sh;
        self.make(&name, &title, file, "", || match name == DEFAULT {
            true => build::static_release(sh, Some(file), None),
            false => build::dev(sh, "set-rto", Some(file)),
        })
    }

    /// Builds an executable, unless one is there that was made from the same. `way` tells apart builds of one file.
    fn make(
        &mut self,
        name: &str,
        title: &str,
        rules: &Path,
        way: &str,
        build: impl FnOnce() -> Result<PathBuf>,
    ) -> Result<()> {
        let (file, note) = (self.bin_dir.join(name), self.sums.join(name));
        let mut sum = DefaultHasher::new();
        (self.sources, way).hash(&mut sum);
        add(rules, &mut sum)?;
        let sum = sum.finish().to_string();
        self.made.insert(name.into());
        if file.is_file() && fs::read_to_string(&note).is_ok_and(|known| known == sum) {
            return Ok(());
        }
        // Without its sum, a half-copied file is made again.
        let _ = fs::remove_file(&note);
        let binary = step(title, build)?;
        // A test of an earlier run may still execute the old file.
        let _ = fs::remove_file(&file);
        fs::copy(binary, &file).with_context(|| format!("cannot copy to {}", file.display()))?;
        fs::write(&note, sum).with_context(|| format!("cannot write {}", note.display()))
    }

    /// Removes what an earlier run made from rules that are gone: it must not be tested.
    fn keep_only(&self, more: &[&str]) -> Result<()> {
        for entry in fs::read_dir(self.bin_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !self.made.contains(&name) && !more.iter().any(|it| name == **it) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Adds the names and contents below this path.
fn add(path: &Path, sum: &mut DefaultHasher) -> Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        (path, fs::read(path).with_context(cannot)?).hash(sum);
        return Ok(());
    }
    let mut entries: Vec<_> =
        fs::read_dir(path).with_context(cannot)?.collect::<Result<_, _>>().with_context(cannot)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.iter().try_for_each(|entry| add(&entry.path(), sum))
}

/// These kernels, and the one that runs here if it has BTF.
fn carried(kernels: &[String]) -> Result<Vec<String>> {
    const OWN: &str = "/sys/kernel/btf/vmlinux";
    let mut all = kernels.to_vec();
    if Path::new(OWN).exists() {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        all.push(format!("{}={OWN}", release.trim()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_is_built_when_its_sources_change_and_only_then() {
        let sh = Shell::new().expect("a shell");
        let temp = sh.create_temp_dir().expect("a folder");
        let (rules, built) = (temp.path().join("a.toml"), temp.path().join("built"));
        let bin_dir = temp.path().join("bin");
        fs::write(&rules, "one").expect("rules");
        fs::write(&built, "program").expect("a program");
        sh.change_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root"));
        let builds = |way: &str, sources: u64| {
            let mut loaders = Loaders::new(&sh, &bin_dir).expect("loaders");
            loaders.sources ^= sources;
            let mut ran = false;
            let build = || {
                ran = true;
                Ok(built.clone())
            };
            loaders.make("a", "build", &rules, way, build).expect("a loader");
            ran
        };
        assert!(builds("", 0) && !builds("", 0));
        assert!(builds("system", 0) && !builds("system", 0));
        assert!(builds("system", 1) && !builds("system", 1));
        fs::write(&rules, "two").expect("rules");
        assert!(builds("system", 1) && !builds("system", 1));
        fs::remove_file(bin_dir.join("a")).expect("a loader");
        assert!(builds("system", 1));
        fs::write(bin_dir.join("gone"), "").expect("a file");
        Loaders::new(&sh, &bin_dir).expect("loaders").keep_only(&["a"]).expect("a folder");
        assert!(!bin_dir.join("gone").exists() && bin_dir.join("a").exists());
    }
}
