//! A package of Debian's in just this release, from whichever suite has it, with an apt of our own: own lists, own
//! cache, the mirror that the host's apt is configured with, nothing of the host's changed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use super::cache;

/// The suites to look in.
const SUITES: [&str; 5] = ["trixie", "trixie-backports", "forky", "sid", "experimental"];

/// Unpacks the package whose upstream version is `release` into a folder.
///
/// # Errors
/// No apt of Debian's here, or no suite that has it.
pub(super) fn unpack(sh: &Shell, package: &str, release: &str, into: &Path) -> Result<()> {
    let mirror = mirror(sh)?;
    let dir = cache::dir()?.join("apt").join("cross");
    for part in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(dir.join(part))?;
    }
    fs::write(dir.join("status"), "")?;
    let sources = dir.join("sources.list");
    for suite in SUITES {
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        fs::write(&sources, format!("deb [signed-by={keys}] {mirror} {suite} main\n"))?;
        let options = &options(&dir);
        let update = cmd!(sh, "apt-get {options...} -qq -o APT::Update::Error-Mode=any update");
        if update.quiet().run().is_err() {
            eprintln!("the lists of Debian's suite {suite} cannot be fetched");
            continue;
        }
        let versions =
            cmd!(sh, "apt-cache {options...} show {package}").quiet().ignore_stderr().read();
        let versions = versions.unwrap_or_default();
        let Some(version) = versions
            .lines()
            .filter_map(|line| line.strip_prefix("Version: "))
            .find(|version| upstream(version) == release)
        else {
            continue;
        };
        println!("getting {package} {version} of {suite}");
        let deb = into.join("deb");
        fs::create_dir_all(&deb)?;
        {
            let _dir = sh.push_dir(&deb);
            cmd!(sh, "apt-get {options...} -qq download {package}={version}").quiet().run()?;
        }
        let files = sh.read_dir(&deb)?;
        let file = files.first().context("the download left no file")?;
        cmd!(sh, "dpkg-deb -x {file} {into}").run()?;
        return Ok(fs::remove_dir_all(deb)?);
    }
    bail!("no suite of Debian's has {package} {release}; looked in {}", SUITES.join(", "))
}

/// 1.95.0 of 1.95.0+dfsg1-2~bpo13+1.
fn upstream(version: &str) -> &str {
    version.split(['+', '-', '~']).next().unwrap_or_default()
}

fn options(dir: &Path) -> Vec<String> {
    let path = |part: &str| dir.join(part).display().to_string();
    let pairs = [
        ("Dir::State", path("")),
        ("Dir::State::lists", path("lists")),
        ("Dir::State::status", path("status")),
        ("Dir::Cache", path("")),
        ("Dir::Cache::archives", path("archives")),
        ("Dir::Etc::sourcelist", path("sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
        // Else apt drops root, and that user may not write here.
        ("APT::Sandbox::User", "root".to_owned()),
    ];
    pairs
        .into_iter()
        .flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")])
        .collect()
}

/// Where the host's own packages come from.
fn mirror(sh: &Shell) -> Result<String> {
    let format = "$(REPO_URI) $(COMPONENT) $(CODENAME)";
    let targets = cmd!(sh, "apt-get indextargets --format {format}").quiet().read();
    let targets = targets.context("cannot run apt-get: is this Debian?")?;
    // The suite itself, not its updates, which may come from another place.
    let is_suite = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
    let found = targets.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [uri, "main", name] if is_suite(name) => Some(uri.to_owned()),
            _ => None,
        }
    });
    found.context("apt on this host has no suite of Debian's to tell a mirror from")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_versions() {
        for version in ["1.95.0+dfsg1-2~bpo13+1", "1.95.0-1", "1.95.0~rc", "1.95.0"] {
            assert_eq!(upstream(version), "1.95.0");
        }
        assert_ne!(upstream("1.95.01-1"), "1.95.0");
    }
}
