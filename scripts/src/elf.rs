//! Reads ELF files: are they linked statically, and how large are their symbols?

use std::collections::BTreeMap;

use object::elf::{PT_DYNAMIC, PT_INTERP};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader as _};
use object::{File, Object as _, ObjectSymbol as _, SymbolKind};

/// Ok if the executable needs neither an interpreter nor a dynamic section. The error names what it
/// needs, or says that the bytes are not an executable.
pub(crate) fn check_static(bytes: &[u8]) -> Result<(), String> {
    match parse(bytes)? {
        File::Elf32(file) => is_static(&file),
        File::Elf64(file) => is_static(&file),
        _ => unreachable!("the feature `elf` of object reads nothing else"),
    }
}

fn is_static<Elf: FileHeader>(file: &ElfFile<'_, Elf>) -> Result<(), String> {
    let headers = file.elf_program_headers();
    if headers.is_empty() {
        return Err("no program headers: not an executable".to_owned());
    }
    for header in headers {
        match header.p_type(file.endian()) {
            PT_INTERP => {
                let path = header.interpreter(file.endian(), file.data());
                let path = path.map_err(|error| error.to_string())?.unwrap_or_default();
                let path = String::from_utf8_lossy(path);
                return Err(format!("it needs the interpreter {path}"));
            }
            PT_DYNAMIC => return Err("it has a dynamic section".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Functions and data with their sizes in bytes, each address once. Empty for a stripped file.
pub(crate) fn symbols(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
    let file = parse(bytes)?;
    let mut found = BTreeMap::new();
    for symbol in file.symbols() {
        let is_one = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data);
        if is_one && symbol.size() > 0 {
            let name = symbol.name_bytes().map_err(|error| error.to_string())?;
            let name = String::from_utf8_lossy(name).into_owned();
            found.insert(symbol.address(), (symbol.size(), name));
        }
    }
    Ok(found.into_values().collect())
}

fn parse(bytes: &[u8]) -> Result<File<'_>, String> {
    File::parse(bytes).map_err(|error| format!("not an ELF file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An executable with program headers of these types, each pointing to a path at the end.
    fn elf(wide: bool, big_endian: bool, types: &[u32]) -> Vec<u8> {
        let put = |bytes: &mut [u8], at: usize, length: usize, value: usize| {
            for index in 0..length {
                let shift = 8 * if big_endian { length - 1 - index } else { index };
                bytes[at + index] = (value >> shift) as u8;
            }
        };
        let (header, entry) = if wide { (64, 56) } else { (52, 32) };
        let width = if wide { 8 } else { 4 };
        let path = b"/lib/ld.so\0";
        let end = header + entry * types.len();
        let mut bytes = vec![0; end];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[4] = if wide { 2 } else { 1 };
        bytes[5] = if big_endian { 2 } else { 1 };
        bytes[6] = 1;
        put(&mut bytes, if wide { 0x20 } else { 0x1c }, width, header);
        put(&mut bytes, if wide { 0x36 } else { 0x2a }, 2, entry);
        put(&mut bytes, if wide { 0x38 } else { 0x2c }, 2, types.len());
        for (index, kind) in types.iter().enumerate() {
            let at = header + index * entry;
            put(&mut bytes, at, 4, *kind as usize);
            put(&mut bytes, at + if wide { 0x08 } else { 0x04 }, width, end);
            put(&mut bytes, at + if wide { 0x20 } else { 0x10 }, width, path.len());
        }
        bytes.extend_from_slice(path);
        bytes
    }

    #[test]
    fn every_class_and_byte_order() {
        for (wide, big_endian) in [(true, false), (true, true), (false, false), (false, true)] {
            let check = |types: &[u32]| check_static(&elf(wide, big_endian, types));
            assert_eq!(check(&[1, 1, 4]), Ok(()), "{wide} {big_endian}");
            assert_eq!(check(&[1, 3]), Err("it needs the interpreter /lib/ld.so".to_owned()));
            assert_eq!(check(&[1, 2]), Err("it has a dynamic section".to_owned()));
        }
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        for bytes in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF"] {
            assert!(check_static(bytes).unwrap_err().contains("not an ELF file"));
        }
        assert!(check_static(&elf(true, false, &[])).unwrap_err().contains("no program headers"));
    }

    #[test]
    fn a_real_file() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        // This test is linked as cargo does by default, which is dynamic on glibc.
        assert_eq!(check_static(&bytes).is_ok(), cfg!(target_feature = "crt-static"));
        let symbols = symbols(&bytes).unwrap();
        let own = symbols.iter().find(|(_, name)| name.contains("a_real_file"));
        assert!(own.is_some_and(|(size, _)| *size > 10), "{} symbols", symbols.len());
    }
}
