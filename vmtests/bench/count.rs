//! Counts the instructions executed per decision in the compiler's interpreter, and checks the decision.

use crate::elf::Image;
use crate::elf::MAP;
use crate::machine::Memory;
use crate::rivals::Entries;
use crate::rule::Connection;
use crate::rule::Rule;
use crate::rule::number;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::collections::HashMap;

/// The address of the context, and the size of struct bpf_sock_ops.
const CONTEXT: u64 = 0x1000;
const CONTEXT_SIZE: usize = 192;
/// The address of the map's values.
const VALUES: u64 = 1 << 44;
const VALUE_SIZE: usize = 8;

/// Exceeds the length of every program.
const MOST: u64 = 4_000_000;

/// The value of `ctx->reply` before the program runs.
const UNTOUCHED: u32 = 0x1234_5678;

const TIMEOUT_INIT: u32 = 1;
/// The callbacks of Linux 6.18, and some higher numbers.
const CALLBACKS: u32 = 24;

/// The result of a count.
pub(crate) struct Counts {
    pub(crate) median: u64,
    pub(crate) worst: u64,
    /// The maximum number of helper calls. Each runs kernel instructions that are not counted.
    pub(crate) calls: u64,
    /// The maximum number of instructions executed by a callback that no rule needs.
    pub(crate) idle: u64,
}

/// The map of a rival, with the kernel's lookup semantics.
pub(crate) struct Lookup<'e> {
    entries: HashMap<&'e [u8], u64>,
    /// The key size in bytes.
    key: usize,
    is_trie: bool,
}

impl<'e> Lookup<'e> {
    pub(crate) fn new(entries: &'e Entries) -> Self {
        let key = entries.keys.len() / entries.count.max(1);
        let keys = entries.keys.chunks_exact(key.max(1));
        let place = |at: usize| VALUES + (at * VALUE_SIZE) as u64;
        Lookup {
            entries: keys.enumerate().map(|(at, key)| (key, place(at))).collect(),
            key,
            is_trie: key > 4,
        }
    }

    /// The address of the value, or 0 if there is none.
    fn find(&self, key: &[u8]) -> u64 {
        if !self.is_trie {
            return self.entries.get(key).copied().unwrap_or(0);
        }
        let (length, address) = key.split_at(4);
        let most = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]);
        for bits in (0..=most).rev() {
            let mut masked = bits.to_ne_bytes().to_vec();
            masked.extend(address.iter().enumerate().map(|(at, byte)| {
                let kept = bits.saturating_sub(8 * at as u32).min(8);
                byte & !(0xff_u8.checked_shr(kept).unwrap_or(0))
            }));
            if let Some(place) = self.entries.get(&masked[..]) {
                return *place;
            }
        }
        0
    }
}

/// Runs a program on all connections. `expected` has the deciding rule for each one. `None` disables the check.
pub(crate) fn count(
    image: &mut Image,
    lookup: Option<(&Lookup<'_>, &Entries)>,
    connections: &[Connection],
    expected: Option<(&[Option<usize>], &[u32])>,
) -> Result<Counts> {
    image.memory.add(CONTEXT, vec![0; CONTEXT_SIZE], true);
    if let Some((_, entries)) = lookup {
        image.memory.add(VALUES, entries.values.clone(), false);
    }
    let mut steps = Vec::with_capacity(connections.len());
    let mut most_calls = 0;
    for (at, connection) in connections.iter().enumerate() {
        let (taken, calls) = run(image, lookup, TIMEOUT_INIT, connection)?;
        steps.push(taken);
        most_calls = most_calls.max(calls);
        let decided = decided(image)?;
        if let Some((rules, jiffies)) = expected {
            let reply = word(&mut image.memory, 4)?;
            let wanted = rules[at].and_then(|rule| jiffies.get(rule)).copied();
            if decided != rules[at] || reply != wanted.unwrap_or(UNTOUCHED) {
                bail!("{connection:?}: rule {decided:?} and {reply}, not {:?}", rules[at]);
            }
        }
    }
    let mut idle = 0;
    let samples = [connections.first(), connections.last()];
    for connection in samples.into_iter().flatten() {
        for op in (0..CALLBACKS).filter(|op| *op != TIMEOUT_INIT) {
            idle = idle.max(run(image, lookup, op, connection)?.0);
            ensure!(decided(image)?.is_none(), "callback {op} counts a hit");
            ensure!(word(&mut image.memory, 4)? == UNTOUCHED, "callback {op} is answered");
        }
    }
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).copied().unwrap_or(0);
    let worst = steps.last().copied().unwrap_or(0);
    Ok(Counts { median, worst, calls: most_calls, idle })
}

/// Runs a program that observes connections through the callbacks of their lives, to a host that is known. Returns
/// the instructions of one end of a connection, all callbacks added up: the median, the most, and the helper calls.
pub(crate) fn observed(image: &mut Image, connections: &[Connection]) -> Result<(u64, u64, u64)> {
    const ACTIVE: u32 = 4;
    const PASSIVE: u32 = 5;
    const EVIDENCE: u64 = 1 << 43;
    const ESTIMATE: u64 = 1 << 42;
    const PACKET: u64 = 1 << 41;
    let mut header = vec![0; 32];
    header[12] = 8 << 4;
    image.memory.add(PACKET, header, false);
    image.memory.add(CONTEXT, vec![0; 224], true);
    image.memory.add(EVIDENCE, vec![0; 4_096], true);
    image.memory.add(ESTIMATE, [800, 800, 0, 1].map(u32::to_ne_bytes).concat(), true);
    let learned = image.maps.get("learned").copied();
    let (mut steps, mut most_calls) = (Vec::new(), 0);
    for connection in connections {
        let (mut taken, mut calls) = (0, 0);
        let last = if connection.incoming { PASSIVE } else { ACTIVE };
        for op in (1..CALLBACKS).filter(|op| [1, 2, 3, 6, last].contains(op)) {
            let context = image.memory.region(CONTEXT).context("no context")?;
            fill(context, op, connection);
            if op == last {
                let mut put = |at: usize, bytes: &[u8]| {
                    context[at..at + bytes.len()].copy_from_slice(bytes);
                };
                // A full socket; the round trip was 101 us.
                let state = if connection.incoming { 3_u32 } else { 1 };
                put(72, &1_u32.to_ne_bytes());
                put(80, &808_u32.to_ne_bytes());
                put(88, &state.to_ne_bytes());
                // The packet: a header of 32 bytes without data.
                put(192, &PACKET.to_ne_bytes());
                put(200, &(PACKET + 32).to_ne_bytes());
                put(208, &32_u32.to_ne_bytes());
            }
            let mut helper = |id: u32, arguments: [u64; 5], _: &mut Memory| {
                calls += 1;
                match id {
                    1 if Some(arguments[0]) == learned => Some(ESTIMATE),
                    1 => Some(EVIDENCE),
                    2 | 59 => Some(0),
                    118 => Some(1_000),
                    _ => None,
                }
            };
            let exit = image.program.run(&mut image.memory, CONTEXT, MOST, &mut helper)?;
            ensure!(exit.value == 1, "it returns {}", exit.value);
            taken += exit.steps;
        }
        steps.push(taken);
        most_calls = most_calls.max(calls);
    }
    steps.sort_unstable();
    let median = steps.get(steps.len() / 2).copied().unwrap_or(0);
    Ok((median, steps.last().copied().unwrap_or(0), most_calls))
}

/// The first matching rule for each connection.
pub(crate) fn expected(rules: &[Rule], connections: &[Connection]) -> Vec<Option<usize>> {
    let first = |it: &Connection| rules.iter().position(|rule| rule.holds(it));
    connections.iter().map(first).collect()
}

/// Runs one callback. Returns the numbers of instructions and of helper calls.
fn run(
    image: &mut Image,
    lookup: Option<(&Lookup<'_>, &Entries)>,
    op: u32,
    connection: &Connection,
) -> Result<(u64, u64)> {
    let context = image.memory.region(CONTEXT).context("no context")?;
    fill(context, op, connection);
    let mut calls = 0;
    let mut helper = |id: u32, arguments: [u64; 5], memory: &mut Memory| {
        let (lookup, _) = lookup.filter(|_| id == 1 && arguments[0] == MAP)?;
        calls += 1;
        Some(lookup.find(memory.read(arguments[1], lookup.key)?))
    };
    let exit = image.program.run(&mut image.memory, CONTEXT, MOST, &mut helper)?;
    ensure!(exit.value == 1, "it returns {}", exit.value);
    Ok((exit.steps, calls))
}

/// Returns the rule whose hits have increased, and resets the hits.
fn decided(image: &mut Image) -> Result<Option<usize>> {
    if image.hits == 0 {
        return Ok(None);
    }
    let hits = image.memory.region(image.hits).context("no hits")?;
    // Most are zero, so many are compared at once.
    let Some(at) = hits.iter().position(|byte| *byte != 0) else { return Ok(None) };
    let sum: u32 = hits[at..].iter().map(|byte| u32::from(*byte)).sum();
    ensure!(sum == 1 && hits[at] == 1, "more than one hit");
    hits[at] = 0;
    Ok(Some(at / 8))
}

fn word(memory: &mut Memory, offset: usize) -> Result<u32> {
    let bytes = memory.region(CONTEXT).context("no context")?;
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    Ok(u32::from_ne_bytes(word))
}

/// struct bpf_sock_ops with the contents that the kernel provides (include/uapi/linux/bpf.h).
fn fill(context: &mut [u8], op: u32, it: &Connection) {
    const SYN_SENT: u32 = 2;
    const NEW_SYN_RECV: u32 = 12;
    context.fill(0);
    let mut put = |offset: usize, bytes: &[u8]| {
        context[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &op.to_ne_bytes());
    put(4, &UNTOUCHED.to_ne_bytes());
    put(20, &(if it.local.is_ipv4() { 2_u32 } else { 10 }).to_ne_bytes());
    for (address, four, six) in [(it.remote, 24, 32), (it.local, 28, 48)] {
        let (is_v4, bits) = number(address);
        if is_v4 {
            put(four, &(bits as u32).to_be_bytes());
        }
        let mapped = if is_v4 { 0xffff_0000_0000 | bits } else { bits };
        put(six, &mapped.to_be_bytes());
    }
    put(64, &u32::from(it.remote_port).to_be_bytes());
    put(68, &u32::from(it.local_port).to_ne_bytes());
    put(72, &u32::from(!it.incoming).to_ne_bytes());
    put(88, &(if it.incoming { NEW_SYN_RECV } else { SYN_SENT }).to_ne_bytes());
}
