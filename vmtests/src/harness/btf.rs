//! A kernel whose BTF is hidden, and executables that carry the offsets of some.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use set_rto_compiler::structures::MEMBERS;

use super::mounts;
use super::sandbox;

/// Where the kernel shows its own.
const DIRECTORY: &str = "/sys/kernel/btf";

/// The executable of the rules on interfaces that carries the BTF of kernels.
pub(crate) const CARRIER: &str = "interfaces-btf";

/// From now on, nothing in this test sees the kernel's own BTF.
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

/// Whether the kernel shows its own.
pub(crate) fn is_shown() -> bool {
    Path::new(DIRECTORY).join("vmlinux").exists()
}

/// The file [`CARRIER`].
pub(crate) fn carrier() -> Result<PathBuf> {
    Ok(sandbox::bin_dir()?.join(CARRIER))
}

/// Whether an executable carries the BTF of the kernel that runs here: it tells the release then.
pub(crate) fn is_of_this_kernel(executable: &Path) -> Result<bool> {
    let release = release()?;
    let bytes = fs::read(executable)?;
    Ok(bytes.windows(release.len()).any(|text| text == release.as_bytes()))
}

/// A copy of an executable in which the offsets of kernels can be changed.
pub(crate) struct Copy {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
    /// Where those of each kernel are.
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

    /// Writes the copy anew with one member moved by some bytes in every kernel that it knows.
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

/// Offsets as every kernel from 5.10 to 7.3 has them: some are the same everywhere, and none of the others is 0.
fn is_kernel(bytes: &[u8]) -> bool {
    MEMBERS.iter().zip(bytes.chunks_exact(4).map(number)).all(|((name, _), offset)| match *name {
        "ops_sk" | "dst_dev" | "node_next" => offset == 0,
        "sk_bound_dev_if" => offset == 20,
        "dev_name" | "net_inum" => offset % 4 == 0 && offset < 16_384,
        _ => offset > 0 && offset % 4 == 0 && offset < 16_384,
    })
}
