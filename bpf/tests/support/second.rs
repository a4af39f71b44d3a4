//! A second opinion: rbpf's interpreter. It works on this process's own memory.

use super::adapt;
use super::connection::{CONTEXT_SIZE, Connection, REPLY};
use super::image::Image;
use super::kernel::{Addresses, Guest, Kernel, Log};
use super::runner::{Outcome, counters};
use std::cell::{Cell, RefCell};

pub(super) struct Second {
    vm: rbpf::EbpfVmNoData<'static>,
    context: Vec<Cell<u64>>,
    hits: Option<Vec<Cell<u64>>>,
    map: u64,
    /// Values of maps by key, the socket's storage, and the socket.
    value: Vec<Cell<u64>>,
    storage: Vec<Cell<u64>>,
    socket: Vec<Cell<u64>>,
    /// The other sections, which the program refers to.
    _sections: Vec<Vec<Cell<u64>>>,
}

/// The state of rbpf's helpers, which are plain functions.
struct Host {
    kernel: Kernel,
    addresses: Addresses,
    log: Log,
    failed: bool,
}

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

fn cells(bytes: &[u8]) -> Vec<Cell<u64>> {
    let word = |raw: &[u8]| {
        let mut word = [0; 8];
        word[..raw.len()].copy_from_slice(raw);
        Cell::new(u64::from_ne_bytes(word))
    };
    bytes.chunks(8).map(word).collect()
}

fn address(cells: &[Cell<u64>]) -> u64 {
    cells.as_ptr().expose_provenance() as u64
}

impl Second {
    /// None if the program has too many instructions for rbpf, which counts them in 16 bits.
    pub(super) fn new(image: &Image) -> Result<Option<Self>, String> {
        let sections: Vec<_> = image.sections.iter().map(|it| cells(&it.bytes)).collect();
        let mut program = image.program.clone();
        for relocation in &image.relocations {
            let to = address(&sections[relocation.section]) + relocation.offset;
            assert!(program.relocate(relocation.slot, to));
        }
        let context = cells(&[0; CONTEXT_SIZE]);
        let Some(code) = adapt::adapt(program.instructions(), address(&context)) else {
            return Ok(None);
        };
        // The machine borrows its program; both live as long as the test.
        let mut vm =
            rbpf::EbpfVmNoData::new(Some(code.leak())).map_err(|error| error.to_string())?;
        let (value, storage, socket) = (cells(&[0; 24]), cells(&[0; 16]), cells(&[0; 24]));
        for cells in sections.iter().chain([&context, &value, &storage, &socket]) {
            vm.register_allowed_memory(address(cells)..address(cells) + cells.len() as u64 * 8);
        }
        vm.register_helper(107, |a, b, c, d, e| help(107, [a, b, c, d, e])).expect("a helper");
        vm.register_helper(122, |a, b, c, d, e| help(122, [a, b, c, d, e])).expect("a helper");
        vm.register_helper(1, |a, b, c, d, e| help(1, [a, b, c, d, e])).expect("a helper");
        vm.register_helper(49, |a, b, c, d, e| help(49, [a, b, c, d, e])).expect("a helper");
        vm.register_helper(57, |a, b, c, d, e| help(57, [a, b, c, d, e])).expect("a helper");
        vm.register_helper(113, |a, b, c, d, e| help(113, [a, b, c, d, e])).expect("a helper");
        vm.register_helper(115, |a, b, c, d, e| help(115, [a, b, c, d, e])).expect("a helper");
        let (mut hits, mut map, mut kept) = (None, 0, Vec::new());
        for (section, cells) in image.sections.iter().zip(sections) {
            match section.name.as_str() {
                ".bss" => hits = Some(cells),
                ".maps" => {
                    map = address(&cells);
                    kept.push(cells);
                }
                _ => kept.push(cells),
            }
        }
        Ok(Some(Self { vm, context, hits, map, value, storage, socket, _sections: kept }))
    }

    pub(super) fn run(
        &self,
        kernel: Kernel,
        connection: &Connection,
        op: u32,
        reply: u32,
    ) -> Result<Outcome, String> {
        let put = |to: &[Cell<u64>], bytes: &[u8]| {
            to.iter().zip(cells(bytes)).for_each(|(cell, word)| cell.set(word.get()));
        };
        put(&self.context, &connection.context(false, op, reply, address(&self.socket)));
        put(&self.storage, &kernel.stored);
        put(&self.socket, &kernel.sock());
        if let Some(hits) = &self.hits {
            hits.iter().for_each(|cell| cell.set(0));
        }
        let addresses = Addresses {
            context: address(&self.context),
            map: self.map,
            value: address(&self.value),
            storage: address(&self.storage),
        };
        HOST.set(Some(Host { kernel, addresses, log: Log::default(), failed: false }));
        let ran = self.vm.execute_program().map_err(|error| error.to_string())?;
        let host = HOST.take().expect("put there before");
        if host.failed {
            return Err("rbpf: a helper refused its arguments".into());
        }
        let reply = self.context[REPLY / 8].get().to_le_bytes();
        let reply = u32::from_le_bytes([reply[4], reply[5], reply[6], reply[7]]);
        let hits = self.hits.as_deref().unwrap_or_default();
        Ok(Outcome {
            value: ran,
            reply,
            counted: counters(hits.iter().map(Cell::get)),
            log: host.log,
        })
    }
}

fn help(id: u32, arguments: [u64; 5]) -> u64 {
    HOST.with_borrow_mut(|host| {
        let Some(host) = host else { return 0 };
        let Host { kernel, addresses, log, failed } = host;
        kernel.call(&mut Raw, addresses, id, arguments, log).unwrap_or_else(|| {
            *failed = true;
            0
        })
    })
}

/// The memory of this process.
struct Raw;

impl Guest for Raw {
    fn read(&self, address: u64, size: usize) -> Option<Vec<u8>> {
        let from = std::ptr::with_exposed_provenance::<u8>(address as usize);
        // SAFETY: the same program has just run in the machine, which checked that the helper reads from its
        // stack; rbpf's stack is as large.
        Some((0..size).map(|at| unsafe { from.add(at).read() }).collect())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { to.add(at).write(*byte) };
        }
        Some(())
    }
}
