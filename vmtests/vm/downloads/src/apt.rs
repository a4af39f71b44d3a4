//! Packages of other Debian suites, through a separate apt with its own lists and cache. It uses the mirror that the
//! host's apt is configured with, and changes nothing on the host.

use crate::cache;
use anyhow::{Context as _, Result, anyhow, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One suite's package lists.
pub struct Suite {
    name: String,
    /// Debian's name of the machine.
    architecture: String,
    dir: PathBuf,
}

impl Suite {
    /// Fetches the lists once per run.
    ///
    /// # Errors
    /// There is no apt, the suite does not exist, or the mirror does not answer.
    pub fn fetch(name: &str) -> Result<Self> {
        Self::fetch_for(name, "amd64")
    }

    /// The same for another machine.
    ///
    /// # Errors
    /// There is no apt, the suite or machine does not exist, or the mirror does not answer.
    pub fn fetch_for(name: &str, architecture: &str) -> Result<Self> {
        let own = match architecture {
            "amd64" => name.to_owned(),
            other => format!("{name}-{other}"),
        };
        Self::fetch_list("deb", name, architecture, own)
    }

    /// Fetches the lists of its source packages.
    ///
    /// # Errors
    /// There is no apt, the suite does not exist, or the mirror does not answer.
    pub fn fetch_sources(name: &str) -> Result<Self> {
        Self::fetch_list("deb-src", name, "amd64", format!("{name}-source"))
    }

    fn fetch_list(kind: &str, name: &str, architecture: &str, own: String) -> Result<Self> {
        let dir = cache::dir()?.join("apt").join(&own);
        let _lock = cache::lock(&format!("apt/{own}"))?;
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(part))?;
        }
        fs::write(dir.join("status"), "")?;
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let line =
            format!("{kind} [arch={architecture} signed-by={keys}] {} {name} main\n", mirror()?);
        fs::write(dir.join("sources.list"), line)?;
        let (name, architecture) = (name.to_owned(), architecture.to_owned());
        let suite = Self { name, architecture, dir };
        suite
            .run("apt-get", &["update", "-qq", "-o", "APT::Update::Error-Mode=any"])
            .with_context(|| format!("the lists of Debian's suite {own} cannot be fetched"))?;
        Ok(suite)
    }

    /// The package to which a meta-package currently points.
    ///
    /// # Errors
    /// There is no such package.
    pub fn newest(&self, meta: &str, prefix: &str) -> Result<String> {
        let found = self.depends(meta)?.into_iter().find(|name| {
            // A version follows, so this is not another meta-package.
            let rest = name.strip_prefix(prefix).unwrap_or_default();
            rest.starts_with(|first: char| first.is_ascii_digit())
        });
        found.with_context(|| format!("Debian's suite {} has no package {meta}", self.name))
    }

    /// The names of a package's dependencies.
    ///
    /// # Errors
    /// There is no such package.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = self.run("apt-cache", &["depends", package])?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(|name| name.trim().to_owned()).collect())
    }

    /// The version of a package.
    ///
    /// # Errors
    /// There is no such package.
    pub fn version(&self, package: &str) -> Result<String> {
        let text = self.run("apt-cache", &["show", "--no-all-versions", package])?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).ok_or_else(|| anyhow!("{package} has no version"))
    }

    /// The version of a package that contains exactly this upstream release.
    ///
    /// # Errors
    /// The suite has another release, or no such package.
    pub fn of_release(&self, package: &str, release: &str) -> Result<String> {
        let text = self.run("apt-cache", &["show", package])?;
        let mut versions = text.lines().filter_map(|line| line.strip_prefix("Version: "));
        let found = versions.find(|version| upstream(version) == release);
        found
            .map(str::to_owned)
            .with_context(|| format!("Debian's suite {} has no {package} of {release}", self.name))
    }

    /// Downloads a package (`NAME` or `NAME=VERSION`). apt checks it against the signed lists.
    ///
    /// # Errors
    /// The mirror does not answer, or the disk is full.
    pub fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        let is_package = |path: &PathBuf| path.extension().is_some_and(|it| it == "deb");
        self.get(&["download"], package, into, is_package)
    }

    /// The version of a source package in the lists of [`Suite::fetch_sources`].
    ///
    /// # Errors
    /// There is no such package.
    pub fn source_version(&self, package: &str) -> Result<String> {
        let text = self.run("apt-cache", &["showsrc", "--only-source", package])?;
        let versions = text.lines().filter_map(|line| line.strip_prefix("Version: "));
        let newest = versions.reduce(|best, it| if is_newer(it, best) { it } else { best });
        newest.map(str::to_owned).ok_or_else(|| anyhow!("{package} has no version"))
    }

    /// Downloads a source package (`NAME` or `NAME=VERSION`) and returns the upstream archive.
    ///
    /// # Errors
    /// The mirror does not answer, or the disk is full.
    pub fn download_source(&self, package: &str, into: &Path) -> Result<PathBuf> {
        let is_release = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar.");
        self.get(&["source", "--download-only"], package, into, is_release)
    }

    fn get(
        &self,
        verb: &[&str],
        package: &str,
        into: &Path,
        wanted: impl Fn(&PathBuf) -> bool,
    ) -> Result<PathBuf> {
        fs::create_dir_all(into)?;
        let mut command = self.command("apt-get");
        let output = command.args(verb).args(["-qq", package]).current_dir(into).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("download of {package}: {}", without_addresses(said.trim()));
        }
        let mut files = fs::read_dir(into)?.filter_map(Result::ok).map(|entry| entry.path());
        files.find(wanted).ok_or_else(|| anyhow!("download of {package} left no file"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |part: &str| self.dir.join(part).display().to_string();
        for (option, value) in [
            ("Dir::State", path("")),
            ("Dir::State::lists", path("lists")),
            ("Dir::State::status", path("status")),
            ("Dir::Cache", path("")),
            ("Dir::Cache::archives", path("archives")),
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("APT::Architecture", self.architecture.clone()),
            ("APT::Architectures", self.architecture.clone()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::Retries", "3".into()),
            // Timeout in seconds. A mirror that hangs costs two minutes instead of ten.
            ("Acquire::http::Timeout", "30".into()),
            ("Acquire::https::Timeout", "30".into()),
            // Otherwise apt drops root, and its other user may not write here.
            ("APT::Sandbox::User", "root".into()),
            // Suites that are no longer updated remain usable.
            ("Acquire::Check-Valid-Until", "false".into()),
        ] {
            command.arg("-o").arg(format!("{option}={value}"));
        }
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output();
        let output = output.with_context(|| format!("cannot run {program}: is this Debian?"))?;
        if !output.status.success() {
            // The output names the mirror, which must not appear in reports.
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            bail!("{program} {}: {}", arguments.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Returns 1.95.0 for 1.95.0+dfsg1-2~bpo13+1.
fn upstream(version: &str) -> &str {
    version.split(['+', '-', '~']).next().unwrap_or_default()
}

/// True if a package's version is higher than another.
pub fn is_newer(version: &str, other: &str) -> bool {
    let words = ["--compare-versions", version, "gt", other];
    Command::new("dpkg").args(words).status().is_ok_and(|status| status.success())
}

/// apt's output without the mirror's address, which must not appear in reports.
fn without_addresses(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let words = line.split_whitespace().filter(|word| !word.contains("://"));
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The sources of the host's own packages.
///
/// # Errors
/// There is no apt, or it has no Debian source.
pub fn mirror() -> Result<String> {
    // The files that an update would fetch. apt prints them even without lists.
    let output = Command::new("apt-get").args(["--print-uris", "update"]).output();
    let output = output.context("cannot run apt-get: is this Debian?")?;
    mirror_in(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| anyhow!("apt on this host is not configured with a Debian mirror"))
}

/// The first mirror of a suite's component `main`. It must be of the suite itself, because updates may use another.
fn mirror_in(uris: &str) -> Option<String> {
    let is_suite = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase());
    uris.lines().find_map(|line| {
        let uri = line.split('\'').nth(1)?;
        let (mirror, place) = uri.split_once("/dists/")?;
        let (suite, list) = place.split_once('/')?;
        (is_suite(suite) && list.starts_with("main/binary-")).then(|| mirror.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::{mirror_in, upstream};

    #[test]
    fn releases_of_versions() {
        for version in ["1.95.0+dfsg1-2~bpo13+1", "1.95.0-1", "1.95.0~rc", "1.95.0"] {
            assert_eq!(upstream(version), "1.95.0");
        }
        assert_ne!(upstream("1.95.01-1"), "1.95.0");
    }

    #[test]
    fn the_mirror_is_that_of_a_suite_itself() {
        let line = |host: &str, rest: &str| format!("'http://{host}/dists/{rest}' name 0 \n");
        let uris = [
            line("tools.example/debian", "bookworm/InRelease"),
            line("tools.example/debian", "bookworm/stable/binary-amd64/Packages.xz"),
            line("late.example/debian", "bookworm-updates/main/binary-amd64/Packages.xz"),
            line("mirror.example/debian", "bookworm/main/binary-amd64/Packages.xz"),
        ];
        assert_eq!(mirror_in(&uris.concat()).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in(&uris[..3].concat()), None);
    }
}
