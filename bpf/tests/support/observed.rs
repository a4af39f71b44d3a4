//! Runs a program that observes connections through the callbacks of a handshake, with the maps of evidence and of
//! learned timers.

use super::connection::{CONTEXT_SIZE, Connection};
use super::image::Image;
use super::machine::{Exit, Memory, Program};
use super::model::Direction;
use super::shared::Policy;
use super::{clang, hazards, policy};
use object::{Object, ObjectSymbol};
use std::collections::HashMap;

const CONTEXT: u64 = 0x7e00_0000_0000;
pub(crate) const EVIDENCE: u64 = 0x7d00_0000_0000;
pub(crate) const HOSTS: u64 = 0x7c00_0000_0000;
pub(crate) const PACKET: u64 = 0x7b00_0000_0000;

pub(crate) const TIMEOUT_INIT: u32 = 1;
pub(crate) const ACTIVE: u32 = 4;
pub(crate) const PASSIVE: u32 = 5;
pub(crate) const RTO_CB: u32 = 8;

/// Offsets in struct bpf_sock_ops (include/uapi/linux/bpf.h).
pub(crate) const ARGS: usize = 4;
pub(crate) const IS_FULLSOCK: usize = 72;
pub(crate) const SRTT_US: usize = 80;
pub(crate) const CB_FLAGS: usize = 84;
pub(crate) const STATE: usize = 88;
pub(crate) const TOTAL_RETRANS: usize = 136;
pub(crate) const SKB_DATA: usize = 192;
pub(crate) const SKB_DATA_END: usize = 200;
pub(crate) const SKB_LEN: usize = 208;

/// Numbers of a rule's evidence in one direction: six counters, the sum of round trips and their histogram.
pub(crate) const NUMBERS: usize = 6 + 1 + 19;
pub(crate) const ASKED: usize = 0;
pub(crate) const ANSWERED: usize = 1;
pub(crate) const ANSWERED_LATE: usize = 2;
pub(crate) const RETRANSMISSIONS: usize = 3;
pub(crate) const NEEDLESS: usize = 4;
pub(crate) const GAVE_UP: usize = 5;

/// Bytes of a host's estimate.
pub(crate) const ESTIMATE: usize = 16;
/// This exceeds the number in any test.
pub(crate) const MOST_HOSTS: usize = 512;

/// A connection at a callback.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) op: u32,
    pub(crate) state: u32,
    pub(crate) is_full: bool,
    /// The round-trip time of the handshake, in microseconds.
    pub(crate) us: u32,
    pub(crate) retransmits: u32,
    /// Bytes of data in the current packet. None if there is no packet.
    pub(crate) data: Option<u32>,
    pub(crate) args: [u32; 3],
    pub(crate) flags: u32,
}

/// 2^shift jiffies are the power of two nearest to a second.
pub(crate) fn shift(hz: u64) -> u32 {
    (2 * hz * hz).ilog2() / 2
}

pub(crate) struct Kernel {
    pub(crate) program: Program,
    pub(crate) memory: Memory,
    pub(crate) big_endian: bool,
    pub(crate) hz: u64,
    pub(crate) jiffies: u64,
    /// Addresses of the maps.
    pub(crate) evidence: Option<u64>,
    pub(crate) learned: Option<u64>,
    pub(crate) hosts: HashMap<Vec<u8>, u64>,
    /// The most executed instructions, by callback.
    pub(crate) steps: HashMap<u32, u64>,
    /// Level, number and value of socket options, in the order in which the program sets them.
    pub(crate) options: Vec<(u64, u64, u32)>,
}

impl Kernel {
    /// `jiffies`: of each rule.
    pub(crate) fn new(text: &str, hz: u64, jiffies: &[u32], big_endian: bool) -> Self {
        let policy = policy(text);
        let object = clang(&policy.c, big_endian).unwrap_or_else(|error| panic!("{error}"));
        let mut image = Image::read(&object, big_endian);
        let found = hazards::hazards(image.program.instructions());
        assert!(found.is_empty(), "{found:?}");
        let file = object::File::parse(&*object).expect("an object");
        let base = image.section(".maps").map_or(0, |section| section.base);
        let address = |name: &str| {
            file.symbols().find(|it| it.name() == Ok(name)).map(|it| base + it.address())
        };
        let put = |bytes: &mut [u8], at: usize, number: u64, size: usize| {
            let raw = number.to_be_bytes();
            for (place, byte) in bytes[at..at + size].iter_mut().zip(&raw[8 - size..]) {
                *place = *byte;
            }
            if !big_endian {
                bytes[at..at + size].reverse();
            }
        };
        for section in &mut image.sections {
            match section.name.as_str() {
                ".rodata" => {
                    let hz_at = std::mem::offset_of!(Policy, hz);
                    put(&mut section.bytes, hz_at, hz, 4);
                    for (rule, jiffies) in jiffies.iter().enumerate() {
                        let at = size_of::<Policy>() + 4 * rule;
                        put(&mut section.bytes, at, (*jiffies).into(), 4);
                    }
                }
                ".rodata.ticks" => {
                    put(&mut section.bytes, 0, (hz << 32).div_ceil(1_000_000), 8);
                    put(&mut section.bytes, 8, shift(hz).into(), 4);
                    put(&mut section.bytes, 12, 120 * hz, 4);
                }
                _ => {}
            }
        }
        let mut memory = Memory::default();
        for section in image.sections.iter().filter(|it| !it.is_map()) {
            memory.add(section.base, section.bytes.clone(), section.is_writable());
        }
        memory.add(CONTEXT, vec![0; CONTEXT_SIZE], true);
        memory.add(EVIDENCE, vec![0; jiffies.len() * 2 * NUMBERS * 8], true);
        memory.add(HOSTS, vec![0; MOST_HOSTS * ESTIMATE], true);
        memory.add(PACKET, vec![0x80; 60], false);
        Self {
            program: image.program,
            memory,
            big_endian,
            hz,
            jiffies: (1 << 32) - 300 * hz,
            evidence: address("evidence"),
            learned: address("learned"),
            hosts: HashMap::new(),
            steps: HashMap::new(),
            options: Vec::new(),
        }
    }

    pub(crate) fn pass(&mut self, us: u64) {
        self.jiffies += us * self.hz / 1_000_000;
    }

    /// The reply, or 0 if there was none. The event's flags change as the program requests.
    pub(crate) fn at(&mut self, connection: &Connection, event: &mut Event) -> u32 {
        let big_endian = self.big_endian;
        let mut bytes = connection.context(big_endian, event.op, 0, 0);
        let mut put = |at: usize, number: u64, size: usize| {
            let raw = number.to_be_bytes();
            bytes[at..at + size].copy_from_slice(&raw[8 - size..]);
            if !big_endian {
                bytes[at..at + size].reverse();
            }
        };
        for (at, arg) in event.args.iter().enumerate() {
            put(ARGS + 4 * at, (*arg).into(), 4);
        }
        let of_full = |number: u32| if event.is_full { number.into() } else { 0 };
        put(IS_FULLSOCK, event.is_full.into(), 4);
        put(SRTT_US, of_full(event.us << 3), 4);
        put(CB_FLAGS, of_full(event.flags), 4);
        put(STATE, event.state.into(), 4);
        put(TOTAL_RETRANS, of_full(event.retransmits), 4);
        // A header of 32 bytes, as with timestamps.
        let (start, end, length) = match event.data {
            Some(data) => (PACKET, PACKET + 32, 32 + data),
            None => (0, 0, 0),
        };
        put(SKB_DATA, start, 8);
        put(SKB_DATA_END, end, 8);
        put(SKB_LEN, length.into(), 4);
        self.memory.region(CONTEXT).expect("the context").copy_from_slice(&bytes);
        let Self { memory, program, hosts, evidence, learned, jiffies, options, .. } = self;
        let mut flags = event.flags;
        let number = |bytes: &[u8]| {
            let raw: [u8; 4] = bytes.try_into().expect("four bytes");
            if big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
        };
        let mut helper = |id: u32, args: [u64; 5], memory: &mut Memory| match id {
            1 if Some(args[0]) == *evidence => {
                let key = number(memory.read(args[1], 4)?);
                Some(EVIDENCE + u64::from(key) * NUMBERS as u64 * 8)
            }
            1 if Some(args[0]) == *learned => {
                let key = memory.read(args[1], 24)?;
                Some(hosts.get(key).copied().unwrap_or(0))
            }
            2 if Some(args[0]) == *learned && args[3] == 1 => {
                let key = memory.read(args[1], 24)?.to_vec();
                if hosts.contains_key(&key) {
                    return Some(-17_i64 as u64);
                }
                let value = memory.read(args[2], ESTIMATE)?.to_vec();
                let place = HOSTS + (hosts.len() * ESTIMATE) as u64;
                memory.write(place, ESTIMATE)?.copy_from_slice(&value);
                hosts.insert(key, place);
                Some(0)
            }
            49 if args[4] == 4 => {
                options.push((args[1], args[2], number(memory.read(args[3], 4)?)));
                Some(0)
            }
            // Only full sockets have flags.
            59 if event.is_full => {
                flags = args[1] as u32;
                Some(0)
            }
            118 => Some(*jiffies),
            _ => None,
        };
        let ran = program.run(memory, CONTEXT, 10_000, &mut helper);
        let Exit { value, steps } = ran.unwrap_or_else(|fault| panic!("{fault}: {event:?}"));
        assert_eq!(value, 1);
        event.flags = flags;
        let most = self.steps.entry(event.op).or_default();
        *most = steps.max(*most);
        let reply = number(&self.memory.region(CONTEXT).expect("the context")[ARGS..ARGS + 4]);
        if event.op == TIMEOUT_INIT { reply } else { 0 }
    }

    /// The counters of a rule in a direction.
    pub(crate) fn evidence(&mut self, rule: usize, is_incoming: bool) -> Vec<u64> {
        let big_endian = self.big_endian;
        let bytes = self.memory.region(EVIDENCE).expect("the evidence");
        let start = (2 * rule + usize::from(is_incoming)) * NUMBERS * 8;
        let words = bytes[start..start + NUMBERS * 8].chunks(8).map(|raw| {
            let raw: [u8; 8] = raw.try_into().expect("eight bytes");
            if big_endian { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) }
        });
        words.collect()
    }

    /// The first callback of a connection.
    pub(crate) fn ask(&mut self, connection: &Connection, event: &mut Event) -> u32 {
        event.args[0] = 0;
        self.at(connection, event)
    }
}

pub(crate) fn is_incoming(connection: &Connection) -> bool {
    connection.direction == Direction::Incoming
}

/// A connection that begins.
pub(crate) fn begin(connection: &Connection) -> Event {
    let is_incoming = is_incoming(connection);
    let state = if is_incoming { 12 } else { 2 };
    let (is_full, flags) = (!is_incoming, 0);
    let (op, args) = (TIMEOUT_INIT, [0; 3]);
    Event { op, state, is_full, us: 0, retransmits: 0, data: None, args, flags }
}

/// The same when it is established.
pub(crate) fn established(
    connection: &Connection,
    event: &Event,
    us: u32,
    retransmits: u32,
) -> Event {
    let is_incoming = is_incoming(connection);
    let (op, state) = if is_incoming { (PASSIVE, 3) } else { (ACTIVE, 1) };
    Event { op, state, is_full: true, us, retransmits, data: Some(0), ..event.clone() }
}
