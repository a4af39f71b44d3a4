//! Structures that the loader shares with the program in the kernel, as defined in bpf/src/emit/*.h.
//!
//! clang compares each size and offset with this file (bpf/tests/shared.rs). No field has padding around it on any
//! machine: the program is for BPF, where `u64` is aligned to 8 bytes, and 32-bit x86 aligns it to 4.

/// The first bytes of our programs' constants, which mark them as ours.
pub(crate) const MARK: [u8; 16] = *b"set-rto policy\0\0";

/// The version of [`Policy`] and [`Finding`]. A later one only adds fields, or changes this number.
pub(crate) const LAYOUT: u32 = 1;

/// `struct policy`, the start of `.rodata`. For each rule, its timer in jiffies follows (0: the kernel's).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) mark: [u8; 16],
    pub(crate) layout: u32,
    pub(crate) hz: u32,
    /// Inode of the network namespace that the interface names belong to.
    pub(crate) netns: u32,
    pub(crate) rules: u32,
    pub(crate) columns: u32,
    pub(crate) two_jiffies_us: u32,
    /// The columns that `install --partial` left out.
    pub(crate) without: u64,
    /// NUL-padded text, as is the digest.
    pub(crate) version: [u8; 16],
    pub(crate) digest: [u8; 72],
}

/// `struct finding`, in `.rodata.device`: how devices are found. The offsets of `rules::MEMBERS` in the kernel's
/// structures follow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    /// 0: by route, 1: by address.
    pub(crate) method: u32,
    pub(crate) why: u32,
    /// Cookie of the network namespace; 0 if programs cannot read it.
    pub(crate) cookie: u64,
    /// 1: `note_arrival` runs.
    pub(crate) arrivals: u32,
    /// Bytes of a pointer in the kernel.
    pub(crate) pointer: u32,
}

/// `struct local_device`, a value of the map of local devices.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalDevice {
    /// NUL-padded.
    pub(crate) name: [u8; 16],
    pub(crate) index: u32,
    /// 1: stands for the devices in it.
    pub(crate) is_vrf: u32,
}

/// `struct ticks`, in `.rodata.ticks`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// Jiffies of a microsecond, times 2^32.
    pub(crate) per_us: u64,
    /// 2^shift jiffies take about a second.
    pub(crate) shift: u32,
    /// Jiffies of the longest timer.
    pub(crate) most: u32,
}

/// `struct peers`, a key of the map of what is learned.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peers {
    /// An IPv6 address; 0: all hosts.
    pub(crate) host: [u8; 16],
    /// A hash of the rule's name; the last bit is set for incoming connections.
    pub(crate) rule: [u32; 2],
}

/// `struct estimate`, a value of that map; microseconds.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// The smoothed round trip, times 8.
    pub(crate) srtt8: u32,
    /// Its variation, times 4.
    pub(crate) rttvar4: u32,
    /// When the last sample was taken.
    pub(crate) when: u32,
    pub(crate) samples: u32,
}

/// A map as the kernel describes it (`struct bpf_map_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// `enum bpf_map_type`
    pub(crate) kind: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// `local_devices`: BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC.
pub(crate) const LOCAL_DEVICES: Shape = Shape {
    kind: 1,
    key_size: 16,
    value_size: size_of::<LocalDevice>() as u32,
    max_entries: 65_536,
    flags: 1,
};

/// A structure of numbers: any bytes are a valid value, and there is no padding.
///
/// # Safety
/// The type has these properties.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ident: $size:expr),*) => {$(
        const _: () = assert!(size_of::<$name>() == $size);
        // SAFETY: the fields are numbers and arrays of them; their sizes leave no room for padding.
        unsafe impl Plain for $name {}
    )*};
}
plain!(
    Policy: 16 + 6 * 4 + 8 + 16 + 72,
    Finding: 2 * 4 + 8 + 2 * 4,
    LocalDevice: 16 + 2 * 4,
    Ticks: 8 + 2 * 4,
    Peers: 16 + 2 * 4,
    Estimate: 4 * 4
);

/// The bytes of a structure.
pub(crate) fn bytes<T: Plain>(it: &T) -> &[u8] {
    // SAFETY: the length is the structure's size, and all bytes are initialised (`Plain`).
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(it).cast(), size_of::<T>()) }
}

/// A structure at the start of some bytes, and the 32-bit numbers after it; None if there are too few bytes.
pub(crate) fn read<T: Plain>(bytes: &[u8]) -> Option<(T, Vec<u32>)> {
    let (head, rest) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: there are enough bytes, any bytes are valid (`Plain`), and the read needs no alignment.
    let head = unsafe { head.as_ptr().cast::<T>().read_unaligned() };
    let words =
        rest.chunks_exact(4).map(|raw| u32::from_ne_bytes([raw[0], raw[1], raw[2], raw[3]]));
    Some((head, words.collect()))
}

/// Overwrites the start of some bytes with a structure and the numbers after it; false if there are too few bytes.
#[must_use]
pub(crate) fn write<T: Plain>(to: &mut [u8], head: &T, numbers: &[u32]) -> bool {
    let words = numbers.iter().flat_map(|number| number.to_ne_bytes());
    let all: Vec<u8> = bytes(head).iter().copied().chain(words).collect();
    to.get_mut(..all.len()).is_some_and(|to| {
        to.copy_from_slice(&all);
        true
    })
}

/// NUL-padded text.
pub(crate) fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
