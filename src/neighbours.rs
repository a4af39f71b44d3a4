//! The other programs on the hook, in the order they run: the last reply counts.

use crate::bpf;
use crate::host::cgroup::Cgroup;
use crate::json::{self, Json};
use crate::pin::Installed;
use nix::errno::Errno;
use std::fmt;
use std::os::fd::AsFd;

/// Another program on the hook.
pub(crate) struct Neighbour {
    id: u32,
    name: nix::Result<String>,
    /// True if it runs after the policy.
    is_after: bool,
}

/// The other programs that run for sockets of a cgroup, those of its ancestors last. None if they cannot be read.
pub(crate) fn all(cgroup: &Cgroup, installed: &Installed) -> Option<Vec<Neighbour>> {
    let ids = bpf::hook(cgroup.as_fd()).ok()?;
    let own = ids.iter().position(|id| *id == installed.program_id)?;
    let others = ids.into_iter().enumerate().filter(|(at, _)| *at != own);
    let named = |(at, id)| Neighbour { id, name: bpf::program_name(id), is_after: at > own };
    Some(others.map(named).collect())
}

impl Neighbour {
    pub(crate) fn json(&self) -> Json {
        json::object(&[
            ("id", json::plain(self.id)),
            ("name", json::option(self.name.as_ref().ok(), json::string)),
            ("after", json::plain(self.is_after)),
        ])
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.name {
            Ok(name) => name,
            Err(Errno::EPERM) => "(its name needs CAP_SYS_ADMIN)",
            Err(errno) => errno.desc(),
        };
        let order = match self.is_after {
            true => "runs after this policy and can overrule it",
            false => "runs before this policy",
        };
        write!(f, "program {} {name}, {order}", self.id)
    }
}
