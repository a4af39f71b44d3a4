//! The kernel structures behind a connection's socket that rules about interfaces read, and the helper functions that
//! read them.
//!
//! A [`Layout`] determines the offsets. The bytes between the fields are junk.

use super::connection::{Connection, Path};
use super::layout::Layout;
use super::model::Direction;

/// The address of the structures. A load from it is invalid: programs must call a helper.
const BASE: u64 = 0xffff_8881_0000_0000;
/// The same for pointers of 4 bytes.
const NARROW_BASE: u64 = 0xc123_0000;

/// The value of every byte outside the fields.
const JUNK: u8 = 0x5a;

/// Inode numbers of network namespaces: the one of the rules, and another.
pub(crate) const NAMESPACE: u32 = 4_026_531_840;
const OTHER_NAMESPACE: u32 = 4_026_532_123;

/// The index of the decoy. It is in the same hash chain as the device.
const INDEX: u32 = 7;
const DECOY_INDEX: u32 = INDEX + 256;

/// LOOPBACK_IFINDEX, include/net/flow.h.
const LOOPBACK: u32 = 1;

/// The index of a connection's device. Packets that a host sends to itself arrive on `lo`.
fn index_of(connection: &Connection) -> u32 {
    let is_incoming = connection.direction == Direction::Incoming;
    if is_incoming && connection.local == connection.remote { LOOPBACK } else { INDEX }
}

/// Bytes after the context, which a program for another kernel could take for a part of it.
const PAGE: u64 = 4096;

/// `-EFAULT`
const FAULT: u64 = -14_i64 as u64;

/// The number of devices in the chain after which the search gives up.
const CHAIN: u8 = 32;

/// A call of a helper: its number, its size or that of the key, and the address that it reads unless that is on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(pub(crate) u32, pub(crate) u64, pub(crate) u64);

/// A call of `bpf_setsockopt()` (49): level, name, value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Assignment(pub(crate) u64, pub(crate) u64, pub(crate) Vec<u8>);

/// The calls that a program made, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) calls: Vec<Call>,
    pub(crate) assignments: Vec<Assignment>,
}

/// `ENOPROTOOPT`
pub(crate) const REFUSAL: u64 = 92;

/// True for an option that the kernel refuses on such a socket.
pub(crate) fn refuses(refusals: u64, level: u64, option: u64) -> bool {
    refusals >> (level.wrapping_mul(31).wrapping_add(option) % 64) & 1 == 1
}

/// The memory in which a program runs.
pub(crate) trait Guest {
    fn read(&self, address: u64, size: usize) -> Option<Vec<u8>>;
    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()>;
}

/// The addresses of maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) context: u64,
    /// The maps: local devices, known devices, and arrivals, which no test asks.
    pub(crate) map: u64,
    /// The address of a value that was looked up.
    pub(crate) value: u64,
    /// The address of the socket's storage.
    pub(crate) storage: u64,
}

impl Addresses {
    /// Clang chooses the order of the maps. They are definitions of four or five pointers each.
    fn is_map(&self, address: u64) -> bool {
        (self.map..self.map + 3 * 40).contains(&address)
    }
}

/// The method of finding devices, as the loader writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Method {
    #[default]
    Route,
    Address,
}

/// The cookie of the network namespace.
pub(crate) const COOKIE: u64 = 0x1234_5678_9abc;

#[derive(Debug)]
pub(crate) struct Kernel {
    big_endian: bool,
    layout: Layout,
    memory: Vec<u8>,
    /// The context as the kernel stores it.
    context: u64,
    /// The address of the socket's route.
    route: u64,
    is_full: bool,
    refusals: u64,
    /// The map of local devices: keys, names, numbers.
    entries: Vec<([u8; 16], Vec<u8>, u32)>,
    /// The socket's storage.
    pub(crate) stored: [u8; 16],
    /// `bound_dev_if` of the context's `sk`, its mark, priority and TOS.
    bound: u32,
    numbers: [u32; 3],
    cookie: u64,
}

impl Kernel {
    /// The context at a callback. `first` marks the first one that the program handles.
    pub(crate) fn new(
        connection: &Connection,
        big_endian: bool,
        op: u32,
        (method, first): (Method, u32),
        layout: &Layout,
    ) -> Self {
        let kernel = Self {
            is_full: connection.is_full_at(op),
            refusals: connection.socket.refusals,
            numbers: connection.numbers,
            ..Self::empty(big_endian, layout)
        };
        let mut kernel = match connection.path {
            path @ (Path::Bound(before) | Path::Address(before)) => {
                assert!(before < CHAIN, "more devices than the search looks at");
                kernel.build(connection, path, before)
            }
            path => kernel.build(connection, path, 0),
        };
        if method == Method::Address {
            kernel.know(connection, op);
        } else if connection.direction == Direction::Outgoing {
            kernel.remember(connection, op == first);
        }
        kernel
    }

    fn empty(big_endian: bool, layout: &Layout) -> Self {
        Self {
            big_endian,
            layout: *layout,
            memory: Vec::new(),
            context: 0,
            route: 0,
            is_full: true,
            refusals: 0,
            entries: Vec::new(),
            stored: [0; 16],
            bound: 0,
            numbers: [0; 3],
            cookie: COOKIE,
        }
    }

    /// The context's `sk` as bytes: struct bpf_sock up to `priority`.
    pub(crate) fn sock(&self) -> [u8; 24] {
        let [mark, priority, _] = self.numbers;
        let junk = 0x4444_4444;
        let words = [self.bound, junk, junk, junk, mark, priority];
        let bytes =
            words.map(|it| if self.big_endian { it.to_be_bytes() } else { it.to_le_bytes() });
        bytes.as_flattened().try_into().expect("six words")
    }

    /// The situation of the program that tries offsets: a connection over `lo` from a socket that is bound to it, and a
    /// second device, which the loader has stored under an unused index. The packet also came in by `lo`.
    pub(crate) fn of_probe(big_endian: bool, layout: &Layout) -> Self {
        let mut kernel = Self::empty(big_endian, layout);
        let (net, heads) = kernel.network(NAMESPACE);
        let (lo, other) = (kernel.device(b"lo", LOOPBACK), kernel.device(b"eth0", INDEX));
        kernel.link(heads, LOOPBACK, &[lo]);
        kernel.link(heads, INDEX, &[other]);
        let dst = kernel.dst(lo);
        kernel.socket(net, LOOPBACK, dst, LOOPBACK);
        kernel.entries = vec![(kernel.by_index(0), b"eth0".to_vec(), INDEX)];
        kernel
    }

    /// The key of a device by its number.
    fn by_index(&self, index: u32) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].fill(0xff);
        let bytes = if self.big_endian { index.to_be_bytes() } else { index.to_le_bytes() };
        key[12..].copy_from_slice(&bytes);
        key
    }

    /// The device that the address method finds, if the map has it.
    fn know(&mut self, connection: &Connection, op: u32) {
        self.memory.clear();
        self.entries.clear();
        let address = match connection.local {
            std::net::IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            std::net::IpAddr::V6(address) => address.octets(),
        };
        let name = connection.device.clone().unwrap_or_default();
        let wrong = (address, connection.decoy.clone(), DECOY_INDEX);
        let index = index_of(connection);
        let right = (address, name.clone(), index);
        let by_index = (self.by_index(index), name, index);
        match connection.path {
            Path::Bound(_) if connection.is_full_at(op) => {
                self.bound = index;
                self.entries = vec![wrong, by_index];
            }
            Path::Gone if connection.is_full_at(op) => {
                self.bound = INDEX;
                self.entries = vec![wrong];
            }
            Path::Bound(_) | Path::Route | Path::Address(_) if index == LOOPBACK => {
                self.entries = vec![right, by_index];
            }
            Path::Bound(_) | Path::Route | Path::Address(_) => self.entries = vec![right],
            Path::OtherNamespace => {
                self.entries = vec![wrong];
                self.cookie ^= 1;
            }
            Path::Nothing | Path::Unreadable | Path::Gone => {}
        }
    }

    /// What the program stored at an earlier callback, and the device that it leads to now.
    fn remember(&mut self, connection: &Connection, is_first: bool) {
        let is_found = matches!(connection.path, Path::Route | Path::Bound(_) | Path::Address(_));
        let nobody = Vec::new();
        let name = match connection.socket.retransmits {
            // The socket was connected before, to another destination.
            0 if is_first => &connection.decoy,
            0 => return,
            _ if is_found => connection.device.as_ref().unwrap_or(&nobody),
            _ => return,
        };
        self.stored[..name.len()].copy_from_slice(name);
        if connection.socket.retransmits > 0 {
            // The route is gone, and everything else is wrong.
            self.put_pointer(self.route, 0);
            self.entries = vec![(connection.words(connection.local), Vec::new(), DECOY_INDEX)];
        }
    }

    fn build(mut self, connection: &Connection, path: Path, before: u8) -> Self {
        let is_other = path == Path::OtherNamespace;
        let (net, heads) = self.network(if is_other { OTHER_NAMESPACE } else { NAMESPACE });
        let nobody = Vec::new();
        let name = connection.device.as_ref().unwrap_or(&nobody);
        let index = index_of(connection);
        // The decoy is in the same chain.
        let decoy_index = index + 256;
        let device = self.device(name, index);
        let decoy = self.device(&connection.decoy, decoy_index);
        let mut chain = vec![decoy];
        if path != Path::Gone {
            for number in 0..before {
                let passed =
                    self.device(&connection.decoy, decoy_index + 256 + u32::from(number) * 256);
                chain.insert(0, passed);
            }
            // The decoy then comes after the device.
            chain.insert(before.into(), device);
        }
        self.link(heads, index, &chain);
        let dst = self.dst(match path {
            Path::Route => device,
            Path::Unreadable => 0x10,
            _ => decoy,
        });
        let has_route = matches!(path, Path::Route | Path::OtherNamespace | Path::Unreadable);
        let bound = match path {
            Path::Bound(_) | Path::Gone => index,
            Path::Route | Path::OtherNamespace | Path::Unreadable => decoy_index,
            Path::Address(_) | Path::Nothing => 0,
        };
        let is_incoming = connection.direction == Direction::Incoming;
        // A request socket has other members at that offset, and the route of its child may lead to another device.
        let route = if has_route || is_incoming { dst } else { 0 };
        self.socket(net, bound, route, decoy_index);
        let key = connection.words(connection.local);
        self.entries = match path {
            Path::Address(_) => vec![(key, Vec::new(), index)],
            Path::Nothing => Vec::new(),
            _ => vec![(key, Vec::new(), decoy_index)],
        };
        self
    }

    /// `struct net`, and its 256 chains of devices.
    fn network(&mut self, inum: u32) -> (u64, u64) {
        let [size, ..] = self.layout.sizes();
        let heads = self.allocate(256 * self.layout.pointer, 0);
        let net = self.allocate(size, JUNK);
        let [at, chains] = self.layout.net();
        self.put32(net + at, inum);
        self.put_pointer(net + chains, heads);
        (net, heads)
    }

    /// `struct net_device`
    fn device(&mut self, name: &[u8], index: u32) -> u64 {
        let [_, size, ..] = self.layout.sizes();
        let device = self.allocate(size, JUNK);
        let [text, number, node] = self.layout.device();
        let mut padded = [0; 16];
        padded[..name.len()].copy_from_slice(name);
        self.put(device + text, &padded);
        self.put32(device + number, index);
        self.put_pointer(device + node + self.layout.next(), 0);
        device
    }

    /// A chain of devices, linked by their nodes.
    fn link(&mut self, heads: u64, index: u32, chain: &[u64]) {
        let [.., node] = self.layout.device();
        let mut link = heads + u64::from(index & 255) * u64::from(self.layout.pointer);
        for device in chain {
            self.put_pointer(link, device + node);
            link = device + node + self.layout.next();
        }
    }

    /// `struct dst_entry`
    fn dst(&mut self, device: u64) -> u64 {
        let [_, _, size, ..] = self.layout.sizes();
        let dst = self.allocate(size, JUNK);
        self.put_pointer(dst + self.layout.dst(), device);
        dst
    }

    /// `struct sock`, with its packet in `struct bpf_sock_ops_kern`.
    fn socket(&mut self, net: u64, bound: u32, route: u64, arrival: u32) {
        let [_, _, _, size, packet_size, context_size] = self.layout.sizes();
        let socket = self.allocate(size, JUNK);
        let [network, device, cache] = self.layout.sock();
        self.put_pointer(socket + network, net);
        self.put32(socket + device, bound);
        self.route = socket + cache;
        self.put_pointer(self.route, route);
        let packet = self.allocate(packet_size, JUNK);
        self.put32(packet + self.layout.packet(), arrival);
        self.context = self.allocate(context_size, JUNK);
        let [its_socket, its_packet] = self.layout.context();
        self.put_pointer(self.context + its_socket, socket);
        self.put_pointer(self.context + its_packet, packet);
    }

    fn base(&self) -> u64 {
        if self.layout.is_narrow() { NARROW_BASE } else { BASE }
    }

    fn allocate(&mut self, size: u32, content: u8) -> u64 {
        let start = self.memory.len().next_multiple_of(8);
        self.memory.resize(start, JUNK);
        self.memory.resize(start + size as usize, content);
        self.base() + start as u64
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - self.base()) as usize;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put32(&mut self, address: u64, value: u32) {
        let bytes = if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        self.put(address, &bytes);
    }

    fn put_pointer(&mut self, address: u64, value: u64) {
        if self.layout.is_narrow() {
            return self.put32(address, u32::try_from(value).expect("an address of 32 bits"));
        }
        let bytes = if self.big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        self.put(address, &bytes);
    }

    fn read(&self, address: u64, size: usize) -> Option<&[u8]> {
        let start = usize::try_from(address.checked_sub(self.base())?).ok()?;
        self.memory.get(start..start.checked_add(size)?)
    }

    /// `struct local_device` as bytes.
    fn value(&self, name: &[u8], index: u32) -> [u8; 24] {
        let mut value = [0; 24];
        value[..name.len()].copy_from_slice(name);
        let bytes = if self.big_endian { index.to_be_bytes() } else { index.to_le_bytes() };
        value[16..20].copy_from_slice(&bytes);
        value
    }

    /// Answers a call of a helper. None for a call that no kernel would allow.
    pub(crate) fn call(
        &self,
        guest: &mut dyn Guest,
        at: &Addresses,
        id: u32,
        arguments: [u64; 5],
        log: &mut Log,
    ) -> Option<u64> {
        let [first, second, third, fourth, fifth] = arguments;
        // To the kernel the context is a struct bpf_sock_ops_kern, which lies after the fields.
        let from = match third.checked_sub(at.context) {
            Some(offset) if offset < PAGE => self.context + offset,
            _ => third,
        };
        match id {
            // map_lookup_elem
            1 => {
                let key = guest.read(second, 16)?;
                log.calls.push(Call(id, 16, 0));
                let found = self.entries.iter().find(|(known, ..)| *known == *key);
                if let Some((_, name, index)) = found {
                    guest.write(at.value, &self.value(name, *index))?;
                }
                at.is_map(first).then_some(found.map_or(0, |_| at.value))
            }
            // sk_storage_get: only for a full socket; creates the storage if there is none
            107 => {
                log.calls.push(Call(id, 0, 0));
                (at.is_map(first) && self.is_full && fourth == 1).then_some(at.storage)
            }
            // get_netns_cookie
            122 => {
                log.calls.push(Call(id, 0, 0));
                (first == at.context).then_some(self.cookie)
            }
            // setsockopt: never on a request socket
            49 => {
                let value = guest.read(fourth, usize::try_from(fifth).ok()?)?;
                log.assignments.push(Assignment(second, third, value));
                let is_refused = refuses(self.refusals, second, third);
                let answer = if is_refused { REFUSAL.wrapping_neg() } else { 0 };
                (first == at.context && self.is_full).then_some(answer)
            }
            // getsockopt: the TOS or the traffic class, with bits of ECN; 0 where it fails
            57 => {
                let is_refused = refuses(self.refusals, second, third);
                let is_known = [(0, 1), (41, 67)].contains(&(second, third)) && fifth == 4;
                let tos = if is_refused { 0 } else { self.numbers[2] };
                let bytes = if self.big_endian { tos.to_be_bytes() } else { tos.to_le_bytes() };
                guest.write(fourth, &bytes)?;
                let answer = if is_refused { REFUSAL.wrapping_neg() } else { 0 };
                (first == at.context && is_known).then_some(answer)
            }
            // The address method does not read the kernel's structures.
            113 | 115 if self.memory.is_empty() => None,
            // probe_read_kernel
            113 => {
                log.calls.push(Call(id, second, from));
                let size = usize::try_from(second).ok()?;
                let found = self.read(from, size).map(<[u8]>::to_vec);
                guest.write(first, &found.clone().unwrap_or(vec![0; size]))?;
                Some(if found.is_some() { 0 } else { FAULT })
            }
            // probe_read_kernel_str
            115 => {
                log.calls.push(Call(id, second, from));
                let size = usize::try_from(second).ok()?;
                let Some(found) = self.read(from, size) else { return Some(FAULT) };
                let length = found.iter().position(|byte| *byte == 0).unwrap_or(size - 1);
                // The rest of the buffer stays as it was.
                guest.write(first, &[&found[..length], &[0]].concat())?;
                Some(length as u64 + 1)
            }
            _ => None,
        }
    }
}
