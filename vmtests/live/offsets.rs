//! Finding members in a kernel's BTF (src/offsets.rs), in BTF that libbpf writes: complete, incomplete, cut off, spoilt.

#[path = "../../src/offsets.rs"]
mod offsets;

use libbpf_rs::btf::Btf;
use libbpf_rs::libbpf_sys as sys;
use offsets::{Offsets, resolve};
use std::ffi::CString;
use std::path::PathBuf;
use std::{fs, slice};

/// A kernel's BTF in the making.
struct Kernel(*mut sys::btf);

impl Kernel {
    /// `pointer` is the size of a pointer in bytes.
    fn new(pointer: u64) -> Self {
        // SAFETY: no arguments.
        let kernel = Self(unsafe { sys::btf__new_empty() });
        // SAFETY: the BTF is alive here and below; strings are NUL-terminated.
        unsafe { sys::btf__add_int(kernel.0, c"unsigned long".as_ptr(), pointer, 0) };
        kernel
    }

    fn structure(&self, name: &str, members: &[(&str, i32, u32)]) -> i32 {
        let name = CString::new(name).expect("a name");
        // SAFETY: as above.
        let id = unsafe { sys::btf__add_struct(self.0, name.as_ptr(), 256) };
        for (name, kind, bits) in members {
            let name = CString::new(*name).expect("a name");
            // SAFETY: as above.
            let ret = unsafe { sys::btf__add_field(self.0, name.as_ptr(), *kind, *bits, 0) };
            assert_eq!(ret, 0);
        }
        id
    }

    fn typedef(&self, to: i32) -> i32 {
        // SAFETY: as above.
        unsafe { sys::btf__add_typedef(self.0, c"alias".as_ptr(), to) }
    }

    fn raw(&self, big_endian: bool) -> Vec<u8> {
        let order = if big_endian { sys::BTF_BIG_ENDIAN } else { sys::BTF_LITTLE_ENDIAN };
        let mut size = 0;
        // SAFETY: as above; libbpf keeps this many bytes.
        unsafe {
            sys::btf__set_endianness(self.0, order);
            let data = sys::btf__raw_data(self.0, &raw mut size);
            slice::from_raw_parts(data.cast(), size as usize).to_vec()
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: this is the last reference.
        unsafe { sys::btf__free(self.0) };
    }
}

/// None if libbpf does not accept it as BTF.
fn read(name: &str, raw: &[u8]) -> Option<Btf<'static>> {
    libbpf_rs::set_print(None);
    let path: PathBuf = std::env::temp_dir().join(format!("set-rto-{}-{name}", std::process::id()));
    fs::write(&path, raw).expect("a file");
    let btf = Btf::from_path(&path).ok();
    fs::remove_file(path).expect("the file");
    btf
}

const INT: i32 = 1;

/// A socket whose device is in a struct without a name, in a typedef, in a member.
fn socket(pointer: u64, field: &str) -> Kernel {
    let kernel = Kernel::new(pointer);
    let inner = kernel.structure("", &[("state", INT, 0), (field, INT, 32)]);
    let outer = kernel.structure("common", &[("x", INT, 0), ("", inner, 64)]);
    let alias = kernel.typedef(outer);
    kernel.structure("sock", &[("first", INT, 0), ("common", alias, 128)]);
    kernel
}

const PATHS: &[&[&str]] = &[&["sock.common.dev", "sock.common.dev_rcu"], &["sock.first"]];

#[test]
fn members_in_members() {
    for big_endian in [false, true] {
        for (pointer, field) in [(4, "dev"), (8, "dev"), (8, "dev_rcu")] {
            let raw = socket(pointer, field).raw(big_endian);
            let found = resolve(&read("members", &raw).expect("BTF"), PATHS);
            assert_eq!(found, Ok(Offsets { pointer: pointer as u32, at: vec![28, 0] }));
        }
    }
}

fn refused(kernel: &Kernel) -> String {
    resolve(&read("refused", &kernel.raw(false)).expect("BTF"), PATHS).expect_err("not usable")
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(refused(&socket(8, "device")), "it has no struct sock.common.dev");
    assert_eq!(refused(&Kernel::new(8)), "it has no struct sock.common.dev, no struct sock.first");
    assert!(refused(&Kernel::new(2)).contains("size of pointers"));
    // Two structures that agree are fine.
    let twice = socket(8, "dev");
    twice.structure("sock", &[("first", INT, 0)]);
    assert!(resolve(&read("twice", &twice.raw(false)).expect("BTF"), PATHS).is_ok());
    twice.structure("sock", &[("first", INT, 32)]);
    assert_eq!(refused(&twice), "struct sock.first has several offsets");
    // A bit field has no offset.
    let bits = Kernel::new(8);
    bits.structure("sock", &[]);
    // SAFETY: the BTF is alive.
    let ret = unsafe { sys::btf__add_field(bits.0, c"first".as_ptr(), INT, 3, 1) };
    assert_eq!(ret, 0);
    assert!(refused(&bits).contains("no struct sock.first"));
}

#[test]
fn types_within_themselves_have_an_end() {
    let kernel = Kernel::new(8);
    // A struct that contains itself twice, unnamed: 2^32 paths.
    kernel.structure("sock", &[("", 2, 0), ("", 2, 0)]);
    assert!(refused(&kernel).contains("no struct sock.first"));
    let kernel = Kernel::new(8);
    let alias = kernel.typedef(2);
    assert_eq!(alias, 2);
    kernel.structure("sock", &[("common", alias, 0)]);
    assert!(refused(&kernel).contains("no struct sock.common.dev"));
}

#[test]
fn cut_off_or_spoilt() {
    let raw = socket(8, "dev").raw(cfg!(target_endian = "big"));
    for length in 0..raw.len() {
        assert!(read("cut", &raw[..length]).is_none_or(|it| resolve(&it, PATHS).is_err()));
    }
    // Any byte value gives a result without a panic.
    for at in 0..raw.len() {
        for value in [0, 1, 7, 0x80, 0xff] {
            let mut raw = raw.clone();
            raw[at] = value;
            let _ = read("spoilt", &raw).map(|it| resolve(&it, PATHS));
        }
    }
}
