//! The few bpf(2) calls that libbpf-rs does not wrap, or wraps with more than is needed here.

use crate::shared::Shape;
use libbpf_rs::{AsRawLibbpf as _, OpenMapMut, libbpf_sys as sys};
use nix::errno::Errno;
use std::ffi::{CStr, CString, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice;
use std::thread;
use std::time::Duration;

type Result<T> = std::result::Result<T, Errno>;

/// libbpf's low-level calls return -1 or -errno, and set errno.
fn check(ret: i32) -> Result<i32> {
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

fn owned(ret: RawFd) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: the call has just made this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a pinned object of any kind.
pub(crate) fn open_pin(path: &CStr) -> Result<OwnedFd> {
    // SAFETY: a NUL-terminated path.
    owned(unsafe { sys::bpf_obj_get(path.as_ptr()) })
}

/// Pins an object.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a NUL-terminated path.
    check(unsafe { sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// What a descriptor stands for: `link`, `map` or `prog`. The kernel tells by the name of the file only.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> String {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_prefix("anon_inode:").unwrap_or(&name);
    name.strip_prefix("bpf-").or(name.strip_prefix("bpf_")).unwrap_or(name).into()
}

/// The constants that a map will be loaded with, to be changed before that.
///
/// libbpf-rs 0.27 gives libbpf 8 bytes for a `size_t`, and so finds none where that has 4 and the first are the high ones.
pub(crate) fn constants<'map>(map: &'map mut OpenMapMut<'_>) -> Option<&'map mut [u8]> {
    let mut size: sys::size_t = 0;
    // SAFETY: the map is open; libbpf keeps the bytes, this many, for as long as it has the map.
    unsafe {
        let start = sys::bpf_map__initial_value(map.as_libbpf_object().as_ptr(), &mut size);
        let start = start.cast::<u8>();
        (!start.is_null()).then(|| slice::from_raw_parts_mut(start, size as usize))
    }
}

/// Opens a program by its id. Needs CAP_SYS_ADMIN.
pub(crate) fn open_program(id: u32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { sys::bpf_prog_get_fd_by_id(id) })
}

/// Opens a map by its id. Needs CAP_SYS_ADMIN.
pub(crate) fn open_map(id: u32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    owned(unsafe { sys::bpf_map_get_fd_by_id(id) })
}

/// The version of libbpf that this process runs with.
pub(crate) fn libbpf() -> (u32, u32) {
    // SAFETY: no arguments.
    unsafe { (sys::libbpf_major_version(), sys::libbpf_minor_version()) }
}

/// A program's name and the ids of its maps.
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> Result<(String, Vec<u32>)> {
    let mut maps = [0_u32; 16];
    let mut info = sys::bpf_prog_info {
        nr_map_ids: maps.len() as u32,
        map_ids: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is as large as said, and `maps` as large as said in it.
    check(unsafe {
        sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    })?;
    let count = maps.len().min(info.nr_map_ids as usize);
    Ok((name(&info.name), maps[..count].to_vec()))
}

/// Has a map live as long as a program, also one that does not use it; no error where it does.
pub(crate) fn bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: descriptors, and no options.
    check(unsafe { sys::bpf_prog_bind_map(program.as_raw_fd(), map.as_raw_fd(), std::ptr::null()) })
        .map(drop)
}

/// A map's name and the size of its value in bytes.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<(String, usize)> {
    let mut info = sys::bpf_map_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is as large as said.
    check(unsafe {
        sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    })?;
    Ok((name(&info.name), info.value_size as usize))
}

/// The only value of an array map of one entry, as global data is.
pub(crate) fn read_data(fd: BorrowedFd<'_>, size: usize) -> Result<Vec<u8>> {
    let mut value = vec![0; size];
    let key = 0_u32;
    // SAFETY: the value has the size that the map's info gave, the key is the 4 bytes of an array's.
    check(unsafe {
        sys::bpf_map_lookup_elem(
            fd.as_raw_fd(),
            (&raw const key).cast::<c_void>(),
            value.as_mut_ptr().cast(),
        )
    })?;
    Ok(value)
}

/// A key of the map of local devices: an IPv6 address.
pub(crate) type Key = [u8; 16];

/// [`LocalDevice`](crate::shared::LocalDevice)
pub(crate) type Value = [u8; size_of::<crate::shared::LocalDevice>()];

/// All keys of the map of local devices.
pub(crate) fn keys(map: BorrowedFd<'_>) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    // The kernel starts again at the top if the key before has gone: never more steps than entries.
    while keys.len() < 65_536 {
        let mut next = Key::default();
        let before = keys.last().map_or(std::ptr::null(), |key| key.as_ptr());
        // SAFETY: keys of the map's size, or none to begin with.
        let ret = unsafe {
            sys::bpf_map_get_next_key(map.as_raw_fd(), before.cast(), next.as_mut_ptr().cast())
        };
        match check(ret) {
            Ok(_) => keys.push(next),
            Err(Errno::ENOENT) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(keys)
}

/// An entry of the map of local devices.
pub(crate) fn look_up(map: BorrowedFd<'_>, key: &Key) -> Result<Value> {
    let mut value = Value::default();
    // SAFETY: key and value of the map's sizes.
    check(unsafe {
        sys::bpf_map_lookup_elem(map.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast())
    })?;
    Ok(value)
}

/// Sets an entry of the map of local devices.
pub(crate) fn update(map: BorrowedFd<'_>, key: &Key, value: &Value) -> Result<()> {
    let (key, value) = (key.as_ptr().cast(), value.as_ptr().cast());
    // SAFETY: key and value of the map's sizes.
    patiently(|| check(unsafe { sys::bpf_map_update_elem(map.as_raw_fd(), key, value, 0) }))
        .map(drop)
}

/// Tries again for a second while there is no memory. Since Linux 6.1 a map that grows takes entries from a stock of as
/// few as four, which the kernel fills up by interrupt work (`bpf_mem_refill()`, kernel/bpf/memalloc.c): at once where
/// a processor can interrupt itself, at the next tick where it can't, as on MIPS.
fn patiently<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(5);
    for _ in 0..200 {
        match call() {
            Err(Errno::ENOMEM) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    call()
}

/// Deletes an entry of the map of local devices.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &Key) -> Result<()> {
    // SAFETY: a key of the map's size.
    check(unsafe { sys::bpf_map_delete_elem(map.as_raw_fd(), key.as_ptr().cast()) }).map(drop)
}

/// What the map of known devices has for a socket: a device's name.
pub(crate) fn of_socket(map: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> Result<[u8; 16]> {
    let mut name = [0; 16];
    let key = socket.as_raw_fd();
    // SAFETY: to programs outside the kernel the key of such a map is a descriptor; the value has 16 bytes.
    check(unsafe {
        sys::bpf_map_lookup_elem(map.as_raw_fd(), (&raw const key).cast(), name.as_mut_ptr().cast())
    })?;
    Ok(name)
}

/// What a map is like.
pub(crate) fn shape(map: BorrowedFd<'_>) -> Result<Shape> {
    let mut info = sys::bpf_map_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` is as large as said.
    check(unsafe {
        sys::bpf_obj_get_info_by_fd(map.as_raw_fd(), (&raw mut info).cast(), &raw mut size)
    })?;
    Ok(Shape {
        kind: info.type_,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.map_flags,
    })
}

/// Whether the kernel takes an sk_lookup program that reads `ingress_ifindex`, which Linux 5.17 added.
pub(crate) fn loads_sk_lookup() -> Result<bool> {
    const INGRESS_IFINDEX: i16 = 64;
    // r1 = *(u32 *)(r1 + 64); r0 = SK_PASS; exit
    let code = [(0x61, 0x11, INGRESS_IFINDEX, 0), (0xb7, 0, 0, 1), (0x95, 0, 0, 0)];
    takes(sys::BPF_PROG_TYPE_SK_LOOKUP, sys::BPF_SK_LOOKUP, &code)
}

/// Whether the kernel lets sock_ops programs read its structures (`CONFIG_BPF_EVENTS`, no lockdown).
pub(crate) fn lets_read_memory() -> Result<bool> {
    // *(u64 *)(r10 - 8) = 0; r1 = r10; r1 += -8; r2 = 8; r3 = 0; call probe_read_kernel; r0 = 1; exit
    let code = [
        (0x7a, 0x0a, -8, 0),
        (0xbf, 0xa1, 0, 0),
        (0x07, 0x01, 0, -8),
        (0xb7, 0x02, 0, 8),
        (0xb7, 0x03, 0, 0),
        (0x85, 0x00, 0, sys::BPF_FUNC_probe_read_kernel as i32),
        (0xb7, 0x00, 0, 1),
        (0x95, 0x00, 0, 0),
    ];
    takes(sys::BPF_PROG_TYPE_SOCK_OPS, 0, &code)
}

/// Whether the verifier takes a program: code, registers (the source in the upper half), offset, number of each instruction.
fn takes(kind: sys::bpf_prog_type, attach: u32, code: &[(u8, u8, i16, i32)]) -> Result<bool> {
    let instruction = |&(code, registers, off, imm): &(u8, u8, i16, i32)| {
        let mut it = sys::bpf_insn { code, off, imm, ..Default::default() };
        it.set_dst_reg(registers & 15);
        it.set_src_reg(registers >> 4);
        it
    };
    let code: Vec<_> = code.iter().map(instruction).collect();
    let mut options =
        sys::bpf_prog_load_opts { expected_attach_type: attach, ..Default::default() };
    options.sz = size_of_val(&options) as _;
    // SAFETY: strings with NUL, so many instructions, options of the size that they tell.
    let loaded = owned(unsafe {
        sys::bpf_prog_load(
            kind,
            c"probe".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr(),
            code.len() as _,
            &raw mut options,
        )
    });
    match loaded {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The sock_ops programs that run for sockets of this cgroup: its own and its ancestors'.
pub(crate) fn hook(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    // 64 a level (`BPF_CGROUP_MAX_PROGS`); nobody nests 16 levels full of them.
    let mut ids = vec![0; 1024];
    let mut count = ids.len() as u32;
    let mut flags = 0;
    // SAFETY: `ids` has room for `count` ids.
    check(unsafe {
        sys::bpf_prog_query(
            cgroup.as_raw_fd(),
            sys::BPF_CGROUP_SOCK_OPS,
            sys::BPF_F_QUERY_EFFECTIVE,
            &raw mut flags,
            ids.as_mut_ptr(),
            &raw mut count,
        )
    })?;
    ids.truncate(count as usize);
    Ok(ids)
}

/// The name of a program by its id; empty where it can't be told.
pub(crate) fn program_name(id: u32) -> String {
    use std::os::fd::AsFd;
    open_program(id)
        .and_then(|fd| program_info(fd.as_fd()))
        .map(|(name, _)| name)
        .unwrap_or_default()
}

fn name(bytes: &[std::ffi::c_char]) -> String {
    bytes.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_may_come_later() {
        let mut calls = 0;
        let mut later = |errno, last| {
            calls += 1;
            if calls < last { Err(errno) } else { Ok(calls) }
        };
        assert_eq!(patiently(|| later(Errno::ENOMEM, 3)), Ok(3));
        assert_eq!(patiently(|| later(Errno::EPERM, 9)), Err(Errno::EPERM));
        assert_eq!(calls, 4);
    }
}
