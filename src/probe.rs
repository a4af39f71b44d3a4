//! Tries which settings this kernel accepts, on a connection of our own in a cgroup of our own. Version numbers prove
//! nothing: distributions backport patches.

use crate::error::{Error, Result};
use crate::host::cgroup::Cgroup;
use crate::rules::{self, Column, How};
use crate::trial::{self, Place};
use crate::{output, pin, policy};
use nix::errno::Errno;
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

/// Tries all columns in a new cgroup below this one.
pub(crate) fn ask(cgroup: &Cgroup) -> Result<Vec<(Column, Answer)>> {
    let Some(skeleton) = policy::load_probe()? else { return Ok(Vec::new()) };
    let place = Place::create(cgroup)?;
    let _link = place.attach(policy::program(&skeleton, policy::PROBE)?.as_fd())?;
    let map = policy::map(&skeleton, policy::COUNTERS)?;
    let read = || -> Result<Vec<Answer>> {
        Ok(pin::numbers(map.as_fd())?.into_iter().skip(rules::COUNT).map(answer).collect())
    };
    trial::connect_within(&place, &trial::ipv4())?;
    let mut answers: Vec<_> = rules::columns().zip(read()?).collect();
    for (column, answer) in &mut answers {
        if column.how == How::Reply {
            *answer = Answer::Yes;
        }
    }
    let is_tos =
        |(column, answer): &(Column, Answer)| column.how == How::Tos && *answer == Answer::Yes;
    if let Some(at) = answers.iter().position(is_tos) {
        trial::connect_within(&place, &trial::mapped())?;
        if let Some(Answer::No(errno)) = read()?.get(at) {
            answers[at].1 = Answer::NotMapped(*errno);
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
    if !rules::has_columns() {
        return Ok(0);
    }
    let answers = ask(cgroup)?;
    let bits = answers
        .iter()
        .enumerate()
        .fold(0, |bits, (at, (_, answer))| bits | u64::from(matches!(answer, Answer::No(_))) << at);
    if answers.iter().any(|(_, answer)| *answer == Answer::Unknown) {
        output::note(&format_args!(
            "settings {UNTRIED}; `set-rto status` counts what the kernel refuses"
        ));
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
        lines.iter().for_each(|line| output::note(&format_args!("left out: {line}")));
        return Ok(bits);
    }
    Err(Error::new(
        format!("this kernel refuses some of the settings:\n  {}", lines.join("\n  ")),
        "`set-rto install --partial` leaves only these out",
    ))
}

const UNTRIED: &str = "could not be tried: no connection to 127.0.0.1";

/// The answer in words.
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
                "no ({}: {}), it needs Linux {} or newer",
                column.option,
                errno.desc(),
                column.since
            )
        }
    }
}
