//! The offsets of members in a kernel's structures, from its BTF, which libbpf reads. The build script includes this
//! file for the kernels of `SET_RTO_BTF`, and vmtests/live/offsets.rs tests it.

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
