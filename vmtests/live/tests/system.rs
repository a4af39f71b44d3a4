//! The loader linked against the system's libbpf, libelf and zlib, as in distribution packages. That libbpf is
//! usually older than the bundled one. `cargo xtask image debian` runs it with the libbpf of Debian 13.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;

use super::interfaces;
use crate::harness::Skip;
use crate::harness::note;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    system_libbpf: 60,
}

/// The executable of the interface rules that is linked this way.
const LINKED: &str = "interfaces-system";

/// The oldest supported libbpf.
const ENOUGH: (u32, u32) = (1, 5);

/// The libbpf file that the dynamic loader finds.
fn library(executable: &Path) -> Result<PathBuf> {
    let output = Command::new("ldd").arg(executable).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = text.split_once("libbpf.so.1 => ").and_then(|(_, rest)| rest.split(' ').next());
    Ok(fs::canonicalize(path.with_context(|| format!("no libbpf.so.1 in: {text}"))?)?)
}

/// Returns 1 and 5 for `libbpf.so.1.5.0`.
fn version(file: &Path) -> Option<(u32, u32)> {
    let mut numbers = file.to_str()?.rsplit_once(".so.")?.1.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn system_libbpf() -> Result<()> {
    let executable = sandbox::bin_dir()?.join(LINKED);
    if !executable.exists() {
        bail!(Skip::new("libbpf, libelf and zlib are not installed with their headers"));
    }
    let file = library(&executable)?;
    let version = version(&file).with_context(|| format!("no version in {}", file.display()))?;
    note(format_args!("with {}", file.display()));
    if version >= ENOUGH {
        return interfaces::run_with(LINKED, "interface_hot_plugged");
    }
    let set_rto = SetRto::at(executable);
    let refused = set_rto.run(&["install"])?;
    refused.refuses(2, &["the system's libbpf is 1.", "needs 1.5", "hint: the static"])?;
    let checked = set_rto.run(&["check"])?;
    ensure!(checked.code == Some(2) && checked.stdout.contains("needs 1.5"), "{checked}");
    ensure!(!set_rto.status()?.installed()?, "something is installed");
    Ok(())
}
