//! How `interface` rules find a connection's device on this kernel: one method for all rules, found by trying.

pub(crate) mod arrivals;
pub(crate) mod local;

use crate::error::{Error, Result};
use crate::offsets::Offsets;
use crate::policy::{self, Load, Skeleton};
use crate::probe::{self, Place};
use crate::structures::{self, Candidate, Source};
use crate::way::{Method, Way, Why};
use crate::{bpf, host, rules};
use libbpf_rs::MapCore;
use libbpf_rs::skel::Skel;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The program in the kernel, and which way it goes.
pub(crate) struct Loaded {
    pub(crate) skeleton: Skeleton,
    /// None where no rule asks for a device.
    pub(crate) way: Option<Way>,
    /// What else was tried before, and why it failed.
    pub(crate) failed: Vec<String>,
}

/// What to load, and where it can be tried.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Columns of settings to leave out.
    pub(crate) without: u64,
    pub(crate) asked: Option<Method>,
    /// Below it a cgroup is made for a moment. None: nothing is tried.
    pub(crate) cgroup: Option<&'a Path>,
    /// The map of arrivals, where it is there already.
    pub(crate) arrivals: Option<&'a OwnedFd>,
}

/// Loads the program by the best method that works; nothing is attached yet.
///
/// # Errors
/// A kernel that can't run these rules, by the method that was asked for, or does not allow it.
pub(crate) fn load(wanted: &Wanted<'_>) -> Result<Loaded> {
    let plain = Load { without: wanted.without, way: None, offsets: None, arrivals: None };
    if !rules::ask_for_interface() {
        let skeleton = policy::load(&plain)?;
        return Ok(Loaded { skeleton, way: None, failed: Vec::new() });
    }
    let arrivals = rules::ask_for_arrivals() && arrivals::are_told()?;
    let mut failed = Vec::new();
    let (mut why, mut first) = (Why::NoBtf, None);
    let load = |way: Way, offsets: Option<&Offsets>| {
        let arrivals = wanted.arrivals.map(AsFd::as_fd);
        policy::load(&Load { way: Some(way), offsets, arrivals, ..plain })
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
        let way = Way { method: Method::Route, why: reason, cookie: 0, arrivals };
        let skeleton = match load(way, Some(&offsets)) {
            Ok(skeleton) => skeleton,
            Err(error)
                if !policy::cannot_run(&error)?
                    || !policy::missing_capabilities(wanted.asked).is_empty() =>
            {
                return Err(error);
            }
            Err(error) => {
                // Other offsets do not make it another program.
                why = Why::NotAllowed;
                failed.push(format!("{source}: {}", error.cause()));
                first = Some(error);
                break;
            }
        };
        let what = match fits(&skeleton, wanted.cgroup)? {
            Some(true) => None,
            // The kernel's own is believed where it can't be tried.
            None if is_kernels => None,
            Some(false) => Some("it does not fit this kernel"),
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
    let cookie = host::netns_cookie();
    let way = |cookie| Way { method: Method::Address, why, cookie, arrivals };
    let loaded = match load(way(cookie), None) {
        // A kernel may have the cookie, and not tell it to programs.
        Err(error) if cookie != 0 && error.errno() == Some(Errno::EINVAL) => {
            load(way(0), None).map(|skeleton| (skeleton, way(0)))
        }
        loaded => loaded.map(|skeleton| (skeleton, way(cookie))),
    };
    match loaded {
        Ok((skeleton, way)) => Ok(Loaded { skeleton, way: Some(way), failed }),
        // Not for lack of a method, then.
        Err(error) => Err(first.unwrap_or(error)),
    }
}

/// Whether the device of a connection to 127.0.0.1 is found to be `lo`, at each end; None where there is no such
/// connection.
///
/// # Errors
/// The kernel does not let it be tried.
fn fits(skeleton: &Skeleton, cgroup: Option<&Path>) -> Result<Option<bool>> {
    let Some(cgroup) = cgroup else { return Ok(None) };
    let damaged = || Error::new("nothing to try offsets with", "the binary is damaged");
    let place = Place::create(cgroup)?;
    let directory = place.open()?;
    let mut programs = skeleton.object().progs_mut();
    let program = programs.find(|program| program.name() == policy::PROBE_DEVICE);
    let program = program.ok_or_else(damaged)?;
    let find = |name: &str| skeleton.object().maps().find(|map| map.name() == name);
    let devices = find(local::MAP).ok_or_else(damaged)?;
    local::put_other(devices.as_fd())?;
    let _link = program.attach_cgroup(directory.as_raw_fd()).map_err(|error| {
        Error::bpf("attach to the cgroup", &error, "`set-rto check` says what is missing")
    })?;
    let map = find("known_devices").ok_or_else(damaged)?;
    // Another error than that there is no name says nothing.
    let is_right = |socket: BorrowedFd<'_>| match bpf::of_socket(map.as_fd(), socket) {
        Ok(name) => Some(name.starts_with(b"lo\0")),
        Err(Errno::ENOENT) => Some(false),
        Err(_) => None,
    };
    // Options of an incoming connection go by the packet that ends its handshake.
    let answered = rules::has_columns() && rules::ask_for_arrivals();
    Ok(probe::connect_and_judge(&place, answered, &|socket, other| {
        let other = other.map_or(Some(true), is_right);
        Some(is_right(socket)? && other?)
    }))
}
