//! Where a kernel has what a program asks for. The rules are those by which libbpf will look for it again at load
//! (1.7, src/relo_core.c): a type of the same name without `___flavour`, fields by their names, through members
//! without name, of kinds that go together.

use super::Error;
use super::relocations::{LONGEST, Program, Relocation, Step, spell, steps};
use super::types::{Btf, Kind, Type, code};

/// What a kernel has for a relocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The kernel's type.
    pub root: u32,
    /// The way through its members and elements.
    pub way: Vec<u32>,
    /// Where it is, in bits from the beginning of the root.
    pub bits: u64,
}

/// So many members are looked at for one relocation: kernels have under a thousand on the way, broken BTF can have
/// them without end.
const MOST: usize = 100_000;

/// Looks for what a relocation is about; None where the kernel has not got it.
///
/// # Errors
/// Several types of that name have it at different places; or the BTF is broken.
pub fn find(
    program: &Program,
    relocation: &Relocation,
    kernel: &Btf,
) -> Result<Option<Found>, Error> {
    let root = program.btf.get(relocation.root);
    let root = root.ok_or_else(|| Error::broken("a relocation of no type"))?;
    let name = essential(program.btf.name(root.name));
    let steps = steps(&program.btf, relocation)?;
    let mut search = Search { program: &program.btf, kernel, left: MOST };
    let mut first: Option<Found> = None;
    for (id, candidate) in kernel.types() {
        let is_kind = alike(&candidate.kind, &root.kind);
        if !is_kind || essential(kernel.name(candidate.name)) != name || name.is_empty() {
            continue;
        }
        let Some(found) = search.follow(id, &steps)? else { continue };
        match &first {
            Some(first) if first.bits != found.bits => {
                return Err(Error::broken(format!(
                    "{} is at several places",
                    spell(&program.btf, relocation)
                )));
            }
            Some(_) => {}
            None => first = Some(found),
        }
    }
    Ok(first)
}

/// A name without the `___flavour` that programs append to have several declarations of one type.
fn essential(name: &[u8]) -> &[u8] {
    let is_separator = |it: &[u8]| it[0] != b'_' && &it[1..4] == b"___" && it[4] != b'_';
    match name.windows(5).rposition(is_separator) {
        Some(at) => &name[..=at],
        None => name,
    }
}

/// Types of one kind; all enums are.
fn alike(one: &Kind, other: &Kind) -> bool {
    let code = |kind: &Kind| match kind.code() {
        code::ENUM64 => code::ENUM,
        code => code,
    };
    code(one) == code(other)
}

struct Search<'a> {
    program: &'a Btf,
    kernel: &'a Btf,
    left: usize,
}

impl Search<'_> {
    fn follow(&mut self, root: u32, steps: &[Step]) -> Result<Option<Found>, Error> {
        let mut found = Found { root, way: Vec::new(), bits: 0 };
        let mut id = root;
        for (place, step) in steps.iter().enumerate() {
            match step {
                Step::Field(name, kind) => match self.member(id, name, *kind, &mut found)? {
                    Some(next) => id = next,
                    None => return Ok(None),
                },
                Step::Element(index) => {
                    if place > 0 {
                        let Kind::Array(element, _, count) = self.kernel.plain(id)?.1.kind else {
                            return Ok(None);
                        };
                        // No elements: as many as you like, at the end of a struct.
                        if count > 0 && *index >= count {
                            return Ok(None);
                        }
                        id = element;
                    }
                    if *index > 0 {
                        found.bits += u64::from(*index) * size(self.kernel, id)? * 8;
                    }
                    self.step(*index, &mut found)?;
                }
            }
        }
        Ok(Some(found))
    }

    fn step(&mut self, index: u32, found: &mut Found) -> Result<(), Error> {
        if found.way.len() == LONGEST || self.left == 0 {
            return Err(Error::broken("types within types without end"));
        }
        self.left -= 1;
        found.way.push(index);
        Ok(())
    }

    /// The type of a field of this name, in members without name, too; none where there is none, or of another kind.
    fn member(
        &mut self,
        id: u32,
        name: &[u8],
        kind: u32,
        found: &mut Found,
    ) -> Result<Option<u32>, Error> {
        let kernel = self.kernel;
        let Kind::Composite { has_widths, members, .. } = &kernel.plain(id)?.1.kind else {
            return Ok(None);
        };
        for (index, member) in (0..).zip(members) {
            let before = found.bits;
            self.step(index, found)?;
            found.bits += u64::from(member.bits(*has_widths));
            let its = kernel.name(member.name);
            if its.is_empty() {
                if let Some(next) = self.member(member.kind, name, kind, found)? {
                    return Ok(Some(next));
                }
            } else if its == name {
                return Ok(self.goes_together(kind, member.kind)?.then_some(member.kind));
            }
            found.bits = before;
            found.way.pop();
        }
        Ok(None)
    }

    /// `bpf_core_fields_are_compat()`.
    fn goes_together(&self, ours: u32, theirs: u32) -> Result<bool, Error> {
        let (mut ours, mut theirs) = (ours, theirs);
        // An array of arrays of arrays.
        for _ in 0..LONGEST {
            let (one, other) = (self.program.plain(ours)?.1, self.kernel.plain(theirs)?.1);
            match (&one.kind, &other.kind) {
                (Kind::Composite { .. }, Kind::Composite { .. })
                | (Kind::Pointer(_), Kind::Pointer(_)) => return Ok(true),
                // An integer with an offset is a bit field of an old compiler's.
                (Kind::Int(_, ours), Kind::Int(_, theirs)) => {
                    return Ok(ours >> 16 & 0xff == 0 && theirs >> 16 & 0xff == 0);
                }
                (Kind::Array(one, ..), Kind::Array(other, ..)) => (ours, theirs) = (*one, *other),
                (Kind::Sized(..), Kind::Sized(..)) => {
                    let names = |btf: &Btf, it: &Type| essential(btf.name(it.name)).to_vec();
                    let (ours, theirs) = (names(self.program, one), names(self.kernel, other));
                    let is_name = ours.is_empty() || theirs.is_empty() || ours == theirs;
                    let is_enum = one.kind.code() != code::FLOAT;
                    return Ok(alike(&one.kind, &other.kind) && (is_name || !is_enum));
                }
                _ => return Ok(false),
            }
        }
        Err(Error::broken("arrays within arrays without end"))
    }
}

/// The bytes of a type.
fn size(btf: &Btf, id: u32) -> Result<u64, Error> {
    let (mut id, mut times) = (id, 1_u64);
    for _ in 0..LONGEST {
        let size = match btf.plain(id)?.1.kind {
            Kind::Array(element, _, count) => {
                times = times.saturating_mul(u64::from(count));
                id = element;
                continue;
            }
            Kind::Int(size, _) | Kind::Sized(_, size) | Kind::Composite { size, .. } => size,
            Kind::Pointer(_) => btf.long().map_or(8, |(_, size)| size),
            Kind::Alias(..) | Kind::Other(_) => 0,
        };
        return Ok(times.saturating_mul(u64::from(size)));
    }
    Err(Error::broken("arrays within arrays without end"))
}
