//! The program inside this binary: opened, completed with what only this host knows, loaded.

use crate::bpf;
use crate::btf;
use crate::error::{Error, Result};
use crate::host;
use crate::rules;
use crate::timer;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{AsRawLibbpf, MapCore, OpenObject, PrintLevel, libbpf_sys};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/set_rto.skel.rs"));
}
use skeleton::{OpenSetRtoSkel, SetRtoSkel, SetRtoSkelBuilder};

/// The name of the program in the kernel.
pub(crate) const PROGRAM: &str = "set_rto";

/// Of the program's `.rodata`, `bpf_metadata_policy` in the generated C: where its fields start, in bytes.
/// Later versions keep these places, so that `status` understands what an older binary installed.
pub(crate) mod layout {
    pub(crate) const HZ: usize = 0;
    pub(crate) const NETNS: usize = 4;
    pub(crate) const RULES: usize = 8;
    pub(crate) const VERSION: std::ops::Range<usize> = 12..28;
    pub(crate) const DIGEST: std::ops::Range<usize> = 28..92;
    /// 64 bits: the columns that `install --partial` left out.
    pub(crate) const WITHOUT: usize = 96;
    pub(crate) const TWO_JIFFIES_US: usize = 104;
    pub(crate) const COLUMNS: usize = 108;
    pub(crate) const JIFFIES: usize = 112;
}

/// In the program's instructions, `TIMER` in the generated C stands for the jiffies of rule 0.
const TIMER: i32 = 0x5e77_0000;

/// True where some rule asks for a device.
pub(crate) fn asks_for_interface() -> bool {
    env!("SET_RTO_INTERFACE") == "1"
}

/// The capabilities that are missing to load and attach the program, by name.
pub(crate) fn missing_capabilities() -> Vec<&'static str> {
    // Reading kernel structures, or computing with addresses, takes CAP_PERFMON; the rule compiler knows.
    host::missing_capabilities(env!("SET_RTO_PERFMON") == "1")
}

/// The program that tries which settings the kernel takes; where rules set more than `rto`.
pub(crate) const PROBE: &str = "probe";

/// Loads the program; nothing is attached yet. `without`: a bit for each column of settings to leave out.
///
/// # Errors
/// A kernel that can't run these rules, or does not allow it.
pub(crate) fn load(without: u64) -> Result<SetRtoSkel<'static>> {
    let skeleton = load_program(PROGRAM, without)?;
    if asks_for_interface() {
        fill_devices(&skeleton)?;
    }
    Ok(skeleton)
}

/// Loads the program that tries settings; None where there is none to try.
///
/// # Errors
/// As for [`load`].
pub(crate) fn load_probe() -> Result<Option<SetRtoSkel<'static>>> {
    rules::has_columns().then(|| load_program(PROBE, 0)).transpose()
}

fn load_program(name: &str, without: u64) -> Result<SetRtoSkel<'static>> {
    let hz = timer::hz().ok_or_else(|| {
        Error::new(
            "the clock CLOCK_MONOTONIC_COARSE does not tell this kernel's HZ",
            "set-rto runs on Linux only, not on an emulation of it",
        )
    })?;
    let btf = asks_for_interface().then(|| btf::candidates().next()).flatten();
    // The rules are looked through only if there is something to say: there may be many.
    let lacks = asks_for_interface() && btf.is_none();
    let asking = || rules::all().find(rules::Rule::asks_for_interface);
    if let Some(rule) = lacks.then(asking).flatten() {
        return Err(Error::new(
            format!(
                "rule `{}`: `interface` needs the kernel's BTF, which this kernel lacks",
                rule.name
            ),
            "build with SET_RTO_BTF=/path/to/vmlinux, use a kernel with CONFIG_DEBUG_INFO_BTF, or match by `local` or `remote` addresses",
        ));
    }
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    // One object for the life of this one-shot process.
    let storage = Box::leak(Box::new(MaybeUninit::<OpenObject>::uninit()));
    let mut builder = SetRtoSkelBuilder::default();
    let handed = btf.map(|btf| btf.give_to(builder.object_builder_mut())).transpose()?;
    let mut open = builder
        .open(storage)
        .map_err(|error| Error::bpf("open the program", &error, "the binary is damaged"))?;
    complete(&mut open, hz, without)?;
    for mut program in open.open_object_mut().progs_mut() {
        let is_wanted = program.name() == name;
        program.set_autoload(is_wanted);
    }
    let loaded = open.load().map_err(|error| refused(&error));
    drop(handed);
    loaded
}

/// Fills in HZ, the timers and the network namespace.
fn complete(open: &mut OpenSetRtoSkel<'_>, hz: u32, without: u64) -> Result<()> {
    let damaged = |what: &str| Error::new(what, "the binary is damaged");
    // Jiffies are 1 at least: 0 says that the rule leaves the timer to the kernel.
    let ticks =
        |it: rules::Settings| if it.rto_us == 0 { 0 } else { timer::jiffies(it.rto_us, hz) };
    let ticks: Vec<u32> = rules::settings().map(ticks).collect();
    let jiffies: Vec<u32> = rules::numbers().filter_map(|it| ticks.get(it).copied()).collect();
    let object = open.open_object_mut();
    let mut rodata = object
        .maps_mut()
        .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
        .ok_or_else(|| damaged("the program has no constants"))?;
    let data = rodata.initial_value_mut().ok_or_else(|| damaged("the program has no constants"))?;
    let mut put = |at: usize, value: u32| {
        let place = data.get_mut(at..at + 4).ok_or_else(|| damaged("too few constants"))?;
        place.copy_from_slice(&value.to_ne_bytes());
        Ok(())
    };
    put(layout::HZ, hz)?;
    put(layout::NETNS, host::netns())?;
    put(layout::TWO_JIFFIES_US, timer::two_jiffies_us(hz))?;
    data.get_mut(layout::WITHOUT..layout::WITHOUT + 8)
        .ok_or_else(|| damaged("too few constants"))?
        .copy_from_slice(&without.to_ne_bytes());
    let places = data.get_mut(layout::JIFFIES..).unwrap_or_default().chunks_exact_mut(4);
    if places.len() < jiffies.len() {
        return Err(damaged("too few constants"));
    }
    for (place, ticks) in places.zip(&jiffies) {
        place.copy_from_slice(&ticks.to_ne_bytes());
    }
    let mut programs = object.progs_mut();
    let program = programs
        .find(|program| program.name() == PROGRAM)
        .ok_or_else(|| damaged("no program in the binary"))?;
    let mut code = program.insns().to_vec();
    set_timers(&mut code, &jiffies);
    // SAFETY: the program is open and not loaded, the slice is as long as said, and libbpf copies it. The
    // number of instructions stays, so that its relocations still fit.
    let ret = unsafe {
        libbpf_sys::bpf_program__set_insns(
            program.as_libbpf_object().as_ptr(),
            code.as_mut_ptr(),
            code.len() as u64,
        )
    };
    if ret == 0 { Ok(()) } else { Err(damaged("libbpf did not take the timers")) }
}

/// Puts each rule's jiffies in place of the number that stands for them, where it is on its way to
/// `ctx->reply`. (Large programs have no such place: they read the constants instead.)
fn set_timers(code: &mut [libbpf_sys::bpf_insn], jiffies: &[u32]) {
    const MOVE_IMMEDIATE: u8 = 0xb7;
    const STORE_WORD: u8 = 0x63;
    const REPLY: i16 = 4;
    for at in 1..code.len() {
        let store = (code[at].code, code[at].off);
        let (before, rule) = (code[at - 1].code, code[at - 1].imm.wrapping_sub(TIMER));
        if store != (STORE_WORD, REPLY) || before != MOVE_IMMEDIATE {
            continue;
        }
        let ticks = usize::try_from(rule).ok().and_then(|rule| jiffies.get(rule));
        if let Some(ticks) = ticks.and_then(|&ticks| i32::try_from(ticks).ok()) {
            code[at - 1].imm = ticks;
        }
    }
}

/// The map of local addresses, where a rule asks for a device.
fn fill_devices(skeleton: &SetRtoSkel<'_>) -> Result<()> {
    let map = skeleton.object().maps().find(|map| map.name() == "local_devices");
    map.map_or(Ok(()), |map| update_devices(map.as_fd()))
}

/// Writes the local addresses and their devices into the program's map, and drops those that are gone.
pub(crate) fn update_devices(map: BorrowedFd<'_>) -> Result<()> {
    let devices = host::local_devices()?;
    let failed = |errno| {
        Error::call("store the local addresses", errno, "are there more than 65,536 of them?")
    };
    for key in bpf::keys(map).map_err(failed)? {
        if !devices.iter().any(|(address, _)| *address == key) {
            bpf::delete(map, &key).map_err(failed)?;
        }
    }
    for (address, index) in devices {
        bpf::update(map, &address, index).map_err(failed)?;
    }
    Ok(())
}

/// What libbpf had to say, the verifier's log included; shown only if the load fails.
static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
}

/// How much of the log is shown: its end says why.
const LOG_LINES: usize = 12;

fn refused(error: &libbpf_rs::Error) -> Error {
    use libbpf_rs::ErrorKind;
    let what = "load the program";
    match error.kind() {
        ErrorKind::PermissionDenied if !missing_capabilities().is_empty() => {
            Error::bpf(what, error, privileges())
        }
        _ => {
            let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
            Error::bpf(
                what,
                error,
                format!("`set-rto check` says what is missing; the kernel said:\n  {end}"),
            )
        }
    }
}

/// The hint for a refused privilege.
pub(crate) fn privileges() -> String {
    let missing = missing_capabilities();
    if missing.is_empty() {
        "not even root may do this here: in a container or user namespace, run it on the host"
            .into()
    } else {
        format!("missing {}: run it as root", missing.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, off: i16, imm: i32) -> libbpf_sys::bpf_insn {
        libbpf_sys::bpf_insn { code, off, imm, ..Default::default() }
    }

    #[test]
    fn timers_replace_only_what_goes_into_the_reply() {
        let mut code = [
            instruction(0xb7, 0, TIMER + 1),
            instruction(0x63, 4, 0),
            instruction(0xb7, 0, TIMER),
            instruction(0x63, 8, 0),
            instruction(0xb7, 0, TIMER + 2),
            instruction(0x63, 4, 0),
        ];
        set_timers(&mut code, &[7, 5000]);
        let values: Vec<_> = code.iter().map(|instruction| instruction.imm).collect();
        assert_eq!(values, [5000, 0, TIMER, 0, TIMER + 2, 0]);
    }
}
