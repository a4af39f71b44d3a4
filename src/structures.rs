//! The kernel's structures, as `route` reads them: their offsets by the kernel's own BTF, or by that of a kernel that was
//! given at build time (`SET_RTO_BTF`).

use crate::error::{Error, Result};
use crate::host;
use crate::offsets::{self, Offsets};
use crate::rules::{KERNELS, Kernel, MEMBERS};
use libbpf_rs::btf::Btf;
use nix::errno::Errno;
use std::fmt;
use std::fs;
use std::io::ErrorKind;

/// Where the kernel shows its own BTF.
const OWN: &str = "/sys/kernel/btf/vmlinux";

/// Whose structures they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// The running kernel's, by its own BTF.
    Kernel,
    /// Of one that was given at build time.
    Embedded(&'static Kernel),
}

/// Offsets that may be those of the running kernel.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) source: Source,
    /// Or why there are none.
    pub(crate) offsets: std::result::Result<Offsets, String>,
}

/// What to try, the likeliest first: by the kernel's own BTF, those of its release, then the others. That the release is the
/// same proves nothing (another configuration, another layout): whoever takes an embedded one tries it out.
///
/// # Errors
/// The kernel's own BTF can't be read for a reason that is not the kernel's: memory, descriptors, privileges.
pub(crate) fn candidates() -> Result<Vec<Candidate>> {
    let release = host::release();
    let (same, others): (Vec<_>, Vec<_>) =
        KERNELS.iter().partition(|kernel| kernel.releases.contains(&release.as_str()));
    let embedded = same.into_iter().chain(others).map(|kernel| Candidate {
        source: Source::Embedded(kernel),
        offsets: Ok(Offsets { pointer: kernel.pointer, at: kernel.offsets.to_vec() }),
    });
    let own = own()?.map(|offsets| Candidate { source: Source::Kernel, offsets });
    Ok(own.into_iter().chain(embedded).collect())
}

/// By the kernel's own BTF; None where it shows none.
fn own() -> Result<Option<std::result::Result<Offsets, String>>> {
    const WHAT: &str = "read the kernel's BTF, /sys/kernel/btf/vmlinux";
    match fs::metadata(OWN) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io(WHAT, &error, "run it as root")),
        Ok(_) => {}
    }
    let btf = match Btf::from_path(OWN) {
        Ok(btf) => btf,
        Err(error) => {
            let failed = Error::bpf(WHAT, &error, "is memory short? try again");
            // What libbpf can't make sense of: a kind of type that is newer than it.
            return match failed.errno() {
                Some(Errno::EINVAL | Errno::EPROTO) => {
                    Ok(Some(Err("it can't be understood".into())))
                }
                _ => Err(failed),
            };
        }
    };
    Ok(Some(offsets::resolve(&btf, MEMBERS)))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel BTF"),
            Self::Embedded(Kernel { releases: [], .. }) => {
                f.write_str("embedded BTF of a kernel without a name")
            }
            Self::Embedded(kernel) => write!(f, "embedded BTF of {}", kernel.releases.join(", ")),
        }
    }
}
