//! The offsets of members in a kernel's structures, from its BTF, which libbpf reads. The build script includes this
//! file for the kernels of `SET_RTO_BTF`.

use libbpf_rs::btf::types::{Composite, MemberAttr, Struct};
use libbpf_rs::btf::{Btf, BtfKind, BtfType, TypeId};

/// The layout from a kernel's BTF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// Bytes of a pointer.
    pub(crate) pointer: u32,
    /// The offset of each member, in bytes from the start of its structure.
    pub(crate) at: Vec<u32>,
}

/// The length of a chain of `typedef`, `const` and the like that libbpf follows (MAX_RESOLVE_DEPTH).
const DEEPEST: usize = 32;
/// The maximum number of members to visit for one path. Kernels need under a thousand; in broken BTF a structure may
/// contain itself.
const MOST: u32 = 100_000;

/// Finds members. Each has one or more paths such as `sock.__sk_common.skc_net.net`; the first that exists counts.
/// A path leaves unnamed members out.
///
/// # Errors
/// What is missing, in words.
pub(crate) fn resolve(btf: &Btf<'_>, members: &[&[&str]]) -> Result<Offsets, String> {
    let pointer = match btf.ptr_size().map(usize::from) {
        Ok(4) => 4,
        Ok(8) => 8,
        _ => return Err("it does not state the size of pointers".into()),
    };
    let is_wanted = |it: &Struct<'_>| {
        let mut paths = members.iter().copied().flatten();
        it.name().is_some_and(|name| paths.any(|path| name == split(path).0))
    };
    // A kernel may have several structures of one name.
    let roots: Vec<Struct<'_>> =
        btf.type_by_kind::<Struct<'_>>().filter(|it| is_wanted(it)).collect();
    let (mut at, mut missing) = (Vec::new(), Vec::new());
    for paths in members {
        let mut found = None;
        for path in *paths {
            if found.is_none() {
                found = find(btf, &roots, path)?;
            }
        }
        match found {
            Some(offset) => at.push(offset),
            None => missing.push(format!("struct {}", paths[0])),
        }
    }
    match missing.len() {
        0 => Ok(Offsets { pointer, at }),
        // In BTF that is not a kernel's, everything is missing.
        4.. => {
            Err(format!("it has no {} and {} more", missing[..3].join(", no "), missing.len() - 3))
        }
        _ => Err(format!("it has no {}", missing.join(", no "))),
    }
}

fn split(path: &str) -> (&str, &str) {
    path.split_once('.').unwrap_or((path, ""))
}

/// The offset of one path.
fn find(btf: &Btf<'_>, roots: &[Struct<'_>], path: &str) -> Result<Option<u32>, String> {
    let (root, members) = split(path);
    let mut left = MOST;
    let mut first = None;
    for it in roots.iter().filter(|it| it.name().is_some_and(|name| name == root)) {
        let Some(bits) = within(btf, (*it).into(), members, DEEPEST, &mut left) else { continue };
        if bits % 8 != 0 {
            return Err(format!("struct {path} is a bit field"));
        }
        if *first.get_or_insert(bits) != bits {
            return Err(format!("struct {path} has several offsets"));
        }
    }
    Ok(first.map(|bits| bits / 8))
}

/// The offset of a member in bits, also within unnamed members.
fn within(
    btf: &Btf<'_>,
    of: Composite<'_>,
    path: &str,
    depth: usize,
    left: &mut u32,
) -> Option<u32> {
    let (name, rest) = split(path);
    for at in 0..of.len() {
        *left = left.checked_sub(1)?;
        let member = of.get(at)?;
        let MemberAttr::Normal { offset } = member.attr else { continue };
        let inner = |path, left| {
            let inner = Composite::try_from(plain(btf, member.ty)?).ok()?;
            within(btf, inner, path, depth.checked_sub(1)?, left)
        };
        let more = match member.name.map(|it| it == name) {
            Some(true) if rest.is_empty() => Some(0),
            Some(true) => return offset.checked_add(inner(rest, left)?),
            Some(false) => None,
            None => inner(path, left),
        };
        if let Some(more) = more {
            return offset.checked_add(more);
        }
    }
    None
}

/// The type that `typedef`, `const` and the like stand for.
fn plain<'b>(btf: &'b Btf<'_>, id: TypeId) -> Option<BtfType<'b>> {
    let mut it: BtfType<'b> = btf.type_by_id(id)?;
    for _ in 0..DEEPEST {
        if !it.is_mod() && it.kind() != BtfKind::Typedef {
            return Some(it);
        }
        it = it.next_type()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::libbpf_sys as sys;
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
        let path: PathBuf =
            std::env::temp_dir().join(format!("set-rto-{}-{name}", std::process::id()));
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
        assert_eq!(
            refused(&Kernel::new(8)),
            "it has no struct sock.common.dev, no struct sock.first"
        );
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
}
