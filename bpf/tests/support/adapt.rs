//! Rewrites a program for rbpf's interpreter, around what that does differently.

use super::machine::{Instruction, LD_IMM64};

/// A place on the stack that programs never get down to.
const SPARE: i16 = -512;

/// More slots than this and offsets overflow in rbpf.
const MOST: usize = 32_000;

/// The program, with the context's address loaded into r1 first; None if it is too long.
///
/// - rbpf has no atomic addition: it becomes a load, an addition, a store, with a register whose value waits on the
///   stack.
/// - It compares 64 bits with an immediate that it does not extend by its sign (RFC 9669, 4.3): the immediate
///   goes through a register, whose value waits on the stack.
pub(super) fn adapt(code: &[Instruction], context: u64) -> Option<Vec<u8>> {
    let deepest = code.iter().filter(|it| it.src == 10 || it.dst == 10).map(|it| it.offset).min();
    assert!(deepest.is_none_or(|deepest| deepest > SPARE + 64), "so much stack");
    // Where each slot ends up; one more for the end.
    let mut places = vec![2];
    for instruction in code {
        let size = match instruction {
            it if is_wrong(it) => 7,
            it if it.code == ATOMIC_ADD => 5,
            _ => 1,
        };
        places.push(places[places.len() - 1] + size);
    }
    if places[code.len()] > MOST {
        return None;
    }
    let mut out = vec![
        make(LD_IMM64, 1, 0, 0, context as u32 as i32),
        make(0, 0, 0, 0, (context >> 32) as u32 as i32),
    ];
    for (at, instruction) in code.iter().enumerate() {
        let target = (at + 1).wrapping_add_signed(instruction.offset.into());
        // The offset of a jump from the slot that is written next.
        let to = |out: &[Instruction]| {
            let place = places.get(target).copied().unwrap_or_default();
            (place as isize - (out.len() + 1) as isize) as i16
        };
        let Instruction { code: op, dst, src, offset, imm } = *instruction;
        let is_second_half = at > 0 && code[at - 1].code == LD_IMM64;
        if is_wrong(instruction) {
            let other = if dst == 9 { 8 } else { 9 };
            out.push(make(0x7b, 10, other, SPARE, 0));
            out.push(make(0xb7, other, 0, 0, imm));
            out.push(make(op | 8, dst, other, 2, 0));
            out.push(make(0x79, other, 10, SPARE, 0));
            out.push(make(0x05, 0, 0, 2, 0));
            out.push(make(0x79, other, 10, SPARE, 0));
            let offset = to(&out);
            out.push(make(0x05, 0, 0, offset, 0));
        } else if op == ATOMIC_ADD {
            let other = if dst != 9 && src != 9 {
                9
            } else if dst != 8 && src != 8 {
                8
            } else {
                7
            };
            out.push(make(0x7b, 10, other, SPARE, 0));
            out.push(make(0x79, other, dst, offset, 0));
            out.push(make(0x0f, other, src, 0, 0));
            out.push(make(0x7b, dst, other, offset, 0));
            out.push(make(0x79, other, 10, SPARE, 0));
        } else if is_second_half {
            out.push(*instruction);
        } else if matches!(op & 7, 5 | 6) && !matches!(op, 0x85 | 0x95) {
            let offset = to(&out);
            out.push(make(op, dst, src, offset, imm));
        } else {
            out.push(make(op, dst, src, offset, imm));
        }
    }
    Some(out.iter().flat_map(encode).collect())
}

/// Of 8 bytes.
const ATOMIC_ADD: u8 = 0xdb;

fn is_wrong(it: &Instruction) -> bool {
    it.imm < 0 && matches!(it.code, 0x15 | 0x25 | 0x35 | 0x55 | 0xa5 | 0xb5)
}

fn make(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Instruction {
    Instruction { code, dst, src, offset, imm }
}

fn encode(it: &Instruction) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (it.offset.to_le_bytes(), it.imm.to_le_bytes());
    [it.code, it.src << 4 | it.dst, a, b, c, d, e, f]
}
