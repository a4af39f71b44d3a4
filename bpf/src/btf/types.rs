//! BTF as types: read with every length and reference checked, and written.

use super::Error;

/// The first two bytes of BTF, as a number in its byte order.
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;

/// The numbers of the kinds (include/uapi/linux/btf.h).
pub(crate) mod code {
    pub(crate) const INT: u32 = 1;
    pub(crate) const POINTER: u32 = 2;
    pub(crate) const ARRAY: u32 = 3;
    pub(crate) const STRUCT: u32 = 4;
    pub(crate) const UNION: u32 = 5;
    pub(crate) const ENUM: u32 = 6;
    pub(crate) const TYPEDEF: u32 = 8;
    pub(crate) const VOLATILE: u32 = 9;
    pub(crate) const CONST: u32 = 10;
    pub(crate) const RESTRICT: u32 = 11;
    pub(crate) const FUNC_PROTO: u32 = 13;
    pub(crate) const VAR: u32 = 14;
    pub(crate) const DATASEC: u32 = 15;
    pub(crate) const FLOAT: u32 = 16;
    pub(crate) const DECL_TAG: u32 = 17;
    pub(crate) const TYPE_TAG: u32 = 18;
    pub(crate) const ENUM64: u32 = 19;
}

/// A type of BTF. Names are text at an offset: [`Btf::name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Where its name is.
    pub name: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a type is; of kinds that no relocation of a field leads to, just the number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An integer: bytes, and the word that tells its encoding.
    Int(u32, u32),
    /// To a type.
    Pointer(u32),
    /// The type of its elements and of its index, the number of elements.
    Array(u32, u32, u32),
    /// A struct or union.
    Composite {
        /// A union.
        is_union: bool,
        /// Offsets of members hold the width of a bit field in their upper 8 bits.
        has_widths: bool,
        /// In bytes.
        size: u32,
        /// In the order of the declaration.
        members: Vec<Member>,
    },
    /// `typedef`, `const` and the like: the number of the kind, and the type that it stands for.
    Alias(u32, u32),
    /// An enum or a floating-point number: the number of the kind, and its bytes.
    Sized(u32, u32),
    /// Anything else: the number of the kind.
    Other(u32),
}

impl Kind {
    /// Its number.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::Int(..) => code::INT,
            Self::Pointer(_) => code::POINTER,
            Self::Array(..) => code::ARRAY,
            Self::Composite { is_union: false, .. } => code::STRUCT,
            Self::Composite { is_union: true, .. } => code::UNION,
            Self::Alias(code, _) | Self::Sized(code, _) | Self::Other(code) => *code,
        }
    }
}

/// A field of a struct or union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its name is; an anonymous one has an empty name.
    pub name: u32,
    /// Its type.
    pub kind: u32,
    /// In bits, perhaps with a width ([`Kind::Composite`]).
    pub offset: u32,
}

impl Member {
    /// Its offset in bits.
    #[must_use]
    pub fn bits(&self, has_widths: bool) -> u32 {
        if has_widths { self.offset & 0x00ff_ffff } else { self.offset }
    }
}

/// The types of a program or a kernel, by number; 0 is `void`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Btf {
    /// The byte order of what it describes, and of its own numbers.
    pub big_endian: bool,
    types: Vec<Type>,
    strings: Vec<u8>,
}

/// Numbers out of bytes.
pub(crate) struct Numbers<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) big_endian: bool,
}

impl Numbers<'_> {
    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) })
    }

    /// `length` bytes at `offset` behind `start`.
    pub(crate) fn part(&self, start: u32, offset: u32, length: u32) -> Option<&[u8]> {
        let from = usize::try_from(u64::from(start) + u64::from(offset)).ok()?;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(from..to)
    }
}

/// The byte order that the magic number of BTF tells.
pub(crate) fn order(bytes: &[u8]) -> Option<bool> {
    let magic: [u8; 2] = *bytes.first_chunk()?;
    match magic {
        _ if magic == MAGIC.to_le_bytes() => Some(false),
        _ if magic == MAGIC.to_be_bytes() => Some(true),
        _ => None,
    }
}

impl Btf {
    /// True for what begins as BTF does.
    #[must_use]
    pub fn is_raw(bytes: &[u8]) -> bool {
        order(bytes).is_some()
    }

    /// Reads raw BTF. What it accepts has only references to types and names that are there.
    ///
    /// # Errors
    /// It is broken.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let big_endian = order(bytes).ok_or_else(|| Error::broken("it does not begin as BTF"))?;
        let numbers = Numbers { bytes, big_endian };
        let header = |at| numbers.u32(at).ok_or_else(|| Error::broken("its header is cut off"));
        let length = header(4)?;
        if bytes.get(2) != Some(&1) || usize::try_from(length).is_ok_and(|it| it < HEADER) {
            return Err(Error::broken("a header of an unknown version"));
        }
        let cut = |what| Error::broken(format!("its {what} are cut off"));
        let types = numbers.part(length, header(8)?, header(12)?).ok_or_else(|| cut("types"))?;
        let strings =
            numbers.part(length, header(16)?, header(20)?).ok_or_else(|| cut("strings"))?;
        match (strings.first(), strings.last()) {
            (Some(0), Some(0)) => {}
            (Some(_), Some(0)) => return Err(Error::Module),
            _ => return Err(Error::broken("its strings have no end")),
        }
        let types = read_types(&Numbers { bytes: types, big_endian })?;
        let btf = Self { big_endian, types, strings: strings.to_vec() };
        btf.check()?;
        Ok(btf)
    }

    /// Of types, the first of which is `void`, and their names, each with a NUL behind it.
    #[must_use]
    pub fn new(big_endian: bool, types: Vec<Type>, strings: Vec<u8>) -> Self {
        Self { big_endian, types, strings }
    }

    /// All types with their numbers.
    pub fn types(&self) -> impl Iterator<Item = (u32, &Type)> {
        (0..).zip(&self.types)
    }

    /// The same, to change them.
    pub fn types_mut(&mut self) -> impl Iterator<Item = (u32, &mut Type)> {
        (0..).zip(&mut self.types)
    }

    /// A type by its number.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Type> {
        self.types.get(usize::try_from(id).ok()?)
    }

    /// The name at an offset; empty where there is none.
    #[must_use]
    pub fn name(&self, at: u32) -> &[u8] {
        let rest = usize::try_from(at).ok().and_then(|at| self.strings.get(at..));
        rest.and_then(|rest| rest.split(|&byte| byte == 0).next()).unwrap_or_default()
    }

    /// The same for people.
    #[must_use]
    pub fn text(&self, at: u32) -> String {
        String::from_utf8_lossy(self.name(at)).into_owned()
    }

    /// The type that `const`, `typedef` and the like stand for.
    ///
    /// # Errors
    /// They go round in a circle.
    pub(crate) fn plain(&self, id: u32) -> Result<(u32, &Type), Error> {
        let mut id = id;
        // As many as libbpf follows (MAX_RESOLVE_DEPTH).
        for _ in 0..32 {
            match self.get(id) {
                Some(Type { kind: Kind::Alias(_, to), .. }) => id = *to,
                Some(plain) => return Ok((id, plain)),
                None => return Err(Error::broken("a type that is not there")),
            }
        }
        Err(Error::broken(format!("type {id} stands for itself")))
    }

    /// The number and the bytes of `unsigned long`, which is as long as a pointer.
    pub(crate) fn long(&self) -> Option<(u32, u32)> {
        self.types().find_map(|(id, it)| match it.kind {
            Kind::Int(size @ (4 | 8), _)
                if [&b"unsigned long"[..], b"long unsigned int"].contains(&self.name(it.name)) =>
            {
                Some((id, size))
            }
            _ => None,
        })
    }

    /// Every reference leads somewhere.
    fn check(&self) -> Result<(), Error> {
        let count = self.types.len() as u64;
        for (id, it) in self.types() {
            let is_there = |to: u32| match u64::from(to) < count {
                true => Ok(()),
                false => Err(Error::broken(format!("type {id} refers to type {to} of {count}"))),
            };
            let is_name = |at: u32| match u64::from(at) < self.strings.len() as u64 {
                true => Ok(()),
                false => Err(Error::broken(format!("the name of type {id} lies outside"))),
            };
            is_name(it.name)?;
            match &it.kind {
                Kind::Pointer(to) | Kind::Alias(_, to) => is_there(*to)?,
                Kind::Array(element, index, _) => is_there(*element).and(is_there(*index))?,
                Kind::Composite { members, .. } => {
                    for member in members {
                        is_there(member.kind).and(is_name(member.name))?;
                    }
                }
                Kind::Int(..) | Kind::Sized(..) | Kind::Other(_) => {}
            }
        }
        Ok(())
    }

    /// Raw BTF, in its byte order. Enums are written without their values; types of kinds that are not read
    /// ([`Kind::Other`]) as forward declarations.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut words: Vec<u32> = Vec::new();
        for it in self.types.iter().skip(1) {
            let mut put = |size: u32, more: &[u32]| {
                let code = it.kind.code();
                words.extend([it.name, code << 24, size]);
                words.extend(more);
            };
            match &it.kind {
                Kind::Int(size, encoding) => put(*size, &[*encoding]),
                Kind::Pointer(to) | Kind::Alias(_, to) => put(*to, &[]),
                Kind::Array(element, index, count) => put(0, &[*element, *index, *count]),
                Kind::Sized(_, size) => put(*size, &[]),
                Kind::Other(_) => words.extend([it.name, 7 << 24, 0]),
                Kind::Composite { has_widths, size, members, .. } => {
                    let flag = u32::from(*has_widths) << 31;
                    // At most 65,535 were read.
                    words.extend([
                        it.name,
                        flag | it.kind.code() << 24 | members.len() as u32,
                        *size,
                    ]);
                    words.extend(members.iter().flat_map(|it| [it.name, it.kind, it.offset]));
                }
            }
        }
        let length = words.len() as u32 * 4;
        let header = [HEADER as u32, 0, length, length, self.strings.len() as u32];
        let mut out = match self.big_endian {
            true => MAGIC.to_be_bytes().to_vec(),
            false => MAGIC.to_le_bytes().to_vec(),
        };
        out.extend([1, 0]);
        for word in header.iter().chain(&words) {
            out.extend(if self.big_endian { word.to_be_bytes() } else { word.to_le_bytes() });
        }
        out.extend(&self.strings);
        out
    }
}

fn read_types(numbers: &Numbers<'_>) -> Result<Vec<Type>, Error> {
    let mut types = vec![Type { name: 0, kind: Kind::Other(0) }];
    let mut at = 0;
    while at < numbers.bytes.len() {
        let id = types.len();
        let (it, length) = read_type(numbers, at, id)?;
        types.push(it);
        at += length;
    }
    Ok(types)
}

/// A type and how many bytes it takes: 12 at least.
fn read_type(numbers: &Numbers<'_>, at: usize, id: usize) -> Result<(Type, usize), Error> {
    let word = |index: usize| {
        let place = at + index * 4;
        numbers.u32(place).ok_or_else(|| Error::broken(format!("type {id} is cut off")))
    };
    let (name, info, last) = (word(0)?, word(1)?, word(2)?);
    let code = info >> 24 & 0x1f;
    let count = (info & 0xffff) as usize;
    let (kind, more) = match code {
        code::INT => (Kind::Int(last, word(3)?), 1),
        code::POINTER => (Kind::Pointer(last), 0),
        code::ARRAY => (Kind::Array(word(3)?, word(4)?, word(5)?), 3),
        code::STRUCT | code::UNION => {
            let member = |index: usize| {
                let first = 3 + index * 3;
                Ok(Member { name: word(first)?, kind: word(first + 1)?, offset: word(first + 2)? })
            };
            let members = (0..count).map(member).collect::<Result<_, Error>>()?;
            let (is_union, has_widths) = (code == code::UNION, info >> 31 == 1);
            (Kind::Composite { is_union, has_widths, size: last, members }, count * 3)
        }
        code::TYPEDEF | code::VOLATILE | code::CONST | code::RESTRICT | code::TYPE_TAG => {
            (Kind::Alias(code, last), 0)
        }
        code::ENUM => (Kind::Sized(code, last), count * 2),
        code::ENUM64 => (Kind::Sized(code, last), count * 3),
        code::FLOAT => (Kind::Sized(code, last), 0),
        code::FUNC_PROTO => (Kind::Other(code), count * 2),
        code::DATASEC => (Kind::Other(code), count * 3),
        code::VAR | code::DECL_TAG => (Kind::Other(code), 1),
        // Forward declarations and functions.
        7 | 12 => (Kind::Other(code), 0),
        _ => return Err(Error::broken(format!("type {id} is of a kind unknown here, {code}"))),
    };
    let length = (3 + more) * 4;
    match at + length <= numbers.bytes.len() {
        true => Ok((Type { name, kind }, length)),
        false => Err(Error::broken(format!("type {id} is cut off"))),
    }
}
