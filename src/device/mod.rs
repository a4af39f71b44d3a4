//! How `interface` rules find a connection's device on this kernel: one method for all rules, found by trying.

pub(crate) mod local;

use crate::error::{Error, Result, hint};
use crate::host::cgroup::Cgroup;
use crate::host::netns::Netns;
use crate::offsets::Offsets;
use crate::policy::{self, Load, Skeleton};
use crate::structures::{self, Candidate, Source};
use crate::trial::{self, Place};
use crate::way::{Method, Way, Why};
use crate::{bpf, rules};
use libbpf_rs::MapCore;
use libbpf_rs::libbpf_sys::BPF_CGROUP_SOCK_OPS;
use libbpf_rs::skel::Skel;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd};

/// The loaded program and its method.
pub(crate) struct Loaded {
    pub(crate) skeleton: Skeleton,
    /// None if no rule tests a device.
    pub(crate) way: Option<Way>,
    /// What else was tried before, and why it failed.
    pub(crate) failed: Vec<String>,
}

/// What to load, and where to try it.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Columns of settings to leave out.
    pub(crate) without: u64,
    pub(crate) asked: Option<Method>,
    /// The parent of the short-lived cgroups for trials.
    pub(crate) cgroup: &'a Cgroup,
    /// Counters of the same rules to continue.
    pub(crate) counters: Option<BorrowedFd<'a>>,
}

/// Loads the program by the best method that works; nothing is attached yet.
///
/// # Errors
/// The kernel can't run these rules by the requested method, or does not permit it.
pub(crate) fn load(wanted: &Wanted<'_>) -> Result<Loaded> {
    let plain =
        Load { without: wanted.without, way: None, offsets: None, counters: wanted.counters };
    if !rules::ask_for_interface() {
        let skeleton = policy::load(&plain)?;
        return Ok(Loaded { skeleton, way: None, failed: Vec::new() });
    }
    let arrivals = rules::ask_for_arrivals() && told(bpf::loads_sk_lookup())?;
    // A kernel may have the cookie without a way for programs to read it.
    let cookie = match Netns::open()?.cookie {
        Some(cookie) if told(bpf::tells_cookie())? => cookie,
        _ => 0,
    };
    let mut failed = Vec::new();
    let (mut why, mut first) = (Why::NoBtf, None);
    let load = |way: Way, offsets: Option<&Offsets>| {
        policy::load(&Load { way: Some(way), offsets, ..plain })
    };
    let candidates = match wanted.asked {
        Some(Method::Address) => {
            why = Why::Asked;
            Vec::new()
        }
        _ => structures::candidates()?,
    };
    for Candidate { source, offsets } in candidates {
        let offsets = match offsets {
            Ok(offsets) => offsets,
            Err(what) => {
                why = Why::WrongBtf;
                failed.push(format!("{source}: {what}"));
                continue;
            }
        };
        let is_kernels = matches!(source, Source::Kernel);
        let reason = if is_kernels { Why::KernelBtf } else { Why::OwnBtf };
        let way = Way { method: Method::Route, why: reason, cookie, arrivals };
        let skeleton = match load(way, Some(&offsets)) {
            Ok(skeleton) => skeleton,
            Err(error)
                if !policy::cannot_run(&error)?
                    || !policy::missing_capabilities(wanted.asked)?.is_empty() =>
            {
                return Err(error);
            }
            Err(error) => {
                // Other offsets would not change the verifier's answer.
                why = Why::NotAllowed;
                failed.push(format!("{source}: {}", error.cause()));
                first = Some(error);
                break;
            }
        };
        let what = match fits(&skeleton, wanted.cgroup)? {
            Some(true) => None,
            // The kernel's own BTF is trusted if it can't be tried.
            None if is_kernels => None,
            Some(false) => Some("it does not match this kernel"),
            None => Some("no connection to 127.0.0.1 to try it on"),
        };
        let Some(what) = what else {
            return Ok(Loaded { skeleton, way: Some(way), failed });
        };
        why = Why::WrongBtf;
        failed.push(format!("{source}: {what}"));
    }
    if wanted.asked == Some(Method::Route) {
        return Err(first.unwrap_or_else(|| {
            let why = if failed.is_empty() { why.text().into() } else { failed.join("; ") };
            Error::new(
                format!("interfaces can't be found by route: {why}"),
                "`set-rto install` alone chooses a method that works",
            )
        }));
    }
    let way = Way { method: Method::Address, why, cookie, arrivals };
    match load(way, None) {
        Ok(skeleton) => Ok(Loaded { skeleton, way: Some(way), failed }),
        // So the failure has nothing to do with the method.
        Err(error) => Err(first.unwrap_or(error)),
    }
}

/// The result of a probe for a kernel feature.
fn told(answer: nix::Result<bool>) -> Result<bool> {
    answer.map_err(|errno| Error::call("ask what this kernel can do", errno, hint::AGAIN))
}

/// True if the device of a connection to 127.0.0.1 is found to be `lo` at each end; None if no
/// connection was possible.
///
/// # Errors
/// The kernel does not permit the trial.
fn fits(skeleton: &Skeleton, cgroup: &Cgroup) -> Result<Option<bool>> {
    let damaged = || Error::new("nothing to try offsets with", hint::DAMAGED);
    let object = skeleton.object();
    let map = |name: &str| object.maps().find(|map| map.name() == name).ok_or_else(damaged);
    let program = object.progs().find(|program| program.name() == policy::PROBE_DEVICE);
    let program = program.ok_or_else(damaged)?;
    let known = map("known_devices")?;
    let place = Place::create(cgroup)?;
    local::put_other(map(local::MAP)?.as_fd())?;
    let _link =
        bpf::attach(program.as_fd(), place.as_fd(), BPF_CGROUP_SOCK_OPS).map_err(|errno| {
            Error::call("attach to the cgroup of a trial", errno, hint::attach(errno))
        })?;
    // Only a missing name proves something, and it is believed if it is missing twice. Other errors prove nothing.
    let ask = |socket: BorrowedFd<'_>| bpf::of_socket(known.as_fd(), socket);
    let is_right = |socket: BorrowedFd<'_>| match ask(socket).or_else(|_| ask(socket)) {
        Ok(name) => Some(name.starts_with(b"lo\0")),
        Err(Errno::ENOENT) => Some(false),
        Err(_) => None,
    };
    // The options of an incoming connection depend on the packet that ends its handshake.
    let answered = rules::has_columns() && rules::ask_for_arrivals();
    trial::connect_and_judge(&place, answered, &|socket, other| {
        let other = other.map_or(Some(true), is_right);
        Some(is_right(socket)? && other?)
    })
}
