//! Programs in the kernel: loads them with libbpf, and reads what the kernel reports about them.

use crate::rivals::Entries;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::Object;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::PrintLevel;
use libbpf_rs::ProgramMut;
use libbpf_rs::libbpf_sys as sys;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// Collects libbpf's messages, with the verifier's log.
static LOG: Mutex<String> = Mutex::new(String::new());

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
}

/// Loads an object and fills its map, if it has one. If it has several functions, only `function` is loaded.
///
/// # Errors
/// The kernel's message, in one line.
pub(crate) fn load(
    object: &[u8],
    function: Option<&str>,
    entries: Option<&Entries>,
) -> Result<Object> {
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    let mut open = ObjectBuilder::default().name("bench")?.open_memory(object)?;
    for mut program in open.progs_mut() {
        let wanted = function.is_none_or(|name| program.name() == name);
        program.set_autoload(wanted);
    }
    let object = match open.load() {
        Ok(object) => object,
        Err(error) => bail!("{error}: {}", reason()),
    };
    if let Some(entries) = entries {
        let map = object.maps().find(|map| map.name() == "rules").context("no map")?;
        let count = u32::try_from(entries.count)?;
        let (keys, values) = (&entries.keys, &entries.values);
        map.update_batch(keys, values, count, MapFlags::ANY, MapFlags::ANY)
            .context("cannot fill the map")?;
    }
    Ok(object)
}

/// The verifier's last message before its statistics.
fn reason() -> String {
    let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
    let said = |line: &&str| {
        line.contains("too large")
            || line.contains("too complex")
            || line.contains("jump")
            || line.contains("invalid")
    };
    let line = log.lines().rev().find(said).or_else(|| log.lines().next_back());
    line.unwrap_or("no reason given").trim().to_owned()
}

/// The program of an object that was loaded.
pub(crate) fn program<'o>(object: &'o Object, function: Option<&str>) -> Result<ProgramMut<'o>> {
    let wanted = |program: &ProgramMut<'_>| function.is_none_or(|name| program.name() == name);
    object.progs_mut().find(wanted).context("no program in the object")
}

/// The kernel's information about a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub(crate) verified: u32,
    pub(crate) translated: u32,
    /// From the run-time statistics while they are enabled.
    pub(crate) run_ns: u64,
    pub(crate) runs: u64,
}

pub(crate) fn info(program: BorrowedFd<'_>) -> Result<Info> {
    let mut info = sys::bpf_prog_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: `info` has the given size and no pointers in it.
    let ret =
        unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size) };
    if ret != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot ask about a program");
    }
    Ok(Info {
        verified: info.verified_insns,
        translated: info.xlated_prog_len / 8,
        run_ns: info.run_time_ns,
        runs: info.run_cnt,
    })
}

/// The memory of the program and its maps, from their fdinfo.
pub(crate) fn memory(object: &Object, program: BorrowedFd<'_>) -> u64 {
    let held = |fd: BorrowedFd<'_>| {
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        let text = text.unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    held(program) + object.maps().map(|map| held(map.as_fd())).sum::<u64>()
}

/// Enables the run-time statistics while the descriptor is open.
pub(crate) fn statistics() -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { sys::bpf_enable_stats(sys::BPF_STATS_RUN_TIME) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot turn the statistics on");
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
