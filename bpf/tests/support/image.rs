//! A compiled object, laid out in memory.

use super::machine::Program;
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionKind, SymbolKind,
};

/// A section that the program may use.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// The address that the program knows it by.
    pub(crate) base: u64,
}

impl Section {
    pub(crate) fn is_writable(&self) -> bool {
        self.name == ".bss"
    }

    /// Only its address means something.
    pub(crate) fn is_map(&self) -> bool {
        self.name == ".maps"
    }
}

/// An address in the program: its slot, the section's place in the list, the offset in the section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relocation {
    pub(crate) slot: usize,
    pub(crate) section: usize,
    pub(crate) offset: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) program: Program,
    pub(crate) sections: Vec<Section>,
    pub(crate) relocations: Vec<Relocation>,
}

/// The address of a two-slot load.
const ADDRESS: object::elf::RelocationType = object::elf::R_BPF_64_64;

impl Image {
    /// Reads an object that clang has made: the program that decides.
    pub(crate) fn read(object: &[u8], big_endian: bool) -> Self {
        Self::program(object, big_endian, Some("set_rto"))
    }

    /// The same, a program by its name.
    pub(crate) fn program(object: &[u8], big_endian: bool, name: Option<&str>) -> Self {
        let file = object::File::parse(object).expect("an object file");
        let text = file.section_by_name("sockops").expect("a program");
        let is_it = |symbol: &object::Symbol<'_, '_>| {
            symbol.kind() == SymbolKind::Text
                && symbol.section_index() == Some(text.index())
                && name.map_or(symbol.address() == 0, |name| symbol.name() == Ok(name))
        };
        let function = file.symbols().find(is_it).expect("a function");
        let place = function.address()..function.address() + function.size();
        let bytes = text.data().expect("its instructions");
        let bytes = &bytes[place.start as usize..place.end as usize];
        let mut program = Program::decode(bytes, big_endian).expect("whole instructions");
        let mut sections: Vec<Section> = Vec::new();
        let mut relocations = Vec::new();
        for (at, relocation) in text.relocations().filter(|(at, _)| place.contains(at)) {
            let slot = (at - place.start) as usize / 8;
            assert_eq!(relocation.flags(), RelocationFlags::Elf { r_type: ADDRESS }, "at {slot}");
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                panic!("a relocation without a symbol at {slot}");
            };
            let symbol = file.symbol_by_index(symbol).expect("a symbol");
            let index = symbol.section_index().expect("a symbol that is defined");
            let section = file.section_by_index(index).expect("a section");
            let name = section.name().expect("its name").to_string();
            let known = sections.iter().position(|it| it.name == name);
            let section = known.unwrap_or_else(|| {
                let bytes = match section.kind() {
                    SectionKind::UninitializedData => vec![0; section.size() as usize],
                    _ => section.data().expect("its bytes").to_vec(),
                };
                let base = (sections.len() as u64 + 1) << 40;
                sections.push(Section { name, bytes, base });
                sections.len() - 1
            });
            let addend = program.loaded(slot).expect("a load of an address") & 0xffff_ffff;
            let offset = symbol.address() + addend;
            relocations.push(Relocation { slot, section, offset });
            assert!(program.relocate(slot, sections[section].base + offset));
        }
        Self { program, sections, relocations }
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}
