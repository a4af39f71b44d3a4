//! The BTF by which the program finds its way in the kernel's structures: the kernel's own, or that of a kernel
//! that was given at build time (`SET_RTO_BTF`), of which only what the program reads is embedded.

use crate::error::{Error, Result};
use crate::host;
use crate::rules::KERNELS;
use libbpf_rs::libbpf_sys::bpf_object_open_opts;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::{fmt, ptr};

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
    let is_of = move |place: &usize| KERNELS[*place].releases.contains(&release.as_str());
    let (same, others): (Vec<_>, Vec<_>) = (0..KERNELS.len()).partition(is_of);
    let embedded = same.into_iter().chain(others).map(Btf::Embedded);
    host::has_btf().then_some(Btf::Kernel).into_iter().chain(embedded)
}

impl Btf {
    /// Puts it where libbpf can read it.
    ///
    /// # Errors
    /// The kernel gives no memory to hand it over in.
    pub(crate) fn hand_over(self) -> Result<Handed> {
        let empty: Vec<u8>;
        let bytes = match self {
            Self::Kernel => return Ok(Handed::default()),
            Self::Embedded(place) => KERNELS[place].btf,
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
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        Ok(Handed { file: Some((file, path)) })
    }
}

/// BTF that libbpf can read while this lives; none: the kernel's own.
#[derive(Default)]
pub(crate) struct Handed {
    file: Option<(File, CString)>,
}

/// The beginning of `struct bpf_object_open_opts` (libbpf 1.7, src/libbpf.h), laid out as on this machine. In libbpf-sys,
/// whose bindings were made on a 64-bit machine, the padding is written out, which is wrong where pointers have 4 bytes.
#[repr(C)]
struct OpenOptions {
    bytes: usize,
    object_name: *const c_char,
    relaxed_maps: bool,
    pin_root_path: *const c_char,
    unnamed: u32,
    kconfig: *const c_char,
    btf_custom_path: *const c_char,
}

impl Handed {
    /// For libbpf's opening of an object.
    pub(crate) fn options(&self) -> bpf_object_open_opts {
        const { assert!(size_of::<OpenOptions>() <= size_of::<bpf_object_open_opts>()) };
        let own = OpenOptions {
            bytes: size_of::<OpenOptions>(),
            object_name: ptr::null(),
            relaxed_maps: false,
            pin_root_path: ptr::null(),
            unnamed: 0,
            kconfig: ptr::null(),
            btf_custom_path: self.file.as_ref().map_or(ptr::null(), |(_, path)| path.as_ptr()),
        };
        let mut options = bpf_object_open_opts::default();
        // SAFETY: plain numbers and pointers, there is room for them, and both begin with one of a pointer's size.
        unsafe { (&raw mut options).cast::<OpenOptions>().write(own) };
        options
    }
}

impl fmt::Display for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel BTF"),
            Self::Empty => f.write_str("no BTF"),
            Self::Embedded(place) => match KERNELS[*place].releases {
                [] => f.write_str("embedded BTF of a kernel without a name"),
                releases => write!(f, "embedded BTF of {}", releases.join(", ")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where pointers have 8 bytes, the bindings are right.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn options_are_where_libbpf_has_them() {
        let handed = Btf::Empty.hand_over().expect("memory");
        let options = handed.options();
        assert_eq!(options.sz as usize, size_of::<OpenOptions>());
        let path = handed.file.as_ref().map(|(_, path)| path.as_ptr());
        assert_eq!(Some(options.btf_custom_path), path);
        assert!(options.object_name.is_null() && options.kconfig.is_null());
        assert!(Handed::default().options().btf_custom_path.is_null());
    }
}
