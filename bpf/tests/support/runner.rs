//! Runs a compiled program on a connection in the counting interpreter and in rbpf's. Both must agree.

use super::connection::{Connection, REPLY};
use super::image::Image;
use super::kernel::{Addresses, COOKIE, Guest, Kernel, Log, Method, NAMESPACE};
use super::layout::Layout;
use super::machine::{Exit, Memory, Program};
use super::second::Second;
use super::shared::{Finding, Policy};
use std::mem::offset_of;

/// The timer of rule 0 in the tests: `TIMER` of emit/prelude.h.
pub(crate) const TIMER: u32 = 0x5e77_0000;

/// Offsets in `struct policy`.
const NETNS: usize = offset_of!(Policy, netns);
const WITHOUT: usize = offset_of!(Policy, without);
const TWO_JIFFIES: usize = offset_of!(Policy, two_jiffies_us);
const JIFFIES: usize = size_of::<Policy>();

const CONTEXT: u64 = 0x7e00_0000_0000;
const VALUE: u64 = 0x7d00_0000_0000;
const STORAGE: u64 = 0x7c00_0000_0000;
const SOCKET: u64 = 0x7b00_0000_0000;

/// The maximum number of steps of a decision, even for one that matches a name with hundreds of globs.
const MOST_STEPS: u64 = 1_000_000;

/// The effects of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// r0.
    pub(crate) value: u64,
    /// The context's reply after the run.
    pub(crate) reply: u32,
    /// Each nonzero counter: first the hits of each rule, then the failures of each rule and setting.
    pub(crate) counted: Vec<(usize, u64)>,
    pub(crate) log: Log,
}

impl Outcome {
    /// The rule that decided, if the reply was `before` before.
    pub(crate) fn rule(&self, before: u32) -> Option<usize> {
        (self.reply != before).then(|| self.reply.wrapping_sub(TIMER) as usize)
    }
}

/// The properties that the loader knows.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Settings that are skipped, one bit each.
    pub(crate) without: u64,
    pub(crate) two_jiffies_us: u32,
    /// Rules without a timer.
    pub(crate) untimed: Vec<usize>,
    pub(crate) method: Method,
    /// The first callback of an outgoing connection that the program asks for, where that is not for the timer.
    pub(crate) first: Option<u32>,
    /// The layout of the kernel that runs the program.
    pub(crate) layout: Layout,
    /// The bytes of a pointer and the offsets that the loader found. None stands for the right ones.
    pub(crate) offsets: Option<(u32, Vec<u32>)>,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            without: 0,
            two_jiffies_us: 0,
            untimed: Vec::new(),
            method: Method::Route,
            first: None,
            layout: Layout::SIMPLE,
            offsets: None,
        }
    }
}

pub(crate) struct Runner {
    memory: Memory,
    program: Program,
    big_endian: bool,
    hits: Option<u64>,
    map: u64,
    method: (Method, u32),
    layout: Layout,
    second: Option<Second>,
}

impl Runner {
    /// For rules that set a timer and nothing else.
    pub(crate) fn new(image: Image, big_endian: bool) -> Result<Self, String> {
        Self::loaded(image, big_endian, &Load::default())
    }

    pub(crate) fn loaded(mut image: Image, big_endian: bool, load: &Load) -> Result<Self, String> {
        for section in image.sections.iter_mut().filter(|it| it.name == ".rodata") {
            fill(&mut section.bytes, big_endian, load);
        }
        for section in image.sections.iter_mut().filter(|it| it.name == ".rodata.device") {
            let by_address = u32::from(load.method == Method::Address);
            let right = || (load.layout.pointer, load.layout.offsets());
            let (pointer, offsets) = load.offsets.clone().unwrap_or_else(right);
            let mut put = |at: usize, number: u32| {
                section.bytes[at..at + 4].copy_from_slice(&bytes_of(number, big_endian));
            };
            put(offset_of!(Finding, method), by_address);
            put(offset_of!(Finding, pointer), pointer);
            for (at, offset) in (size_of::<Finding>()..).step_by(4).zip(offsets) {
                put(at, offset);
            }
            let cookie = if big_endian { COOKIE.to_be_bytes() } else { COOKIE.to_le_bytes() };
            section.bytes[offset_of!(Finding, cookie)..][..8].copy_from_slice(&cookie);
        }
        let mut memory = Memory::default();
        for section in image.sections.iter().filter(|it| !it.is_map()) {
            memory.add(section.base, section.bytes.clone(), section.is_writable());
        }
        memory.add(CONTEXT, vec![0; super::connection::CONTEXT_SIZE], true);
        memory.add(VALUE, vec![0; 24], true);
        memory.add(STORAGE, vec![0; 16], true);
        memory.add(SOCKET, vec![0; 24], false);
        Ok(Self {
            memory,
            big_endian,
            hits: image.section(".bss").map(|section| section.base),
            map: image.section(".maps").map_or(0, |section| section.base),
            method: (load.method, load.first.unwrap_or(super::settings::TIMEOUT_INIT)),
            layout: load.layout,
            second: if big_endian { None } else { Second::new(&image)? },
            program: image.program,
        })
    }

    /// True if rbpf can run the program as well.
    pub(crate) fn has_second(&self) -> bool {
        self.second.is_some()
    }

    /// Runs a callback. Returns the outcome and the steps, or the invalid operation.
    pub(crate) fn run(
        &mut self,
        connection: &Connection,
        op: u32,
        reply: u32,
    ) -> Result<(Outcome, u64), String> {
        let kernel = Kernel::new(connection, self.big_endian, op, self.method, &self.layout);
        self.run_on(kernel, connection, op, reply)
    }

    /// The same with the given kernel.
    pub(crate) fn run_on(
        &mut self,
        kernel: Kernel,
        connection: &Connection,
        op: u32,
        reply: u32,
    ) -> Result<(Outcome, u64), String> {
        let before = connection.context(self.big_endian, op, reply, SOCKET);
        self.bytes(CONTEXT).copy_from_slice(&before);
        self.bytes(STORAGE).copy_from_slice(&kernel.stored);
        self.bytes(SOCKET).copy_from_slice(&kernel.sock());
        if let Some(hits) = self.hits {
            self.bytes(hits).fill(0);
        }
        let addresses =
            Addresses { context: CONTEXT, map: self.map, value: VALUE, storage: STORAGE };
        let mut log = Log::default();
        let mut helper = |id, arguments, memory: &mut Memory| {
            kernel.call(memory, &addresses, id, arguments, &mut log)
        };
        let ran = self.program.run(&mut self.memory, CONTEXT, MOST_STEPS, &mut helper);
        let Exit { value, steps } = ran.map_err(|fault| fault.to_string())?;
        let mut after = self.bytes(CONTEXT).to_vec();
        let number: fn([u8; 4]) -> u32 =
            if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let mut answer = [0; 4];
        answer.copy_from_slice(&after[REPLY..REPLY + 4]);
        after[REPLY..REPLY + 4].copy_from_slice(&before[REPLY..REPLY + 4]);
        if after != before {
            return Err("the context was written to".into());
        }
        let count: fn(&[u8]) -> u64 = match self.big_endian {
            true => |raw| raw.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            false => |raw| raw.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let counted = match self.hits {
            Some(hits) => counters(self.bytes(hits).chunks(8).map(count)),
            None => Vec::new(),
        };
        let outcome = Outcome { value, reply: number(answer), counted, log };
        if let Some(second) = &self.second {
            let other = second.run(kernel, connection, op, reply)?;
            if other != outcome {
                return Err(format!("rbpf says {other:?}, the machine {outcome:?}"));
            }
        }
        Ok((outcome, steps))
    }

    /// The socket's storage after a run.
    pub(crate) fn stored(&mut self) -> [u8; 16] {
        self.bytes(STORAGE).try_into().expect("a name")
    }

    fn bytes(&mut self, base: u64) -> &mut [u8] {
        self.memory.region(base).expect("a region")
    }
}

pub(super) fn counters(all: impl Iterator<Item = u64>) -> Vec<(usize, u64)> {
    all.enumerate().filter(|(_, count)| *count != 0).collect()
}

fn bytes_of(number: u32, big_endian: bool) -> [u8; 4] {
    if big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
}

/// Fills in what the loader would. The reply tells the number of the rule, whichever way it answers.
fn fill(rodata: &mut [u8], big_endian: bool, load: &Load) {
    let bytes = |value| bytes_of(value, big_endian);
    rodata[NETNS..NETNS + 4].copy_from_slice(&bytes(NAMESPACE));
    let without = match big_endian {
        true => load.without.to_be_bytes(),
        false => load.without.to_le_bytes(),
    };
    rodata[WITHOUT..WITHOUT + 8].copy_from_slice(&without);
    rodata[TWO_JIFFIES..TWO_JIFFIES + 4].copy_from_slice(&bytes(load.two_jiffies_us));
    for (rule, place) in rodata[JIFFIES..].chunks_exact_mut(4).enumerate() {
        let timer = if load.untimed.contains(&rule) { 0 } else { TIMER + rule as u32 };
        place.copy_from_slice(&bytes(timer));
    }
}

impl Guest for Memory {
    fn read(&self, address: u64, size: usize) -> Option<Vec<u8>> {
        Memory::read(self, address, size).map(<[u8]>::to_vec)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        Memory::write(self, address, bytes.len()).map(|place| place.copy_from_slice(bytes))
    }
}
