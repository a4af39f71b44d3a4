//! How `interface` rules find a connection's device on this kernel: one method for all rules, found by trying.

pub(crate) mod local;

use crate::bpf::{self, Feature};
use crate::error::{Context as _, Error, Result, hint};
use crate::host::cgroup::Cgroup;
use crate::host::netns::Netns;
use crate::offsets::Offsets;
use crate::policy::{self, Load, Skeleton};
use crate::rules;
use crate::structures::{self, Candidate};
use crate::trial::{self, TrialCgroup};
use crate::way::{Method, Way, Why};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The loaded program and its method.
pub(crate) struct Loaded {
    pub(crate) skeleton: Skeleton,
    /// None if no rule tests a device.
    pub(crate) way: Option<Way>,
    /// What else was tried before, and why it failed.
    pub(crate) failed: Vec<String>,
}

/// Loads the program by the best method that works, or by the one that is asked for; nothing is attached yet. Cgroups for
/// trials are made for a short time in `cgroup`.
///
/// # Errors
/// The kernel can't run these rules by the requested method, or does not permit it.
pub(crate) fn load(plain: Load<'_>, asked: Option<Method>, cgroup: &Cgroup) -> Result<Loaded> {
    if !rules::ASKS_FOR_INTERFACE {
        let skeleton = policy::load(&plain)?;
        return Ok(Loaded { skeleton, way: None, failed: Vec::new() });
    }
    let has = |feature| bpf::has(feature).context("ask what this kernel can do", hint::AGAIN);
    let arrivals = rules::ASKS_FOR_ARRIVALS && has(Feature::Arrivals)?;
    // A kernel may have the cookie without a way for programs to read it.
    let cookie = match Netns::open()?.cookie {
        Some(cookie) if has(Feature::Cookie)? => Some(cookie),
        _ => None,
    };
    let mut failed = Vec::new();
    let (mut why, mut first) = (Why::NoBtf, None);
    let load = |way: Way, offsets: Option<&Offsets>| {
        policy::load(&Load { way: Some(way), offsets, ..plain })
    };
    let candidates = match asked {
        Some(Method::Address) => {
            why = Why::Asked;
            Vec::new()
        }
        _ => structures::candidates()?,
    };
    for Candidate { source, why: reason, offsets } in candidates {
        let offsets = match offsets {
            Ok(offsets) => offsets,
            Err(what) => {
                why = Why::WrongBtf;
                failed.push(format!("{source}: {what}"));
                continue;
            }
        };
        let way = Way { method: Method::Route, why: reason, cookie, arrivals };
        let skeleton = match load(way, Some(&offsets)) {
            Ok(skeleton) => skeleton,
            Err(error)
                if !policy::cannot_run(&error)?
                    || !policy::missing_capabilities(asked)?.is_empty() =>
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
        let what = match fits(&skeleton, cgroup)? {
            Some(true) => None,
            // The kernel's own BTF is trusted if it can't be tried.
            None if reason == Why::KernelBtf => None,
            Some(false) => Some("it does not match this kernel"),
            None => Some("no connection to 127.0.0.1 to try it on"),
        };
        let Some(what) = what else {
            return Ok(Loaded { skeleton, way: Some(way), failed });
        };
        why = Why::WrongBtf;
        failed.push(format!("{source}: {what}"));
    }
    if asked == Some(Method::Route) {
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

/// True if the device of a connection to 127.0.0.1 is found to be `lo` at each end; None if no
/// connection was possible.
///
/// # Errors
/// The kernel does not permit the trial.
fn fits(skeleton: &Skeleton, cgroup: &Cgroup) -> Result<Option<bool>> {
    let known = policy::map(skeleton, policy::KNOWN_DEVICES)?;
    let place = TrialCgroup::create(cgroup)?;
    local::put_other(policy::map(skeleton, local::MAP)?.as_fd())?;
    let _link = place.cgroup.attach(policy::program(skeleton, policy::PROBE_DEVICE)?.as_fd())?;
    // Only a missing name proves something, and it is believed if it is missing twice. Other errors prove nothing.
    let ask = |socket: BorrowedFd<'_>| {
        let mut name = [0; 16];
        // User space passes a descriptor as the key of such a map.
        bpf::look_up(known.as_fd(), &socket.as_raw_fd().to_ne_bytes(), &mut name)?;
        Ok(name)
    };
    let is_right = |socket: BorrowedFd<'_>| match ask(socket).or_else(|_| ask(socket)) {
        Ok(name) => Some(name.starts_with(b"lo\0")),
        Err(Errno::ENOENT) => Some(false),
        Err(_) => None,
    };
    // The options of an incoming connection depend on the packet that ends its handshake.
    let answered = rules::has_columns() && rules::ASKS_FOR_ARRIVALS;
    trial::within(&place, &|| {
        let (socket, other) = trial::over_loopback(answered)?;
        let other = other.map_or(Some(true), |other| is_right(other.as_fd()));
        Some(is_right(socket.as_fd())? && other?)
    })
}
