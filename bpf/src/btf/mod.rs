//! Type information for kernels that carry none: of a kernel's BTF (Documentation/bpf/btf.rst of Linux) just the
//! types that the CO-RE relocations of a compiled program ask for, as `bpftool gen min_core_btf` makes. Bytes in,
//! bytes out; the result is in the byte order of the kernel.
//!
//! | file | what |
//! |---|---|
//! | [`types`] | BTF as types, read and written |
//! | [`relocations`] | what a program asks for |
//! | [`fit`] | where a kernel has it: the rules of libbpf's `relo_core.c` |
//! | [`minimal`](mod@minimal) | just that of a kernel's types |
//! | [`release`] | which kernel a file is of |

pub mod fit;
pub mod minimal;
pub mod release;
pub mod relocations;
pub mod types;

use object::{Object, ObjectSection};
use std::fmt;
use types::Btf;

/// What is wrong with a file that BTF was expected of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Neither ELF nor BTF.
    Foreign,
    /// An ELF file without a section `.BTF`.
    Without,
    /// BTF on top of another one, as kernel modules have.
    Module,
    /// Truncated or contradictory: what exactly.
    Broken(String),
    /// Of a kernel with the other byte order than the program's; true for a big-endian kernel.
    ByteOrder(bool),
    /// What the program reads and this kernel has not: `struct sock.sk_dst_cache`.
    Lacks(Vec<String>),
}

impl Error {
    pub(crate) fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Foreign => {
                "give the kernel's `vmlinux` (not vmlinuz, bzImage or zImage), or raw BTF as in /sys/kernel/btf/vmlinux"
            }
            Self::Without => {
                "`pahole --btf_encode_detached FILE vmlinux` makes BTF from a vmlinux with DWARF; or build the kernel with CONFIG_DEBUG_INFO_BTF"
            }
            Self::Module => "give the BTF of the kernel itself: its `vmlinux`",
            Self::Broken(_) => "make the file again, or copy it again",
            Self::ByteOrder(_) => "give the BTF of the kernel that the binary is built for",
            Self::Lacks(_) => {
                "is it the BTF of a Linux kernel, with CONFIG_NET and CONFIG_INET, 5.10 or newer?"
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("neither an ELF file nor BTF"),
            Self::Without => f.write_str("an ELF file without BTF (no section `.BTF`)"),
            Self::Module => f.write_str("the BTF of a module, which is incomplete by itself"),
            Self::Broken(what) => write!(f, "broken BTF: {what}"),
            Self::ByteOrder(big) => {
                let (has, is) = if *big { ("big", "little") } else { ("little", "big") };
                write!(f, "BTF of a {has}-endian kernel, where the target is {is}-endian")
            }
            Self::Lacks(what) => {
                // Where it is no kernel's, everything is lacking.
                let shown = &what[..what.len().min(3)];
                let rest = match what.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                write!(f, "it has no {}{rest}", shown.join(", no "))
            }
        }
    }
}

/// The BTF of a kernel: an ELF file with a section `.BTF`, or raw.
///
/// # Errors
/// It is not that, or broken.
pub fn read_kernel(file: &[u8]) -> Result<Btf, Error> {
    if Btf::is_raw(file) {
        return Btf::read(file);
    }
    Btf::read(&section(file, ".BTF")?.ok_or(Error::Without)?)
}

/// The bytes of a section of an ELF file, if it has one of that name.
fn section(file: &[u8], name: &str) -> Result<Option<Vec<u8>>, Error> {
    if !file.starts_with(b"\x7fELF") {
        return Err(Error::Foreign);
    }
    let elf = object::File::parse(file)
        .map_err(|error| Error::broken(format!("not a whole ELF file: {error}")))?;
    let Some(section) = elf.section_by_name(name) else { return Ok(None) };
    let bytes = section
        .data()
        .map_err(|error| Error::broken(format!("its section {name} is cut off: {error}")))?;
    Ok(Some(bytes.to_vec()))
}

/// Of a kernel's BTF (see [`read_kernel`]) what the program in a BPF object needs, as raw BTF; nothing where it
/// needs nothing.
///
/// # Errors
/// The file is not usable; or it lacks something that the program reads without asking whether it is there.
pub fn minimal(object: &[u8], kernel: &[u8]) -> Result<Vec<u8>, Error> {
    let kernel = read_kernel(kernel)?;
    let program = program(object)?;
    if program.relocations.is_empty() {
        return Ok(Vec::new());
    }
    if program.btf.big_endian != kernel.big_endian {
        return Err(Error::ByteOrder(kernel.big_endian));
    }
    Ok(minimal::minimal(&program, &kernel)?.write())
}

/// The types and the CO-RE relocations of a BPF object.
///
/// # Errors
/// It is none, or broken.
pub fn program(object: &[u8]) -> Result<relocations::Program, Error> {
    let btf = Btf::read(&section(object, ".BTF")?.ok_or(Error::Without)?)?;
    let extension = section(object, ".BTF.ext")?.unwrap_or_default();
    let relocations = relocations::read(&extension, &btf)?;
    Ok(relocations::Program { btf, relocations })
}
