//! BPF objects: inserts timers as the loader does, and reads objects for the interpreter.

use crate::machine::Memory;
use crate::machine::Program;
use crate::rivals;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use object::Object as _;
use object::ObjectSection as _;
use object::ObjectSymbol as _;
use object::RelocationTarget;

use crate::shared;

/// The offset of the timers in `.rodata`.
const JIFFIES: usize = size_of::<shared::Policy>();

const SECTION: &str = "sockops";
/// The distance between regions, which exceeds the length of every section.
const SPACING: u64 = 1 << 36;
/// The address of the map, if there is one.
pub(crate) const MAP: u64 = 1 << 45;

/// A program for the interpreter.
pub(crate) struct Image {
    pub(crate) program: Program,
    /// Its data regions.
    pub(crate) memory: Memory,
    /// The address of `.bss`, which begins with the hits, or 0 if there is none.
    pub(crate) hits: u64,
    /// The addresses of its maps.
    pub(crate) maps: std::collections::HashMap<String, u64>,
}

/// Inserts the timers, in jiffies, into a program of the compiler, as `set-rto install` does.
pub(crate) fn complete(object: &mut [u8], jiffies: &[u32]) -> Result<()> {
    let range = |name: &str| -> Result<(usize, usize)> {
        let file = object::File::parse(&*object).context("not an object file")?;
        let range = file.section_by_name(name).and_then(|section| section.file_range());
        let (start, size) = range.with_context(|| format!("no section {name}"))?;
        Ok((usize::try_from(start)?, usize::try_from(size)?))
    };
    let (data, ticks) = (range(".rodata")?, range(".rodata.ticks").ok());
    ensure!(data.1 >= JIFFIES + 4 * jiffies.len(), "too little room for the timers");
    for (rule, ticks) in jiffies.iter().enumerate() {
        let place = data.0 + JIFFIES + 4 * rule;
        object[place..place + 4].copy_from_slice(&ticks.to_ne_bytes());
    }
    // What programs that measure round trips know of the clock; see `struct ticks` in emit/measure.h.
    if let Some((start, _)) = ticks {
        let hz = u64::from(rivals::hz());
        let words = [(hz << 32) / 1_000_000, hz.ilog2().into(), 120 * hz];
        object[start..start + 8].copy_from_slice(&words[0].to_ne_bytes());
        object[start + 8..start + 12].copy_from_slice(&(words[1] as u32).to_ne_bytes());
        object[start + 12..start + 16].copy_from_slice(&(words[2] as u32).to_ne_bytes());
    }
    Ok(())
}

/// Reads the function with that name, or the whole section.
pub(crate) fn image(object: &[u8], function: Option<&str>) -> Result<Image> {
    let file = object::File::parse(object).context("not an object file")?;
    let section = file.section_by_name(SECTION).context("no program in the object")?;
    let code = section.data()?;
    let (start, size) = match function {
        None => (0, code.len()),
        Some(name) => {
            let symbol = file.symbol_by_name(name).with_context(|| format!("no {name}"))?;
            (usize::try_from(symbol.address())?, usize::try_from(symbol.size())?)
        }
    };
    let code = code.get(start..start + size).context("the function is cut off")?;
    let mut program = Program::decode(code, !file.is_little_endian()).context("no instructions")?;
    let mut memory = Memory::default();
    let mut hits = 0;
    let mut bases = std::collections::HashMap::new();
    for (at, data) in file.sections().enumerate() {
        let name = data.name()?;
        let base = SPACING * (at as u64 + 1);
        match name {
            ".bss" => memory.add(base, vec![0; usize::try_from(data.size())?], true),
            _ if name.starts_with(".rodata") => memory.add(base, data.data()?.to_vec(), false),
            ".maps" => {}
            _ => continue,
        }
        if name == ".bss" {
            hits = base;
        }
        bases.insert(data.index(), if name == ".maps" { MAP } else { base });
    }
    let of_maps = file.symbols().filter(|symbol| {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        section.is_some_and(|section| section.name() == Ok(".maps"))
    });
    let maps = of_maps.filter_map(|it| Some((it.name().ok()?.to_owned(), MAP + it.address())));
    let maps = maps.collect();
    for (offset, relocation) in section.relocations() {
        let Some(at) = usize::try_from(offset)?.checked_sub(start).filter(|at| *at < size) else {
            continue;
        };
        let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
        let symbol = file.symbol_by_index(symbol)?;
        let base = symbol.section_index().and_then(|index| bases.get(&index));
        let base = base.with_context(|| format!("{:?} is in no section", symbol.name()))?;
        // The addend is in the instruction itself.
        let addend = program.loaded(at / 8).context("a relocation of something else")?;
        program.relocate(at / 8, base + symbol.address() + (addend & 0xffff_ffff));
    }
    Ok(Image { program, memory, hits, maps })
}
