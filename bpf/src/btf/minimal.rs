//! Just those of a kernel's types that a program's relocations lead through: structs with the members on the way,
//! and what pointers point to left out (they become `void *`), as `bpftool gen min_core_btf` does. Besides, the
//! type `unsigned long`, by whose size libbpf tells how long pointers are.

use super::Error;
use super::fit::{Found, find};
use super::relocations::{Program, Relocation, spell};
use super::types::{Btf, Kind, Member, Type};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A kernel's types that are kept, and the members of each.
type Kept = BTreeMap<u32, BTreeSet<usize>>;

/// What a program needs of a kernel's types.
///
/// # Errors
/// They lack something that the program reads without asking whether it is there, or are broken.
pub fn minimal(program: &Program, kernel: &Btf) -> Result<Btf, Error> {
    let mut kept = Kept::new();
    let mut lacking = Vec::new();
    for relocation in &program.relocations {
        match find(program, relocation, kernel)? {
            Some(found) => keep(&found, kernel, &mut kept)?,
            None if relocation.asks_whether => {}
            None => {
                // What is read only where it exists, libbpf takes out at load.
                let question = Relocation { asks_whether: true, ..relocation.clone() };
                if !program.relocations.contains(&question) {
                    lacking.push(spell(&program.btf, relocation));
                }
            }
        }
    }
    if !lacking.is_empty() {
        lacking.sort();
        lacking.dedup();
        return Err(Error::Lacks(lacking));
    }
    if let Some((id, _)) = kernel.long() {
        kept.entry(id).or_default();
    }
    Ok(write(&kept, kernel))
}

/// Keeps what is on the way to a field.
fn keep(found: &Found, kernel: &Btf, kept: &mut Kept) -> Result<(), Error> {
    let mut id = found.root;
    keep_type(id, kernel, kept)?;
    // The first step is along the array that the root stands in.
    for &index in found.way.iter().skip(1) {
        let (plain, it) = kernel.plain(id)?;
        match &it.kind {
            Kind::Composite { members, .. } => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let member = members.get(index).ok_or_else(|| Error::broken("no such member"))?;
                kept.entry(plain).or_default().insert(index);
                id = member.kind;
                keep_type(id, kernel, kept)?;
            }
            Kind::Array(element, ..) => id = *element,
            _ => return Err(Error::broken("a way through what is no struct")),
        }
    }
    Ok(())
}

/// Keeps a type and what it stands for, not what it points to.
fn keep_type(id: u32, kernel: &Btf, kept: &mut Kept) -> Result<(), Error> {
    let mut left = vec![id];
    while let Some(id) = left.pop() {
        if id == 0 || kept.contains_key(&id) {
            continue;
        }
        kept.insert(id, BTreeSet::new());
        match kernel.get(id).map(|it| &it.kind) {
            Some(Kind::Alias(_, to)) => left.push(*to),
            Some(Kind::Array(element, index, _)) => left.extend([*element, *index]),
            Some(Kind::Other(_)) | None => return Err(Error::broken("a field of no type")),
            Some(_) => {}
        }
    }
    Ok(())
}

/// The kept types, numbered anew.
fn write(kept: &Kept, kernel: &Btf) -> Btf {
    let numbers: HashMap<u32, u32> = kept.keys().copied().zip(1..).collect();
    let number = |id: u32| numbers.get(&id).copied().unwrap_or(0);
    let mut names = Names { bytes: vec![0], known: HashMap::new() };
    let mut types = vec![Type { name: 0, kind: Kind::Other(0) }];
    for (id, members) in kept {
        let Some(it) = kernel.get(*id) else { continue };
        let kind = match &it.kind {
            Kind::Pointer(to) => Kind::Pointer(number(*to)),
            Kind::Alias(code, to) => Kind::Alias(*code, number(*to)),
            Kind::Array(element, index, count) => {
                Kind::Array(number(*element), number(*index), *count)
            }
            Kind::Composite { is_union, has_widths, size, members: all } => Kind::Composite {
                is_union: *is_union,
                has_widths: *has_widths,
                size: *size,
                members: members
                    .iter()
                    .filter_map(|&index| all.get(index))
                    .map(|it| Member {
                        name: names.put(kernel.name(it.name)),
                        kind: number(it.kind),
                        offset: it.offset,
                    })
                    .collect(),
            },
            kind @ (Kind::Int(..) | Kind::Sized(..) | Kind::Other(_)) => kind.clone(),
        };
        types.push(Type { name: names.put(kernel.name(it.name)), kind });
    }
    Btf::new(kernel.big_endian, types, names.bytes)
}

/// Names, each once.
struct Names<'a> {
    bytes: Vec<u8>,
    known: HashMap<&'a [u8], u32>,
}

impl<'a> Names<'a> {
    fn put(&mut self, name: &'a [u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        *self.known.entry(name).or_insert_with(|| {
            // As many as were read, whose places are 32 bits.
            let at = self.bytes.len() as u32;
            self.bytes.extend(name);
            self.bytes.push(0);
            at
        })
    }
}
