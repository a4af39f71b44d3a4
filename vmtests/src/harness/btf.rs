//! A kernel with hidden BTF, and executables with BTF built in.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use set_rto_compiler::btf::types::Btf;
use set_rto_compiler::btf::types::Kind;

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

/// Whether an executable has the BTF of the running kernel built in: it prints the release then.
pub(crate) fn is_of_this_kernel(executable: &Path) -> Result<bool> {
    let release = release()?;
    let bytes = fs::read(executable)?;
    Ok(bytes.windows(release.len()).any(|text| text == release.as_bytes()))
}

/// A field of a kernel structure by its name alone, which is only there once: some kernels have it in a struct without
/// a name, others not.
pub(crate) type Field = String;

/// A copy of an executable in which kernels' structures can be changed.
pub(crate) struct Copy {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
    /// Each BTF of a kernel in it, and where it is.
    carried: Vec<(usize, Btf)>,
}

impl Copy {
    pub(crate) fn of(executable: &Path) -> Result<Self> {
        let bytes = fs::read(executable)?;
        let path = std::env::temp_dir().join(format!("set-rto-btf-{}", std::process::id()));
        fs::copy(executable, &path).context("cannot copy the executable")?;
        let start: &[u8] = match cfg!(target_endian = "little") {
            true => b"\x9f\xeb\x01\0\x18\0\0\0",
            false => b"\xeb\x9f\x01\0\0\0\0\x18",
        };
        let places = bytes.windows(start.len()).enumerate().filter(|(_, it)| *it == start);
        let carried: Vec<_> = places
            .filter_map(|(at, _)| Some((at, Btf::read(&bytes[at..]).ok()?)))
            .filter(|(_, btf)| is_kernel(btf))
            .collect();
        Ok(Copy { path, bytes, carried })
    }

    /// All fields that it has of kernels' structures.
    pub(crate) fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        for (_, btf) in &self.carried {
            for (_, it) in btf.types() {
                let Kind::Composite { members, .. } = &it.kind else { continue };
                let names = members.iter().map(|member| btf.text(member.name));
                fields.extend(names.filter(|name| !name.is_empty()));
            }
        }
        fields.sort();
        fields.dedup();
        fields
    }

    /// Writes the copy anew with a field called otherwise in every kernel that it knows: none has one of that name.
    pub(crate) fn hide_field(&self, name: &str) -> Result<()> {
        let mut bytes = self.bytes.clone();
        for (at, btf) in &self.carried {
            let length = btf.clone().write().len();
            let text = &mut bytes[*at..*at + length];
            let place = text.windows(name.len()).position(|it| it == name.as_bytes());
            text[place.with_context(|| format!("no field {name}"))?] = b'!';
        }
        fs::write(&self.path, bytes).context("cannot write the executable")
    }

    /// Writes the copy anew with one field moved by some bytes in every kernel that it knows.
    pub(crate) fn move_field(&self, field: &Field, by: i32) -> Result<()> {
        let mut bytes = self.bytes.clone();
        for (at, btf) in &self.carried {
            let names = btf.clone();
            let mut btf = btf.clone();
            let length = btf.write().len();
            for (_, it) in btf.types_mut() {
                let Kind::Composite { members, .. } = &mut it.kind else { continue };
                for member in members {
                    if names.text(member.name) == *field {
                        member.offset = member.offset.wrapping_add_signed(by * 8);
                    }
                }
            }
            let changed = btf.write();
            ensure!(changed.len() == length, "moving a field changes the length of BTF");
            bytes[*at..*at + length].copy_from_slice(&changed);
        }
        fs::write(&self.path, bytes).context("cannot write the executable")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The program itself has BTF, too, with functions in it; what is taken out of a kernel's has none.
fn is_kernel(btf: &Btf) -> bool {
    let mut types = btf.types().skip(1);
    btf.types().any(|(_, it)| btf.name(it.name) == b"bpf_sock_ops_kern")
        && types.all(|(_, it)| !matches!(it.kind, Kind::Other(_)))
}
