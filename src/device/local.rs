//! Devices and local addresses of this network namespace, and the program's map of them.

use crate::bpf::{self, Key, Value};
use crate::error::{Error, Result};
use crate::host::{self, links};
use crate::rules;
use crate::shared::{self, LocalDevice};
use crate::way::Method;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::BorrowedFd;

/// The map in the generated C.
pub(crate) const MAP: &str = "local_devices";

/// What the map is to have, by its keys.
type Entries = BTreeMap<Key, Value>;

/// This host's devices.
pub(crate) struct Devices {
    entries: Entries,
    /// Addresses that several devices have.
    shared: Vec<Ipv6Addr>,
    names: Vec<String>,
    with_address: Vec<String>,
}

/// The key for a device by its number: `BY_INDEX` in the generated C.
fn by_index(index: u32) -> Key {
    let mut key = [0; 16];
    key[..8].fill(0xff);
    key[12..].copy_from_slice(&index.to_ne_bytes());
    key
}

/// An entry of the map.
fn value(name: &str, index: u32, is_vrf: bool) -> Value {
    let mut device = LocalDevice { name: [0; 16], index, is_vrf: is_vrf.into() };
    // Names have 15 bytes at most (`IFNAMSIZ`).
    for (to, from) in device.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut value = Value::default();
    value.copy_from_slice(shared::bytes(&device));
    value
}

/// Puts a device besides `lo`, if there is one, where the program that tries BTF looks for it: at a number that none
/// has. [`Devices::write`] drops it.
pub(crate) fn put_other(map: BorrowedFd<'_>) -> Result<()> {
    // LOOPBACK_IFINDEX, include/net/flow.h.
    const LOOPBACK: u32 = 1;
    let Some((name, index)) = host::devices()?.into_iter().find(|(_, index)| *index != LOOPBACK)
    else {
        return Ok(());
    };
    bpf::update(map, &by_index(0), &value(&name, index, false))
        .map_err(|errno| Error::call("store a device", errno, "is there memory for it?"))
}

impl Devices {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It does not tell.
    pub(crate) fn read() -> Result<Self> {
        let mut found = Self {
            entries: Entries::new(),
            shared: Vec::new(),
            names: Vec::new(),
            with_address: Vec::new(),
        };
        for (name, index) in host::devices()? {
            found.entries.insert(by_index(index), value(&name, index, links::is_vrf(&name)));
            found.names.push(name);
        }
        let addresses = host::local_addresses()?;
        for (address, name, index) in &addresses {
            let is_shared = addresses.iter().any(|(it, _, other)| it == address && other != index);
            if !is_shared {
                found.entries.insert(address.octets(), value(name, *index, false));
            } else if !found.shared.contains(address) {
                found.shared.push(*address);
            }
            found.with_address.push(name.clone());
        }
        Ok(found)
    }

    /// Writes the program's map, and drops what is gone; true if something changed.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub(crate) fn write(&self, map: BorrowedFd<'_>) -> Result<bool> {
        let failed = |errno| {
            Error::call("store the local addresses", errno, "are there more than 65,536 of them?")
        };
        let mut changed = false;
        let mut known = Entries::new();
        for key in bpf::keys(map).map_err(failed)? {
            match self.entries.contains_key(&key) {
                true => drop(bpf::look_up(map, &key).map(|value| known.insert(key, value))),
                false => {
                    bpf::delete(map, &key).map_err(failed)?;
                    changed = true;
                }
            }
        }
        for (key, value) in &self.entries {
            if known.get(key) != Some(value) {
                bpf::update(map, key, value).map_err(failed)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// What rules about devices can't see by this method, for people.
    pub(crate) fn notes(&self, method: Method) -> Vec<String> {
        let mut notes = Vec::new();
        for pattern in rules::INTERFACES.iter().copied() {
            notes.extend(
                self.note(pattern, method).map(|what| format!("interface `{pattern}` {what}")),
            );
        }
        if method == Method::Route {
            return notes;
        }
        for address in self.shared.iter().map(Ipv6Addr::to_canonical) {
            notes.push(format!(
                "{address} is an address of several devices: what has it belongs to none"
            ));
        }
        notes
    }

    fn note(&self, pattern: &str, method: Method) -> Option<String> {
        let named: Vec<_> = self.names.iter().filter(|name| matches(pattern, name)).collect();
        if let [first, others @ ..] = named.as_slice() {
            if others.iter().chain([first]).all(|name| links::is_vrf(name)) {
                return Some("is a VRF: name the devices in it".into());
            }
            if let Some(upper) = links::part_of(first)
                && others.iter().all(|name| links::part_of(name).is_some())
            {
                return Some(format!("is part of {upper}: name the device that has the addresses"));
            }
        }
        if method == Method::Route {
            return None;
        }
        let what = match self.with_address.iter().any(|name| matches(pattern, name)) {
            true => return None,
            false if named.is_empty() => "is not there",
            false => "has no address",
        };
        Some(format!("{what} yet: `set-rto install` again when it has one"))
    }
}

/// `*` is any run of characters, `?` any single one.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    // Where to go on if what follows the last `*` does not match: that one takes one more.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, name) {
            ([b'*', rest @ ..], _) => {
                retry = Some((rest, name));
                pattern = rest;
            }
            ([], []) => return true,
            ([one, rest @ ..], [other, more @ ..]) if *one == b'?' || one == other => {
                (pattern, name) = (rest, more);
            }
            _ => match retry {
                Some((rest, [_, more @ ..])) => {
                    retry = Some((rest, more));
                    (pattern, name) = (rest, more);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, is_it) in [
            ("ax0", "ax0", true),
            ("ax0", "ax00", false),
            ("ax*", "ax", true),
            ("ax*", "bax0", false),
            ("*0", "eth0", true),
            ("*0", "eth01", false),
            ("w?an*", "wwan0", true),
            ("w?an*", "wan0", false),
            ("*a*b*", "xaxxbx", true),
            ("*ab", "aab", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, name), is_it, "{pattern} {name}");
        }
    }

    #[test]
    fn keys_and_values_are_those_of_the_program() {
        assert_eq!(by_index(1)[..12], [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
        let value = value("a-name-of-15-by", 7, true);
        assert_eq!(value[..16], *b"a-name-of-15-by\0");
        assert_eq!(value[16..20], 7_u32.to_ne_bytes());
        assert_eq!(value[20..], 1_u32.to_ne_bytes());
    }
}
