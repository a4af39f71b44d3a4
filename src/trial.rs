//! A trial connection: a child process opens it in a cgroup of its own.

use crate::error::{Context as _, Error, Result, hint};
use crate::host::{self, cgroup::Cgroup};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::sockopt::BindToDevice;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, accept,
    bind, connect, getsockname, listen, setsockopt, socket,
};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{ForkResult, UnlinkatFlags, fork, pipe, read, unlinkat, write};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

/// The name of our cgroups; 16 hexadecimal digits follow.
const PREFIX: &str = "set-rto-probe-";

/// The time limit for the child. A connection over loopback takes under 1 ms.
const PATIENCE_MS: u16 = 5_000;

const NOT_MADE: &str =
    "set-rto tries the kernel's features there, on one connection: is cgroup2 writable?";

/// A cgroup for one connection, removed on drop. Its lock shows that it is in use.
pub(crate) struct TrialCgroup {
    pub(crate) cgroup: Cgroup,
    name: String,
    parent: OwnedFd,
}

impl TrialCgroup {
    /// Creates a cgroup, and removes those that killed runs have left.
    pub(crate) fn create(cgroup: &Cgroup) -> Result<Self> {
        let failed = |errno| {
            let what = format!("create a cgroup in {}", cgroup.path.display());
            Error::call(what, errno, NOT_MADE)
        };
        sweep(cgroup.as_fd()).map_err(failed)?;
        let parent = cgroup.as_fd().try_clone_to_owned().context("open a cgroup", hint::AGAIN)?;
        // Until a new cgroup is locked, another run may remove it as a leftover.
        for _ in 0..100 {
            let name = format!("{PREFIX}{:016x}", random().map_err(failed)?);
            match mkdirat(cgroup, name.as_str(), Mode::S_IRWXU) {
                Ok(()) => {}
                Err(Errno::EEXIST) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            let locked = lock(cgroup.as_fd(), &name);
            if let Ok(Some(directory)) = locked {
                let cgroup = Cgroup::of(cgroup.path.join(&name), directory);
                return Ok(Self { cgroup, name, parent });
            }
            let _ = unlinkat(cgroup, name.as_str(), UnlinkatFlags::RemoveDir);
            locked.map_err(failed)?;
        }
        Err(failed(Errno::EBUSY))
    }

    /// Moves this process there for the duration of a call. The way back is open before it goes.
    pub(crate) fn visit<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let what = format_args!("go to the cgroup {}", self.cgroup.path.display());
        let home = processes(home()?.as_fd()).context(what, NOT_MADE)?;
        processes(self.cgroup.as_fd()).and_then(join).context(what, NOT_MADE)?;
        let done = work();
        join(&home).or_else(|_| join(&home)).context(what, NOT_MADE)?;
        Ok(done)
    }
}

/// The cgroup of this process.
fn home() -> Result<Cgroup> {
    let text = std::fs::read_to_string("/proc/self/cgroup")
        .context("read /proc/self/cgroup", hint::PROC)?;
    // cgroups(7): `0::/path`
    let below = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let below = below.ok_or_else(|| Error::new("this process is in no cgroup2", hint::CHECK))?;
    let root = Cgroup::root()?;
    Cgroup::chosen(Some(&root.path.join(below)))
}

fn processes(cgroup: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    openat(cgroup, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// 0 stands for this process.
fn join(processes: impl AsFd) -> nix::Result<()> {
    write(processes, b"0").map(drop)
}

impl Drop for TrialCgroup {
    fn drop(&mut self) {
        // The cgroup is empty, but the kernel may notice late on a busy machine. The next run removes what stays.
        for _ in 0..200 {
            match unlinkat(&self.parent, self.name.as_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return,
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Opens and locks a cgroup; None if another process has locked or removed it.
fn lock(parent: BorrowedFd<'_>, name: &str) -> nix::Result<Option<OwnedFd>> {
    let flags = host::DIRECTORY | OFlag::O_NOFOLLOW;
    let directory = match openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    match host::flock(directory.as_fd()) {
        Ok(()) => {}
        Err(Errno::EWOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(now) if now.st_ino == fstat(&directory)?.st_ino => Ok(Some(directory)),
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes the cgroups that killed runs have left.
pub(crate) fn sweep(parent: BorrowedFd<'_>) -> nix::Result<()> {
    for host::Entry { name, .. } in host::list(parent)? {
        let digits = name.strip_prefix(PREFIX).unwrap_or_default();
        if digits.len() == 16
            && digits.bytes().all(|it| it.is_ascii_hexdigit())
            && let Some(_locked) = lock(parent, &name)?
        {
            // A cgroup that contains a process stays.
            match unlinkat(parent, name.as_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::EBUSY | Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

fn random() -> nix::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer has the given size.
    let ret = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match Errno::result(ret)? {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Errno::EAGAIN),
    }
}

/// Runs a child in the cgroup and returns its answer; None if it had none.
pub(crate) fn within(place: &TrialCgroup, work: &dyn Fn() -> Option<bool>) -> Result<Option<bool>> {
    const UNTRIED: u8 = 2;
    const ASTRAY: u8 = 3;
    let what = format!("try a connection in the cgroup {}", place.cgroup.path.display());
    let (answer, end) = pipe().context(&what, hint::AGAIN)?;
    // SAFETY: this process has one thread; the child calls nothing that another thread could have locked.
    let child = match unsafe { fork() }.context(&what, hint::AGAIN)? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            // SAFETY: a plain system call. The child ends with its parent, even if that is killed.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let said = match processes(place.cgroup.as_fd()).and_then(join) {
                Ok(()) => work().map_or(UNTRIED, u8::from),
                Err(_) => ASTRAY,
            };
            let _ = write(&end, &[said]);
            // SAFETY: ends the child without the parent's destructors.
            unsafe { libc::_exit(0) }
        }
    };
    drop(end);
    let mut said = [ASTRAY];
    let mut ready = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
    let waited = poll(&mut ready, PATIENCE_MS).and_then(|ready| match ready {
        0 => Err(Errno::ETIMEDOUT),
        _ => read(&answer, &mut said),
    });
    end_child(child.as_raw());
    match (waited, said[0]) {
        (Ok(1), UNTRIED) => Ok(None),
        (Ok(1), 0 | 1) => Ok(Some(said[0] == 1)),
        (Err(Errno::ETIMEDOUT), _) => {
            Err(Error::call(what, Errno::ETIMEDOUT, "is that cgroup frozen? see its cgroup.events"))
        }
        (Err(errno), _) => Err(Error::call(what, errno, hint::AGAIN)),
        _ => Err(Error::new(what + ": the child could not enter it", NOT_MADE)),
    }
}

/// Kills the child, even if it is stopped or frozen. If SIGCHLD is ignored, the kernel has reaped it already.
fn end_child(child: libc::pid_t) {
    // SAFETY: plain system calls; the process is an unreaped child of this one.
    unsafe { libc::kill(child, libc::SIGKILL) };
    for _ in 0..200 {
        // SAFETY: as above; a null status pointer is allowed.
        if unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Opens one connection from there; nothing needs to listen at its end. If no loopback device is up here, the child
/// creates a network namespace of its own. None if there was no connection.
pub(crate) fn connect_within(place: &TrialCgroup, to: &impl SockaddrLike) -> Result<Option<bool>> {
    within(place, &|| {
        // SAFETY: a plain system call.
        let is_apart = || unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        let mut socket = try_connect(to, false);
        if socket.is_none() && is_apart() && loopback_up().is_ok() {
            socket = try_connect(to, false);
        }
        socket.map(|_| true)
    })
}

/// A connection over `lo` to 127.0.0.1: the socket that has sent the SYN, and on request the one that answered it. None
/// if there was no connection.
pub(crate) fn over_loopback(answered: bool) -> Option<(OwnedFd, Option<OwnedFd>)> {
    if !answered {
        return Some((try_connect(&ipv4(), true)?, None));
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
    // SAFETY: the call has just created this descriptor; nothing else owns it.
    let other = unsafe { OwnedFd::from_raw_fd(raw) };
    Some((socket, Some(other)))
}

/// The discard service (RFC 863); nothing needs to listen there.
const PORT: u16 = 9;

pub(crate) fn ipv4() -> SockaddrIn {
    SockaddrIn::new(127, 0, 0, 1, PORT)
}

/// The same for an IPv6 socket.
pub(crate) fn mapped() -> SockaddrIn6 {
    SocketAddrV6::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), PORT, 0, 0).into()
}

/// A non-blocking socket, bound to `lo` on request.
fn stream(family: AddressFamily, bound: bool) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None).ok()?;
    if bound {
        setsockopt(&socket, BindToDevice, &OsString::from("lo")).ok()?;
    }
    Some(socket)
}

/// A socket that has sent a SYN.
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
    let mut request = host::request("lo");
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is what SIOCSIFFLAGS takes.
    unsafe { host::ioctl(libc::SIOCSIFFLAGS as _, &request) }
}
