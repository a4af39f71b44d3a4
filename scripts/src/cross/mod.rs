//! What a build for musl or another machine needs besides this machine's own tools: zig as C compiler and linker, and
//! the sources of Rust's standard library. Both are kept in `~/.cache/set-rto`. The repository is not written to.

mod std_source;
mod zig;

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use xshell::Shell;

use crate::needs::{CROSS, Need};
use crate::setup;
use crate::targets::Zig;

pub(crate) use self::zig::{SYMBOLS, musl};

/// For C: no unwind tables, since nothing unwinds through C here, and sections of their own for the linker to drop.
const CFLAGS: &str =
    "-fno-asynchronous-unwind-tables -fno-unwind-tables -ffunction-sections -fdata-sections -flto";

/// For rustc, the standard library included.
const FLAGS: &[&str] = &[
    // zig brings its own start files and C library.
    "-C",
    "link-self-contained=no",
    // A panic ends the process with SIGILL and no message: formatting messages takes a tenth of the binary, and only
    // a bug can panic. `cargo xtask build` without a target keeps them.
    "-Z",
    "unstable-options",
    "-C",
    "panic=immediate-abort",
    "-C",
    "force-unwind-tables=no",
];

/// Arguments and environment for cargo.
#[derive(Default)]
pub(crate) struct Cross {
    pub(crate) arguments: &'static [&'static str],
    /// Added to the flags for rustc.
    pub(crate) flags: &'static [&'static str],
    pub(crate) environment: Vec<(String, OsString)>,
}

/// Fetches everything for a target that the cache does not have. `target_dir` is what cargo builds into.
///
/// # Errors
/// What could not be fetched, and from where.
pub(crate) fn prepare(sh: &Shell, triple: &str, zig: &Zig, target_dir: &Path) -> Result<Cross> {
    setup::ensure(sh, &CROSS.iter().collect::<Vec<&Need>>())?;
    let tools = zig::tools(sh, triple, zig)?;
    let mut environment: Vec<(String, OsString)> = vec![
        // build-std is unstable, but stable releases have it too.
        ("RUSTC_BOOTSTRAP".into(), "1".into()),
        ("CARGO_TARGET_DIR".into(), target_dir.into()),
        ("AR".into(), tools.ar.into()),
        ("RANLIB".into(), tools.ranlib.into()),
        (format!("CFLAGS_{}", triple.replace('-', "_")), CFLAGS.into()),
        (format!("CC_{}", triple.replace('-', "_")), tools.cc.clone().into()),
        (linker_variable(triple), tools.cc.into()),
    ];
    if let Some(rustc) = std_source::rustc(sh)? {
        environment.push(("RUSTC".into(), rustc.into()));
    }
    Ok(Cross {
        arguments: &[
            "-Z",
            "build-std=std,panic_abort",
            "-Z",
            "build-std-features=optimize_for_size",
        ],
        flags: FLAGS,
        environment,
    })
}

/// How cargo spells the variable for a target's linker.
fn linker_variable(triple: &str) -> String {
    format!("CARGO_TARGET_{}_LINKER", triple.replace('-', "_").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_knows_the_variable() {
        let name = linker_variable("armv7-unknown-linux-musleabihf");
        assert_eq!(name, "CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_LINKER");
    }
}
