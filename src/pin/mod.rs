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
//! | `evidence-ID` | counters and histograms of each rule, unless they are off |
//! | `learned1-ID` | what was learned of hosts, in layout 1; the next set has the same map |
//! | `rules-ID` | the rules as text, unless that is too long |
//! | `method-ID`, `devices-ID` | how interfaces are found, and which there are |
//! | `listener-ID`, `arrivals-ID` | the sk_lookup program, and its link to the network namespace |

mod directory;
mod proof;
mod wait;

pub(crate) use directory::{Locked, is_on_bpffs};
use proof::{Set, failed, open};

use crate::bpf::{self, LinkInfo, MapInfo, Object, Target};
use crate::device::local;
use crate::error::{Context as _, Error, Result, hint};
use crate::evidence::Evidence;
use crate::host::{self, netns::Netns};
use crate::learned;
use crate::policy::{self, FINDING, NOTE_ARRIVAL, Skeleton};
use crate::rules;
use crate::shared::{self, Finding, LOCAL_DEVICES, Policy, Shape};
use crate::way::Way;
use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, libbpf_sys as sys};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The default of `--pin`.
pub(crate) const PIN: &str = "/sys/fs/bpf/set-rto";

/// The pin of the link that is in effect.
pub(crate) const LINK: &str = "link";
const CONSTANTS: &str = "constants";
const PROGRAM_PIN: &str = "program";
const COUNTERS: &str = "counters";
const FAILURES: &str = "failures";
const EVIDENCE: &str = "evidence";
const LEARNED: &str = learned::PIN;
const RULES: &str = "rules";
const METHOD: &str = "method";
const DEVICES: &str = "devices";
const LISTENER: &str = "listener";
const ARRIVALS: &str = "arrivals";

/// The pins of one program. They are pinned in this order and removed in reverse, so each pin can be proved by those
/// that precede it.
const SET: [&str; 11] = [
    CONSTANTS,
    PROGRAM_PIN,
    COUNTERS,
    FAILURES,
    EVIDENCE,
    LEARNED,
    RULES,
    METHOD,
    DEVICES,
    LISTENER,
    ARRIVALS,
];

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

impl State {
    /// The policy in effect.
    pub(crate) fn in_effect(&self) -> Option<&Installed> {
        match self {
            Self::Ours(installed) if installed.cgroup.is_some() => Some(installed),
            _ => None,
        }
    }
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
    /// How often what happened to connections; a row for each rule and direction.
    pub(crate) evidence: Option<OwnedFd>,
    /// Numbers of such a row.
    evidence_numbers: usize,
    /// What was learned, and for how many hosts there is room.
    pub(crate) learned: Option<(OwnedFd, u32)>,
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

    /// The network namespace that interfaces are those of, for display, if it is not this process's.
    pub(crate) fn other_netns(&self) -> Result<Option<String>> {
        let Some(way) = self.way else { return Ok(None) };
        let netns = Netns::open()?;
        let is_here = match (way.cookie, netns.cookie) {
            (Some(known), Some(cookie)) => known == cookie,
            _ => self.policy.netns == netns.inode,
        };
        let inode = self.policy.netns;
        Ok((!is_here)
            .then(|| format!("those of network namespace {inode} (`lsns -t net` lists it)")))
    }

    /// The rules as text, a line each, as [`rules::Rule::line_of_text`] writes it; None if it was too long to keep.
    pub(crate) fn rules(&self) -> Result<Option<String>> {
        let Some((map, info)) = &self.rules else { return Ok(None) };
        let bytes = bpf::read_data(map.as_fd(), info).context("read the rules", hint::ROOT)?;
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
                let row = |rule| row(map.as_fd(), rule, columns);
                let rows: nix::Result<_> = (0..self.policy.rules).map(row).collect();
                rows.context("read the refusals", hint::ROOT)?
            }
        };
        // Where there is evidence, connections are counted there.
        let hits = match self.evidence()? {
            None => hits.to_vec(),
            Some(rows) => rows.iter().map(|[out, into]| out.asked + into.asked).collect(),
        };
        Ok((hits, rows))
    }

    /// What happened to the connections of each rule: outgoing and incoming ones. None if it is not kept.
    pub(crate) fn evidence(&self) -> Result<Option<Vec<[Evidence; 2]>>> {
        let Some(map) = &self.evidence else { return Ok(None) };
        evidence(map.as_fd(), self.policy.rules, self.evidence_numbers).map(Some)
    }
}

/// The longest text of rules that is kept, in bytes: the largest value of a map before Linux 5.19.
const LONGEST: usize = 4 << 20;

/// The 64-bit numbers of a map of global data.
pub(crate) fn numbers(map: BorrowedFd<'_>) -> Result<Vec<u64>> {
    let data = bpf::map_info(map).and_then(|info| bpf::read_data(map, &info));
    Ok(words(&data.context("read the counters", hint::ROOT)?))
}

/// The evidence of so many rules: outgoing and incoming connections. `numbers`: of each row of the map.
pub(crate) fn evidence(
    map: BorrowedFd<'_>,
    rules: u32,
    numbers: usize,
) -> Result<Vec<[Evidence; 2]>> {
    let row = |key| row(map, key, numbers).map(|row| Evidence::new(&row));
    let both = |rule: u32| Ok([row(2 * rule)?, row(2 * rule + 1)?]);
    let rows: nix::Result<_> = (0..rules).map(both).collect();
    rows.context("read the evidence", hint::ROOT)
}

/// A row of so many 64-bit numbers.
fn row(map: BorrowedFd<'_>, key: u32, numbers: usize) -> nix::Result<Vec<u64>> {
    let mut row = vec![0; 8 * numbers];
    bpf::look_up(map, &key.to_ne_bytes(), &mut row)?;
    Ok(words(&row))
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().copied().map(u64::from_ne_bytes).collect()
}

/// Reads the pins at a path, without a lock.
pub(crate) fn look_at(path: &Path) -> Result<State> {
    let found = match directory::open_to_look(path) {
        Ok(Some(directory)) => look_in(directory.as_fd(), path),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    match found {
        Ok(None) => Ok(State::Absent),
        Ok(Some(installed)) => Ok(State::Ours(installed)),
        Err(error) if error.is_foreign() => Ok(State::Foreign(error.cause().into())),
        Err(error) => Err(error),
    }
}

/// Reads the pins in a locked directory. None if there is no link.
///
/// # Errors
/// They are foreign, or they cannot be read: then they are neither ours nor foreign.
pub(crate) fn look(directory: &Locked) -> Result<Option<Box<Installed>>> {
    look_in(directory.as_fd(), directory.path())
}

/// `path` is for messages.
fn look_in(directory: BorrowedFd<'_>, path: &Path) -> Result<Option<Box<Installed>>> {
    let foreign = |what: &str| Error::foreign(format!("{} is {what}", path.join(LINK).display()));
    // Without the lock a set may vanish while it is read. Then the link has another program. Each turn of this loop
    // means that another process has installed.
    let mut unproved: Option<(u32, Error)> = None;
    for _ in 0..1000 {
        let Some((link, object)) = open(directory, LINK, path)? else { return Ok(None) };
        let info = match object {
            Object::Link(info) => info,
            Object::Map(_) => return Err(foreign("a pinned map")),
            Object::Program(_) => return Err(foreign("a pinned program")),
            Object::Other => return Err(foreign("a pinned BPF object of another type")),
        };
        let Target::Cgroup { id: cgroup, attach_type: sys::BPF_CGROUP_SOCK_OPS } = info.target
        else {
            return Err(foreign("a link of another type"));
        };
        if let Some((id, why)) = unproved
            && id == info.program_id
        {
            let what = format!("the link of a program that is not proved ours: {}", why.cause());
            return Err(foreign(&what));
        }
        match read_set(directory, link, &info, cgroup, path) {
            Err(error) if error.is_foreign() => unproved = Some((info.program_id, error)),
            done => return done.map(|it| Some(Box::new(it))),
        }
    }
    Err(Error::new(format!("{} keeps changing", path.display()), hint::RETRY))
}

/// Reads the pins of the program of a link, and proves that they are ours.
fn read_set(
    directory: BorrowedFd<'_>,
    link: OwnedFd,
    LinkInfo { id: link_id, program_id, .. }: &LinkInfo,
    cgroup: Option<u64>,
    path: &Path,
) -> Result<Installed> {
    let id = *program_id;
    let absent = |pin| Error::foreign(format!("no {} beside it", of(pin, id)));
    let invalid = |pin| Error::foreign(format!("{} is invalid", of(pin, id)));
    let set = Set::of(directory, id, path)?.ok_or_else(|| absent(CONSTANTS))?;
    let (program, _) = set.find(PROGRAM_PIN)?.ok_or_else(|| absent(PROGRAM_PIN))?;
    let (counters, _) = set.map(COUNTERS)?.ok_or_else(|| absent(COUNTERS))?;
    let way = match set.data(METHOD)? {
        None => None,
        Some(bytes) => {
            let finding = shared::read::<Finding>(&bytes);
            let way = finding.and_then(|(it, _)| Way::from_finding(&it));
            Some(way.ok_or_else(|| invalid(METHOD))?)
        }
    };
    let devices = set.map(DEVICES)?;
    if devices.as_ref().is_some_and(|(_, info)| info.shape != LOCAL_DEVICES) {
        return Err(invalid(DEVICES));
    }
    let failures = set.map(FAILURES)?;
    let Policy { rules: count, columns, .. } = set.policy;
    if failures.as_ref().is_some_and(|(_, info)| !is_rows(info.shape, 8 * columns, count)) {
        return Err(invalid(FAILURES));
    }
    let evidence = set.map(EVIDENCE)?;
    let size = evidence.as_ref().map_or(0, |(_, info)| info.shape.value_size);
    if evidence.as_ref().is_some_and(|(_, info)| !is_rows(info.shape, size, 2 * count)) {
        return Err(invalid(EVIDENCE));
    }
    let learned = set.map(LEARNED)?;
    let is_invalid = match &learned {
        Some((_, info)) => !learned::is_ours(info.shape),
        // What others have put there would be lost, or what was learned.
        None => set.is_taken(LEARNED)?,
    };
    if is_invalid {
        return Err(invalid(LEARNED));
    }
    let arrivals = match set.find(ARRIVALS)? {
        Some((_, Object::Link(LinkInfo { target: Target::Netns { inode }, .. }))) => inode,
        _ => None,
    };
    Ok(Installed {
        link,
        link_id: *link_id,
        program,
        program_id: id,
        cgroup,
        rules: set.map(RULES)?,
        policy: set.policy,
        jiffies: set.jiffies,
        counters,
        failures: failures.map(|(map, _)| map),
        evidence: evidence.map(|(map, _)| map),
        evidence_numbers: size as usize / 8,
        learned: learned.map(|(map, info)| (map, info.shape.max_entries)),
        way,
        devices: devices.map(|(map, _)| map),
        arrivals,
    })
}

/// True for an array of so many rows of 64-bit numbers.
fn is_rows(shape: Shape, bytes: u32, count: u32) -> bool {
    let Shape { kind, key_size, value_size, max_entries, .. } = shape;
    (kind, key_size, value_size, max_entries) == (sys::BPF_MAP_TYPE_ARRAY, 4, bytes, count)
        && bytes.is_multiple_of(8)
}

/// Pins the set of a loaded program and attaches its second link. Returns the program's id.
///
/// `kept`: what was learned by other rules, which these do not use.
pub(crate) fn store(
    directory: &mut Locked,
    skeleton: &Skeleton,
    way: Option<Way>,
    kept: Option<BorrowedFd<'_>>,
) -> Result<u32> {
    const WHAT: &str = "read the new program";
    let program = skeleton.progs.set_rto.as_fd();
    let id = bpf::program_info(program).context(WHAT, hint::AGAIN)?.id;
    let map = |name| policy::map(skeleton, name);
    let constants = map(".rodata")?;
    directory.pin(constants.as_fd(), &of(CONSTANTS, id))?;
    directory.pin(program, &of(PROGRAM_PIN, id))?;
    // A program that keeps evidence may not use them.
    let counters = map(".bss")?;
    bpf::bind_map(program, counters.as_fd()).context(WHAT, hint::AGAIN)?;
    directory.pin(counters.as_fd(), &of(COUNTERS, id))?;
    for (name, pin) in
        [("failures", FAILURES), (policy::EVIDENCE, EVIDENCE), (learned::MAP, LEARNED)]
    {
        if let Some(map) = skeleton.object().maps().find(|map| map.name() == name) {
            directory.pin(map.as_fd(), &of(pin, id))?;
        } else if let (LEARNED, Some(map)) = (pin, kept) {
            bpf::bind_map(program, map).context(WHAT, hint::AGAIN)?;
            directory.pin(map, &of(pin, id))?;
        }
    }
    let text = rules::all().map(|rule| rule.line_of_text()).collect::<String>();
    if text.len() <= LONGEST {
        let map = bpf::new_data(c"rules", text.as_bytes()).context(WHAT, hint::AGAIN)?;
        bpf::bind_map(program, map.as_fd()).context(WHAT, hint::AGAIN)?;
        directory.pin(map.as_fd(), &of(RULES, id))?;
    }
    let Some(way) = way else { return Ok(id) };
    directory.pin(map(FINDING)?.as_fd(), &of(METHOD, id))?;
    directory.pin(map(local::MAP)?.as_fd(), &of(DEVICES, id))?;
    if way.arrivals {
        let listener = policy::program(skeleton, NOTE_ARRIVAL)?;
        // They identify it later.
        bpf::bind_map(listener.as_fd(), constants.as_fd()).context(WHAT, hint::AGAIN)?;
        directory.pin(listener.as_fd(), &of(LISTENER, id))?;
        let netns = Netns::open()?;
        let link = bpf::attach(listener.as_fd(), netns.as_fd(), sys::BPF_SK_LOOKUP).context(
            "attach to the network namespace, to see which interface connections come in by",
            "at most 64 sk_lookup programs fit: `bpftool net` and `bpftool link` show them",
        )?;
        let link = directory.attached(link);
        directory.pin((*link).as_fd(), &of(ARRIVALS, id))?;
    }
    Ok(id)
}

/// Removes the sets of all programs but one, as far as they are ours. `known` exists even if the list leaves it out.
pub(crate) fn sweep(directory: &Locked, keep: Option<u32>, known: Option<u32>) -> Result<()> {
    let mut ids = ids(directory)?;
    ids.extend(known);
    for id in ids.into_iter().filter(|id| Some(*id) != keep) {
        let Some(set) = Set::of(directory.as_fd(), id, directory.path())? else { continue };
        for pin in SET.iter().rev() {
            let Some((found, object)) = set.find(pin)? else { continue };
            let name = of(pin, id);
            if let Object::Link(_) = object {
                bpf::detach(found.as_fd())
                    .map_err(|errno| failed("detach", &directory.path().join(&name), errno))?;
            }
            directory.unpin(&name)?;
        }
    }
    Ok(())
}

/// The ids of the programs that have pins, once for each pin.
fn ids(directory: &Locked) -> Result<Vec<u32>> {
    let names = host::list(directory.as_fd())
        .context(format_args!("list {}", directory.path().display()), hint::RETRY)?;
    let id = |entry: host::Entry| {
        let (kind, number) = entry.name.split_once('-')?;
        let id = number.parse().ok()?;
        (SET.contains(&kind) && of(kind, id) == entry.name).then_some(id)
    };
    Ok(names.into_iter().filter_map(id).collect())
}
