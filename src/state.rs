//! The rules of this binary with what the kernel knows of each: for `status` and `advise`.

use crate::error::Result;
use crate::evidence::Evidence;
use crate::learned::{self, Known};
use crate::pin::Installed;
use crate::rules::{self, Column};
use crate::shared::Estimate;
use std::os::fd::AsFd;

/// The directions, in the order of [`Rule::evidence`].
pub(crate) const DIRECTIONS: [&str; 2] = ["outgoing", "incoming"];

/// A rule.
pub(crate) struct Rule {
    pub(crate) rule: rules::Rule,
    /// 0 if the timer is left to the kernel. Of a timer that is learned: the first one.
    pub(crate) jiffies: u32,
    /// Connections in both directions.
    pub(crate) hits: u64,
    /// Settings that the kernel refused, and how often.
    pub(crate) refused: Vec<(Column, u64)>,
    pub(crate) left_out: Vec<Column>,
    /// Of outgoing and of incoming connections; None if it is not kept.
    pub(crate) evidence: Option<[Evidence; 2]>,
    /// What is known of all hosts, in each direction.
    pub(crate) learned: [Option<Estimate>; 2],
    /// What is known of each host, with its direction, the latest first.
    pub(crate) hosts: Vec<(Known, usize)>,
}

/// The rules of this binary, and the time in units of estimates.
pub(crate) fn rules(installed: &Installed) -> Result<(Vec<Rule>, u32)> {
    let (hits, failures) = installed.count()?;
    let without = installed.policy.without;
    let mut evidence = installed.evidence()?.unwrap_or_default().into_iter();
    let counted = installed.jiffies.iter().zip(&hits).enumerate();
    let mut all: Vec<_> = rules::all()
        .zip(counted)
        .map(|(rule, (at, (&jiffies, &hits)))| {
            let of_rule = failures.get(at);
            let failed = |(at, column): (usize, Column)| {
                let times = of_rule.and_then(|row| row.get(at)).copied().filter(|&n| n > 0)?;
                Some((column, times))
            };
            let left_out = rule.columns().filter(|(at, _)| without >> at & 1 == 1);
            Rule {
                jiffies,
                hits,
                refused: rule.columns().filter_map(failed).collect(),
                left_out: left_out.map(|(_, column)| column).collect(),
                evidence: evidence.next(),
                learned: [None, None],
                hosts: Vec::new(),
                rule,
            }
        })
        .collect();
    if let Some((map, room)) = installed.learned.as_ref().filter(|_| rules::HOSTS.is_some()) {
        let mut known = learned::all(map.as_fd(), *room)?;
        known.sort_by_key(|known| std::cmp::Reverse(known.estimate.when));
        let learns = all.iter().enumerate().filter(|(_, it)| it.rule.settings.learns());
        let mut by_identity: Vec<_> =
            learns.map(|(at, it)| (learned::identity(it.rule.name), at)).collect();
        by_identity.sort_unstable();
        for known in known {
            let direction = (known.rule & 1) as usize;
            let identity = known.rule & !1;
            let Ok(at) = by_identity.binary_search_by_key(&identity, |it| it.0) else { continue };
            let rule = &mut all[by_identity[at].1];
            match known.host {
                None => rule.learned[direction] = Some(known.estimate),
                Some(_) => rule.hosts.push((known, direction)),
            }
        }
    }
    Ok((all, learned::now(installed.policy.hz)?))
}

impl Rule {
    /// The evidence of both directions; None if it is not kept.
    pub(crate) fn both(&self) -> Option<Evidence> {
        self.evidence.as_ref().map(|[out, into]| out.plus(into))
    }

    /// The direction with more connections.
    pub(crate) fn main_direction(&self) -> usize {
        match (&self.evidence, &self.learned) {
            (Some([out, into]), _) => usize::from(into.asked > out.asked),
            (None, [None, Some(_)]) => 1,
            (None, _) => 0,
        }
    }

    /// The timer of a host that is not known, in a direction, microseconds. None if it is left to the kernel.
    pub(crate) fn timer_us(&self, direction: usize, now: u32) -> Option<u64> {
        let settings = &self.rule.settings;
        match &self.learned[direction] {
            Some(estimate) => Some(estimate.timer_us(settings, now)),
            None => Some(settings.rto_us).filter(|us| *us > 0),
        }
    }
}
