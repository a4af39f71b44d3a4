//! Finds the kernel release that a file belongs to, as `uname -r` prints it there.

/// An entry of SET_RTO_BTF: `PATH` or `RELEASE=PATH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The release, if the entry names one.
    pub release: Option<&'a str>,
    /// The file.
    pub path: &'a str,
}

/// Reads an entry. A release has no `/`, so a path may contain `=`.
#[must_use]
pub fn entry(text: &str) -> Entry<'_> {
    match text.split_once('=') {
        Some((release, path)) if is_release(release) => Entry { release: Some(release), path },
        _ => Entry { release: None, path: text },
    }
}

/// The release of a kernel's file. It is read from the kernel's banner (`Linux version 6.1.0 (…`, `linux_banner` in
/// init/version-timestamp.c), or else from the name of the file.
#[must_use]
pub fn release(file: &[u8], name: &str) -> Option<String> {
    in_banner(file).or_else(|| in_name(name))
}

/// The kernel's own limit (`__NEW_UTS_LEN`).
const LONGEST: usize = 64;

fn is_release(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || ".-+_~:".contains(c);
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.len() <= LONGEST
        && text.contains('.')
        && text.chars().all(is_part)
}

fn in_banner(file: &[u8]) -> Option<String> {
    const BEFORE: &[u8] = b"Linux version ";
    let starts = file.windows(BEFORE.len()).enumerate().filter(|(_, it)| *it == BEFORE);
    starts.map(|(at, _)| &file[at + BEFORE.len()..]).find_map(|rest| {
        let word = rest[..rest.len().min(LONGEST + 1)].split(|&byte| byte == b' ').next()?;
        std::str::from_utf8(word).ok().filter(|it| is_release(it)).map(String::from)
    })
}

/// Such names are `vmlinux-6.1.0-21-amd64`, `6.1.0-21-amd64.btf` and `vmlinux-6.6.30.btf`.
fn in_name(name: &str) -> Option<String> {
    let name = ["vmlinux-", "btf-"].iter().find_map(|it| name.strip_prefix(it)).unwrap_or(name);
    let name =
        [".btf", ".elf", ".debug"].iter().find_map(|it| name.strip_suffix(it)).unwrap_or(name);
    is_release(name).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let path = |path| Entry { release: None, path };
        for (text, expected) in [
            ("/boot/vmlinux-6.1.0", path("/boot/vmlinux-6.1.0")),
            ("5.15.134=vmlinux", Entry { release: Some("5.15.134"), path: "vmlinux" }),
            ("6.1.0-x+=/a=b/c", Entry { release: Some("6.1.0-x+"), path: "/a=b/c" }),
            ("/build/CONFIG=y/vmlinux", path("/build/CONFIG=y/vmlinux")),
            ("6=vmlinux", path("6=vmlinux")),
            ("", path("")),
        ] {
            assert_eq!(entry(text), expected);
        }
    }

    #[test]
    fn banners() {
        let in_file = |banner: &str| [b"\x7fELF\0Linux version %s\0", banner.as_bytes()].concat();
        let real = in_file("Linux version 5.15.134 (builder@host) (gcc 12.3.0) #0 SMP Mon Oct 9");
        assert_eq!(release(&real, "vmlinux").as_deref(), Some("5.15.134"));
        assert_eq!(release(&real, "vmlinux-6.1.0").as_deref(), Some("5.15.134"));
        assert_eq!(release(&in_file("else"), "vmlinux-6.1.0").as_deref(), Some("6.1.0"));
        assert_eq!(release(&in_file("Linux version five.1 "), "vmlinux"), None);
        assert_eq!(release(b"", "6.6.30.btf").as_deref(), Some("6.6.30"));
    }

    #[test]
    fn names() {
        for (name, release) in [
            ("vmlinux-6.1.0-21-amd64", Some("6.1.0-21-amd64")),
            ("5.4.0-1024-aws.btf", Some("5.4.0-1024-aws")),
            ("vmlinux-6.6.30.btf", Some("6.6.30")),
            ("vmlinux", None),
            ("vmlinux.btf", None),
            ("6", None),
            ("6.1 copy", None),
        ] {
            assert_eq!(in_name(name).as_deref(), release, "{name}");
        }
    }
}
