//! The offsets of the kernel structures that `route` reads, from the kernel's own BTF or from that of a kernel given at
//! build time (`SET_RTO_BTF`).

use crate::error::{Context as _, Result, hint};
use crate::host;
use crate::offsets::{self, Offsets};
use crate::rules::{KERNELS, Kernel, MEMBERS};
use crate::way::Why;
use libbpf_rs::btf::Btf;
use nix::errno::Errno;
use std::fs;
use std::io::ErrorKind;

/// The file with the running kernel's BTF.
const OWN: &str = "/sys/kernel/btf/vmlinux";

/// Offsets that may be those of the running kernel.
pub(crate) struct Candidate {
    /// Where they come from.
    pub(crate) source: String,
    /// The reason to use them, if they fit.
    pub(crate) why: Why,
    /// The offsets, or why there are none.
    pub(crate) offsets: std::result::Result<Offsets, String>,
}

/// The candidates, the likeliest first: the kernel's own BTF, then embedded BTF of its release, then the others. An
/// equal release proves nothing, since another configuration has another layout: embedded offsets must be tried.
///
/// # Errors
/// The kernel's own BTF exists but can't be read, for lack of memory, descriptors or privileges.
pub(crate) fn candidates() -> Result<Vec<Candidate>> {
    let release = host::release()?;
    let (same, others): (Vec<_>, Vec<_>) =
        KERNELS.iter().partition(|kernel| kernel.releases.contains(&release.as_str()));
    let own = own()?.map(|offsets| {
        let source = "kernel BTF".into();
        Candidate { source, why: Why::KernelBtf, offsets }
    });
    Ok(own.into_iter().chain(same.into_iter().chain(others).map(embedded)).collect())
}

fn embedded(kernel: &Kernel) -> Candidate {
    let name = match kernel.releases {
        [] => "a kernel without a name".into(),
        releases => releases.join(", "),
    };
    let offsets = Offsets { pointer: kernel.pointer, at: kernel.offsets.to_vec() };
    let source = format!("embedded BTF of {name}");
    Candidate { source, why: Why::OwnBtf, offsets: Ok(offsets) }
}

/// The offsets from the kernel's own BTF; None if the kernel provides none.
fn own() -> Result<Option<std::result::Result<Offsets, String>>> {
    const WHAT: &str = "read the kernel's BTF, /sys/kernel/btf/vmlinux";
    match fs::metadata(OWN) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        found => found.context(WHAT, hint::ROOT)?,
    };
    // From Linux 6.16 on, libbpf maps the file. Before, the kernel gives no more than a page for each read(2).
    match Btf::from_vmlinux().context(WHAT, "is memory short? try again") {
        Ok(btf) => Ok(Some(offsets::resolve(&btf, MEMBERS))),
        // libbpf can't parse it: it may contain a newer kind of type.
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EPROTO)) => {
            Ok(Some(Err("it can't be understood".into())))
        }
        Err(error) => Err(error),
    }
}
