//! Devices and local addresses of this network namespace, and the program's map of them.

use crate::bpf;
use crate::error::{Context as _, Result, hint};
use crate::host::{self, links};
use crate::rules;
use crate::shared::{self, LOCAL_DEVICES, LocalDevice};
use crate::way::Method;
use std::net::Ipv6Addr;
use std::os::fd::BorrowedFd;

/// The map in the generated C.
pub(crate) const MAP: &str = "local_devices";

/// An IPv6 address, or [`by_index`].
type Key = [u8; 16];

/// [`LocalDevice`]
type Value = [u8; size_of::<LocalDevice>()];

/// Contents of the map, sorted.
type Entries = Vec<(Key, Value)>;

/// This host's devices.
pub(crate) struct Devices {
    entries: Entries,
    /// Addresses that belong to several devices, sorted.
    shared: Vec<Ipv6Addr>,
    /// Sorted by name.
    devices: Vec<Device>,
}

struct Device {
    name: String,
    index: u32,
    is_vrf: bool,
    has_address: bool,
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
    // Names have at most 15 bytes (`IFNAMSIZ`).
    for (to, from) in device.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut value = Value::default();
    value.copy_from_slice(shared::bytes(&device));
    value
}

/// Stores a device other than `lo`, if there is one, for the program that tries BTF: under a number that no device has.
/// [`Devices::write`] removes it.
pub(crate) fn put_other(map: BorrowedFd<'_>) -> Result<()> {
    // LOOPBACK_IFINDEX, include/net/flow.h.
    const LOOPBACK: u32 = 1;
    let Some((name, index)) = host::devices()?.into_iter().find(|(_, index)| *index != LOOPBACK)
    else {
        return Ok(());
    };
    bpf::update(map, &by_index(0), &value(&name, index, false))
        .context("store a device", "is there memory for it?")
}

/// Copies the map of one program to another.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    read(from).and_then(|entries| write(&entries, to)).context("copy the interfaces", hint::AGAIN)
}

/// The entries of a map.
fn read(map: BorrowedFd<'_>) -> nix::Result<Entries> {
    let entry = |key: Key| {
        let mut value = Value::default();
        bpf::look_up(map, &key, &mut value).map(|()| (key, value))
    };
    let keys = bpf::keys(map, LOCAL_DEVICES.max_entries as usize)?;
    let mut entries: Entries = keys.into_iter().map(entry).collect::<nix::Result<_>>()?;
    entries.sort_unstable();
    Ok(entries)
}

/// Fills the map of a program that is not attached yet.
fn write(entries: &Entries, map: BorrowedFd<'_>) -> nix::Result<()> {
    // The trial of BTF has stored an entry.
    bpf::delete(map, &by_index(0))?;
    entries.iter().try_for_each(|(key, value)| bpf::update(map, key, value))
}

impl Devices {
    /// Asks the kernel.
    pub(crate) fn read() -> Result<Self> {
        let (mut entries, mut devices) = (Entries::new(), Vec::new());
        for (name, index) in host::devices()? {
            let is_vrf = links::is_vrf(&name)?;
            entries.push((by_index(index), value(&name, index, is_vrf)));
            devices.push(Device { name, index, is_vrf, has_address: false });
        }
        devices.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for (address, name) in host::local_addresses()? {
            // Not found: the device appeared after the list was read.
            let Ok(at) = devices.binary_search_by(|it| it.name.cmp(&name)) else { continue };
            devices[at].has_address = true;
            entries.push((address.octets(), value(&name, devices[at].index, false)));
        }
        entries.sort_unstable();
        // A device may have an address twice.
        entries.dedup();
        let twice = entries.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let mut shared: Vec<_> = twice.map(|pair| Ipv6Addr::from(pair[0].0)).collect();
        shared.dedup();
        entries.retain(|(key, _)| shared.binary_search(&Ipv6Addr::from(*key)).is_err());
        Ok(Self { entries, shared, devices })
    }

    /// Fills the map of a program that is not attached yet.
    pub(crate) fn write(&self, map: BorrowedFd<'_>) -> Result<()> {
        write(&self.entries, map)
            .context("store the local addresses", "are there more than 65,536 of them?")
    }

    /// True if a map has exactly these entries.
    pub(crate) fn are_in(&self, map: BorrowedFd<'_>) -> Result<bool> {
        Ok(read(map).context("read the stored addresses", hint::AGAIN)? == self.entries)
    }

    /// Notes on what `interface` rules can't match with this method.
    pub(crate) fn notes(&self, method: Method) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for pattern in rules::INTERFACES.iter().copied() {
            if let Some(what) = self.note(pattern, method)? {
                notes.push(format!("interface `{pattern}` {what}"));
            }
        }
        if method == Method::Address {
            notes.extend(self.shared.iter().map(Ipv6Addr::to_canonical).map(|address| {
                format!("{address} is an address of several interfaces: no rule with `interface` matches it")
            }));
        }
        Ok(notes)
    }

    fn note(&self, pattern: &str, method: Method) -> Result<Option<String>> {
        let is_named = |name: &str| matches(pattern.as_bytes(), name.as_bytes());
        let named: Vec<_> = self.devices.iter().filter(|it| is_named(&it.name)).collect();
        let (mut upper, mut parts) = (None, 0);
        for it in &named {
            // In a VRF, connections are the device's own.
            if let Some(master) = links::master(&it.name)?
                && !self.devices.iter().any(|it| it.name == master && it.is_vrf)
            {
                parts += 1;
                upper.get_or_insert(master);
            }
        }
        let what = match upper {
            _ if named.is_empty() => "is missing",
            _ if named.iter().all(|it| it.is_vrf) => {
                return Ok(Some("is a VRF: name the interfaces in it".into()));
            }
            Some(upper) if parts == named.len() => {
                return Ok(Some(format!(
                    "is part of {upper}: name the interface that has the addresses"
                )));
            }
            _ if method == Method::Route => return Ok(None),
            _ if named.iter().any(|it| it.has_address) => return Ok(None),
            _ => "has no address",
        };
        Ok(Some(match method {
            Method::Route => format!("{what}: its rules match once it exists"),
            Method::Address => format!("{what}: run `set-rto install` again once it has one"),
        }))
    }
}

/// Matches a glob: `*` is any run of characters, `?` any single one. Both have at most 15 bytes (`IFNAMSIZ`).
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([b'*', rest @ ..], _) if rest.starts_with(b"*") => matches(rest, name),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
        ([one, rest @ ..], [other, more @ ..]) if *one == b'?' || one == other => {
            matches(rest, more)
        }
        _ => pattern.is_empty() && name.is_empty(),
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
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is_it, "{pattern} {name}");
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
