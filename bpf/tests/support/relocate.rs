//! Puts a kernel's offsets and sizes into a compiled program, as libbpf does at load (Documentation/bpf/btf.rst, 4.2;
//! `bpf_core_apply_relo()`), for kernels that are not there to load it. The program must expect what it declares.

use object::{Object, ObjectSection};
use set_rto_compiler::btf::fit::{Found, find};
use set_rto_compiler::btf::program;
use set_rto_compiler::btf::relocations::{Program, Relocation};
use set_rto_compiler::btf::types::{Btf, Kind};

/// `enum bpf_core_relo_kind`
const OFFSET: u32 = 0;
const SIZE: u32 = 1;

/// Relocates the instructions of a section, and tells how many were changed or could have been.
pub(crate) fn relocate(object: &[u8], section: &str, code: &mut [u8], kernel: &Btf) -> usize {
    let program = program(object).expect("an object with BTF");
    let own = program.btf.clone();
    let file = object::File::parse(object).expect("an object file");
    let extension = file.section_by_name(".BTF.ext").expect("relocations");
    let extension = extension.data().expect("its bytes");
    let big_endian = own.big_endian;
    let number = |bytes: &[u8]| {
        let bytes = bytes[..4].try_into().expect("four bytes");
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let word = |at: usize| number(&extension[at..]);
    let (start, length) = (word(4) + word(24), word(28));
    let (mut at, end) = (start as usize + 4, (start + length) as usize);
    let mut count = 0;
    while at < end {
        let (name, entries) = (own.text(word(at)), word(at + 4));
        at += 8;
        for _ in 0..entries {
            let [place, root, way, kind] = [0, 4, 8, 12].map(|field| word(at + field));
            at += 16;
            if name != section {
                continue;
            }
            let way = own.text(way).split(':').map(|it| it.parse().expect("a number")).collect();
            let relocation = Relocation { root, way, asks_whether: false };
            let (before, after) = (&program.btf, kernel);
            let value = |of: &Btf| value(&program, &relocation, kind, of);
            let slot = &mut code[place as usize..][..8];
            put(slot, big_endian, value(before), value(after));
            count += 1;
        }
    }
    count
}

/// The offset or the size of a field, in bytes.
fn value(program: &Program, relocation: &Relocation, kind: u32, of: &Btf) -> u32 {
    let found = find(program, relocation, of).expect("sound BTF").expect("a field that is there");
    match kind {
        OFFSET => (found.bits / 8) as u32,
        SIZE => size(&found, of),
        other => panic!("a relocation of kind {other}"),
    }
}

/// Bytes of the field at the end of the way: pointers and structs are asked for.
fn size(found: &Found, btf: &Btf) -> u32 {
    let plain = |mut id: u32| loop {
        match btf.get(id).expect("a type").kind.clone() {
            Kind::Alias(_, to) => id = to,
            kind => return kind,
        }
    };
    let mut kind = plain(found.root);
    for index in &found.way[1..] {
        let Kind::Composite { members, .. } = kind else { panic!("{kind:?} has no members") };
        kind = plain(members[*index as usize].kind);
    }
    let long = btf.types().find(|(_, it)| btf.name(it.name) == b"long unsigned int");
    match (kind, long.map(|(_, it)| &it.kind)) {
        (Kind::Pointer(_), Some(Kind::Int(size, _))) => *size,
        // Programs for BPF have pointers of 8 bytes.
        (Kind::Pointer(_), _) => 8,
        (Kind::Int(size, _) | Kind::Composite { size, .. }, _) => size,
        (kind, _) => panic!("the size of {kind:?}"),
    }
}

/// Changes the instruction's number.
fn put(slot: &mut [u8], big_endian: bool, before: u32, after: u32) {
    let range = match slot[0] & 7 {
        // Arithmetic, with a constant; half a load of 64 bits.
        4 | 7 if slot[0] & 8 == 0 => 4..8,
        0 => 4..8,
        class => panic!("a relocation of an instruction of class {class}"),
    };
    let (before, after) = match big_endian {
        true => (before.to_be_bytes(), after.to_be_bytes()),
        false => (before.to_le_bytes(), after.to_le_bytes()),
    };
    assert_eq!(slot[range.clone()], before, "what the program declares");
    slot[range].copy_from_slice(&after);
}
