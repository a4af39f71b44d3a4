//! An interpreter of BPF that counts the instructions it executes: what the tests and `cargo xtask bench` run
//! compiled programs with. `sock_ops` programs have no `BPF_PROG_TEST_RUN`, and no library interpreter counts.
//!
//! It knows what clang emits with `-mcpu=v2`, and ALU32 and JMP32 besides (RFC 9669), for machines of both byte
//! orders. It is stricter than a kernel: memory is a list of regions, accesses must be aligned, and what was never
//! written holds [`JUNK`]. No input makes it panic or run on.

use std::fmt;

/// What registers and the stack hold before the program writes to them, in each byte.
pub(crate) const JUNK: u8 = 0xa5;

/// Bytes of stack (`MAX_BPF_STACK`, include/linux/filter.h).
const STACK_SIZE: usize = 512;

/// Where the stack begins. Regions must lie elsewhere.
const STACK: u64 = 0x7f00_0000_0000;

/// The frame pointer.
const FP: usize = 10;

/// One instruction slot (struct bpf_insn, include/uapi/linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// The opcode.
    pub(crate) code: u8,
    /// The destination register.
    pub(crate) dst: u8,
    /// The source register.
    pub(crate) src: u8,
    /// Signed offset of a jump, in slots, or of a memory access, in bytes.
    pub(crate) offset: i16,
    /// The immediate operand.
    pub(crate) imm: i32,
}

/// Opcode of the two-slot load of 64 bits.
pub(crate) const LD_IMM64: u8 = 0x18;

/// A program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    code: Vec<Instruction>,
    big_endian: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// r0.
    pub(crate) value: u64,
    /// Instructions executed; a two-slot load is one. A kernel executes a few more: it replaces each access
    /// to the context by one to three loads.
    pub(crate) steps: u64,
}

/// Why a run could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The slot.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) kind: FaultKind,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No such instruction, or not one of those that are known here.
    Opcode(u8),
    /// No such register, or a write to the frame pointer.
    Register,
    /// There is no instruction.
    Outside,
    /// No region has these bytes (address, size), or it is read-only.
    Memory(u64, usize),
    /// The address is no multiple of the size.
    Unaligned(u64, usize),
    /// The helper is unknown or refused its arguments.
    Helper(u32),
    /// As many steps as were allowed.
    Steps,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {:x?}", self.at, self.kind)
    }
}

impl std::error::Error for Fault {}

#[derive(Debug, Clone)]
struct Region {
    base: u64,
    bytes: Vec<u8>,
    writable: bool,
}

/// What a program can reach: its stack, and the regions it is given.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// The stack first.
    regions: Vec<Region>,
}

impl Default for Memory {
    fn default() -> Self {
        let mut memory = Self { regions: Vec::new() };
        memory.add(STACK, vec![JUNK; STACK_SIZE], true);
        memory
    }
}

impl Memory {
    /// Adds a region. Where two overlap the first counts.
    pub(crate) fn add(&mut self, base: u64, bytes: Vec<u8>, writable: bool) {
        self.regions.push(Region { base, bytes, writable });
    }

    /// The bytes of the region that begins at `base`, also of a read-only one.
    pub(crate) fn region(&mut self, base: u64) -> Option<&mut [u8]> {
        let region = self.regions.iter_mut().find(|region| region.base == base)?;
        Some(&mut region.bytes)
    }

    /// Some bytes, if they all lie in one region.
    #[must_use]
    pub(crate) fn read(&self, address: u64, size: usize) -> Option<&[u8]> {
        self.regions.iter().find_map(|region| region.bytes.get(region.places(address, size)?))
    }

    /// The same to be written to, if the program may.
    pub(crate) fn write(&mut self, address: u64, size: usize) -> Option<&mut [u8]> {
        self.regions.iter_mut().filter(|region| region.writable).find_map(|region| {
            let places = region.places(address, size)?;
            region.bytes.get_mut(places)
        })
    }
}

impl Region {
    fn places(&self, address: u64, size: usize) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        Some(start..start.checked_add(size)?)
    }
}

/// Answers calls: the helper's number, r1 to r5, and the memory; None where there is no such helper.
pub(crate) type Helper<'h> = &'h mut dyn FnMut(u32, [u64; 5], &mut Memory) -> Option<u64>;

impl Program {
    /// Reads instructions of 8 bytes each, as they stand in an object file for machines of that byte order.
    /// None if there is a rest.
    #[must_use]
    pub(crate) fn decode(bytes: &[u8], big_endian: bool) -> Option<Self> {
        if !bytes.len().is_multiple_of(8) {
            return None;
        }
        let decode = |raw: &[u8]| {
            let (low, high) = (raw[1] & 15, raw[1] >> 4);
            let (offset, imm) = ([raw[2], raw[3]], [raw[4], raw[5], raw[6], raw[7]]);
            match big_endian {
                false => Instruction {
                    code: raw[0],
                    dst: low,
                    src: high,
                    offset: i16::from_le_bytes(offset),
                    imm: i32::from_le_bytes(imm),
                },
                true => Instruction {
                    code: raw[0],
                    dst: high,
                    src: low,
                    offset: i16::from_be_bytes(offset),
                    imm: i32::from_be_bytes(imm),
                },
            }
        };
        Some(Self { code: bytes.chunks_exact(8).map(decode).collect(), big_endian })
    }

    /// The slots, in order.
    #[must_use]
    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.code
    }

    /// What the two-slot load at the slot loads; None if there is none.
    #[must_use]
    pub(crate) fn loaded(&self, at: usize) -> Option<u64> {
        let [low, high] = self.code.get(at..at.checked_add(2)?)? else { return None };
        let value = u64::from(high.imm as u32) << 32 | u64::from(low.imm as u32);
        (low.code == LD_IMM64).then_some(value)
    }

    /// Lets the two-slot load at the slot load that value: a relocation. False if there is no such load.
    pub(crate) fn relocate(&mut self, at: usize, value: u64) -> bool {
        if self.loaded(at).is_none() {
            return false;
        }
        self.code[at].imm = value as u32 as i32;
        self.code[at + 1].imm = (value >> 32) as u32 as i32;
        true
    }

    /// Runs the program with the context's address in r1, for at most `most` steps.
    ///
    /// # Errors
    /// Where it does what it must not.
    pub(crate) fn run(
        &self,
        memory: &mut Memory,
        context: u64,
        most: u64,
        helper: Helper<'_>,
    ) -> Result<Exit, Fault> {
        let junk = u64::from_ne_bytes([JUNK; 8]);
        let mut registers = [junk; 11];
        registers[1] = context;
        registers[FP] = STACK + STACK_SIZE as u64;
        if let Some(stack) = memory.region(STACK) {
            stack.fill(JUNK);
        }
        let mut state = State { registers, memory, big_endian: self.big_endian };
        let (mut at, mut steps) = (0_usize, 0);
        loop {
            let fault = |kind| Fault { at, kind };
            let instruction = self.code.get(at).ok_or(fault(FaultKind::Outside))?;
            if steps == most {
                return Err(fault(FaultKind::Steps));
            }
            steps += 1;
            let second = self.code.get(at + 1);
            match state.step(instruction, second, &mut *helper).map_err(fault)? {
                Next::Skip(slots) => {
                    let next = at.checked_add_signed(slots);
                    at = next.ok_or(Fault { at, kind: FaultKind::Outside })?;
                }
                Next::Exit => return Ok(Exit { value: state.registers[0], steps }),
            }
        }
    }
}

/// Where it goes on.
enum Next {
    /// So many slots on.
    Skip(isize),
    Exit,
}

struct State<'m> {
    registers: [u64; 11],
    memory: &'m mut Memory,
    big_endian: bool,
}

impl State<'_> {
    fn step(
        &mut self,
        instruction: &Instruction,
        second: Option<&Instruction>,
        helper: Helper<'_>,
    ) -> Result<Next, FaultKind> {
        let Instruction { code, dst, src, offset, imm } = *instruction;
        let (dst, src) = (usize::from(dst), usize::from(src));
        if dst > FP || src > FP {
            return Err(FaultKind::Register);
        }
        let unknown = FaultKind::Opcode(code);
        let class = code & 7;
        if dst == FP && matches!(class, 0 | 1 | 4 | 7) {
            return Err(FaultKind::Register);
        }
        // Operands: the source register or the immediate, sign-extended.
        let operand = if code & 8 != 0 { self.registers[src] } else { i64::from(imm) as u64 };
        let near = |base: u64| base.wrapping_add_signed(i64::from(offset));
        match class {
            0 => {
                let high = second.filter(|it| code == LD_IMM64 && src == 0 && it.code == 0);
                let high = high.ok_or(unknown)?.imm as u32;
                self.registers[dst] = u64::from(high) << 32 | u64::from(imm as u32);
                return Ok(Next::Skip(2));
            }
            1 if code & 0xe0 == 0x60 => {
                self.registers[dst] = self.load(near(self.registers[src]), size(code))?;
            }
            2 if code & 0xe0 == 0x60 => {
                self.store(near(self.registers[dst]), size(code), i64::from(imm) as u64)?;
            }
            3 if code & 0xe0 == 0x60 => {
                self.store(near(self.registers[dst]), size(code), self.registers[src])?;
            }
            // Atomic addition of 4 or 8 bytes.
            3 if matches!(code, 0xc3 | 0xdb) && imm == 0 => {
                let address = near(self.registers[dst]);
                let sum = self.load(address, size(code))?.wrapping_add(self.registers[src]);
                self.store(address, size(code), sum)?;
            }
            4 if code & 0xf0 == 0xd0 => {
                let to_big = code & 8 != 0;
                let value = self.registers[dst];
                self.registers[dst] =
                    order(value, imm, to_big != self.big_endian).ok_or(unknown)?;
            }
            4 => {
                let (left, right) = (self.registers[dst] as u32, operand as u32);
                self.registers[dst] = u64::from(alu32(code, left, right).ok_or(unknown)?);
            }
            7 => {
                let left = self.registers[dst];
                self.registers[dst] = alu64(code, left, operand).ok_or(unknown)?;
            }
            5 if code == 0x95 => return Ok(Next::Exit),
            5 if code == 0x85 && src == 0 => {
                let [_, arguments @ .., _, _, _, _, _] = self.registers;
                let id = imm as u32;
                let answer = helper(id, arguments, self.memory).ok_or(FaultKind::Helper(id))?;
                self.registers[0] = answer;
                self.registers[1..6].fill(u64::from_ne_bytes([JUNK; 8]));
            }
            5 if code == 0x05 => return Ok(Next::Skip(1 + isize::from(offset))),
            5 | 6 => {
                let (mut left, mut right) = (self.registers[dst], operand);
                let (mut signed_left, mut signed_right) = (left as i64, right as i64);
                if class == 6 {
                    (left, right) = (u64::from(left as u32), u64::from(right as u32));
                    (signed_left, signed_right) = (i64::from(left as i32), i64::from(right as i32));
                }
                let jumps = match code >> 4 {
                    0x1 => left == right,
                    0x2 => left > right,
                    0x3 => left >= right,
                    0x4 => left & right != 0,
                    0x5 => left != right,
                    0x6 => signed_left > signed_right,
                    0x7 => signed_left >= signed_right,
                    0xa => left < right,
                    0xb => left <= right,
                    0xc => signed_left < signed_right,
                    0xd => signed_left <= signed_right,
                    _ => return Err(unknown),
                };
                return Ok(Next::Skip(1 + if jumps { isize::from(offset) } else { 0 }));
            }
            _ => return Err(unknown),
        }
        Ok(Next::Skip(1))
    }

    fn load(&self, address: u64, size: usize) -> Result<u64, FaultKind> {
        aligned(address, size)?;
        let bytes = self.memory.read(address, size).ok_or(FaultKind::Memory(address, size))?;
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Ok(match self.big_endian {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        })
    }

    fn store(&mut self, address: u64, size: usize, value: u64) -> Result<(), FaultKind> {
        aligned(address, size)?;
        let bytes = self.memory.write(address, size).ok_or(FaultKind::Memory(address, size))?;
        match self.big_endian {
            true => bytes.copy_from_slice(&value.to_be_bytes()[8 - size..]),
            false => bytes.copy_from_slice(&value.to_le_bytes()[..size]),
        }
        Ok(())
    }
}

/// A verifier of a machine without unaligned accesses refuses them.
fn aligned(address: u64, size: usize) -> Result<(), FaultKind> {
    match address.is_multiple_of(size as u64) {
        true => Ok(()),
        false => Err(FaultKind::Unaligned(address, size)),
    }
}

/// Bytes of a memory access.
fn size(code: u8) -> usize {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

/// The lower bits, their bytes swapped or not.
fn order(value: u64, bits: i32, swap: bool) -> Option<u64> {
    Some(match (bits, swap) {
        (16, true) => u64::from((value as u16).swap_bytes()),
        (32, true) => u64::from((value as u32).swap_bytes()),
        (64, true) => value.swap_bytes(),
        (16, false) => u64::from(value as u16),
        (32, false) => u64::from(value as u32),
        (64, false) => value,
        _ => return None,
    })
}

fn alu64(code: u8, left: u64, right: u64) -> Option<u64> {
    Some(match code >> 4 {
        0x0 => left.wrapping_add(right),
        0x1 => left.wrapping_sub(right),
        0x2 => left.wrapping_mul(right),
        0x3 => left.checked_div(right).unwrap_or(0),
        0x4 => left | right,
        0x5 => left & right,
        0x6 => left.wrapping_shl(right as u32),
        0x7 => left.wrapping_shr(right as u32),
        0x8 if code & 8 == 0 => left.wrapping_neg(),
        0x9 => left.checked_rem(right).unwrap_or(left),
        0xa => left ^ right,
        0xb => right,
        0xc => (left as i64).wrapping_shr(right as u32) as u64,
        _ => return None,
    })
}

fn alu32(code: u8, left: u32, right: u32) -> Option<u32> {
    Some(match code >> 4 {
        0x3 => left.checked_div(right).unwrap_or(0),
        0x6 => left.wrapping_shl(right),
        0x7 => left.wrapping_shr(right),
        0x9 => left.checked_rem(right).unwrap_or(left),
        0xc => (left as i32).wrapping_shr(right) as u32,
        // The lower halves of the others depend on the lower halves only.
        _ => alu64(code, u64::from(left), u64::from(right))? as u32,
    })
}
