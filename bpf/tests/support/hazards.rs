//! Loads of context fields that some kernel translates wrongly; see `tests/context.rs`.

use super::machine::{Instruction, LD_IMM64};

pub(crate) const LDX_WORD: u8 = 0x61;
const LDX_DOUBLE_WORD: u8 = 0x79;
/// `sk`, `skb_data`, `skb_data_end`: the fields of eight bytes.
const POINTERS: [i16; 3] = [184, 192, 200];
const MOVE_REGISTER: u8 = 0xbf;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;

/// Fields that are translated behind a test of `is_fullsock`: all from snd_cwnd on, but for state.
fn is_guarded(offset: i16) -> bool {
    offset >= 76 && offset != 88
}

/// Places where a field of the context is loaded in a way that some kernel gets wrong.
pub(crate) fn hazards(code: &[Instruction]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // For each instruction: the registers that may hold the context before it.
    let mut before = vec![0_u16; code.len() + 2];
    let mut reached = vec![false; code.len() + 2];
    let mut work = vec![(0_usize, 1_u16 << 1)];
    while let Some((at, holds)) = work.pop() {
        if at >= code.len() || (reached[at] && before[at] | holds == before[at]) {
            continue;
        }
        reached[at] = true;
        before[at] |= holds;
        let Instruction { code: op, dst, src, offset, .. } = code[at];
        let mut holds = before[at];
        let class = op & 7;
        let to = |offset: i16| (at as i64 + 1 + i64::from(offset)) as usize;
        match op {
            MOVE_REGISTER if holds >> src & 1 == 1 => holds |= 1 << dst,
            CALL => holds &= !0b11_1111,
            // Loads and arithmetic: whatever it was, it is the context no more.
            _ if matches!(class, 0 | 1 | 4 | 7) => holds &= !(1 << dst),
            _ => {}
        }
        match op {
            EXIT => {}
            JUMP => work.push((to(offset), holds)),
            LD_IMM64 => work.push((at + 2, holds)),
            _ if matches!(class, 5 | 6) && op != CALL => {
                work.push((to(offset), holds));
                work.push((at + 1, holds));
            }
            _ => work.push((at + 1, holds)),
        }
    }
    for (at, instruction) in code.iter().enumerate() {
        let Instruction { code: op, dst, src, offset, .. } = *instruction;
        if !reached[at] || op & 7 != 1 || before[at] >> src & 1 == 0 {
            continue;
        }
        let is_pointer = op == LDX_DOUBLE_WORD && POINTERS.contains(&offset);
        if op != LDX_WORD && !is_pointer {
            found.push((at, format!("a load of ctx+{offset} that is not a word")));
        }
        if offset == 92 {
            found.push((at, "rtt_min is not guarded on a request socket".into()));
        }
        if dst == src && is_guarded(offset) {
            found.push((at, format!("ctx+{offset} is loaded over the context itself")));
        }
    }
    found
}
