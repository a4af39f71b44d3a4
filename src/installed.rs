//! What is at the pin: nothing, something foreign, or a policy of ours, and all that its program tells.

use crate::bpf;
use crate::device::local;
use crate::error::{Error, Result};
use crate::host::mounts;
use crate::policy::{FINDING, PROGRAM};
use crate::rules;
use crate::shared::{self, LAYOUT, LOCAL_DEVICES, MARK, Policy};
use crate::way::Way;
use libbpf_rs::ProgramAttachType;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};
use nix::errno::Errno;
use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The default of `--pin`.
pub(crate) const PIN: &str = "/sys/fs/bpf/set-rto";

/// What is at the pin.
#[derive(Debug)]
pub(crate) enum State {
    Absent,
    /// Not ours: what it is.
    Foreign(String),
    Ours(Installed),
}

/// A policy of ours.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) link_id: u32,
    pub(crate) program_id: u32,
    /// 0 when the cgroup is gone, and with it the policy.
    pub(crate) cgroup_id: u64,
    /// None where this process may not look into the program (CAP_SYS_ADMIN).
    pub(crate) program: Option<Program>,
}

impl Installed {
    /// True for exactly these rules, by this version.
    pub(crate) fn is_current(&self) -> bool {
        self.program.as_ref().is_some_and(|program| {
            program.digest == rules::DIGEST && program.version == rules::VERSION
        })
    }
}

/// What a loaded program of ours tells.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) hz: u32,
    pub(crate) netns: u32,
    /// The columns of settings that were left out.
    pub(crate) without: u64,
    /// For each rule.
    pub(crate) jiffies: Vec<u32>,
    /// Connections answered, for each rule.
    pub(crate) hits: Vec<u64>,
    /// How often the kernel refused a setting: for each rule, of each column.
    pub(crate) failures: Vec<Vec<u64>>,
    /// How devices are found, and the map of them; where a rule asks for one.
    pub(crate) way: Option<Way>,
    pub(crate) devices: Option<OwnedFd>,
}

/// Where the link is pinned.
pub(crate) fn link_path(pin: &Path) -> PathBuf {
    pin.join("link")
}

/// Looks at the pin.
///
/// # Errors
/// The path can't be looked at.
pub(crate) fn look(pin: &Path) -> Result<State> {
    let path = link_path(pin);
    match fs::symlink_metadata(&path) {
        Ok(_) if mounts::bpffs_of(&path).is_none() => {
            return Ok(State::Foreign(format!("{} is not on a bpffs", path.display())));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::Absent),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Ok(State::Foreign(format!("{} is not a directory", pin.display())));
        }
        Err(error) => {
            // bpffs refuses names with a dot so, even to root (`bpf_lookup()`, kernel/bpf/inode.c).
            let hint = "run it as root; no name on a bpffs may have a dot in it";
            return Err(Error::io(format_args!("look at {}", path.display()), &error, hint));
        }
    }
    let foreign = |what: &str| Ok(State::Foreign(format!("{} is {what}", path.display())));
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return foreign("not a path");
    };
    let fd = match bpf::open_pin(&name) {
        Ok(fd) => fd,
        Err(Errno::EPERM | Errno::EACCES) => {
            return Err(Error::call(
                format_args!("open {}", path.display()),
                Errno::EPERM,
                crate::policy::privileges(),
            ));
        }
        Err(_) => return foreign("no BPF object"),
    };
    match bpf::kind(fd.as_fd()).as_str() {
        "link" => {}
        other => return foreign(&format!("a pinned {other}")),
    }
    let Ok(info) = LinkInfo::from_fd(fd.as_fd()) else { return foreign("an unknown link") };
    let LinkTypeInfo::Cgroup(cgroup) = info.info else {
        return foreign("a link of another kind");
    };
    if !matches!(cgroup.attach_type, ProgramAttachType::CgroupSockOps) {
        return foreign("a cgroup link of another kind");
    }
    let program = match bpf::open_program(info.prog_id) {
        Ok(program) => match read(&program) {
            Some(Ok(program)) => Some(program),
            Some(Err(name)) => return foreign(&format!("the link of another program, `{name}`")),
            None => return foreign("the link of another program"),
        },
        Err(_) => None,
    };
    Ok(State::Ours(Installed {
        link_id: info.id,
        program_id: info.prog_id,
        cgroup_id: cgroup.cgroup_id,
        program,
    }))
}

/// Reads a program's constants and counters; its name if it isn't ours.
fn read(program: &OwnedFd) -> Option<std::result::Result<Program, String>> {
    let (name, maps) = bpf::program_info(program.as_fd()).ok()?;
    if name != PROGRAM {
        return Some(Err(name));
    }
    let (mut constants, mut counters, mut way, mut devices) = (None, None, None, None);
    for id in maps {
        let fd = bpf::open_map(id).ok()?;
        let (name, size) = bpf::map_info(fd.as_fd()).ok()?;
        if name.ends_with(".rodata") {
            constants = bpf::read_data(fd.as_fd(), size).ok();
        } else if name.ends_with(".bss") {
            counters = bpf::read_data(fd.as_fd(), size).ok();
        } else if name == FINDING {
            let bytes = bpf::read_data(fd.as_fd(), size).unwrap_or_default();
            way = shared::read(&bytes).and_then(|(finding, _)| Way::from_finding(&finding));
        } else if name == local::MAP && bpf::shape(fd.as_fd()) == Ok(LOCAL_DEVICES) {
            devices = Some(fd);
        }
    }
    let (policy, mut jiffies) = shared::read::<Policy>(&constants?)?;
    if policy.mark != MARK || policy.layout != LAYOUT {
        return None;
    }
    let text = |bytes: &[u8]| {
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    let (rules, columns) = (policy.rules as usize, policy.columns as usize);
    jiffies.truncate(rules);
    let counters: Vec<u64> = counters
        .unwrap_or_default()
        .chunks_exact(8)
        .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap_or_default()))
        .collect();
    let failures = counters.get(rules..).unwrap_or_default();
    Some(Ok(Program {
        version: text(&policy.version),
        digest: text(&policy.digest),
        hz: policy.hz,
        netns: policy.netns,
        jiffies,
        without: policy.without,
        failures: failures.chunks_exact(columns.max(1)).map(<[u64]>::to_vec).collect(),
        hits: counters.into_iter().take(rules).collect(),
        way,
        devices,
    }))
}
