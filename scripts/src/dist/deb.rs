//! The Debian package: a tree of files, a few texts, and `dpkg-deb`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use super::cannot;
use super::files::{DEBIAN, Sources, packaging, put};

/// Debian's conventional variables for the maintainer of a package, and the defaults.
const MAINTAINER: [(&str, &str); 2] =
    [("DEBFULLNAME", "set-rto maintainers"), ("DEBEMAIL", "set-rto@packages.invalid")];

/// One package.
pub(crate) struct Package<'a> {
    /// Debian's name of the machine.
    pub(crate) architecture: &'a str,
    /// The boards that it is for, if the architecture does not say that.
    pub(crate) boards: Option<&'a str>,
    /// What follows the version.
    pub(crate) revision: &'a str,
    /// The time of all files, in seconds since 1970.
    pub(crate) epoch: u64,
}

/// What may follow the hyphen of a version (deb-version(7)).
pub(crate) fn check_revision(revision: &str) -> Result<()> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"+.~".contains(&byte);
    if revision.is_empty() || !revision.bytes().all(is_good) {
        bail!("dist: --revision takes letters, digits, `+`, `.` and `~`, not `{revision}`");
    }
    Ok(())
}

impl Package<'_> {
    fn version(&self) -> String {
        format!("{}-{}", env!("CARGO_PKG_VERSION"), self.revision)
    }

    /// Builds it into the folder.
    pub(crate) fn build(
        &self,
        sh: &Shell,
        sources: &Sources<'_>,
        folder: &Path,
    ) -> Result<PathBuf> {
        let tree = folder.join(".deb");
        for file in DEBIAN {
            file.copy(sources, &tree)?;
        }
        let [name, address] = MAINTAINER
            .map(|(variable, other)| env::var(variable).unwrap_or_else(|_| other.to_owned()));
        let maintainer = format!("{name} <{address}>");
        let epoch = self.epoch.to_string();
        let date = cmd!(sh, "date -u -R -d @{epoch}").env("LC_ALL", "C").quiet().read()?;
        let changelog = self.changelog(&maintainer, date.trim());
        put(&tree, "usr/share/doc/set-rto/changelog.Debian.gz", changelog.as_bytes(), 0o644)?;
        let template = packaging(sources.root).join("debian/control");
        let template = fs::read_to_string(&template).with_context(|| cannot("read", &template))?;
        let control = self.control(&template, &maintainer, kibibytes(&tree.join("usr"))?);
        put(&tree, "DEBIAN/control", control.as_bytes(), 0o644)?;
        put(&tree, "DEBIAN/md5sums", self.md5sums(sh, &tree)?.as_bytes(), 0o644)?;
        let package = folder.join(self.file_name());
        cmd!(sh, "dpkg-deb --root-owner-group -Zxz --build {tree} {package}")
            .env("SOURCE_DATE_EPOCH", epoch)
            .ignore_stdout()
            .run()?;
        fs::remove_dir_all(&tree).with_context(|| cannot("remove", &tree))?;
        Ok(package)
    }

    fn file_name(&self) -> String {
        let boards = self.boards.map(|boards| format!("_{boards}")).unwrap_or_default();
        format!("set-rto_{}_{}{boards}.deb", self.version(), self.architecture)
    }

    fn control(&self, template: &str, maintainer: &str, kibibytes: u64) -> String {
        template
            .replace("@VERSION@", &self.version())
            .replace("@ARCHITECTURE@", self.architecture)
            .replace("@MAINTAINER@", maintainer)
            .replace("@SIZE@", &kibibytes.to_string())
    }

    fn changelog(&self, maintainer: &str, date: &str) -> String {
        format!(
            "set-rto ({}) unstable; urgency=medium\n\n  * Built by cargo xtask dist; changelog.gz \
             says what is new.\n\n -- {maintainer}  {date}\n",
            self.version()
        )
    }

    fn md5sums(&self, sh: &Shell, tree: &Path) -> Result<String> {
        let _dir = sh.push_dir(tree);
        let files = DEBIAN.iter().map(|file| file.to).filter(|to| !to.starts_with("DEBIAN/"));
        let files = files.chain(["usr/share/doc/set-rto/changelog.Debian.gz"]);
        Ok(cmd!(sh, "md5sum {files...}").quiet().read()? + "\n")
    }
}

/// What the files below a folder take, each rounded up: `Installed-Size` (Debian's policy, 5.6.20).
fn kibibytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| cannot("read", folder))? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum +=
            if meta.is_dir() { 1 + kibibytes(&entry.path())? } else { meta.len().div_ceil(1024) };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: Package<'static> =
        Package { architecture: "arm64", boards: None, revision: "2", epoch: 0 };

    #[test]
    fn packages_of_one_architecture_are_named_by_board() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(PACKAGE.file_name(), format!("set-rto_{version}-2_arm64.deb"));
        let zero = Package { boards: Some("pi-zero-and-1"), ..PACKAGE };
        assert_eq!(zero.file_name(), format!("set-rto_{version}-2_arm64_pi-zero-and-1.deb"));
    }

    #[test]
    fn texts() {
        let template = include_str!("../../packaging/debian/control");
        let control = PACKAGE.control(template, "A <a@b.example>", 1500);
        let version = format!("Version: {}-2\n", env!("CARGO_PKG_VERSION"));
        for line in [
            version.as_str(),
            "Architecture: arm64\n",
            "Maintainer: A <a@b.example>\n",
            "Installed-Size: 1500\n",
        ] {
            assert!(control.contains(line), "{line}");
        }
        assert!(!control.contains('@') || control.matches('@').count() == 1, "{control}");
        let changelog = PACKAGE.changelog("A <a@b.example>", "Thu, 01 Jan 1970 00:00:00 +0000");
        assert!(changelog.starts_with("set-rto (0.") && changelog.ends_with("+0000\n"));
    }

    #[test]
    fn revisions() {
        for good in ["1", "2~rc1", "1+lora", "3.1"] {
            check_revision(good).unwrap();
        }
        for bad in ["", "1-2", "a/b", "1 ", "é"] {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_input_gives_the_same_package() {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = Sources { root, binary: Path::new("/bin/sh"), rules: None };
        let mut bytes = Vec::new();
        for name in ["one", "two"] {
            let folder = temp.path().join(name);
            let package = PACKAGE.build(&sh, &sources, &folder).unwrap();
            bytes.push(fs::read(&package).unwrap());
            let listed = cmd!(sh, "dpkg-deb --contents {package}").quiet().read().unwrap();
            let is_ours = |line: &str| line.contains(" root/root ");
            assert!(listed.lines().all(is_ours), "{listed}");
            for part in ["./usr/sbin/set-rto\n", "./usr/share/man/man8/set-rto.8.gz\n"] {
                assert!((listed.clone() + "\n").contains(part), "{listed}");
            }
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the tree is gone");
        }
        assert!(bytes[0] == bytes[1]);
    }
}
