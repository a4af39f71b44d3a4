//! The proof that pins are ours: constants with our mark, and a program that uses them. Everything else in a set is
//! proved by being a part of that program.

use super::{ARRIVALS, CONSTANTS, LISTENER, PROGRAM_PIN, of};
use crate::bpf::{self, MapInfo, Object};
use crate::error::{Error, Result, hint};
use crate::host;
use crate::policy::{NOTE_ARRIVAL, PROGRAM};
use crate::shared::{self, LAYOUT, MARK, Policy};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A pinned object and what it is.
type Pinned = (OwnedFd, Object);

/// The pins of one program, with what proves them: its constants, and the program that uses them.
pub(super) struct Set<'a> {
    directory: BorrowedFd<'a>,
    path: &'a Path,
    id: u32,
    pub(super) policy: Policy,
    pub(super) jiffies: Vec<u32>,
    /// The id of the constants' map.
    constants: u32,
    /// The ids of the program's maps. None without a program that is ours.
    maps: Vec<u32>,
}

impl<'a> Set<'a> {
    /// None if the constants are missing or not ours.
    pub(super) fn of(directory: BorrowedFd<'a>, id: u32, path: &'a Path) -> Result<Option<Self>> {
        let name = of(CONSTANTS, id);
        let Some((map, Object::Map(info))) = open(directory, &name, path)? else {
            return Ok(None);
        };
        if !info.is_data() {
            return Ok(None);
        }
        let bytes = read(&map, &info, &path.join(name))?;
        let Some((policy, mut jiffies)) = shared::read::<Policy>(&bytes) else { return Ok(None) };
        if policy.mark != MARK || policy.layout != LAYOUT {
            return Ok(None);
        }
        jiffies.truncate(policy.rules as usize);
        let (constants, maps) = (info.id, Vec::new());
        let mut set = Self { directory, path, id, policy, jiffies, constants, maps };
        if let Some((_, Object::Program(program))) = set.find(PROGRAM_PIN)? {
            set.maps = program.maps;
        }
        Ok(Some(set))
    }

    /// A pin of this set; None if it is missing or not proved ours.
    pub(super) fn find(&self, pin: &str) -> Result<Option<Pinned>> {
        let found = open(self.directory, &of(pin, self.id), self.path)?;
        let Some((fd, object)) = found else { return Ok(None) };
        let is_ours = match (pin, &object) {
            (CONSTANTS, Object::Map(map)) => map.id == self.constants,
            (PROGRAM_PIN, Object::Program(it)) => {
                it.id == self.id && it.name == PROGRAM && it.maps.contains(&self.constants)
            }
            (LISTENER, Object::Program(it)) => {
                it.name == NOTE_ARRIVAL && it.maps.contains(&self.constants)
            }
            (ARRIVALS, Object::Link(link)) => matches!(
                self.find(LISTENER)?,
                Some((_, Object::Program(listener))) if listener.id == link.program_id
            ),
            (_, Object::Map(map)) => self.maps.contains(&map.id),
            _ => false,
        };
        Ok(is_ours.then_some((fd, object)))
    }

    /// True if something has the name of this pin.
    pub(super) fn is_taken(&self, pin: &str) -> Result<bool> {
        Ok(open(self.directory, &of(pin, self.id), self.path)?.is_some())
    }

    /// A map that belongs to the program.
    pub(super) fn map(&self, pin: &str) -> Result<Option<(OwnedFd, MapInfo)>> {
        Ok(match self.find(pin)? {
            Some((map, Object::Map(info))) => Some((map, info)),
            _ => None,
        })
    }

    /// The value of a map of global data.
    pub(super) fn data(&self, pin: &str) -> Result<Option<Vec<u8>>> {
        let place = self.path.join(of(pin, self.id));
        self.map(pin)?.map(|(map, info)| read(&map, &info, &place)).transpose()
    }
}

fn read(map: &OwnedFd, info: &MapInfo, place: &Path) -> Result<Vec<u8>> {
    bpf::read_data(map.as_fd(), info).map_err(|errno| failed("read", place, errno))
}

/// Opens a pin; None if there is none.
pub(super) fn open(directory: BorrowedFd<'_>, name: &str, path: &Path) -> Result<Option<Pinned>> {
    let failed = |errno| failed("read", &path.join(name), errno);
    for _ in 0..100 {
        match bpf::open_pin(directory, name) {
            Ok(fd) => {
                let object = bpf::describe(fd.as_fd()).map_err(failed)?;
                return Ok(Some((fd, object)));
            }
            Err(Errno::ENOENT) if !host::exists(directory, name).map_err(failed)? => {
                return Ok(None);
            }
            // It was created meanwhile, or /proc is missing.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::ENOENT))
}

/// A failed call on a pin or its directory.
pub(super) fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let is_dotted = path.to_string_lossy().contains('.');
    let hint = match errno {
        // `bpf_lookup()`, kernel/bpf/inode.c
        Errno::EPERM if is_dotted => "names on a bpffs have no dot in them",
        Errno::EPERM | Errno::EACCES => {
            "pins need root, and a security module (AppArmor) that allows them"
        }
        Errno::EROFS => "the bpffs is mounted read-only: mount -o remount,rw /sys/fs/bpf",
        Errno::ENAMETOOLONG | Errno::ELOOP => "give a shorter, plain path",
        Errno::EEXIST => "something else has that name",
        Errno::ENOENT => hint::PROC,
        _ => hint::RETRY,
    };
    Error::call(format_args!("{what} {}", path.display()), errno, hint)
}
