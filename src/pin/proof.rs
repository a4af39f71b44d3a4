//! The proof that pins are ours: constants with our mark, and a program that uses them. Everything else in a set is
//! proved by being a part of that program.

use super::{ARRIVALS, CONSTANTS, LISTENER, PROGRAM_PIN, of};
use crate::bpf::{self, Kind, LinkInfo, MapInfo, Target};
use crate::error::{Error, Result, hint};
use crate::policy::{NOTE_ARRIVAL, PROGRAM};
use crate::shared::{self, LAYOUT, MARK, Policy};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The proof for the pins of one program: its constants, and the program that uses them.
pub(super) struct Proof<'a> {
    directory: BorrowedFd<'a>,
    path: &'a Path,
    id: u32,
    pub(super) policy: Policy,
    pub(super) jiffies: Vec<u32>,
    /// The id of the constants' map.
    constants: u32,
    /// The program, with the ids of its maps.
    pub(super) program: Option<(OwnedFd, Vec<u32>)>,
}

impl<'a> Proof<'a> {
    /// None if the constants are missing or not ours.
    pub(super) fn of(directory: BorrowedFd<'a>, id: u32, path: &'a Path) -> Result<Option<Self>> {
        let place = path.join(of(CONSTANTS, id));
        let Some((map, info)) = open_map(directory, &of(CONSTANTS, id), path)? else {
            return Ok(None);
        };
        if !info.is_data() {
            return Ok(None);
        }
        let bytes =
            bpf::read_data(map.as_fd(), &info).map_err(|errno| unreadable(&place, errno))?;
        let Some((policy, mut jiffies)) = shared::read::<Policy>(&bytes) else { return Ok(None) };
        if policy.mark != MARK || policy.layout != LAYOUT {
            return Ok(None);
        }
        jiffies.truncate(policy.rules as usize);
        let mut proof =
            Self { directory, path, id, policy, jiffies, constants: info.id, program: None };
        let found = proof.open_program(PROGRAM_PIN, PROGRAM)?;
        // Program 0 does not exist.
        proof.program = found.filter(|(_, info)| info.id == id).map(|(fd, info)| (fd, info.maps));
        Ok(Some(proof))
    }

    /// A pinned program that has this name in the kernel and uses our constants.
    fn open_program(&self, pin: &str, name: &str) -> Result<Option<(OwnedFd, bpf::ProgramInfo)>> {
        let pin = of(pin, self.id);
        let place = self.path.join(&pin);
        let failed = |errno| unreadable(&place, errno);
        let Some(fd) = open(self.directory, &pin, self.path)? else { return Ok(None) };
        if bpf::kind(fd.as_fd()).map_err(failed)? != Kind::Program {
            return Ok(None);
        }
        let info = bpf::program_info(fd.as_fd()).map_err(failed)?;
        let is_ours = info.name == name && info.maps.contains(&self.constants);
        Ok(is_ours.then_some((fd, info)))
    }

    /// A pinned map that belongs to the program.
    pub(super) fn map(&self, pin: &str) -> Result<Option<(OwnedFd, MapInfo)>> {
        let Some((_, maps)) = &self.program else { return Ok(None) };
        let found = open_map(self.directory, &of(pin, self.id), self.path)?;
        Ok(found.filter(|(_, info)| maps.contains(&info.id)))
    }

    /// The second link and its program, which uses our constants too.
    pub(super) fn second_link(&self) -> Result<Option<(OwnedFd, LinkInfo)>> {
        let Some((_, listener)) = self.open_program(LISTENER, NOTE_ARRIVAL)? else {
            return Ok(None);
        };
        let name = of(ARRIVALS, self.id);
        let place = self.path.join(&name);
        let Some(link) = open(self.directory, &name, self.path)? else { return Ok(None) };
        if bpf::kind(link.as_fd()).map_err(|errno| unreadable(&place, errno))? != Kind::Link {
            return Ok(None);
        }
        let info = link_info(link.as_fd(), &place)?;
        Ok((info.program_id == listener.id).then_some((link, info)))
    }

    /// The network namespace that the second link is attached to.
    pub(super) fn arrivals(&self) -> Result<Option<u32>> {
        Ok(self.second_link()?.and_then(|(_, info)| match info.target {
            Target::Netns { inode } => inode,
            _ => None,
        }))
    }

    /// True if a pin of this set matches its name.
    pub(super) fn is_ours(&self, pin: &str) -> Result<bool> {
        Ok(match pin {
            CONSTANTS => true,
            PROGRAM_PIN => self.program.is_some(),
            LISTENER => self.open_program(LISTENER, NOTE_ARRIVAL)?.is_some(),
            ARRIVALS => self.second_link()?.is_some(),
            _ => self.map(pin)?.is_some(),
        })
    }
}

pub(super) fn unreadable(path: &Path, errno: Errno) -> Error {
    let hint = match errno {
        Errno::EPERM | Errno::EACCES => hint::ROOT,
        Errno::ENOENT => hint::PROC,
        Errno::EROFS => "the bpffs is mounted read-only: mount -o remount,rw /sys/fs/bpf",
        _ => "try again",
    };
    Error::call(format_args!("read {}", path.display()), errno, hint)
}

/// Opens a pin; None if there is none.
pub(super) fn open(directory: BorrowedFd<'_>, name: &str, path: &Path) -> Result<Option<OwnedFd>> {
    let failed = |errno| unreadable(&path.join(name), errno);
    for _ in 0..100 {
        match bpf::open_pin(directory, name) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::ENOENT) if !bpf::exists(directory, name).map_err(failed)? => {
                return Ok(None);
            }
            // It was created meanwhile, or /proc is missing.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::ENOENT))
}

fn open_map(
    directory: BorrowedFd<'_>,
    name: &str,
    path: &Path,
) -> Result<Option<(OwnedFd, MapInfo)>> {
    let Some(map) = open(directory, name, path)? else { return Ok(None) };
    let failed = |errno| unreadable(&path.join(name), errno);
    if bpf::kind(map.as_fd()).map_err(failed)? != Kind::Map {
        return Ok(None);
    }
    let info = bpf::map_info(map.as_fd()).map_err(failed)?;
    Ok(Some((map, info)))
}

pub(super) fn link_info(link: BorrowedFd<'_>, path: &Path) -> Result<LinkInfo> {
    bpf::link_info(link).map_err(|errno| unreadable(path, errno))
}
