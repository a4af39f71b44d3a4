//! bpf(2) without a library, for the neighbour programs and foreign objects of the tests.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;

use super::asm;
use super::mounts;

/// Commands of bpf(2).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Command {
    MapCreate = 0,
    MapLookup = 1,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ProgAttach = 8,
    ProgGetNextId = 11,
    ProgGetFdById = 13,
    ObjGetInfoByFd = 15,
    ProgQuery = 16,
    LinkCreate = 28,
    LinkDetach = 34,
}

/// Several programs may be attached to the hook (`BPF_F_ALLOW_MULTI`).
pub(crate) const ALLOW_MULTI: u32 = 2;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PERCPU_ARRAY: u32 = 6;

/// A program type with its attach type on a cgroup.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    program_type: u32,
    attach_type: u32,
}

/// sock_ops, the hook of set-rto.
pub(crate) const SOCK_OPS: Hook = Hook { program_type: 13, attach_type: 3 };
/// Packets that leave a cgroup: a hook that set-rto does not use.
pub(crate) const EGRESS: Hook = Hook { program_type: 8, attach_type: 1 };

/// Listener lookup in a network namespace, which then takes the place of the cgroup.
pub(crate) const SK_LOOKUP: Hook = Hook { program_type: 30, attach_type: 36 };

/// `union bpf_attr`, filled by offset in its native byte order.
struct Attributes([u64; 18]);

impl Attributes {
    fn new() -> Self {
        Attributes([0; 18])
    }

    /// Sets the 32-bit field at a byte offset.
    fn word(mut self, offset: usize, value: u32) -> Self {
        let mut bytes = self.0[offset / 8].to_ne_bytes();
        bytes[offset % 8..offset % 8 + 4].copy_from_slice(&value.to_ne_bytes());
        self.0[offset / 8] = u64::from_ne_bytes(bytes);
        self
    }

    /// Sets the pointer at a byte offset that is a multiple of 8.
    fn pointer<T>(mut self, offset: usize, value: *const T) -> Self {
        self.0[offset / 8] = value.expose_provenance() as u64;
        self
    }

    /// Sets the name of an object, at most 16 bytes.
    fn name(mut self, offset: usize, name: &str) -> Self {
        for (at, chunk) in name.as_bytes().chunks(4).enumerate().take(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            self = self.word(offset + at * 4, u32::from_ne_bytes(word));
        }
        self
    }

    /// Calls bpf(2).
    ///
    /// # Safety
    /// The pointers set must be valid for what the command does with them.
    unsafe fn call(&mut self, command: Command) -> io::Result<i32> {
        let size = size_of_val(&self.0);
        // SAFETY: the attributes have the given length; the caller vouches for their pointers.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command as libc::c_long, self.0.as_mut_ptr(), size)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    /// Calls bpf(2) for a command that returns a descriptor.
    ///
    /// # Safety
    /// As for [`Attributes::call`].
    unsafe fn open(&mut self, command: Command) -> io::Result<OwnedFd> {
        // SAFETY: the caller upholds the contract.
        let raw = unsafe { self.call(command)? };
        // SAFETY: the kernel has just returned this new descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    }
}

/// Loads a program from instructions. `name` has at most 15 characters.
pub(crate) fn load(hook: Hook, name: &str, instructions: &[u64]) -> Result<OwnedFd> {
    let license = c"GPL";
    let mut attributes = Attributes::new()
        .word(0, hook.program_type)
        .word(4, instructions.len() as u32)
        .pointer(8, instructions.as_ptr())
        .pointer(16, license.as_ptr())
        .word(68, hook.attach_type)
        .name(48, name);
    // SAFETY: both pointers are to data that outlives the call.
    unsafe { attributes.open(Command::ProgLoad) }
        .with_context(|| format!("cannot load the test's program {name}"))
}

/// Attaches a program to a cgroup without a link.
pub(crate) fn attach(hook: Hook, cgroup: &Path, program: &OwnedFd, flags: u32) -> Result<()> {
    let directory = open_cgroup(cgroup)?;
    let mut attributes = Attributes::new()
        .word(0, directory.as_raw_fd().cast_unsigned())
        .word(4, program.as_raw_fd().cast_unsigned())
        .word(8, hook.attach_type)
        .word(12, flags);
    // SAFETY: no pointers.
    unsafe { attributes.call(Command::ProgAttach) }.context("cannot attach the test's program")?;
    Ok(())
}

/// Attaches a program to a cgroup by a link, which exists while it is open or pinned.
pub(crate) fn link(hook: Hook, cgroup: &Path, program: &OwnedFd) -> Result<OwnedFd> {
    let directory = open_cgroup(cgroup)?;
    let mut attributes = Attributes::new()
        .word(0, program.as_raw_fd().cast_unsigned())
        .word(4, directory.as_raw_fd().cast_unsigned())
        .word(8, hook.attach_type);
    // SAFETY: no pointers.
    unsafe { attributes.open(Command::LinkCreate) }.context("cannot link the test's program")
}

/// Opens the program with that id.
pub(crate) fn program(id: u32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    unsafe { Attributes::new().word(0, id).open(Command::ProgGetFdById) }
        .with_context(|| format!("cannot open the program {id}"))
}

/// The number of translated instructions of a program.
pub(crate) fn translated(program: &OwnedFd) -> Result<usize> {
    // xlated_prog_len, in bytes, is the sixth word of `struct bpf_prog_info`. The lengths and pointers around it
    // request nothing while they are zero.
    let mut info = [0_u32; 64];
    let mut attributes = Attributes::new()
        .word(0, program.as_raw_fd().cast_unsigned())
        .word(4, size_of_val(&info) as u32)
        .pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most the given size.
    unsafe { attributes.call(Command::ObjGetInfoByFd) }.context("cannot ask about a program")?;
    Ok(info[5] as usize / 8)
}

/// Creates an array map with one 8-byte element.
pub(crate) fn map() -> Result<OwnedFd> {
    map_named("", 8, false)
}

/// Creates an array map with a name of at most 15 characters and an element of any size. `per_cpu`: one element for
/// each processor.
pub(crate) fn map_named(name: &str, size: u32, per_cpu: bool) -> Result<OwnedFd> {
    let kind = if per_cpu { MAP_TYPE_PERCPU_ARRAY } else { MAP_TYPE_ARRAY };
    let mut attributes =
        Attributes::new().word(0, kind).word(4, 4).word(8, size).word(12, 1).name(28, name);
    // SAFETY: no pointers.
    unsafe { attributes.open(Command::MapCreate) }.context("cannot make a map")
}

/// Reads the value of that element.
pub(crate) fn read(map: &OwnedFd) -> Result<u64> {
    let (key, mut value) = (0_u32, 0_u64);
    let mut attributes = Attributes::new()
        .word(0, map.as_raw_fd().cast_unsigned())
        .pointer(8, &raw const key)
        .pointer(16, (&raw mut value).cast_const());
    // SAFETY: key and value have the sizes that the map was created with, and outlive the call.
    unsafe { attributes.call(Command::MapLookup) }.context("cannot read a map")?;
    Ok(value)
}

/// Pins a map, program or link.
pub(crate) fn pin(object: &OwnedFd, path: &Path) -> Result<()> {
    let text = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut attributes =
        Attributes::new().pointer(0, text.as_ptr()).word(8, object.as_raw_fd().cast_unsigned());
    // SAFETY: the path outlives the call.
    unsafe { attributes.call(Command::ObjPin) }
        .with_context(|| format!("cannot pin at {}", path.display()))?;
    Ok(())
}

/// The kind of object behind a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Map,
    Program,
    /// A link with its type: `enum bpf_link_type`.
    Link(u32),
}

/// A link to a network namespace.
pub(crate) const LINK_OF_NETNS: Kind = Kind::Link(5);

/// The kind of object pinned at a path, and its kernel id.
pub(crate) fn identify(path: &Path) -> Result<(Kind, u32)> {
    let object = open_pin(path)?;
    let name = std::fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()))?;
    let mut info = [0_u32; 64];
    let mut attributes = Attributes::new()
        .word(0, object.as_raw_fd().cast_unsigned())
        .word(4, size_of_val(&info) as u32)
        .pointer(8, info.as_mut_ptr());
    // SAFETY: the kernel writes at most the given size.
    unsafe { attributes.call(Command::ObjGetInfoByFd) }
        .with_context(|| format!("cannot ask about {}", path.display()))?;
    let name = name.to_string_lossy();
    let kind = match () {
        () if name.contains("map") => Kind::Map,
        () if name.contains("prog") => Kind::Program,
        () => Kind::Link(info[0]),
    };
    // In all three structures the id is the second word.
    Ok((kind, info[1]))
}

/// Detaches a link permanently, as `bpftool link detach` does.
pub(crate) fn detach_link(link: &OwnedFd) -> Result<()> {
    let mut attributes = Attributes::new().word(0, link.as_raw_fd().cast_unsigned());
    // SAFETY: no pointers.
    unsafe { attributes.call(Command::LinkDetach) }.context("cannot detach a link")?;
    Ok(())
}

/// Opens the object pinned at a path.
pub(crate) fn open_pin(path: &Path) -> Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the path outlives the call.
    unsafe { Attributes::new().pointer(0, text.as_ptr()).open(Command::ObjGet) }
        .with_context(|| format!("cannot open the pin {}", path.display()))
}

/// The ids of the programs on a cgroup's hook, in the order in which they run.
pub(crate) fn attached(hook: Hook, cgroup: &Path) -> Result<Vec<u32>> {
    let directory = open_cgroup(cgroup)?;
    let mut ids = [0_u32; 64];
    let mut attributes = Attributes::new()
        .word(0, directory.as_raw_fd().cast_unsigned())
        .word(4, hook.attach_type)
        .pointer(16, ids.as_mut_ptr())
        .word(24, ids.len() as u32);
    // SAFETY: the kernel writes at most the given number of ids.
    unsafe { attributes.call(Command::ProgQuery) }.context("cannot ask for attached programs")?;
    let count = (attributes.0[3].to_ne_bytes()[..4]).try_into().map(u32::from_ne_bytes)?;
    Ok(ids[..count as usize].to_vec())
}

/// The reason why this kernel does not support cgroup BPF, or `None` if it does.
pub(crate) fn missing() -> Option<String> {
    // SAFETY: no pointers.
    match unsafe { Attributes::new().call(Command::ProgGetNextId) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Some("this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)".into())
        }
        _ => (!has_cgroups())
            .then(|| "this kernel has no BPF for cgroups (CONFIG_CGROUP_BPF)".into()),
    }
}

/// Whether programs can be attached to cgroups. If they cannot, even a query of a cgroup is invalid. Returns true if
/// there is no cgroup to query.
pub(crate) fn has_cgroups() -> bool {
    let Some(cgroup) = mounts::of_type("cgroup2").ok().and_then(|mut all| all.pop()) else {
        return true;
    };
    let Err(error) = attached(SOCK_OPS, &cgroup) else { return true };
    let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    errno != Some(libc::EINVAL)
}

/// Whether programs may read kernel memory. They cannot without CONFIG_BPF_EVENTS or under lockdown=confidentiality.
pub(crate) fn may_read_memory() -> bool {
    const PROBE_READ_KERNEL: i32 = 113;
    // probe_read_kernel(r10 - 8, 8, 0)
    let instructions = [
        asm::mov_register(1, 10),
        asm::add(1, -8),
        asm::mov(2, 8),
        asm::mov(3, 0),
        asm::call(PROBE_READ_KERNEL),
        asm::mov(0, 1),
        asm::EXIT,
    ];
    load(SOCK_OPS, "reads", &instructions).is_ok()
}

fn open_cgroup(cgroup: &Path) -> Result<File> {
    File::open(cgroup).with_context(|| format!("cannot open the cgroup {}", cgroup.display()))
}
