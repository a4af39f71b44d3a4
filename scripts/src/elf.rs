//! Reads ELF files: are they linked statically, and how large are their symbols?

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// Ok if the executable needs neither an interpreter nor a dynamic section. The error names what it
/// needs, or says that the bytes are not an ELF file.
pub(crate) fn check_static(bytes: &[u8]) -> Result<(), String> {
    let file = File::new(bytes)?;
    for index in 0..file.count {
        let at = file.table + index * file.entry;
        match file.word(at)? {
            PT_INTERP => {
                return Err(format!("it needs the interpreter {}", file.interpreter(at)?));
            }
            PT_DYNAMIC => return Err("it has a dynamic section".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// Functions and data with their sizes in bytes, each address once. Empty for a stripped file.
pub(crate) fn symbols(bytes: &[u8]) -> Result<Vec<(u64, String)>, String> {
    const SHT_SYMTAB: u32 = 2;
    let file = File::new(bytes)?;
    let wide = file.wide;
    // e_shoff, e_shentsize, e_shnum
    let (offset, sizes) = if wide { (0x28, 0x3a) } else { (0x20, 0x2e) };
    let (table, entry, count) = (file.address(offset)?, file.half(sizes)?, file.half(sizes + 2)?);
    // sh_offset, sh_size, sh_link, and in each symbol st_info, st_value, st_size.
    let (at, length, link) = if wide { (0x18, 0x20, 0x28) } else { (0x10, 0x14, 0x18) };
    let (size, info, value, bytes) = if wide { (24, 4, 8, 16) } else { (16, 12, 4, 8) };
    let mut found = std::collections::BTreeMap::new();
    for section in (0..count).map(|index| table + index * entry) {
        if file.word(section + 4)? != SHT_SYMTAB {
            continue;
        }
        let names = table + file.word(section + link)? as usize * entry;
        let names = file.address(names + at)?;
        let first = file.address(section + at)?;
        for symbol in (0..file.address(section + length)? / size).map(|at| first + at * size) {
            let kind = file.number(symbol + info, 1)? & 0xf;
            let takes = file.address(symbol + bytes)? as u64;
            // STT_OBJECT, STT_FUNC
            if matches!(kind, 1 | 2) && takes > 0 {
                let name = names + file.word(symbol)? as usize;
                let rest = file.bytes.get(name..).unwrap_or_default();
                let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
                let name = String::from_utf8_lossy(&rest[..end]).into_owned();
                found.insert(file.address(symbol + value)?, (takes, name));
            }
        }
    }
    Ok(found.into_values().collect())
}

struct File<'a> {
    bytes: &'a [u8],
    wide: bool,
    big_endian: bool,
    table: usize,
    entry: usize,
    count: usize,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, String> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err("not an ELF file".to_owned());
        }
        let (class, data) = (bytes.get(4), bytes.get(5));
        let (Some(class @ (1 | 2)), Some(data @ (1 | 2))) = (class, data) else {
            return Err("its ELF header has an unknown class or byte order".to_owned());
        };
        let (wide, big_endian) = (*class == 2, *data == 2);
        let mut file = File { bytes, wide, big_endian, table: 0, entry: 0, count: 0 };
        // e_phoff, e_phentsize, e_phnum
        let (offset, sizes) = if wide { (0x20, 0x36) } else { (0x1c, 0x2a) };
        file.table = file.address(offset)?;
        file.entry = file.half(sizes)?;
        file.count = file.half(sizes + 2)?;
        if file.count == 0 {
            return Err("no program headers: not an executable".to_owned());
        }
        Ok(file)
    }

    /// The path in the PT_INTERP entry at `header`.
    fn interpreter(&self, header: usize) -> Result<String, String> {
        // p_offset, p_filesz
        let (offset, size) = if self.wide { (0x08, 0x20) } else { (0x04, 0x10) };
        let (from, length) = (self.address(header + offset)?, self.address(header + size)?);
        let path = self.slice(from, length)?;
        Ok(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned())
    }

    fn slice(&self, at: usize, length: usize) -> Result<&'a [u8], String> {
        at.checked_add(length)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or_else(|| format!("it ends before byte {at:#x} of what its ELF header promises"))
    }

    fn number(&self, at: usize, length: usize) -> Result<u64, String> {
        let bytes = self.slice(at, length)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Ok(if self.big_endian {
            bytes.iter().fold(0, fold)
        } else {
            bytes.iter().rev().fold(0, fold)
        })
    }

    fn half(&self, at: usize) -> Result<usize, String> {
        self.number(at, 2).map(|value| value as usize)
    }

    fn word(&self, at: usize) -> Result<u32, String> {
        self.number(at, 4).map(|value| value as u32)
    }

    fn address(&self, at: usize) -> Result<usize, String> {
        let value = self.number(at, if self.wide { 8 } else { 4 })?;
        // Half of the space, so that adding an offset to a place cannot overflow.
        usize::try_from(value)
            .ok()
            .filter(|value| *value <= usize::MAX / 2)
            .ok_or_else(|| format!("its ELF header points to {value:#x}"))
    }
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
    fn broken_files_are_refused() {
        assert!(check_static(b"").unwrap_err().contains("not an ELF"));
        assert!(check_static(b"#!/bin/sh\n").unwrap_err().contains("not an ELF"));
        assert!(check_static(b"\x7fELF").unwrap_err().contains("class"));
        assert!(check_static(&elf(true, false, &[])).unwrap_err().contains("no program headers"));
        let whole = elf(true, false, &[1, 3]);
        for length in 0..whole.len() {
            assert!(check_static(&whole[..length]).is_err(), "{length}");
        }
        let mut far = elf(true, false, &[1]);
        far[0x20..0x28].fill(0xff);
        assert!(check_static(&far).is_err());
    }

    #[test]
    fn symbols_of_a_real_file() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let symbols = symbols(&bytes).unwrap();
        let own = symbols.iter().find(|(_, name)| name.contains("symbols_of_a_real_file"));
        assert!(own.is_some_and(|(size, _)| *size > 10), "{} symbols", symbols.len());
        assert!(super::symbols(&bytes[..bytes.len() / 2]).is_err());
    }

    #[test]
    fn a_real_file() {
        // This test is linked as cargo does by default, which is dynamic on glibc.
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check_static(&bytes).is_ok(), cfg!(target_feature = "crt-static"));
    }
}
