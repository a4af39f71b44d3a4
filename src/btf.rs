//! The BTF by which the program finds its way in the kernel's structures: the kernel's own, or that of a kernel
//! that was given at build time (`SET_RTO_BTF`), of which only what the program reads is embedded.

use crate::error::{Error, Result};
use crate::host;
use libbpf_rs::ObjectBuilder;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;

/// What was embedded: the releases of the kernels that it is of, with spaces between, and raw BTF.
const EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/btf.rs"));

/// BTF that may be of the running kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Btf {
    /// The kernel's own (`/sys/kernel/btf/vmlinux`).
    Kernel,
    /// By its place among those that are embedded.
    Embedded(usize),
    /// No type of the kernel's: for a program that reads none of its structures.
    Empty,
}

/// BTF with a single type, `int`: a header of 24 bytes, an integer type, strings (Documentation/bpf/btf.rst).
const EMPTY: [u32; 12] = {
    let magic = if cfg!(target_endian = "little") { 0x0001_eb9f } else { 0xeb9f_0100 };
    let strings = u32::from_ne_bytes(*b"\0int");
    [magic, 24, 0, 16, 16, 8, 1, 1 << 24, 4, 0x0100_0020, strings, 0]
};

/// What to try, the likeliest first: the kernel's own, those of its release, then the others. That the release is
/// the same proves nothing (another configuration, another layout): whoever takes an embedded one tries it out.
pub(crate) fn candidates() -> impl Iterator<Item = Btf> {
    let release = host::release();
    let is_of = move |place: &usize| EMBEDDED[*place].0.split(' ').any(|it| it == release);
    let (same, others): (Vec<_>, Vec<_>) = (0..EMBEDDED.len()).partition(is_of);
    let embedded = same.into_iter().chain(others).map(Btf::Embedded);
    host::has_btf().then_some(Btf::Kernel).into_iter().chain(embedded)
}

impl Btf {
    /// Has libbpf take it for the object that is opened next. What is returned must live until that is loaded.
    ///
    /// # Errors
    /// The kernel gives no memory to hand it over in.
    pub(crate) fn give_to(self, builder: &mut ObjectBuilder) -> Result<Option<File>> {
        let empty: Vec<u8>;
        let bytes = match self {
            Self::Kernel => return Ok(None),
            Self::Embedded(place) => EMBEDDED[place].1,
            Self::Empty => {
                empty = EMPTY.iter().flat_map(|word| word.to_ne_bytes()).collect();
                &empty
            }
        };
        let failed = |errno| {
            Error::call(
                "hand BTF to libbpf",
                errno,
                "it needs memfd_create() (CONFIG_TMPFS) and /proc",
            )
        };
        // libbpf wants the name of a file.
        let memory = memfd_create(c"btf", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
        let mut file = File::from(memory);
        file.write_all(bytes)
            .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or_default())))?;
        builder
            .btf_custom_path(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .map_err(|error| Error::bpf("hand BTF to libbpf", &error, "report it"))?;
        Ok(Some(file))
    }
}

impl fmt::Display for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel BTF"),
            Self::Empty => f.write_str("no BTF"),
            Self::Embedded(place) => match EMBEDDED[*place].0 {
                "" => f.write_str("embedded BTF of a kernel without a name"),
                releases => write!(f, "embedded BTF of {}", releases.replace(' ', ", ")),
            },
        }
    }
}
