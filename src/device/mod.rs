//! How `interface` rules find a connection's device on this kernel: one method for all rules, found by trying.

pub(crate) mod local;

use crate::btf::{self, Btf};
use crate::error::{Error, Result, hint};
use crate::host::cgroup::Cgroup;
use crate::host::netns::Netns;
use crate::policy::{self, Load, Skeleton};
use crate::trial::{self, Place};
use crate::way::{Method, Way, Why};
use crate::{bpf, rules};
use libbpf_rs::MapCore;
use libbpf_rs::libbpf_sys::BPF_CGROUP_SOCK_OPS;
use libbpf_rs::skel::Skel;
use std::os::fd::{AsFd, BorrowedFd};

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
    /// Below it a cgroup is made for a moment.
    pub(crate) cgroup: &'a Cgroup,
    /// The counters of the same rules, to go on with.
    pub(crate) counters: Option<BorrowedFd<'a>>,
}

/// Loads the program by the best method that works; nothing is attached yet.
///
/// # Errors
/// A kernel that can't run these rules, by the method that was asked for, or does not allow it.
pub(crate) fn load(wanted: &Wanted<'_>) -> Result<Loaded> {
    let plain = Load { without: wanted.without, way: None, btf: None, counters: wanted.counters };
    if !rules::ask_for_interface() {
        let skeleton = policy::load(&plain)?;
        return Ok(Loaded { skeleton, way: None, failed: Vec::new() });
    }
    let arrivals = rules::ask_for_arrivals() && arrivals_are_told()?;
    let mut failed = Vec::new();
    let (mut why, mut first) = (Why::NoBtf, None);
    let load = |way: Way, btf: Option<Btf>| policy::load(&Load { way: Some(way), btf, ..plain });
    if wanted.asked != Some(Method::Address) {
        for btf in btf::candidates() {
            let is_kernels = matches!(btf, Btf::Kernel);
            let reason = if is_kernels { Why::KernelBtf } else { Why::OwnBtf };
            let way = Way { method: Method::Route, why: reason, cookie: 0, arrivals };
            match load(way, Some(btf)) {
                Ok(skeleton) => {
                    let fits = fits(&skeleton, wanted.cgroup)?;
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
                    if !policy::missing_capabilities(wanted.asked)?.is_empty() {
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
    let cookie = Netns::open()?.cookie.unwrap_or(0);
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

/// Whether this kernel tells sk_lookup programs by which device a packet came in.
fn arrivals_are_told() -> Result<bool> {
    bpf::loads_sk_lookup()
        .map_err(|errno| Error::call("load a program of type sk_lookup", errno, hint::AGAIN))
}

/// Whether the device of a connection to 127.0.0.1 is found to be `lo`, at each end; None if there is no such
/// connection.
///
/// # Errors
/// It could not be tried.
fn fits(skeleton: &Skeleton, cgroup: &Cgroup) -> Result<Option<bool>> {
    let missing = |what| Error::new(format!("no {what} to find interfaces with"), hint::DAMAGED);
    let object = skeleton.object();
    let map = |name: &str| object.maps().find(|map| map.name() == name);
    let program = object.progs().find(|program| program.name() == policy::PROBE_DEVICE);
    let program = program.ok_or_else(|| missing("program"))?;
    let devices = map(local::MAP).ok_or_else(|| missing("map"))?;
    let known = map("known_devices").ok_or_else(|| missing("map"))?;
    let place = Place::create(cgroup)?;
    local::put_other(devices.as_fd())?;
    let _link = bpf::attach(program.as_fd(), place.as_fd(), BPF_CGROUP_SOCK_OPS)
        .map_err(|errno| Error::call("attach to the cgroup of a trial", errno, hint::CHECK))?;
    let is_right = |socket: BorrowedFd<'_>| {
        bpf::of_socket(known.as_fd(), socket).is_ok_and(|name| name.starts_with(b"lo\0"))
    };
    // Options of an incoming connection go by the packet that ends its handshake.
    let answered = rules::has_columns() && rules::ask_for_arrivals();
    trial::connect_and_judge(&place, answered, &|socket, other| {
        is_right(socket) && other.is_none_or(is_right)
    })
}
