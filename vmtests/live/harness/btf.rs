//! Hides the kernel's BTF, and handles executables with built-in offsets of some kernels.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use set_rto_compiler::structures::MEMBERS;

use super::mounts;
use super::sandbox;

/// The directory of the kernel's own BTF.
const DIRECTORY: &str = "/sys/kernel/btf";

/// The executable of the `interface` rules with built-in BTF of kernels.
pub(crate) const CARRIER: &str = "interfaces-btf";

/// Hides the kernel's own BTF for the rest of this test.
pub(crate) fn hide() -> Result<()> {
    let directory = Path::new(DIRECTORY);
    if directory.exists() {
        mounts::mount_fresh("tmpfs", directory)?;
        ensure!(!is_shown(), "the BTF is still to be seen");
    }
    Ok(())
}

/// The kernel's release.
pub(crate) fn release() -> Result<String> {
    Ok(nix::sys::utsname::uname()?.release().to_string_lossy().into_owned())
}

/// True if the kernel provides its own BTF.
pub(crate) fn is_shown() -> bool {
    Path::new(DIRECTORY).join("vmlinux").exists()
}

/// The file [`CARRIER`].
pub(crate) fn carrier() -> Result<PathBuf> {
    Ok(sandbox::bin_dir()?.join(CARRIER))
}

/// Whether an executable has the BTF of the running kernel built in: it then prints the release.
pub(crate) fn is_of_this_kernel(executable: &Path) -> Result<bool> {
    let release = release()?;
    let bytes = fs::read(executable)?;
    Ok(bytes.windows(release.len()).any(|text| text == release.as_bytes()))
}

/// A copy of an executable in which the offsets of kernels can be changed.
pub(crate) struct Copy {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
    /// The positions of the offsets of each kernel.
    carried: Vec<usize>,
}

impl Copy {
    pub(crate) fn of(executable: &Path) -> Result<Self> {
        let bytes = fs::read(executable)?;
        let path = std::env::temp_dir().join(format!("set-rto-btf-{}", std::process::id()));
        fs::copy(executable, &path).context("cannot copy the executable")?;
        let places = bytes.windows(MEMBERS.len() * 4).enumerate().step_by(4);
        let carried: Vec<_> = places.filter(|(_, it)| is_kernel(it)).map(|(at, _)| at).collect();
        ensure!(!carried.is_empty(), "no offsets in {}", executable.display());
        Ok(Copy { path, bytes, carried })
    }

    /// Writes the copy again, with one member moved by some bytes for every kernel in it.
    pub(crate) fn move_member(&self, name: &str, by: u32) -> Result<()> {
        let member = MEMBERS.iter().position(|(it, _)| *it == name);
        let member = member.with_context(|| format!("no member {name}"))?;
        let mut bytes = self.bytes.clone();
        for at in &self.carried {
            let place = &mut bytes[at + member * 4..][..4];
            let moved = number(place) + by;
            place.copy_from_slice(&moved.to_ne_bytes());
        }
        fs::write(&self.path, bytes).context("cannot write the executable")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default()
}

/// True for the offsets of a kernel from 5.10 to 7.3: some are the same in all of them, and none of the others is 0.
fn is_kernel(bytes: &[u8]) -> bool {
    MEMBERS.iter().zip(bytes.chunks_exact(4).map(number)).all(|((name, _), offset)| match *name {
        "ops_sk" | "dst_dev" | "node_next" => offset == 0,
        "sk_bound_dev_if" => offset == 20,
        "dev_name" | "net_inum" => offset % 4 == 0 && offset < 16_384,
        _ => offset > 0 && offset % 4 == 0 && offset < 16_384,
    })
}
