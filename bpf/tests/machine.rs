//! The interpreter itself: it never panics, it agrees with rbpf, and it refuses what a program must not do.

#[allow(dead_code)]
#[path = "support/machine.rs"]
mod machine;

use machine::{Exit, Fault, FaultKind, JUNK, Memory, Program};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const DATA: u64 = 0x1000;
const CONSTANTS: u64 = 0x2000;

/// One slot: opcode, destination, source, offset, immediate.
fn slot(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Vec<u8> {
    let ([a, b], [c, d, e, f]) = (offset.to_le_bytes(), imm.to_le_bytes());
    vec![code, src << 4 | dst, a, b, c, d, e, f]
}

fn load(dst: u8, value: u64) -> Vec<u8> {
    let high = slot(0, 0, 0, 0, (value >> 32) as i32);
    [slot(0x18, dst, 0, 0, value as i32), high].concat()
}

fn memory() -> Memory {
    let mut memory = Memory::default();
    memory.add(DATA, (1..=16).collect(), true);
    memory.add(CONSTANTS, vec![7; 8], false);
    memory
}

fn run(code: &[Vec<u8>]) -> Result<Exit, Fault> {
    let program = Program::decode(&code.concat(), false).expect("whole slots");
    program
        .run(&mut memory(), DATA, 1_000, &mut |id, [first, ..], _| (id == 5).then_some(first + 1))
}

fn value(code: &[Vec<u8>]) -> u64 {
    run(&[code, &[slot(0x95, 0, 0, 0, 0)]].concat()).expect("a run to the end").value
}

fn fault(code: &[Vec<u8>]) -> FaultKind {
    run(code).expect_err("a fault").kind
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_input_makes_it_panic(bytes in vec(any::<u8>(), 0..200), big in any::<bool>(), context in any::<u64>()) {
        let whole = &bytes[..bytes.len() / 8 * 8];
        let program = Program::decode(whole, big).expect("whole slots");
        let ran = program.run(&mut memory(), context, 500, &mut |_, [first, ..], _| Some(first));
        if let Ok(exit) = ran {
            prop_assert!(exit.steps <= 500);
        }
    }

    #[test]
    fn near_programs_do_not_either(
        slots in vec((select(&OPCODES[..]), 0..12_u8, 0..12_u8, -4..5_i16, any::<i32>()), 1..40),
        big in any::<bool>(),
    ) {
        let code: Vec<u8> = slots.into_iter().flat_map(|(a, b, c, d, e)| slot(a, b, c, d, e)).collect();
        let program = Program::decode(&code, big).expect("whole slots");
        let ran = program.run(&mut memory(), DATA, 500, &mut |_, [first, ..], _| Some(first));
        if let Ok(exit) = ran {
            prop_assert!(exit.steps <= 500);
        }
    }

    #[test]
    fn arithmetic_is_that_of_rbpf(
        values in vec(number(), 10),
        slots in vec((select(&ARITHMETIC[..]), 0..10_u8, 0..10_u8, number()), 1..30),
    ) {
        let mut code: Vec<_> = (0..10).map(|at| load(at, values[usize::from(at)])).collect();
        for (op, dst, src, imm) in slots {
            let imm = match op {
                0xd4 | 0xdc => [16, 32, 64][imm as usize % 3],
                // rbpf keeps the upper half where a remainder of 32 bits by zero is asked for.
                _ => (imm as i32).max(1),
            };
            let op = if matches!(op, 0x9c | 0x3c) { op & !8 } else { op };
            code.push(slot(op, dst, src, 0, imm));
        }
        code.extend((1..10).map(|src| slot(0xaf, 0, src, 0, 0)));
        agree(&code)?;
    }

    #[test]
    fn jumps_are_those_of_rbpf(
        values in vec(number(), 2),
        op in 0..14_u8,
        class in 5..7_u8,
        by_register in any::<bool>(),
        imm in number(),
    ) {
        // 0x8 and 0x9 are call and exit; rbpf does not extend immediates by their sign.
        prop_assume!(!matches!(op, 0 | 8 | 9));
        let imm = imm as i32 & i32::MAX;
        let op = op << 4 | class | if by_register { 8 } else { 0 };
        let code = [load(1, values[0]), load(2, values[1]), slot(0xb7, 0, 0, 0, 1), slot(op, 1, 2, 1, imm), slot(0xb7, 0, 0, 0, 2)];
        agree(&code)?;
    }
}

/// Numbers with edges.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..70_u64,
        select(&[u64::MAX, 1 << 63, 1 << 31, (1 << 31) - 1, 1 << 32, u32::MAX as u64][..]),
    ]
}

/// What clang emits, and a little more.
const OPCODES: [u8; 32] = [
    0x18, 0x61, 0x69, 0x71, 0x79, 0x62, 0x6a, 0x72, 0x7a, 0x63, 0x6b, 0x73, 0x7b, 0xdb, 0xc3, 0x07,
    0x0f, 0x17, 0xb7, 0xbf, 0x05, 0x15, 0x1d, 0x25, 0x55, 0xa5, 0x85, 0x95, 0xdc, 0xd4, 0x16, 0x0c,
];

/// All but the negation of 64 bits, over which rbpf panics at the lowest number.
const ARITHMETIC: [u8; 49] = [
    0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c,
    0x84, 0x94, 0x9c, 0xa4, 0xac, 0xb4, 0xbc, 0xc4, 0xcc, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37,
    0x3f, 0x47, 0x4f, 0x57, 0x5f, 0x67, 0x6f, 0x77, 0x7f, 0x97, 0x9f, 0xa7, 0xaf, 0xc7, 0xcf, 0xd4,
    0xdc,
];

fn agree(code: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let code = [code, &[slot(0x95, 0, 0, 0, 0)]].concat().concat();
    let program = Program::decode(&code, false).expect("whole slots");
    let ran = program.run(&mut memory(), DATA, 1_000, &mut |_, _, _| None).expect("a run");
    let vm = rbpf::EbpfVmNoData::new(Some(&code)).expect("a program");
    prop_assert_eq!(ran.value, vm.execute_program().expect("a run"));
    Ok(())
}

#[test]
fn immediates_are_extended_by_their_sign() {
    let jumps = |op: u8| {
        value(&[
            load(1, u64::MAX),
            slot(0xb7, 0, 0, 0, 1),
            slot(op, 1, 0, 1, -1),
            slot(0xb7, 0, 0, 0, 2),
        ])
    };
    assert_eq!(jumps(0x15), 1, "64 bits are equal");
    assert_eq!(jumps(0x25), 2, "and not above");
    assert_eq!(jumps(0x16), 1, "nor are 32 bits");
    assert_eq!(value(&[slot(0xb7, 0, 0, 0, -1)]), u64::MAX);
    assert_eq!(value(&[slot(0xb4, 0, 0, 0, -1)]), u64::from(u32::MAX));
}

#[test]
fn what_has_no_result_is_defined() {
    let by_zero = |op: u8| value(&[load(0, 0x1_0000_0005), slot(op, 0, 0, 0, 0)]);
    assert_eq!(by_zero(0x37), 0);
    assert_eq!(by_zero(0x97), 0x1_0000_0005);
    assert_eq!(by_zero(0x34), 0);
    assert_eq!(by_zero(0x94), 5);
    assert_eq!(value(&[load(0, 1 << 63), slot(0x87, 0, 0, 0, 0)]), 1 << 63);
    assert_eq!(value(&[load(0, 7), slot(0x87, 0, 0, 0, 0)]), u64::MAX - 6);
}

#[test]
fn memory_is_read_and_written() {
    assert_eq!(value(&[slot(0x61, 0, 1, 4, 0)]), 0x0807_0605);
    assert_eq!(value(&[slot(0x69, 0, 1, 2, 0)]), 0x0403);
    assert_eq!(value(&[slot(0x71, 0, 1, 15, 0)]), 16);
    assert_eq!(value(&[slot(0x7a, 1, 0, 8, -2), slot(0x79, 0, 1, 8, 0)]), u64::MAX - 1);
    let junk = u64::from_ne_bytes([JUNK; 8]);
    assert_eq!(value(&[slot(0x79, 0, 10, -8, 0)]), junk, "an unwritten stack");
    let add = [slot(0xb7, 2, 0, 0, 2), slot(0xdb, 1, 2, 0, 0), slot(0x79, 0, 1, 0, 0)];
    assert_eq!(value(&add), 0x0807_0605_0403_0203);
}

#[test]
fn the_other_byte_order() {
    // r0 = *(u32 *)(r1 + 4); r0 = be32 r0, in big-endian slots.
    let code =
        [0x61, 0x01, 0, 4, 0, 0, 0, 0, 0xdc, 0x00, 0, 0, 0, 0, 0, 32, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let program = Program::decode(&code, true).expect("whole slots");
    let ran = program.run(&mut memory(), DATA, 10, &mut |_, _, _| None).expect("a run");
    assert_eq!(ran, Exit { value: 0x0506_0708, steps: 3 });
}

#[test]
fn steps_are_counted() {
    let code = [
        load(1, 0),
        slot(0x15, 1, 0, 1, 0),
        slot(0xb7, 0, 0, 0, 0),
        slot(0xb7, 0, 0, 0, 1),
        slot(0x95, 0, 0, 0, 0),
    ];
    assert_eq!(
        run(&code),
        Ok(Exit { value: 1, steps: 4 }),
        "a two-slot load is one, a slot jumped over none"
    );
}

#[test]
fn helpers_are_called() {
    let call = [slot(0x85, 0, 0, 0, 5), slot(0x95, 0, 0, 0, 0)];
    assert_eq!(run(&call).map(|exit| exit.value), Ok(DATA + 1));
    assert_eq!(fault(&[slot(0x85, 0, 0, 0, 6)]), FaultKind::Helper(6));
    let after = [slot(0x85, 0, 0, 0, 5), slot(0xbf, 0, 3, 0, 0)];
    assert_eq!(value(&after), u64::from_ne_bytes([JUNK; 8]), "arguments do not survive");
}

#[test]
fn what_must_not_be_is_refused() {
    assert_eq!(fault(&[]), FaultKind::Outside);
    assert_eq!(fault(&[slot(0x05, 0, 0, -2, 0)]), FaultKind::Outside);
    assert_eq!(fault(&[slot(0x05, 0, 0, -1, 0)]), FaultKind::Steps);
    assert_eq!(fault(&[slot(0xff, 0, 0, 0, 0)]), FaultKind::Opcode(0xff));
    assert_eq!(fault(&[slot(0x85, 0, 1, 0, 5)]), FaultKind::Opcode(0x85), "a call of a function");
    assert_eq!(fault(&[slot(0x18, 0, 0, 0, 0)]), FaultKind::Opcode(0x18), "half a load");
    assert_eq!(fault(&[slot(0xdb, 1, 2, 0, 1)]), FaultKind::Opcode(0xdb), "an atomic fetch");
    assert_eq!(fault(&[slot(0xb7, 11, 0, 0, 0)]), FaultKind::Register);
    assert_eq!(fault(&[slot(0xb7, 10, 0, 0, 0)]), FaultKind::Register, "the frame pointer");
    assert_eq!(fault(&[slot(0x61, 0, 1, 16, 0)]), FaultKind::Memory(DATA + 16, 4));
    assert_eq!(fault(&[slot(0x61, 0, 1, -4, 0)]), FaultKind::Memory(DATA - 4, 4));
    assert_eq!(fault(&[slot(0x61, 0, 1, 2, 0)]), FaultKind::Unaligned(DATA + 2, 4));
    assert_eq!(
        fault(&[slot(0x7a, 10, 0, 0, 0)]),
        FaultKind::Memory(0x7f00_0000_0200, 8),
        "above the stack"
    );
    let constants = [load(2, CONSTANTS), slot(0x62, 2, 0, 0, 0)];
    assert_eq!(fault(&constants), FaultKind::Memory(CONSTANTS, 4), "read-only");
    assert!(Program::decode(&[0; 9], false).is_none());
}
