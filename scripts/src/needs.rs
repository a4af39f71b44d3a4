//! What the build and the tests need from the distribution, and the packages that contain it.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::managers::Manager;

/// How a need is checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Probe {
    /// A program on the search path.
    Program(&'static str),
    /// clang, or the compiler that the environment variable CLANG names.
    Clang,
    /// A library that the C compiler finds for a static link.
    StaticLibrary(&'static str),
    /// A C header.
    Header(&'static str),
    /// A command of cargo (a component of the toolchain).
    Cargo(&'static str),
}

/// One need and, in the order of [`Manager::ALL`], the packages that contain it. An empty name means that the
/// distribution needs no package. `a|b` means the first one that the distribution has.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) probe: Probe,
    packages: [&'static [&'static str]; 4],
}

const fn program(name: &'static str, packages: [&'static [&'static str]; 4]) -> Need {
    Need { probe: Probe::Program(name), packages }
}

/// What the build needs: clang for the BPF program, the rest for libbpf and libelf, which are built from source.
pub(crate) const BUILD: &[Need] = &[
    Need { probe: Probe::Clang, packages: [&["clang"], &["clang"], &["clang"], &["clang"]] },
    program("cc", [&["gcc"], &["gcc"], &["gcc"], &["gcc"]]),
    Need {
        probe: Probe::StaticLibrary("libc.a"),
        packages: [&["libc6-dev"], &["glibc-static"], &["glibc"], &["musl-dev"]],
    },
    program("make", [&["make"]; 4]),
    Need { probe: Probe::Header("linux/bpf.h"), packages: [&[], &[], &[], &["linux-headers"]] },
];

/// What the checks of the source need in addition to [`BUILD`].
pub(crate) const LINT: &[Need] = &[
    Need {
        probe: Probe::Cargo("fmt"),
        packages: [&["rustfmt"], &["rustfmt"], &["rust"], &["rustfmt"]],
    },
    Need {
        probe: Probe::Cargo("clippy"),
        packages: [&["rust-clippy"], &["clippy"], &["rust"], &["rust-clippy"]],
    },
];

/// What the tests of manual pages, completions and packages need in addition to [`BUILD`].
pub(crate) const PACKAGING: &[Need] = &[
    program("dpkg-deb", [&["dpkg"]; 4]),
    program("gzip", [&["gzip"]; 4]),
    program("mandoc", [&["mandoc"]; 4]),
    program("bash", [&["bash"]; 4]),
    program("fish", [&["fish"]; 4]),
    program("zsh", [&["zsh"]; 4]),
];

/// The libraries that a build with the feature `system` links, for its test.
pub(crate) const SYSTEM: &[Need] = &[
    Need {
        probe: Probe::Header("bpf/bpf.h"),
        packages: [&["libbpf-dev"], &["libbpf-devel"], &["libbpf"], &["libbpf-dev"]],
    },
    Need {
        probe: Probe::Header("libelf.h"),
        packages: [&["libelf-dev"], &["elfutils-libelf-devel"], &["libelf"], &["elfutils-dev"]],
    },
    Need {
        probe: Probe::Header("zlib.h"),
        packages: [&["zlib1g-dev"], &["zlib-devel"], &["zlib"], &["zlib-dev"]],
    },
];

/// What the kernel matrix needs in addition to [`LIVE`] to boot Debian's kernels and to build some from Debian's
/// sources.
pub(crate) const MATRIX: &[Need] = &[
    program(
        "qemu-system-x86_64",
        [
            &["qemu-system-x86"],
            &["qemu-system-x86-core"],
            &["qemu-system-x86"],
            &["qemu-system-x86_64"],
        ],
    ),
    program(
        "qemu-ga",
        [
            &["qemu-guest-agent"],
            &["qemu-guest-agent"],
            &["qemu-guest-agent"],
            &["qemu-guest-agent"],
        ],
    ),
    program("busybox", [&["busybox-static"], &["busybox"], &["busybox"], &["busybox-static"]]),
    program("cpio", [&["cpio"]; 4]),
    program("depmod", [&["kmod"]; 4]),
    program("xz", [&["xz-utils"], &["xz"], &["xz"], &["xz"]]),
    program("zstd", [&["zstd"]; 4]),
    program("bc", [&["bc"]; 4]),
    // Before Debian 12, another package contained it.
    program("pahole", [&["pahole|dwarves"], &["dwarves"], &["pahole"], &["pahole"]]),
    program("dpkg-deb", [&["dpkg"], &["dpkg"], &["dpkg"], &["dpkg"]]),
    Need {
        probe: Probe::Header("openssl/opensslv.h"),
        packages: [&["libssl-dev"], &["openssl-devel"], &["openssl"], &["openssl-dev"]],
    },
    Need {
        probe: Probe::Header("gelf.h"),
        packages: [&["libelf-dev"], &["elfutils-libelf-devel"], &["libelf"], &["elfutils-dev"]],
    },
];

/// What booting images needs in addition to [`MATRIX`].
pub(crate) const IMAGE: &[Need] =
    &[program("mmdebstrap", [&["mmdebstrap"]; 4]), program("lintian", [&["lintian"]; 4])];

/// What booting machines of other architectures needs in addition to [`MATRIX`].
pub(crate) const BOARDS: &[Need] = &[
    program(
        "qemu-system-aarch64",
        [
            &["qemu-system-arm"],
            &["qemu-system-aarch64-core"],
            &["qemu-system-aarch64"],
            &["qemu-system-aarch64"],
        ],
    ),
    program(
        "qemu-system-arm",
        [
            &["qemu-system-arm"],
            &["qemu-system-arm-core"],
            &["qemu-system-arm"],
            &["qemu-system-arm"],
        ],
    ),
    program(
        "qemu-system-mipsel",
        [
            &["qemu-system-mips"],
            &["qemu-system-mips-core"],
            &["qemu-system-mips"],
            &["qemu-system-mipsel"],
        ],
    ),
    program(
        "qemu-system-s390x",
        [
            &["qemu-system-misc"],
            &["qemu-system-s390x-core"],
            &["qemu-system-s390x"],
            &["qemu-system-s390x"],
        ],
    ),
];

/// What the board `mips` needs in addition to [`BOARDS`]: its kernel and its busybox are built here.
pub(crate) const MIPS: &[Need] = &[
    program("mips-linux-gnu-gcc", [&["gcc-mips-linux-gnu"], &[], &[], &[]]),
    program("bzip2", [&["bzip2"]; 4]),
];

/// What builds for musl and for other machines need in addition to [`BUILD`].
pub(crate) const CROSS: &[Need] =
    &[program("pip3", [&["python3-pip"], &["python3-pip"], &["python-pip"], &["py3-pip"]])];

/// What the live suite needs in addition to [`BUILD`].
pub(crate) const LIVE: &[Need] = &[
    program("ip", [&["iproute2"], &["iproute"], &["iproute2"], &["iproute2"]]),
    // Ubuntu has no package of that name before 24.10, and Arch uses another name.
    program(
        "bpftool",
        [&["bpftool|linux-tools-generic"], &["bpftool"], &["bpf|bpftool"], &["bpftool"]],
    ),
];

impl Need {
    /// The name for messages.
    pub(crate) fn name(&self) -> String {
        match self.probe {
            Probe::Program(name) => name.to_owned(),
            Probe::Clang => "clang".to_owned(),
            Probe::StaticLibrary(name) => format!("static {name}"),
            Probe::Header(name) => format!("<{name}>"),
            Probe::Cargo(name) => format!("cargo {name}"),
        }
    }

    fn applies(&self, manager: Option<Manager>) -> bool {
        match manager {
            Some(manager) => !self.packages[manager as usize].is_empty(),
            None => !matches!(self.probe, Probe::Header(_)),
        }
    }
}

/// The unmet needs. `met` checks the machine.
pub(crate) fn missing<'a>(
    needs: impl IntoIterator<Item = &'a Need>,
    manager: Option<Manager>,
    met: impl Fn(&Probe) -> bool,
) -> Vec<&'a Need> {
    needs.into_iter().filter(|need| need.applies(manager) && !met(&need.probe)).collect()
}

/// The packages for these needs, each once, in order. `has` checks whether the distribution has a package. It is
/// called only for alternatives.
pub(crate) fn packages(
    needs: &[&Need],
    manager: Manager,
    has: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for entry in needs.iter().flat_map(|need| need.packages[manager as usize]) {
        let (first, rest) = entry.split_once('|').unwrap_or((entry, ""));
        let others = rest.split('|').filter(|name| !name.is_empty());
        // If the distribution has none of them, the error should name the first.
        let name = if rest.is_empty() || has(first) {
            first
        } else {
            others.into_iter().find(|name| has(name)).unwrap_or(first)
        };
        if !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    }
    found
}

/// The machine as the checks see it.
pub(crate) struct Host {
    search: Vec<PathBuf>,
    clang: Option<String>,
}

impl Host {
    /// This machine. The system directories are searched as well, because they contain root's tools and a user's PATH
    /// often omits them.
    pub(crate) fn here() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let search = env::split_paths(&path).chain(system).collect();
        Self { search, clang: env::var("CLANG").ok().filter(|name| !name.is_empty()) }
    }

    /// The executable file of that name that a shell would find.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| is_executable(path));
        }
        self.search.iter().map(|dir| dir.join(name)).find(|path| is_executable(path))
    }

    /// The first package manager on this machine.
    pub(crate) fn manager(&self) -> Option<Manager> {
        Manager::ALL.into_iter().find(|manager| self.find(manager.program()).is_some())
    }

    /// Whether a need is met.
    pub(crate) fn meets(&self, probe: &Probe) -> bool {
        match probe {
            Probe::Program(name) => self.find(name).is_some(),
            Probe::Clang => self.find(self.clang.as_deref().unwrap_or("clang")).is_some(),
            Probe::StaticLibrary(name) => {
                let Some(cc) = self.find("cc") else { return false };
                // The compiler prints the bare name if it does not find the file.
                let answer = Command::new(cc).arg(format!("-print-file-name={name}")).output();
                answer.is_ok_and(|answer| {
                    Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute()
                })
            }
            Probe::Header(name) => Path::new("/usr/include").join(name).exists(),
            // rustup puts a proxy on the path even for a component that is not installed.
            Probe::Cargo(name) => Command::new(cargo())
                .args([name, "--version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned()).into()
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[path = "needs_tests.rs"]
mod tests;
