//! The pins: their names, the proof that they are ours, and their contents.
//!
//! The directory contains the link and a set for each of our programs: the program and the maps that the loader reads,
//! named by the program's id. An install pins a new set beside the old one and then updates the link. The program id in
//! the link shows which set is in effect. All other sets are leftovers of killed runs.
//!
//! | pin | object |
//! |---|---|
//! | `link` | the cgroup link |
//! | `constants-ID` | `.rodata`, which begins with a mark that no foreign map has |
//! | `program-ID` | the sock_ops program; the maps of this set are its maps |
//! | `counters-ID` | `.bss` |
//! | `failures-ID` | how often the kernel refused a setting, if that does not fit in the map of the counters |
//! | `rules-ID` | the rules as text, unless that is too long |
//! | `method-ID`, `devices-ID` | how interfaces are found, and which there are |
//! | `listener-ID`, `arrivals-ID` | the sk_lookup program, and its link to the network namespace |

mod directory;
mod proof;
mod wait;

use directory::open_to_look;
pub(crate) use directory::{Locked, is_on_bpffs};
use proof::{Proof, link_info, open, unreadable};

use crate::bpf::{self, Kind, MapInfo, Target};
use crate::device::local;
use crate::error::{Error, Result, hint};
use crate::host::netns::Netns;
use crate::policy::{FINDING, NOTE_ARRIVAL, Skeleton};
use crate::rules;
use crate::shared::{self, Finding, LOCAL_DEVICES, Policy, Shape};
use crate::way::Way;
use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, libbpf_sys as sys};
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The default of `--pin`.
pub(crate) const PIN: &str = "/sys/fs/bpf/set-rto";

const LINK: &str = "link";
const CONSTANTS: &str = "constants";
const PROGRAM_PIN: &str = "program";
const COUNTERS: &str = "counters";
const FAILURES: &str = "failures";
const RULES: &str = "rules";
const METHOD: &str = "method";
const DEVICES: &str = "devices";
const LISTENER: &str = "listener";
const ARRIVALS: &str = "arrivals";

/// The pins of one program. They are pinned in this order and removed in reverse, so each pin can be proved by those
/// that precede it.
const SET: [&str; 9] =
    [CONSTANTS, PROGRAM_PIN, COUNTERS, FAILURES, RULES, METHOD, DEVICES, LISTENER, ARRIVALS];

fn of(kind: &str, id: u32) -> String {
    format!("{kind}-{id}")
}

/// What is at the pin.
pub(crate) enum State {
    Absent,
    /// Something that is not ours; the text describes it.
    Foreign(String),
    Ours(Box<Installed>),
}

/// A policy of ours.
pub(crate) struct Installed {
    pub(crate) link: OwnedFd,
    pub(crate) link_id: u32,
    pub(crate) program: OwnedFd,
    pub(crate) program_id: u32,
    /// None if the link is detached, because its cgroup is gone or by another tool. Then nothing is in effect.
    pub(crate) cgroup: Option<u64>,
    pub(crate) policy: Policy,
    /// For each rule, its timer in jiffies; 0: the kernel's.
    pub(crate) jiffies: Vec<u32>,
    pub(crate) counters: OwnedFd,
    failures: Option<OwnedFd>,
    rules: Option<(OwnedFd, MapInfo)>,
    /// How interfaces are found; None if no rule tests one.
    pub(crate) way: Option<Way>,
    pub(crate) devices: Option<OwnedFd>,
    /// The network namespace that the second link is attached to, where arrivals are recorded.
    pub(crate) arrivals: Option<u32>,
}

impl Installed {
    pub(crate) fn version(&self) -> String {
        shared::text(&self.policy.version)
    }

    pub(crate) fn digest(&self) -> String {
        shared::text(&self.policy.digest)
    }

    /// True for exactly these rules, by this version.
    pub(crate) fn is_current(&self) -> bool {
        self.digest() == rules::DIGEST && self.version() == rules::VERSION
    }

    /// True if arrivals are recorded or this policy does not need them.
    pub(crate) fn has_arrivals(&self) -> bool {
        self.way.is_none_or(|way| !way.arrivals || self.arrivals.is_some())
    }

    /// The rules as text, a line each, as [`rules::Rule::line_of_text`] writes it; None if it was too long to keep.
    pub(crate) fn rules(&self) -> Result<Option<String>> {
        let Some((map, info)) = &self.rules else { return Ok(None) };
        let bytes = bpf::read_data(map.as_fd(), info)
            .map_err(|errno| Error::call("read the rules", errno, hint::ROOT))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The connections of each rule, followed by how often the kernel refused each setting of each rule.
    pub(crate) fn count(&self) -> Result<(Vec<u64>, Vec<Vec<u64>>)> {
        let counters = numbers(self.counters.as_fd())?;
        let (rules, columns) = (self.policy.rules as usize, self.policy.columns as usize);
        let Some((hits, failures)) = counters.split_at_checked(rules) else {
            return Err(Error::new("read the counters: too few", hint::DAMAGED));
        };
        let rows = match &self.failures {
            None => failures.chunks_exact(columns.max(1)).map(<[u64]>::to_vec).collect(),
            Some(map) => {
                let row = |rule| bpf::row(map.as_fd(), rule, columns);
                let rows: std::result::Result<_, _> = (0..self.policy.rules).map(row).collect();
                rows.map_err(|errno| Error::call("read the refusals", errno, hint::ROOT))?
            }
        };
        Ok((hits.to_vec(), rows))
    }
}

/// The longest text of rules that is kept, in bytes: the largest value of a map before Linux 5.19.
const LONGEST: usize = 4 << 20;

/// The 64-bit numbers of a map of global data.
pub(crate) fn numbers(map: BorrowedFd<'_>) -> Result<Vec<u64>> {
    let failed = |errno| Error::call("read the counters", errno, hint::ROOT);
    let info = bpf::map_info(map).map_err(failed)?;
    let data = bpf::read_data(map, &info).map_err(failed)?;
    let (words, _) = data.as_chunks::<8>();
    Ok(words.iter().copied().map(u64::from_ne_bytes).collect())
}

/// Reads the pins at a path, without a lock.
pub(crate) fn look_at(path: &Path) -> Result<State> {
    match open_to_look(path)? {
        Ok(Some(directory)) => look(directory.as_fd(), path),
        Ok(None) => Ok(State::Absent),
        Err(what) => Ok(State::Foreign(what)),
    }
}

/// Reads the pins in a directory. `path` is for messages.
///
/// # Errors
/// It cannot be read: then it is neither ours nor foreign.
pub(crate) fn look(directory: BorrowedFd<'_>, path: &Path) -> Result<State> {
    // Without the lock a set may vanish while it is read. Then the link has another program. Each turn of this loop
    // means that another process has installed.
    for _ in 0..1000 {
        let Some(link) = open(directory, LINK, path)? else { return Ok(State::Absent) };
        let place = path.join(LINK);
        let foreign = |what: &str| Ok(State::Foreign(format!("{} is {what}", place.display())));
        match bpf::kind(link.as_fd()).map_err(|errno| unreadable(&place, errno))? {
            Kind::Link => {}
            Kind::Map => return foreign("a pinned map"),
            Kind::Program => return foreign("a pinned program"),
            Kind::Other => return foreign("a pinned BPF object of another type"),
        }
        let info = link_info(link.as_fd(), &place)?;
        let Target::Cgroup { id: cgroup, attach_type: sys::BPF_CGROUP_SOCK_OPS } = info.target
        else {
            return foreign("a link of another type");
        };
        match read_set(directory, info.program_id, path)? {
            Ok(set) => {
                return Ok(State::Ours(Box::new(Installed {
                    link,
                    link_id: info.id,
                    program: set.program,
                    program_id: info.program_id,
                    cgroup,
                    policy: set.policy,
                    jiffies: set.jiffies,
                    counters: set.counters,
                    failures: set.failures,
                    rules: set.rules,
                    way: set.way,
                    devices: set.devices,
                    arrivals: set.arrivals,
                })));
            }
            Err(what) => {
                if link_info(link.as_fd(), &place)?.program_id == info.program_id {
                    return foreign(&format!(
                        "the link of a program that is not proved ours: {what}"
                    ));
                }
            }
        }
    }
    Err(Error::new(format!("{} keeps changing", path.display()), "try again"))
}

/// The pins of one program.
struct Set {
    program: OwnedFd,
    policy: Policy,
    jiffies: Vec<u32>,
    counters: OwnedFd,
    failures: Option<OwnedFd>,
    rules: Option<(OwnedFd, MapInfo)>,
    way: Option<Way>,
    devices: Option<OwnedFd>,
    arrivals: Option<u32>,
}

/// Reads the pins of one program and proves that they are ours, or returns what is not.
fn read_set(
    directory: BorrowedFd<'_>,
    id: u32,
    path: &Path,
) -> Result<std::result::Result<Set, String>> {
    let Some(proof) = Proof::of(directory, id, path)? else {
        return Ok(Err(format!("no {} beside it", of(CONSTANTS, id))));
    };
    let Some((program, _)) = &proof.program else {
        return Ok(Err(format!("no {} beside it", of(PROGRAM_PIN, id))));
    };
    let copy =
        |fd: &OwnedFd| fd.try_clone().map_err(|e| Error::io("read the pins", &e, hint::AGAIN));
    let Some((counters, _)) = proof.map(COUNTERS)? else {
        return Ok(Err(format!("no {} beside it", of(COUNTERS, id))));
    };
    let way = match proof.map(METHOD)? {
        None => None,
        Some((map, info)) => {
            let bytes = bpf::read_data(map.as_fd(), &info)
                .map_err(|errno| unreadable(&path.join(of(METHOD, id)), errno))?;
            match shared::read::<Finding>(&bytes).and_then(|(it, _)| Way::from_finding(&it)) {
                Some(way) => Some(way),
                None => return Ok(Err(format!("{} is invalid", of(METHOD, id)))),
            }
        }
    };
    let devices = match proof.map(DEVICES)? {
        Some((_, info)) if info.shape != LOCAL_DEVICES => {
            return Ok(Err(format!("{} is invalid", of(DEVICES, id))));
        }
        found => found.map(|(map, _)| map),
    };
    let rules = proof.map(RULES)?;
    let failures = proof.map(FAILURES)?;
    // A row for each rule, in order.
    let Policy { rules: count, columns, .. } = proof.policy;
    let row = (sys::BPF_MAP_TYPE_ARRAY, 4, 8 * columns, count);
    let is_row =
        |shape: Shape| (shape.kind, shape.key_size, shape.value_size, shape.max_entries) == row;
    if failures.as_ref().is_some_and(|(_, info)| !is_row(info.shape)) {
        return Ok(Err(format!("{} is invalid", of(FAILURES, id))));
    }
    Ok(Ok(Set {
        program: copy(program)?,
        policy: proof.policy,
        jiffies: proof.jiffies.clone(),
        counters,
        failures: failures.map(|(map, _)| map),
        rules,
        way,
        devices,
        arrivals: proof.arrivals()?,
    }))
}

/// Pins the set of a loaded program and attaches its second link. Returns the program's id.
pub(crate) fn store(directory: &mut Locked, skeleton: &Skeleton, way: Option<Way>) -> Result<u32> {
    let object = skeleton.object();
    let program = skeleton.progs.set_rto.as_fd();
    let failed = |errno| Error::call("read the new program", errno, hint::AGAIN);
    let id = bpf::program_info(program).map_err(failed)?.id;
    let missing = |what: &str| Error::new(format!("no {what} in the program"), hint::DAMAGED);
    let map = |is_it: fn(&str) -> bool, what: &str| {
        let mut maps = object.maps();
        let found = maps.find(|map| is_it(&map.name().to_string_lossy()));
        found.ok_or_else(|| missing(what))
    };
    let constants = map(|name| name.ends_with(".rodata"), "constants")?;
    let counters = map(|name| name.ends_with(".bss"), "counters")?;
    directory.pin(constants.as_fd(), &of(CONSTANTS, id))?;
    directory.pin(program, &of(PROGRAM_PIN, id))?;
    directory.pin(counters.as_fd(), &of(COUNTERS, id))?;
    if let Some(failures) = object.maps().find(|map| map.name() == "failures") {
        directory.pin(failures.as_fd(), &of(FAILURES, id))?;
    }
    let text = rules::all().map(|rule| rule.line_of_text()).collect::<String>();
    if text.len() <= LONGEST {
        let map = bpf::new_text(c"rules", text.as_bytes()).map_err(failed)?;
        bpf::bind_map(program, map.as_fd()).map_err(failed)?;
        directory.pin(map.as_fd(), &of(RULES, id))?;
    }
    let Some(way) = way else { return Ok(id) };
    directory.pin(map(|name| name == FINDING, "method")?.as_fd(), &of(METHOD, id))?;
    directory.pin(map(|name| name == local::MAP, "devices")?.as_fd(), &of(DEVICES, id))?;
    if way.arrivals {
        let mut programs = object.progs();
        let listener = programs.find(|program| program.name() == NOTE_ARRIVAL);
        let listener = listener.ok_or_else(|| missing("program for arrivals"))?;
        // They identify it later.
        bpf::bind_map(listener.as_fd(), constants.as_fd()).map_err(failed)?;
        directory.pin(listener.as_fd(), &of(LISTENER, id))?;
        let netns = Netns::open()?;
        let link = bpf::attach(listener.as_fd(), netns.as_fd(), sys::BPF_SK_LOOKUP);
        let link = link.map_err(|errno| {
            Error::call(
                "attach to the network namespace, to see which interface connections come in by",
                errno,
                "at most 64 sk_lookup programs fit: `bpftool net` and `bpftool link` show them",
            )
        })?;
        let link = directory.attached(link);
        directory.pin((*link).as_fd(), &of(ARRIVALS, id))?;
    }
    Ok(id)
}

/// Pins the link of a first install.
pub(crate) fn store_link(directory: &mut Locked, link: BorrowedFd<'_>) -> Result<()> {
    directory.pin(link, LINK)
}

/// Removes the name of the link.
pub(crate) fn remove_link(directory: &Locked) -> Result<()> {
    directory.unpin(LINK)
}

/// Removes the sets of all programs but one, as far as they are ours. `known` exists even if the list leaves it out.
pub(crate) fn sweep(directory: &Locked, keep: Option<u32>, known: Option<u32>) -> Result<()> {
    let mut ids = ids(directory)?;
    ids.extend(known);
    for id in ids.into_iter().filter(|id| Some(*id) != keep) {
        let Some(proof) = Proof::of(directory.as_fd(), id, directory.path())? else { continue };
        for pin in SET.iter().rev() {
            if !proof.is_ours(pin)? {
                continue;
            }
            if *pin == ARRIVALS
                && let Some((link, _)) = proof.second_link()?
            {
                // Unpinning alone would leave it in effect for some milliseconds: the kernel frees links in a work
                // queue.
                let detached = bpf::detach(link.as_fd());
                detached.map_err(|errno| unreadable(&directory.path().join(pin), errno))?;
            }
            directory.unpin(&of(pin, id))?;
        }
    }
    Ok(())
}

/// The ids of the programs that have pins.
fn ids(directory: &Locked) -> Result<BTreeSet<u32>> {
    let failed = |errno| {
        Error::call(format_args!("list {}", directory.path().display()), errno, "try again")
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut list = Dir::openat(directory.as_fd(), ".", flags, Mode::empty()).map_err(failed)?;
    let mut ids = BTreeSet::new();
    for entry in list.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy();
        let Some((kind, number)) = name.split_once('-') else { continue };
        if let Ok(id) = number.parse()
            && SET.contains(&kind)
            && of(kind, id) == *name
        {
            ids.insert(id);
        }
    }
    Ok(ids)
}
