//! What takes the space in a binary: functions and data by size.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use xshell::Shell;

use super::cannot;
use crate::targets::Target;
use crate::{build, cross, elf};

/// The number of symbols that are shown.
const SHOWN: usize = 60;

/// Functions that load a name service, users or libraries at run time. A static binary must not contain them.
const FORBIDDEN: [&str; 5] = ["getaddrinfo", "gethostbyname", "getpwnam", "getpwuid", "dlopen"];

/// Links each binary again with its symbols and prints the largest ones. Returns an error if it contains one of
/// [`FORBIDDEN`].
pub(super) fn run(sh: &Shell, targets: &[&Target], rules: Option<&Path>) -> Result<()> {
    for target in targets {
        let unstripped = build::target_dir(sh)?.join(format!("symbols-{}", target.name));
        forget(sh, &build::cross_dir(sh)?.join(target.triple).join("dist"))?;
        let _symbols = sh.push_env(cross::SYMBOLS, &unstripped);
        build::static_release(sh, rules, Some(target.triple))?;
        let bytes = fs::read(&unstripped).with_context(|| cannot("read", &unstripped))?;
        let symbols = elf::symbols(&bytes);
        let symbols = symbols.map_err(|why| anyhow!("{}: {why}", unstripped.display()))?;
        ensure!(!symbols.is_empty(), "{} has no symbols", unstripped.display());
        println!("\n{}: the largest of {} symbols", target.name, symbols.len());
        let found = forbidden(&symbols);
        print!("{}", table(symbols));
        ensure!(found.is_empty(), "{} has {}", unstripped.display(), found.join(", "));
    }
    Ok(())
}

/// Removes the binary, which makes cargo link again.
fn forget(sh: &Shell, dir: &Path) -> Result<()> {
    let deps = sh.read_dir(dir.join("deps")).unwrap_or_default();
    let is_binary = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("set_rto-") && file.extension().is_none()
    };
    for file in deps.into_iter().filter(is_binary) {
        fs::remove_file(&file).with_context(|| cannot("remove", &file))?;
    }
    Ok(())
}

fn forbidden(symbols: &[(u64, String)]) -> Vec<String> {
    let is_one = |name: &&str| {
        // The same names with leading underscores, or with `_r` or a version appended.
        let name = name.trim_start_matches('_');
        FORBIDDEN
            .iter()
            .any(|one| name.strip_prefix(one).is_some_and(|rest| matches!(rest, "" | "_r")))
    };
    symbols.iter().map(|(_, name)| name.as_str()).filter(is_one).map(str::to_owned).collect()
}

fn table(mut symbols: Vec<(u64, String)>) -> String {
    symbols.sort_by(|a, b| b.cmp(a));
    let sum: u64 = symbols.iter().map(|(size, _)| size).sum();
    let rest: u64 = symbols.iter().skip(SHOWN).map(|(size, _)| size).sum();
    let lines = symbols.iter().take(SHOWN).map(|(size, name)| format!("{size:>8}  {name}\n"));
    lines.chain([format!("{rest:>8}  all others\n{sum:>8}  together\n")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_services_are_found() {
        let named = |name: &str| vec![(1, name.to_owned())];
        for bad in ["dlopen", "__dlopen", "getpwnam_r", "getaddrinfo"] {
            assert_eq!(forbidden(&named(bad)), [bad]);
        }
        for good in ["dlopen_count", "bpf_object__open", "freeaddrinfo"] {
            assert!(forbidden(&named(good)).is_empty(), "{good}");
        }
    }

    #[test]
    fn the_largest_first() {
        let symbols = (1..=100).map(|size| (size, format!("f{size}"))).collect();
        let table = table(symbols);
        assert!(table.starts_with("     100  f100\n      99  f99\n"), "{table}");
        assert!(table.ends_with("     820  all others\n    5050  together\n"), "{table}");
    }
}
