//! What a program asks for: the CO-RE relocations that clang writes into `.BTF.ext` (Documentation/bpf/btf.rst,
//! 4.2; include/uapi/linux/bpf.h, `struct bpf_core_relo`).

use super::Error;
use super::types::{Btf, Kind, Numbers, order};

/// The types and the relocations of a BPF object.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its types.
    pub btf: Btf,
    /// Each once, in the order of [`Ord`].
    pub relocations: Vec<Relocation>,
}

/// A field of a kernel structure that the program asks about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relocation {
    /// The program's type that the way begins at.
    pub root: u32,
    /// The way: the index of an element, then of members and elements.
    pub way: Vec<u32>,
    /// True for `bpf_core_field_exists()`: an answer there is in any case.
    pub asks_whether: bool,
}

/// `enum bpf_core_relo_kind`: 0 to 5 are about fields, of which 2 asks whether there is one.
const EXISTS: u32 = 2;
const LAST_OF_FIELDS: u32 = 5;

/// The longest way that libbpf follows (BPF_CORE_SPEC_MAX_LEN).
pub(crate) const LONGEST: usize = 64;

/// Reads the section `.BTF.ext`, which may be empty.
///
/// # Errors
/// It is broken, or has relocations of kinds that set-rto's programs don't have.
pub(crate) fn read(section: &[u8], btf: &Btf) -> Result<Vec<Relocation>, Error> {
    let Some(big_endian) = order(section) else { return Ok(Vec::new()) };
    let numbers = Numbers { bytes: section, big_endian };
    let cut = || Error::broken("`.BTF.ext` is cut off");
    let header = |at| numbers.u32(at).ok_or_else(cut);
    let length = header(4)?;
    // The header of old compilers ends before the relocations.
    if length < 32 {
        return Ok(Vec::new());
    }
    let part = numbers.part(length, header(24)?, header(28)?).ok_or_else(cut)?;
    if part.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = Numbers { bytes: part, big_endian };
    let word = |at| numbers.u32(at).ok_or_else(cut);
    let size = usize::try_from(word(0)?).ok().filter(|&size| size >= 16);
    let size = size.ok_or_else(|| Error::broken("relocations of an unknown form"))?;
    let mut found = Vec::new();
    let mut at = 4;
    // For each section of the program: its name, how many, and these.
    while at < part.len() {
        let count = word(at + 4)?;
        at += 8;
        for _ in 0..count {
            found.push(relocation(word(at + 4)?, word(at + 8)?, word(at + 12)?, btf)?);
            at += size;
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn relocation(root: u32, way: u32, kind: u32, btf: &Btf) -> Result<Relocation, Error> {
    if kind > LAST_OF_FIELDS {
        return Err(Error::broken(format!("a relocation that is not about a field (kind {kind})")));
    }
    let text = btf.text(way);
    let way: Vec<u32> = text
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| Error::broken(format!("a relocation by `{text}`")))?;
    if way.len() > LONGEST {
        return Err(Error::broken("a relocation of too many steps"));
    }
    Ok(Relocation { root, way, asks_whether: kind == EXISTS })
}

/// A step on the way to a field, in the terms that the kernel's types are searched by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A field by its name, which must be of a kind with this type of the program's.
    Field(Vec<u8>, u32),
    /// An element of an array; the first of all steps is of the array that the root stands in.
    Element(u32),
}

/// The way in names. Members without a name are left out: a kernel may have more or fewer of them around a field.
///
/// # Errors
/// It does not fit the program's types.
pub(crate) fn steps(program: &Btf, relocation: &Relocation) -> Result<Vec<Step>, Error> {
    let broken = || Error::broken("a relocation that does not fit the program's types");
    let mut steps = Vec::new();
    let mut id = relocation.root;
    for (place, &index) in relocation.way.iter().enumerate() {
        if place == 0 {
            steps.push(Step::Element(index));
            continue;
        }
        match &program.plain(id)?.1.kind {
            Kind::Composite { members, .. } => {
                let member = usize::try_from(index).ok().and_then(|index| members.get(index));
                let member = member.ok_or_else(broken)?;
                let name = program.name(member.name);
                if !name.is_empty() {
                    steps.push(Step::Field(name.to_vec(), member.kind));
                }
                id = member.kind;
            }
            Kind::Array(element, ..) => {
                steps.push(Step::Element(index));
                id = *element;
            }
            _ => return Err(broken()),
        }
    }
    Ok(steps)
}

/// A relocation in words: `struct sock.sk_dst_cache`.
pub(crate) fn spell(program: &Btf, relocation: &Relocation) -> String {
    let root = program.get(relocation.root);
    let name = root.map(|root| program.text(root.name)).unwrap_or_default();
    let mut text = match root.map(|root| &root.kind) {
        Some(Kind::Composite { is_union: false, .. }) => format!("struct {name}"),
        Some(Kind::Composite { .. }) => format!("union {name}"),
        _ => name,
    };
    for step in steps(program, relocation).unwrap_or_default().iter().skip(1) {
        match step {
            Step::Field(name, _) => text.push_str(&format!(".{}", String::from_utf8_lossy(name))),
            Step::Element(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}
