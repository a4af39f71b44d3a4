//! The machines that `cargo xtask dist` makes static binaries for.

use std::env::consts::ARCH;

use anyhow::{Result, bail};

/// One kind of machine.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    /// The name of its folder, and what `--target` takes.
    pub(crate) name: &'static str,
    /// Rust's name, which `--target` takes, too.
    pub(crate) triple: &'static str,
    /// Debian's name; `mips` was one until Debian 10.
    pub(crate) debian: &'static str,
    /// The boards that it is for, if Debian has one name for several targets: part of the package's file name.
    pub(crate) boards: Option<&'static str>,
    /// zig's, and the processor to compile C for.
    pub(crate) zig: Zig,
}

/// The machine, for zig.
#[derive(Debug, PartialEq)]
pub(crate) struct Zig {
    pub(crate) target: &'static str,
    pub(crate) cpu: &'static str,
}

const fn musl(
    name: &'static str,
    triple: &'static str,
    debian: &'static str,
    target: &'static str,
    cpu: &'static str,
) -> Target {
    Target { name, triple, debian, boards: None, zig: Zig { target, cpu } }
}

/// All of them. The processors are those that Rust's own targets of these names are for.
pub(crate) const TARGETS: &[Target] = &[
    musl("x86_64", "x86_64-unknown-linux-musl", "amd64", "x86_64-linux-musl", "x86_64"),
    musl("aarch64", "aarch64-unknown-linux-musl", "arm64", "aarch64-linux-musl", "generic"),
    musl("s390x", "s390x-unknown-linux-musl", "s390x", "s390x-linux-musl", "z10"),
    // Raspberry Pi OS has 32-bit packages for this processor.
    Target {
        boards: Some("pi-zero-and-1"),
        ..musl(
            "armv6",
            "arm-unknown-linux-musleabihf",
            "armhf",
            "arm-linux-musleabihf",
            "arm1176jzf_s",
        )
    },
    // Hard float with 16 registers, no NEON: what Debian's armhf asks for. (LLVM's v7a alone has NEON.)
    Target {
        boards: Some("pi-2-and-newer"),
        ..musl(
            "armv7",
            "armv7-unknown-linux-musleabihf",
            "armhf",
            "arm-linux-musleabihf",
            "generic+v7a+vfp3d16-neon-d32-vfp3",
        )
    },
    // Soft float, as OpenWrt has it on MIPS.
    musl(
        "mipsel",
        "mipsel-unknown-linux-musl",
        "mipsel",
        "mipsel-linux-musleabi",
        "mips32r2+soft_float",
    ),
    musl("mips", "mips-unknown-linux-musl", "mips", "mips-linux-musleabi", "mips32r2+soft_float"),
];

/// The targets of these names or triples; this machine's when there are none.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    let here = [if ARCH == "arm" { "armv7" } else { ARCH }.to_owned()];
    let names = if names.is_empty() { &here } else { names };
    names.iter().map(|name| find(name)).collect()
}

/// The target of this name or triple.
pub(crate) fn known(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name || target.triple == name)
}

fn find(name: &str) -> Result<&'static Target> {
    let Some(target) = known(name) else {
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!("dist: no target {name}; there are {}", known.join(", "));
    };
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_triple() {
        for target in TARGETS {
            assert_eq!(find(target.name).unwrap(), target);
            assert_eq!(find(target.triple).unwrap(), target);
        }
        let message = find("vax").unwrap_err().to_string();
        assert!(message.contains("vax") && message.contains("x86_64"), "{message}");
    }
}
