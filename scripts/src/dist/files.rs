//! The files of a target's folder and of a package.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::cannot;

/// Where a file comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The static binary.
    Binary,
    /// The rules inside it.
    Rules,
    /// A file of scripts/packaging.
    Packaging(&'static str),
    /// A file of the root.
    Root(&'static str),
}

/// Where sources are.
pub(crate) struct Sources<'a> {
    pub(crate) root: &'a Path,
    pub(crate) binary: &'a Path,
    pub(crate) rules: Option<&'a Path>,
}

impl Sources<'_> {
    fn path(&self, source: &Source) -> PathBuf {
        match source {
            Source::Binary => self.binary.to_owned(),
            Source::Rules => {
                self.rules.map_or_else(|| self.root.join("rules.toml"), Path::to_path_buf)
            }
            Source::Packaging(name) => packaging(self.root).join(name),
            Source::Root(name) => self.root.join(name),
        }
    }
}

/// scripts/packaging.
pub(crate) fn packaging(root: &Path) -> PathBuf {
    root.join("scripts").join("packaging")
}

/// One file.
#[derive(Debug)]
pub(crate) struct File {
    source: Source,
    /// Its path below the folder or tree. A file that ends in `.gz` is compressed.
    pub(crate) to: &'static str,
    mode: u32,
}

const fn file(source: Source, to: &'static str) -> File {
    File { source, to, mode: 0o644 }
}

const fn program(source: Source, to: &'static str) -> File {
    File { source, to, mode: 0o755 }
}

/// The files of a target's folder, besides the packages.
pub(crate) const LOOSE: &[File] = &[
    program(Source::Binary, "set-rto"),
    file(Source::Rules, "rules.toml"),
    file(Source::Packaging("man/set-rto.8"), "set-rto.8"),
    file(Source::Packaging("man/set-rto-rules.5"), "set-rto-rules.5"),
    file(Source::Packaging("rules.schema.json"), "rules.schema.json"),
    file(Source::Packaging("completions/set-rto.bash"), "completions/set-rto.bash"),
    file(Source::Packaging("completions/_set-rto"), "completions/_set-rto"),
    file(Source::Packaging("completions/set-rto.fish"), "completions/set-rto.fish"),
    file(Source::Packaging("systemd/set-rto.service"), "set-rto.service"),
    program(Source::Packaging("openwrt/set-rto/files/set-rto.init"), "set-rto.init"),
];

/// The files of a Debian package.
pub(crate) const DEBIAN: &[File] = &[
    program(Source::Binary, "usr/sbin/set-rto"),
    file(Source::Packaging("systemd/set-rto.service"), "usr/lib/systemd/system/set-rto.service"),
    file(Source::Packaging("man/set-rto.8"), "usr/share/man/man8/set-rto.8.gz"),
    file(Source::Packaging("man/set-rto-rules.5"), "usr/share/man/man5/set-rto-rules.5.gz"),
    file(
        Source::Packaging("completions/set-rto.bash"),
        "usr/share/bash-completion/completions/set-rto",
    ),
    file(Source::Packaging("completions/_set-rto"), "usr/share/zsh/vendor-completions/_set-rto"),
    file(
        Source::Packaging("completions/set-rto.fish"),
        "usr/share/fish/vendor_completions.d/set-rto.fish",
    ),
    file(Source::Packaging("rules.schema.json"), "usr/share/set-rto/rules.schema.json"),
    file(Source::Rules, "usr/share/doc/set-rto/rules.toml"),
    file(Source::Root("CHANGELOG.md"), "usr/share/doc/set-rto/changelog.gz"),
    file(Source::Packaging("debian/copyright"), "usr/share/doc/set-rto/copyright"),
    file(Source::Packaging("debian/lintian-overrides"), "usr/share/lintian/overrides/set-rto"),
    program(Source::Packaging("debian/postinst"), "DEBIAN/postinst"),
    program(Source::Packaging("debian/prerm"), "DEBIAN/prerm"),
    program(Source::Packaging("debian/postrm"), "DEBIAN/postrm"),
];

impl File {
    /// Copies it to its place below `folder`.
    pub(crate) fn copy(&self, sources: &Sources<'_>, folder: &Path) -> Result<()> {
        let from = sources.path(&self.source);
        let bytes = fs::read(&from).with_context(|| cannot("read", &from))?;
        put(folder, self.to, &bytes, self.mode)
    }
}

/// Writes a file below a folder, and the folders above it. A file that ends in `.gz` is compressed.
pub(crate) fn put(folder: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let to = folder.join(to);
    let compressed;
    let bytes = match to.extension() {
        Some(extension) if extension == "gz" => {
            compressed = gzip(bytes)?;
            &compressed
        }
        _ => bytes,
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| cannot("make", parent))?;
        // The mode of a package's folders does not depend on the builder's umask.
        let mut dir = parent;
        while dir != folder && dir.starts_with(folder) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
            let Some(above) = dir.parent() else { break };
            dir = above;
        }
    }
    fs::write(&to, bytes).with_context(|| cannot("write", &to))?;
    fs::set_permissions(&to, fs::Permissions::from_mode(mode)).with_context(|| cannot("write", &to))
}

/// Without name and time, as Debian's policy requires (12.3): the same input gives the same bytes.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run gzip")?;
    let mut stdin = child.stdin.take().context("gzip has no input")?;
    let bytes = bytes.to_vec();
    // In a thread: gzip may block on its output before it has read all input.
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().context("cannot read from gzip")?;
    match writer.join() {
        Ok(Ok(())) if output.status.success() => Ok(output.stdout),
        _ => bail!("gzip: {}", output.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = Sources { root, binary: Path::new("/bin/sh"), rules: None };
        for File { source, .. } in LOOSE.iter().chain(DEBIAN) {
            assert!(sources.path(source).is_file(), "{source:?}");
        }
    }

    #[test]
    fn compressed_with_its_mode_whatever_the_umask() {
        let temp = xshell::Shell::new().unwrap().create_temp_dir().unwrap();
        put(temp.path(), "a/b/text.gz", b"text", 0o644).unwrap();
        let file = temp.path().join("a/b/text.gz");
        let output = Command::new("gzip").arg("-dc").arg(&file).output().unwrap();
        assert_eq!(output.stdout, b"text");
        let bytes = fs::read(&file).unwrap();
        // RFC 1952: flags, then the time in four bytes: no name, no time.
        assert_eq!(bytes[3..8], [0; 5]);
        for (path, mode) in [("a", 0o755), ("a/b", 0o755), ("a/b/text.gz", 0o644)] {
            let meta = fs::metadata(temp.path().join(path)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
        }
    }
}
