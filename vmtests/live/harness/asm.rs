//! BPF instructions assembled by hand.

use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;

/// `BPF_SOCK_OPS_TIMEOUT_INIT`.
pub(crate) const TIMEOUT_INIT: i32 = 1;

/// Offsets in `struct bpf_sock_ops`.
pub(crate) const OP: i16 = 0;
pub(crate) const REPLY: i16 = 4;
pub(crate) const REMOTE_PORT: i16 = 64;
pub(crate) const LOCAL_PORT: i16 = 68;
pub(crate) const TOTAL_RETRANS: i16 = 136;

pub(crate) const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

pub(crate) fn mov(register: u8, value: i32) -> u64 {
    instruction(0xb7, register, 0, 0, value)
}

pub(crate) fn mov_register(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

pub(crate) fn add(register: u8, value: i32) -> u64 {
    instruction(0x07, register, 0, 0, value)
}

/// Calls a helper by its number.
pub(crate) fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

pub(crate) fn load_word(to: u8, from: u8, offset: i16) -> u64 {
    instruction(0x61, to, from, offset, 0)
}

pub(crate) fn store_word(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x63, to, from, offset, 0)
}

pub(crate) fn skip_unless_equal(register: u8, value: i32, count: i16) -> u64 {
    instruction(0x55, register, 0, count, value)
}

pub(crate) fn skip_if_equal(register: u8, value: i32, count: i16) -> u64 {
    instruction(0x15, register, 0, count, value)
}

/// Loads a reference to a map.
pub(crate) fn load_map(to: u8, map: &OwnedFd) -> [u64; 2] {
    const PSEUDO_MAP_FD: u8 = 1;
    [instruction(0x18, to, PSEUDO_MAP_FD, 0, map.as_raw_fd()), instruction(0, 0, 0, 0, 0)]
}

/// Loads the address of the first byte of an array map's only value.
pub(crate) fn load_map_value(to: u8, map: &OwnedFd) -> [u64; 2] {
    const PSEUDO_MAP_VALUE: u8 = 2;
    [instruction(0x18, to, PSEUDO_MAP_VALUE, 0, map.as_raw_fd()), instruction(0, 0, 0, 0, 0)]
}

/// `lock *(u64 *)to += from`.
pub(crate) fn add_atomically(to: u8, from: u8) -> u64 {
    instruction(0xdb, to, from, 0, 0)
}

/// One `struct bpf_insn` in this machine's byte order, which also orders its two register fields.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
    let (offset, value) = (offset.to_ne_bytes(), value.to_ne_bytes());
    u64::from_ne_bytes([
        code, registers, offset[0], offset[1], value[0], value[1], value[2], value[3],
    ])
}
