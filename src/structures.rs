//! The offsets of the kernel structures that `route` reads, from the kernel's own BTF or from that of a kernel given at
//! build time (`SET_RTO_BTF`).

use crate::error::{Error, Result};
use crate::host;
use crate::offsets::{self, Offsets};
use crate::rules::{KERNELS, Kernel, MEMBERS};
use libbpf_rs::btf::Btf;
use nix::errno::Errno;
use std::fmt;
use std::fs;
use std::io::ErrorKind;

/// The file with the running kernel's BTF.
const OWN: &str = "/sys/kernel/btf/vmlinux";

/// Where offsets come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// The running kernel's own BTF.
    Kernel,
    /// The BTF of a kernel that was given at build time.
    Embedded(&'static Kernel),
}

/// Offsets that may be those of the running kernel.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) source: Source,
    /// The offsets, or why there are none.
    pub(crate) offsets: std::result::Result<Offsets, String>,
}

/// The candidates, the likeliest first: the kernel's own BTF, then embedded BTF of its release, then the others. An
/// equal release proves nothing, since another configuration has another layout: embedded offsets must be tried.
///
/// # Errors
/// The kernel's own BTF exists but can't be read, for lack of memory, descriptors or privileges.
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

/// The offsets from the kernel's own BTF; None if the kernel provides none.
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
            // libbpf can't parse it: it may contain a newer kind of type.
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
