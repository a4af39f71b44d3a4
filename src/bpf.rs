//! The few bpf(2) calls that libbpf-rs does not wrap, or wraps with more than is needed here.

use crate::shared::Shape;
use libbpf_rs::{AsRawLibbpf as _, OpenMapMut, libbpf_sys as sys};
use nix::errno::Errno;
use nix::fcntl::readlink;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::thread;
use std::time::Duration;
use std::{ptr, slice};

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

/// The path of a name in an open directory: /proc/self/fd/N resolves to that directory (proc(5)).
fn place(directory: BorrowedFd<'_>, name: &str) -> Result<CString> {
    CString::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
        .map_err(|_| Errno::EINVAL)
}

/// Opens a pinned object of any kind.
pub(crate) fn open_pin(directory: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let path = place(directory, name)?;
    // SAFETY: a NUL-terminated path.
    owned(unsafe { sys::bpf_obj_get(path.as_ptr()) })
}

/// Pins an object.
pub(crate) fn pin(fd: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
    let path = place(directory, name)?;
    // SAFETY: a NUL-terminated path.
    check(unsafe { sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// The kernel's description of a BPF object.
pub(crate) enum Object {
    Link(LinkInfo),
    Map(MapInfo),
    Program(ProgramInfo),
    Other,
}

/// Only the name of the anonymous inode reveals the type (`anon_inode_getfd()` in kernel/bpf/syscall.c).
pub(crate) fn describe(fd: BorrowedFd<'_>) -> Result<Object> {
    let name = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str())?;
    let name = name.to_string_lossy();
    let kind = name.strip_prefix("anon_inode:bpf").and_then(|rest| rest.get(1..));
    Ok(match kind {
        Some("link") => Object::Link(link_info(fd)?),
        Some("map") => Object::Map(map_info(fd)?),
        Some("prog") => Object::Program(program_info(fd)?),
        _ => Object::Other,
    })
}

/// What a link is attached to; None if it is detached.
pub(crate) enum Target {
    Cgroup { id: Option<u64>, attach_type: u32 },
    Netns { inode: Option<u32> },
    Other,
}

pub(crate) struct LinkInfo {
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    pub(crate) target: Target,
}

fn link_info(fd: BorrowedFd<'_>) -> Result<LinkInfo> {
    let mut info = sys::bpf_link_info::default();
    get_info(fd, &mut info)?;
    let target = match info.type_ {
        sys::BPF_LINK_TYPE_CGROUP => {
            // SAFETY: this type of link uses this member of the union, which consists of numbers.
            let it = unsafe { info.__bindgen_anon_1.cgroup };
            let id = Some(it.cgroup_id).filter(|id| *id != 0);
            Target::Cgroup { id, attach_type: it.attach_type }
        }
        sys::BPF_LINK_TYPE_NETNS => {
            // SAFETY: as above.
            let it = unsafe { info.__bindgen_anon_1.netns };
            Target::Netns { inode: Some(it.netns_ino).filter(|inode| *inode != 0) }
        }
        _ => Target::Other,
    };
    Ok(LinkInfo { id: info.id, program_id: info.prog_id, target })
}

/// Reads the kernel's description of an object; `T` is the structure for its type.
fn get_info<T>(fd: BorrowedFd<'_>, info: &mut T) -> Result<()> {
    let mut size = size_of::<T>() as u32;
    // SAFETY: `info` has the given size; the kernel writes numbers and NUL-terminated names.
    check(unsafe {
        sys::bpf_obj_get_info_by_fd(fd.as_raw_fd(), (&raw mut *info).cast(), &raw mut size)
    })
    .map(drop)
}

/// Attaches a program through a link.
pub(crate) fn attach(
    program: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    attach_type: u32,
) -> Result<OwnedFd> {
    let (program, target) = (program.as_raw_fd(), target.as_raw_fd());
    // SAFETY: descriptors, and no options.
    owned(unsafe { sys::bpf_link_create(program, target, attach_type, ptr::null()) })
}

/// Detaches a link at once, even if other descriptors refer to it. Without this, an unpinned link stays in effect for
/// some milliseconds: the kernel frees links in a work queue.
pub(crate) fn detach(link: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a descriptor.
    check(unsafe { sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// Replaces the program of an attached link.
pub(crate) fn replace(
    link: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
) -> Result<()> {
    let options = sys::bpf_link_update_opts {
        sz: size_of::<sys::bpf_link_update_opts>() as _,
        flags: sys::BPF_F_REPLACE,
        old_prog_fd: old.as_raw_fd() as u32,
        ..Default::default()
    };
    // SAFETY: descriptors, and options that state their own size.
    check(unsafe { sys::bpf_link_update(link.as_raw_fd(), new.as_raw_fd(), &raw const options) })
        .map(drop)
}

/// The initial constants of a map, which can be changed until it is loaded.
///
/// libbpf-rs 0.27 passes libbpf 8 bytes for a `size_t`, which yields zero on 32-bit big-endian machines.
pub(crate) fn constants<'map>(map: &'map mut OpenMapMut<'_>) -> Option<&'map mut [u8]> {
    let mut size: sys::size_t = 0;
    // SAFETY: the map is open; libbpf keeps this many bytes for as long as the map exists.
    unsafe {
        let start = sys::bpf_map__initial_value(map.as_libbpf_object().as_ptr(), &mut size);
        let start = start.cast::<u8>();
        (!start.is_null()).then(|| slice::from_raw_parts_mut(start, size as usize))
    }
}

/// The version of libbpf in this process.
pub(crate) fn libbpf() -> (u32, u32) {
    // SAFETY: no arguments.
    unsafe { (sys::libbpf_major_version(), sys::libbpf_minor_version()) }
}

pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// The ids of its maps.
    pub(crate) maps: Vec<u32>,
    /// When it was loaded, nanoseconds of CLOCK_BOOTTIME.
    pub(crate) load_time: u64,
}

pub(crate) fn program_info(fd: BorrowedFd<'_>) -> Result<ProgramInfo> {
    // The maximum for a program (`MAX_USED_MAPS`, include/linux/bpf_verifier.h).
    let mut maps = [0_u32; 64];
    let mut info = sys::bpf_prog_info {
        nr_map_ids: maps.len() as u32,
        map_ids: maps.as_mut_ptr() as u64,
        ..Default::default()
    };
    get_info(fd, &mut info)?;
    let count = maps.len().min(info.nr_map_ids as usize);
    let name = info.name.iter().take_while(|&&byte| byte != 0);
    let name = name.map(|&byte| char::from(byte as u8)).collect();
    Ok(ProgramInfo { id: info.id, name, maps: maps[..count].to_vec(), load_time: info.load_time })
}

/// The name of a program by its id. Needs CAP_SYS_ADMIN.
pub(crate) fn program_name(id: u32) -> Result<String> {
    // SAFETY: no pointers.
    let program = owned(unsafe { sys::bpf_prog_get_fd_by_id(id) })?;
    program_info(program.as_fd()).map(|info| info.name)
}

pub(crate) struct MapInfo {
    pub(crate) id: u32,
    pub(crate) shape: Shape,
}

impl MapInfo {
    /// True for a map that libbpf creates for global data: an array with one value. Reading other types may need a
    /// larger buffer: a per-CPU map returns a value for each processor.
    pub(crate) fn is_data(&self) -> bool {
        let Shape { kind, key_size, value_size, max_entries, .. } = self.shape;
        (kind, key_size, max_entries) == (sys::BPF_MAP_TYPE_ARRAY, 4, 1) && value_size <= LARGEST
    }
}

/// The largest value to read, in bytes: 16 times the maximum before Linux 5.19.
const LARGEST: u32 = 64 << 20;

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<MapInfo> {
    let mut info = sys::bpf_map_info::default();
    get_info(fd, &mut info)?;
    let shape = Shape {
        kind: info.type_,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        flags: info.map_flags,
    };
    Ok(MapInfo { id: info.id, shape })
}

/// Creates a map with one value.
pub(crate) fn new_data(name: &CStr, value: &[u8]) -> Result<OwnedFd> {
    let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    // SAFETY: a name with NUL, sizes, and no options.
    let map = owned(unsafe {
        sys::bpf_map_create(sys::BPF_MAP_TYPE_ARRAY, name.as_ptr(), 4, size, 1, ptr::null())
    })?;
    update(map.as_fd(), &FIRST, value)?;
    Ok(map)
}

/// Makes a map live as long as a program that does not use it. No error if it is bound already.
pub(crate) fn bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: descriptors, and no options.
    check(unsafe { sys::bpf_prog_bind_map(program.as_raw_fd(), map.as_raw_fd(), ptr::null()) })
        .map(drop)
}

/// The key of the only value of a map of global data.
const FIRST: [u8; 4] = [0; 4];

/// The value of a map of global data; EINVAL for any other map.
pub(crate) fn read_data(map: BorrowedFd<'_>, info: &MapInfo) -> Result<Vec<u8>> {
    if !info.is_data() {
        return Err(Errno::EINVAL);
    }
    let mut value = vec![0; info.shape.value_size as usize];
    look_up(map, &FIRST, &mut value)?;
    Ok(value)
}

/// Reads an element. As in the functions below, key and value have the sizes that the map has: its shape is checked, or
/// we have made it. It is not a per-CPU map, whose values are longer.
pub(crate) fn look_up(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> Result<()> {
    let (key, value) = (key.as_ptr().cast(), value.as_mut_ptr().cast());
    // SAFETY: the sizes fit, see above.
    check(unsafe { sys::bpf_map_lookup_elem(map.as_raw_fd(), key, value) }).map(drop)
}

/// Sets an element.
///
/// Retries for a second after ENOMEM. Since Linux 6.1 a growing map takes entries from a cache of as few as four. The
/// kernel refills it from irq_work (`bpf_mem_refill()`, kernel/bpf/memalloc.c): at once if a processor can interrupt
/// itself, otherwise at the next tick, as on MIPS.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    let (key, value) = (key.as_ptr().cast(), value.as_ptr().cast());
    // SAFETY: the sizes fit, as for `look_up`.
    let set = || check(unsafe { sys::bpf_map_update_elem(map.as_raw_fd(), key, value, 0) });
    for _ in 0..200 {
        match set() {
            Err(Errno::ENOMEM) => thread::sleep(PAUSE),
            done => return done.map(drop),
        }
    }
    set().map(drop)
}

/// Deletes an element if it exists.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> Result<()> {
    // SAFETY: the size fits, as for `look_up`.
    match check(unsafe { sys::bpf_map_delete_elem(map.as_raw_fd(), key.as_ptr().cast()) }) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// All keys of a map, which has room for at most so many.
pub(crate) fn keys<const SIZE: usize>(map: BorrowedFd<'_>, most: usize) -> Result<Vec<[u8; SIZE]>> {
    let mut keys: Vec<[u8; SIZE]> = Vec::new();
    // The kernel starts over if the previous key has been deleted. The bound ends such a loop.
    while keys.len() < most {
        let mut next = [0; SIZE];
        let before = keys.last().map_or(ptr::null(), |key| key.as_ptr());
        // SAFETY: the sizes fit, as for `look_up`; no key to begin with.
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

/// A feature that a kernel has or lacks.
#[derive(Clone, Copy)]
pub(crate) enum Feature {
    /// sk_lookup programs that read `ingress_ifindex` (Linux 5.17).
    Arrivals,
    /// sock_ops programs that read kernel structures (`CONFIG_BPF_EVENTS`, no lockdown).
    Memory,
    /// sock_ops programs that read the cookie of a network namespace (Linux 5.15).
    Cookie,
}

/// Opcode, registers (source in the upper half), offset and immediate.
type Instruction = (u8, u8, i16, i32);

const RETURN_1: [Instruction; 2] = [(0xb7, 0, 0, 1), (0x95, 0, 0, 0)];

/// Loads a program from its instructions; those of `return 1` follow.
fn load(kind: u32, expected_attach_type: u32, code: &[Instruction]) -> Result<OwnedFd> {
    let instruction = |&(code, registers, off, imm): &Instruction| {
        let mut it = sys::bpf_insn { code, off, imm, ..Default::default() };
        it.set_dst_reg(registers & 15);
        it.set_src_reg(registers >> 4);
        it
    };
    let code: Vec<_> = code.iter().chain(&RETURN_1).map(instruction).collect();
    let sz = size_of::<sys::bpf_prog_load_opts>() as _;
    let mut options = sys::bpf_prog_load_opts { sz, expected_attach_type, ..Default::default() };
    let (name, licence) = (c"probe".as_ptr(), c"GPL".as_ptr());
    let (start, count) = (code.as_ptr(), code.len() as _);
    // SAFETY: NUL-terminated strings, the number of instructions, and options that state their own size.
    owned(unsafe { sys::bpf_prog_load(kind, name, licence, start, count, &raw mut options) })
}

/// True if the verifier accepts a program that uses the feature.
pub(crate) fn has(feature: Feature) -> Result<bool> {
    const INGRESS_IFINDEX: i16 = 64;
    let call = |function: u32| (0x85, 0, 0, function as i32);
    let code: &[Instruction] = match feature {
        // r1 = *(u32 *)(r1 + 64)
        Feature::Arrivals => &[(0x61, 0x11, INGRESS_IFINDEX, 0)],
        // *(u64 *)(r10 - 8) = 0; r1 = r10; r1 += -8; r2 = 8; r3 = 0; call probe_read_kernel
        Feature::Memory => &[
            (0x7a, 0x0a, -8, 0),
            (0xbf, 0xa1, 0, 0),
            (0x07, 0x01, 0, -8),
            (0xb7, 0x02, 0, 8),
            (0xb7, 0x03, 0, 0),
            call(sys::BPF_FUNC_probe_read_kernel),
        ],
        Feature::Cookie => &[call(sys::BPF_FUNC_get_netns_cookie)],
    };
    let (kind, attach_type) = match feature {
        Feature::Arrivals => (sys::BPF_PROG_TYPE_SK_LOOKUP, sys::BPF_SK_LOOKUP),
        Feature::Memory | Feature::Cookie => (sys::BPF_PROG_TYPE_SOCK_OPS, 0),
    };
    let load = || load(kind, attach_type, code);
    // The verifier returns these, and so does a kernel without this program type. Two equal answers are believed.
    let is_no = |errno: &Errno| matches!(errno, Errno::EACCES | Errno::EINVAL);
    match load().or_else(|errno| if is_no(&errno) { load() } else { Err(errno) }) {
        Ok(_) => Ok(true),
        Err(errno) if is_no(&errno) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Records the device that packets from a cgroup leave by.
pub(crate) struct Egress {
    /// With the number of the device of the last packet as its value.
    device: OwnedFd,
    _link: OwnedFd,
}

impl Egress {
    /// Watches the packets of a cgroup until this value is dropped.
    pub(crate) fn watch(cgroup: BorrowedFd<'_>) -> Result<Self> {
        // `struct __sk_buff`, include/uapi/linux/bpf.h
        const IFINDEX: i16 = 40;
        let device = new_data(c"device", &[0; 4])?;
        let code = [
            // r6 = *(u32 *)(r1 + 40)
            (0x61, 0x16, IFINDEX, 0),
            // r1 = the value of the map (BPF_PSEUDO_MAP_VALUE)
            (0x18, 0x21, 0, device.as_raw_fd()),
            (0, 0, 0, 0),
            // *(u32 *)(r1 + 0) = r6
            (0x63, 0x61, 0, 0),
        ];
        let kind = sys::BPF_PROG_TYPE_CGROUP_SKB;
        let program = load(kind, sys::BPF_CGROUP_INET_EGRESS, &code)?;
        let link = attach(program.as_fd(), cgroup, sys::BPF_CGROUP_INET_EGRESS)?;
        Ok(Self { device, _link: link })
    }

    /// The number of the device; 0 if no packet has left.
    pub(crate) fn device(&self) -> Result<u32> {
        let mut index = [0; 4];
        look_up(self.device.as_fd(), &FIRST, &mut index)?;
        Ok(u32::from_ne_bytes(index))
    }
}

/// The sock_ops programs that run for sockets of this cgroup: its own and its ancestors'.
pub(crate) fn hook(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    // At most 64 per level (`BPF_CGROUP_MAX_PROGS`); 16 full levels are beyond any real hierarchy.
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
