//! The second program: asked by the kernel for each SYN (sk_lookup, Linux 5.9), it notes by which device that came
//! in, for the first one to read. It is attached to a network namespace, and pinned beside the other link.
//!
//! It decides nothing: alone, it changes nothing. So it is attached before the policy that reads its notes is in
//! force, and detached when no policy does any more; killed in between, nothing but it is left, and the next
//! `install` or `remove` clears it away. The map of notes is pinned, too, and stays the same when one policy
//! replaces another: at each moment, whichever is in force reads what is noted.

use crate::bpf;
use crate::error::{Error, Result};
use crate::host;
use crate::policy::{self, ARRIVALS as MAP, NOTE_ARRIVAL as PROGRAM, Skeleton};
use crate::shared::ARRIVALS;
use crate::undo::{Undo, remove_pin};
use libbpf_rs::skel::Skel;
use libbpf_rs::{Link, MapCore};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The pin of the link, with the inode of the network namespace behind it. The map's is named as the map.
const LINK: &str = "arrival-";

/// Whether this kernel tells sk_lookup programs by which device a packet came in.
///
/// # Errors
/// It does not answer.
pub(crate) fn are_told() -> Result<bool> {
    let failed = |errno| Error::call("try a program", errno, policy::privileges());
    bpf::loads_sk_lookup().map_err(failed)
}

/// The pinned map of notes, if there is one that this program can use.
pub(crate) fn pinned_map(pin: &Path) -> Option<OwnedFd> {
    let name = CString::new(pin.join(MAP).as_os_str().as_bytes()).ok()?;
    bpf::open_pin(&name).ok().filter(|map| bpf::shape(map.as_fd()) == Ok(ARRIVALS))
}

/// Where the link is pinned that is attached to this process's network namespace.
fn link_path(pin: &Path) -> PathBuf {
    pin.join(format!("{LINK}{}", host::netns()))
}

/// True where the program of this network namespace is in force.
pub(crate) fn are_attached(pin: &Path) -> bool {
    link_path(pin).exists() && pin.join(MAP).exists()
}

/// Puts the program in force and pins it; a live link gets it in place.
pub(crate) fn attach(skeleton: &Skeleton, pin: &Path, undo: &mut Undo) -> Result<()> {
    let object = skeleton.object();
    if let Some(map) = object.maps().find(|map| map.name() == MAP)
        && pinned_map(pin).is_none()
    {
        let path = pin.join(MAP);
        // What another version has left.
        let _ = fs::remove_file(&path);
        bpf::pin(map.as_fd(), &path).map_err(|errno| {
            Error::call(format_args!("pin {}", path.display()), errno, NOT_PINNED)
        })?;
        undo.pinned(path);
    }
    let Some(program) = object.progs_mut().find(|program| program.name() == PROGRAM) else {
        return Err(Error::new("no program for incoming connections", "the binary is damaged"));
    };
    let path = link_path(pin);
    if path.exists() {
        if Link::open(&path).and_then(|mut link| link.update_prog(&program)).is_ok() {
            return Ok(());
        }
        // Of a namespace that is gone, whose number this one has got.
        remove_pin(&path)?;
    }
    let what = "attach to the network namespace, to see by which device connections come in";
    let netns = File::open("/proc/self/ns/net")
        .map_err(|error| Error::io(what, &error, "is /proc mounted?"))?;
    let mut link = program.attach_netns(netns.as_raw_fd()).map_err(|error| {
        let hint =
            "up to 64 sk_lookup programs can be there: `bpftool net` and `bpftool link` show them";
        Error::bpf(what, &error, hint)
    })?;
    link.pin(&path)
        .map_err(|error| Error::bpf(format_args!("pin {}", path.display()), &error, NOT_PINNED))?;
    undo.pinned(path);
    Ok(())
}

const NOT_PINNED: &str = "is there room, and is the bpffs writable?";

/// Detaches and unpins what is not of use: everything, or what other namespaces have.
///
/// # Errors
/// A pin can't be removed.
pub(crate) fn clear(pin: &Path, keep: bool) -> Result<()> {
    let own = link_path(pin);
    let entries = fs::read_dir(pin).into_iter().flatten().flatten();
    let is_link = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(LINK).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    for path in entries.map(|entry| entry.path()).filter(is_link) {
        if keep && path == own {
            continue;
        }
        // Unpinned only, it would go on for some milliseconds.
        let _ = Link::open(&path).and_then(|link| link.detach());
        remove_pin(&path)?;
    }
    let map = pin.join(MAP);
    if !keep && map.exists() {
        remove_pin(&map)?;
    }
    Ok(())
}
