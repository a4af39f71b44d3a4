//! Runs the kernel's verifier on objects of the rule compiler. libbpf loads each object, as in set-rto, without
//! attaching it. The compiler's tests run this program if `SET_RTO_VERIFY` is set.
//!
//!     verify OBJECT...
//!
//! Prints for each object: milliseconds, and the numbers of verified and translated instructions. If the kernel refuses
//! an object, prints its reason and exits with code 1.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::PrintLevel;
use libbpf_rs::libbpf_sys as sys;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// Collects libbpf's messages, with the verifier's log.
static LOG: Mutex<String> = Mutex::new(String::new());

/// The number of bytes printed from the end of the log.
const SHOWN: usize = 2_000;

fn main() -> ExitCode {
    libbpf_rs::set_print(Some((PrintLevel::Warn, keep)));
    for path in std::env::args().skip(1) {
        if let Err(error) = verify(&path) {
            eprintln!("verify: {path}: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn keep(_: PrintLevel, text: String) {
    if let Ok(mut log) = LOG.lock() {
        log.push_str(&text);
    }
}

fn verify(path: &str) -> Result<()> {
    let bytes = fs::read(path)?;
    let mut builder = ObjectBuilder::default();
    builder.name("verify")?;
    let open = builder.open_memory(&bytes)?;
    let start = Instant::now();
    let object = match open.load() {
        Ok(object) => object,
        Err(error) => {
            let log = LOG.lock().map(|log| log.clone()).unwrap_or_default();
            let mut from = log.len().saturating_sub(SHOWN);
            while !log.is_char_boundary(from) {
                from += 1;
            }
            bail!("{error}\n{}", &log[from..]);
        }
    };
    let milliseconds = start.elapsed().as_millis();
    let mut sums = (0, 0);
    for program in object.progs() {
        let mut info = sys::bpf_prog_info::default();
        let mut size = size_of_val(&info) as u32;
        let fd = program.as_fd().as_raw_fd();
        // SAFETY: `info` has the given size and no pointers in it.
        let ret = unsafe { sys::bpf_prog_get_info_by_fd(fd, &raw mut info, &raw mut size) };
        if ret != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot ask about a program");
        }
        sums = (sums.0 + info.verified_insns, sums.1 + info.xlated_prog_len / 8);
    }
    if sums.1 == 0 {
        bail!("no program in the object");
    }
    println!("{milliseconds} {} {}", sums.0, sums.1);
    Ok(())
}
