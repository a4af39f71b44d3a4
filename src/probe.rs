//! Which settings this kernel takes: tried on a connection of our own, in a cgroup of our own, not guessed from
//! version numbers (distributions carry back patches).

use crate::error::{Error, Result};
use crate::policy;
use crate::rules::{self, Column};
use libbpf_rs::MapCore;
use libbpf_rs::skel::Skel;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::sockopt::BindToDevice;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, accept,
    bind, connect, getsockname, listen, setsockopt, socket,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the kernel said to one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It takes it; also for replies to callbacks, which no kernel from 5.10 on lacks.
    Yes,
    /// It takes it, but not on an IPv6 socket with IPv4-mapped addresses: `IP_TOS` in most kernels
    /// (`sol_ip_sockopt()`, net/core/filter.c).
    NotMapped(Errno),
    No(Errno),
    /// It could not be tried.
    Unknown,
}

/// Asks the kernel about all columns, below this cgroup.
///
/// # Errors
/// The program can't be loaded or attached.
pub(crate) fn ask(cgroup: &Path) -> Result<Vec<(Column, Answer)>> {
    let Some(skeleton) = policy::load_probe()? else { return Ok(Vec::new()) };
    let place = Place::create(cgroup)?;
    let directory = place.open()?;
    let object = skeleton.object();
    let mut programs = object.progs_mut();
    let program = programs.find(|program| program.name() == policy::PROBE);
    let _link = program
        .map(|program| program.attach_cgroup(directory.as_raw_fd()))
        .transpose()
        .map_err(|error| {
            Error::bpf("attach to the cgroup", &error, "`set-rto check` says what is missing")
        })?;
    let read = || -> Vec<Answer> {
        let map = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
        let data =
            map.and_then(|map| crate::bpf::read_data(map.as_fd(), map.value_size() as usize).ok());
        let data = data.unwrap_or_default();
        let answers = data.chunks_exact(8).skip(rules::COUNT);
        answers
            .map(|bytes| answer(u64::from_ne_bytes(bytes.try_into().unwrap_or_default())))
            .collect()
    };
    connect_within(&place, &ipv4());
    let answers = read();
    let mut answers: Vec<_> = rules::columns()
        .zip(answers)
        .map(|(column, answer)| {
            let is_reply = column.option.starts_with("BPF_SOCK_OPS");
            (column, if is_reply { Answer::Yes } else { answer })
        })
        .collect();
    let mut numbered = answers.iter_mut().enumerate();
    if let Some((at, (_, known))) = numbered.find(|(_, (column, _))| column.option == "IP_TOS")
        && *known == Answer::Yes
    {
        connect_within(&place, &mapped());
        if let Some(Answer::No(errno)) = read().get(at) {
            *known = Answer::NotMapped(*errno);
        }
    }
    Ok(answers)
}

/// As the program writes it.
fn answer(written: u64) -> Answer {
    match written {
        0 => Answer::Unknown,
        1 => Answer::Yes,
        more => Answer::No(Errno::from_raw((more - 1) as i32)),
    }
}

/// The columns that this kernel lacks, a bit each.
///
/// # Errors
/// There are some, and they may not be left out.
pub(crate) fn lacking(cgroup: &Path, partial: bool) -> Result<u64> {
    if !rules::has_columns() {
        return Ok(0);
    }
    let answers = ask(cgroup)?;
    let bits = answers
        .iter()
        .enumerate()
        .fold(0, |bits, (at, (_, answer))| bits | u64::from(matches!(answer, Answer::No(_))) << at);
    if answers.iter().any(|(_, answer)| *answer == Answer::Unknown) {
        eprintln!("set-rto: settings {UNTRIED}; `set-rto status` counts what the kernel refuses");
    }
    if bits == 0 {
        return Ok(0);
    }
    let mut lines = Vec::new();
    for rule in rules::all().filter(|rule| rule.settings.columns & bits != 0) {
        for (at, column) in rule.columns().filter(|(at, _)| bits >> at & 1 == 1) {
            if let Some((_, answer)) = answers.get(at) {
                lines.push(format!("rule `{}`: {column}: {}", rule.name, why(&column, *answer)));
            }
        }
    }
    if partial {
        lines.iter().for_each(|line| eprintln!("set-rto: left out: {line}"));
        return Ok(bits);
    }
    Err(Error::new(
        format!("this kernel refuses what rules set:\n  {}", lines.join("\n  ")),
        "`set-rto install --partial` leaves just these out",
    ))
}

const UNTRIED: &str = "could not be tried: no connection to 127.0.0.1";

/// In words.
pub(crate) fn why(column: &Column, answer: Answer) -> String {
    match answer {
        Answer::Yes => "yes".into(),
        Answer::NotMapped(errno) => format!(
            "yes, but not on IPv6 sockets with IPv4-mapped addresses ({}: {})",
            column.option,
            errno.desc()
        ),
        Answer::Unknown => UNTRIED.into(),
        Answer::No(Errno::ENOENT) if !column.algorithm.is_empty() => {
            format!("this kernel has no such algorithm: `modprobe tcp_{}`?", column.algorithm)
        }
        Answer::No(errno) => {
            format!(
                "no ({}: {}), Linux {} or newer has it",
                column.option,
                errno.desc(),
                column.since
            )
        }
    }
}

/// A cgroup for one connection; gone when this is.
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    pub(crate) fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("set-rto-probe-{}", std::process::id()));
        let place = Self { path };
        match fs::create_dir(&place.path) {
            Ok(()) => Ok(place),
            Err(error) => Err(place.failed(&error)),
        }
    }

    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(
            format_args!("create the cgroup {}", self.path.display()),
            error,
            "what the kernel can do is tried there, on one connection: is cgroup2 writable?",
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody is in it any more; the kernel may take a moment to see that, on a busy machine a long one.
        for _ in 0..200 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// The sockets of a connection of the child's to itself: the one that sent the SYN, and, if wanted, the one that
/// answered it. None: they tell nothing.
pub(crate) type Judge<'a> = &'a dyn Fn(BorrowedFd<'_>, Option<BorrowedFd<'_>>) -> Option<bool>;

/// Has a child that lives in the cgroup do something there, with its own answer. None where that could not be tried.
fn within(place: &Place, work: &dyn Fn() -> Option<bool>) -> Option<bool> {
    const UNTRIED: i32 = 2;
    // SAFETY: this process has one thread; the child calls nothing that another thread could have locked.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let entered = fs::write(place.path.join("cgroup.procs"), "0");
            let answer = entered.ok().and_then(|()| work());
            let code = answer.map_or(UNTRIED, |is_good| i32::from(!is_good));
            // SAFETY: ends the child without the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) if code != UNTRIED => Some(code == 0),
            _ => None,
        },
        // Then nothing was tried, which is told.
        Err(_) => None,
    }
}

/// One connection from there. That nothing listens at its end does not matter. Where no loopback device is up here,
/// it is made in a network of the child's own.
fn connect_within(place: &Place, to: &impl SockaddrLike) {
    within(place, &|| {
        // SAFETY: a plain system call.
        let is_apart = || unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        let mut socket = try_connect(to, false);
        if socket.is_none() && is_apart() && loopback_up().is_ok() {
            socket = try_connect(to, false);
        }
        socket.map(|_| true)
    });
}

/// One connection over `lo` to 127.0.0.1, to a listener there if `answered`, judged where it was made; None where
/// there was none.
pub(crate) fn connect_and_judge(place: &Place, answered: bool, judge: Judge<'_>) -> Option<bool> {
    within(place, &|| {
        if !answered {
            return judge(try_connect(&ipv4(), true)?.as_fd(), None);
        }
        let listener = stream(AddressFamily::Inet, true)?;
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).ok()?;
        listen(&listener, Backlog::new(1).ok()?).ok()?;
        let place: SockaddrIn = getsockname(listener.as_raw_fd()).ok()?;
        let socket = try_connect(&place, true)?;
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        // Milliseconds; the answer is there when connect() returns, unless a firewall is in the way.
        poll(&mut ready, 1000_u16).ok().filter(|ready| *ready == 1)?;
        let raw = accept(listener.as_raw_fd()).ok()?;
        // SAFETY: the call has just made this descriptor, nobody else owns it.
        let other = unsafe { OwnedFd::from_raw_fd(raw) };
        judge(socket.as_fd(), Some(other.as_fd()))
    })
}

/// RFC 863, discard: whether something listens there does not matter.
const PORT: u16 = 9;

fn ipv4() -> SockaddrIn {
    SockaddrIn::new(127, 0, 0, 1, PORT)
}

/// The same of an IPv6 socket.
fn mapped() -> SockaddrIn6 {
    SocketAddrV6::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), PORT, 0, 0).into()
}

/// A socket that does not wait; bound to `lo` if so wanted.
fn stream(family: AddressFamily, bound: bool) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).ok()?;
    if bound {
        setsockopt(&socket, BindToDevice, &OsString::from("lo")).ok()?;
    }
    Some(socket)
}

/// One that has sent a SYN.
fn try_connect(to: &impl SockaddrLike, bound: bool) -> Option<OwnedFd> {
    let socket = stream(to.family().unwrap_or(AddressFamily::Inet), bound)?;
    let sent = matches!(
        connect(socket.as_raw_fd(), to),
        Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNREFUSED)
    );
    sent.then_some(socket)
}

/// `ip link set lo up`.
fn loopback_up() -> nix::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: a plain structure of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is what SIOCSIFFLAGS takes.
    let ret =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(ret).map(drop)
}
