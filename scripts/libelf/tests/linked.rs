//! libbpf reads an ELF file through our libelf.

use libbpf_sys::{btf__parse_elf, libbpf_set_print};
use std::io::{Error, ErrorKind};
use std::ptr;

#[test]
fn libbpf_reads_elf_files() {
    let parse = |path: &std::ffi::CStr| {
        // SAFETY: the path is a C string, and no options are passed.
        let btf = unsafe { btf__parse_elf(path.as_ptr(), ptr::null_mut()) };
        assert!(btf.is_null());
        Error::last_os_error()
    };
    // SAFETY: there is no function, which silences libbpf.
    unsafe { libbpf_set_print(None) };
    // This file is read to the end of its sections. None of them contains BTF.
    assert_eq!(parse(c"/proc/self/exe").raw_os_error(), Some(61), "ENODATA");
    assert_eq!(parse(c"/nowhere").kind(), ErrorKind::NotFound);
    assert_ne!(parse(c"/proc/self/cmdline").raw_os_error(), Some(61), "no ELF file");
}
