//! How the compiled program treats its context. A guarded field that is loaded into the register that held
//! the context crashes kernels up to 5.4 and reads the wrong object on 5.10 to 6.6, 6.1.176 and 6.18.2: the
//! guard (`is_fullsock`) is put into that register first (`sock_ops_convert_ctx_access()`, net/core/filter.c).

mod support;

use std::path::Path;
use support::{Instruction, compile_c, instructions};

const LDX_WORD: u8 = 0x61;
const LD_IMM64: u8 = 0x18;
const MOVE_REGISTER: u8 = 0xbf;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;

/// Fields that are translated behind a test of `is_fullsock`: all from snd_cwnd on, but for state.
fn is_guarded(offset: i16) -> bool {
    offset >= 76 && offset != 88
}

/// Places where a field of the context is loaded in a way that some kernel gets wrong.
fn hazards(code: &[Instruction]) -> Vec<(usize, String)> {
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
        if op != LDX_WORD {
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

#[test]
fn no_guarded_field_is_loaded_over_the_context() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good");
    let mut seen = 0;
    for entry in folder.read_dir().expect("the golden files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("a rules file");
            let code = instructions(&text);
            assert_eq!(hazards(&code), [], "{}", path.display());
            let asks = |it: &Instruction| it.code == LDX_WORD && it.offset == 136;
            assert!(code.iter().any(asks), "{}: total_retrans is never asked", path.display());
            seen += 1;
        }
    }
    assert!(seen > 3, "only {seen} rules files");
}

#[test]
fn the_walk_finds_what_it_looks_for() {
    let program = |body: &str| {
        compile_c(&format!(
            "__attribute__((section(\"sockops\"), used)) int p(void *ctx) {{ asm volatile(\"{body}\" ::: \"r0\", \"r1\", \"r2\", \"r6\"); return 1; }}"
        ))
    };
    let count = |body: &str| hazards(&program(body)).len();
    assert_eq!(count("r1 = *(u32 *)(r1 + 136)"), 1, "a guarded load over the context");
    assert_eq!(count("r6 = r1\\n r2 = 0\\n r6 = *(u32 *)(r6 + 76)"), 1, "over a copy of it");
    assert_eq!(count("if r1 == 0 goto +1\\n r1 = 5\\n r1 = *(u32 *)(r1 + 136)"), 1, "on one path");
    assert_eq!(count("r2 = *(u32 *)(r1 + 92)"), 1, "rtt_min");
    assert_eq!(count("r2 = *(u8 *)(r1 + 0)"), 1, "a narrow load");
    assert_eq!(count("r1 = *(u32 *)(r1 + 68)"), 0, "local_port is not guarded");
    assert_eq!(count("r2 = *(u32 *)(r1 + 136)"), 0, "into another register");
    assert_eq!(
        count("r1 = r10\\n *(u64 *)(r10 - 8) = r1\\n r1 = *(u32 *)(r1 - 8)"),
        0,
        "the stack"
    );
}
