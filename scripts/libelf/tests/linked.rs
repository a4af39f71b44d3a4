//! libbpf finds its way through an ELF file by the libelf of ours.

use libbpf_sys::{btf__parse_elf, libbpf_set_print};
use std::io::{Error, ErrorKind};
use std::ptr;

#[test]
fn libbpf_reads_elf_files() {
    let parse = |path: &std::ffi::CStr| {
        // SAFETY: the path is a C string; nothing is asked to be given back.
        let btf = unsafe { btf__parse_elf(path.as_ptr(), ptr::null_mut()) };
        assert!(btf.is_null());
        Error::last_os_error()
    };
    // SAFETY: no function: libbpf is silent.
    unsafe { libbpf_set_print(None) };
    // This file is read to the end of its sections, and none is of BTF.
    assert_eq!(parse(c"/proc/self/exe").raw_os_error(), Some(61), "ENODATA");
    assert_eq!(parse(c"/nowhere").kind(), ErrorKind::NotFound);
    assert_ne!(parse(c"/proc/self/cmdline").raw_os_error(), Some(61), "no ELF file");
}
