//! Tries which settings this kernel accepts, on a connection of our own in a cgroup of our own. Version numbers prove
//! nothing: distributions backport patches.

use crate::error::{Error, Result};
use crate::host::cgroup::Cgroup;
use crate::rules::{self, Column, How};
use crate::trial::{self, TrialCgroup};
use crate::{output, pin, policy};
use nix::errno::Errno;
use std::fmt;
use std::os::fd::AsFd;

/// The kernel's answer to one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Accepted. Replies to callbacks always are: all kernels from 5.10 on support them.
    Yes,
    /// Accepted, but not on an IPv6 socket with IPv4-mapped addresses: `IP_TOS` in most kernels
    /// (`sol_ip_sockopt()`, net/core/filter.c).
    NotMapped(Errno),
    No(Errno),
    /// It could not be tried.
    Unknown,
}

/// A setting of a rule, and the kernel's answer to it.
pub(crate) struct Setting {
    pub(crate) rule: &'static str,
    /// The number of the column.
    at: usize,
    pub(crate) column: Column,
    pub(crate) answer: Answer,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule `{}`: {}: {}", self.rule, self.column, self.why())
    }
}

/// All settings of all rules but `rto`, tried in a new cgroup below this one.
pub(crate) fn settings(cgroup: &Cgroup) -> Result<Vec<Setting>> {
    let answers = ask(cgroup)?;
    let mut settings = Vec::new();
    for rule in rules::all() {
        for (at, column) in rule.columns() {
            let answer = answers.get(at).copied().unwrap_or(Answer::Unknown);
            settings.push(Setting { rule: rule.name, at, column, answer });
        }
    }
    Ok(settings)
}

/// The answer to each column.
fn ask(cgroup: &Cgroup) -> Result<Vec<Answer>> {
    let Some(skeleton) = policy::load_probe()? else { return Ok(Vec::new()) };
    let place = TrialCgroup::create(cgroup)?;
    let _link = place.cgroup.attach(policy::program(&skeleton, policy::PROBE)?.as_fd())?;
    let map = policy::map(&skeleton, policy::COUNTERS)?;
    let read = || -> Result<Vec<Answer>> {
        Ok(pin::numbers(map.as_fd())?.into_iter().skip(rules::COUNT).map(answer).collect())
    };
    trial::connect_within(&place, &trial::ipv4())?;
    let mut answers = read()?;
    let mut tos = None;
    for (at, (column, answer)) in rules::columns().zip(&mut answers).enumerate() {
        match (column.how, *answer) {
            (How::Reply, _) => *answer = Answer::Yes,
            (How::Tos, Answer::Yes) => tos = Some(at),
            _ => {}
        }
    }
    if let Some(at) = tos {
        trial::connect_within(&place, &trial::mapped())?;
        if let Some(Answer::No(errno)) = read()?.get(at) {
            answers[at] = Answer::NotMapped(*errno);
        }
    }
    Ok(answers)
}

/// Decodes what the program writes.
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
/// The kernel lacks some, and they may not be left out.
pub(crate) fn lacking(cgroup: &Cgroup, partial: bool) -> Result<u64> {
    let settings = settings(cgroup)?;
    if settings.iter().any(|it| it.answer == Answer::Unknown) {
        output::note(&format_args!(
            "settings {UNTRIED}; `set-rto status` counts what the kernel refuses"
        ));
    }
    let lacking: Vec<_> = settings.iter().filter(|it| matches!(it.answer, Answer::No(_))).collect();
    if partial {
        lacking.iter().for_each(|it| output::note(&format_args!("left out: {it}")));
    } else if !lacking.is_empty() {
        let lines: String = lacking.iter().map(|it| format!("\n  {it}")).collect();
        return Err(Error::new(
            format!("this kernel refuses some of the settings:{lines}"),
            "`set-rto install --partial` leaves only these out",
        ));
    }
    Ok(lacking.iter().fold(0, |bits, it| bits | 1 << it.at))
}

const UNTRIED: &str = "could not be tried: no connection to 127.0.0.1";

impl Setting {
    /// The answer in words.
    pub(crate) fn why(&self) -> String {
        let Column { algorithm, option, since, .. } = self.column;
        match self.answer {
            Answer::Yes => "yes".into(),
            Answer::NotMapped(errno) => format!(
                "yes, but not on IPv6 sockets with IPv4-mapped addresses ({option}: {})",
                errno.desc()
            ),
            Answer::Unknown => UNTRIED.into(),
            Answer::No(Errno::ENOENT) if !algorithm.is_empty() => {
                format!("this kernel has no such algorithm: `modprobe tcp_{algorithm}`?")
            }
            Answer::No(errno) => {
                format!("no ({option}: {}), it needs Linux {since} or newer", errno.desc())
            }
        }
    }
}
