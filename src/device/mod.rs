//! How `interface` rules find a connection's device on this kernel: one method for all rules, found by trying.

pub(crate) mod arrivals;
pub(crate) mod local;

use crate::btf::{self, Btf};
use crate::error::{Error, Result};
use crate::policy::{self, Load, Skeleton};
use crate::probe::{self, Place};
use crate::way::{Method, Way, Why};
use crate::{bpf, host, rules};
use libbpf_rs::MapCore;
use libbpf_rs::skel::Skel;
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
    let plain = Load { without: wanted.without, way: None, btf: None, arrivals: None };
    if !rules::ask_for_interface() {
        let skeleton = policy::load(&plain)?;
        return Ok(Loaded { skeleton, way: None, failed: Vec::new() });
    }
    let arrivals = rules::ask_for_arrivals() && arrivals::are_told();
    let mut failed = Vec::new();
    let (mut why, mut first) = (Why::NoBtf, None);
    let load = |way: Way, btf: Option<Btf>| {
        let arrivals = wanted.arrivals.map(AsFd::as_fd);
        policy::load(&Load { way: Some(way), btf, arrivals, ..plain })
    };
    if wanted.asked != Some(Method::Address) {
        for btf in btf::candidates() {
            let is_kernels = matches!(btf, Btf::Kernel);
            let reason = if is_kernels { Why::KernelBtf } else { Why::OwnBtf };
            let way = Way { method: Method::Route, why: reason, cookie: 0, arrivals };
            match load(way, Some(btf)) {
                Ok(skeleton) => {
                    let fits = fits(&skeleton, wanted.cgroup);
                    // The kernel's own is believed where it can't be tried.
                    if fits.unwrap_or(is_kernels) {
                        return Ok(Loaded { skeleton, way: Some(way), failed });
                    }
                    why = Why::WrongBtf;
                    let what = match fits {
                        Some(_) => "it does not fit this kernel",
                        None => "no connection to 127.0.0.1 to try it on",
                    };
                    failed.push(format!("{btf}: {what}"));
                }
                Err(error) => {
                    if !policy::missing_capabilities(wanted.asked).is_empty() {
                        return Err(error);
                    }
                    // The BTF lacks what the program reads, so that libbpf has spoiled it: not the kernel's fault.
                    if policy::lacked_fields() {
                        why = Why::WrongBtf;
                        failed.push(format!("{btf}: it does not fit this kernel"));
                        continue;
                    }
                    why = Why::NotAllowed;
                    failed.push(format!("{btf}: {}", error.cause()));
                    first.get_or_insert(error);
                }
            }
        }
    } else {
        why = Why::Asked;
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
    // A kernel may have the cookie, and not tell it to programs.
    let loaded = match load(way(cookie), None) {
        Err(_) if cookie != 0 => load(way(0), None).map(|skeleton| (skeleton, way(0))),
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
fn fits(skeleton: &Skeleton, cgroup: Option<&Path>) -> Option<bool> {
    let place = Place::create(cgroup?).ok()?;
    let directory = place.open().ok()?;
    let mut programs = skeleton.object().progs_mut();
    let program = programs.find(|program| program.name() == policy::PROBE_DEVICE)?;
    let devices = skeleton.object().maps().find(|map| map.name() == local::MAP)?;
    local::put_other(devices.as_fd()).ok()?;
    let _link = program.attach_cgroup(directory.as_raw_fd()).ok()?;
    let map = skeleton.object().maps().find(|map| map.name() == "known_devices")?;
    let is_right = |socket: BorrowedFd<'_>| {
        bpf::of_socket(map.as_fd(), socket).is_ok_and(|name| name.starts_with(b"lo\0"))
    };
    // Options of an incoming connection go by the packet that ends its handshake.
    let answered = rules::has_columns() && rules::ask_for_arrivals();
    probe::connect_and_judge(&place, answered, &|socket, other| {
        is_right(socket) && other.is_none_or(is_right)
    })
}
