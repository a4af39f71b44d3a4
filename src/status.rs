//! `set-rto status`: whether a policy is installed, whether it is this binary's, what happened to the connections of
//! each rule, and which other programs are on the hook.

use crate::Status;
use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::host::cgroup::{self, Cgroup};
use crate::json::{self, Json};
use crate::neighbours::Neighbour;
use crate::pin::{self, Installed, State};
use crate::state::{self, DIRECTIONS, Rule};
use crate::table::Table;
use crate::timer::rough;
use crate::{metrics, neighbours, output, rules};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code if no policy is in effect.
pub(crate) const NOT_INSTALLED: u8 = 3;
/// Exit code for the policy of another binary or of other rules, or for a foreign object at the pin.
pub(crate) const NOT_THIS: u8 = 4;
/// Exit code if the state cannot be read.
pub(crate) const UNREADABLE: u8 = 5;

/// The maximum number of hosts shown for one rule.
const HOSTS: usize = 10;

/// `set-rto status`.
pub(crate) fn run(asked: &Status) -> Result<ExitCode> {
    if let Some(name) = &asked.rule
        && rules::all().all(|rule| rule.name != name)
    {
        return Err(Error::usage(
            format!("no rule is named `{name}`"),
            "`set-rto rules` lists the rules of this binary",
        ));
    }
    loop {
        let code = once(asked)?;
        let Some(seconds) = asked.watch else { return Ok(code) };
        if output::has_failed() {
            return Ok(code);
        }
        std::thread::sleep(Duration::from_secs(seconds.max(1)));
    }
}

fn once(asked: &Status) -> Result<ExitCode> {
    let found = pin::look_at(&asked.pin).and_then(|state| View::new(asked, state));
    let view = match found {
        Ok(view) => view,
        Err(error) => {
            if asked.json {
                let state = [("state", json::string("unreadable")), ("installed", json::null())];
                output::print(&json::object(&state));
            }
            return Err(error);
        }
    };
    let is_text = !asked.json && !asked.metrics;
    if asked.watch.is_some() && is_text {
        // ECMA-48: cursor home, erase the display.
        output::write(&"\x1b[H\x1b[2J");
    }
    if asked.metrics {
        output::write(&metrics::text(view.installed(), &view.rules, view.now));
    } else if asked.json {
        output::print(&view.json());
    } else {
        view.print();
    }
    Ok(ExitCode::from(code(&view.state)))
}

/// The exit code for the state of the pin.
pub(crate) fn code(state: &State) -> u8 {
    match (state, state.in_effect()) {
        (_, Some(installed)) if installed.is_current() => 0,
        (State::Foreign(_), _) | (_, Some(_)) => NOT_THIS,
        _ => NOT_INSTALLED,
    }
}

/// What `status` shows.
struct View<'a> {
    asked: &'a Status,
    state: State,
    cgroup: Option<PathBuf>,
    /// Other programs on the hook, in the order they run; None if it cannot be read.
    neighbours: Option<Vec<Neighbour>>,
    /// Limits of the policy that are easily missed.
    notes: Vec<String>,
    rules: Vec<Rule>,
    /// The current time in units of estimates.
    now: u32,
}

impl<'a> View<'a> {
    fn new(asked: &'a Status, state: State) -> Result<Self> {
        let mut view = Self {
            asked,
            state,
            cgroup: None,
            neighbours: Some(Vec::new()),
            notes: Vec::new(),
            rules: Vec::new(),
            now: 0,
        };
        if let Some(installed) = view.installed() {
            let (mut rules, now) = match installed.is_current() {
                true => state::rules(installed)?,
                false => (Vec::new(), 0),
            };
            if let Some(name) = &asked.rule {
                rules.retain(|it| it.rule.name == name);
            }
            let path = installed.cgroup.map(cgroup::path).transpose()?.flatten();
            let cgroup = path.as_deref().map(|path| Cgroup::chosen(Some(path))).transpose()?;
            let neighbours = cgroup.as_ref().and_then(|it| neighbours::all(it, installed));
            let mut notes = Vec::new();
            if cgroup.map(|it| it.is_of_a_container()).transpose()? == Some(true) {
                notes.push(cgroup::OF_A_CONTAINER.into());
            }
            if let Some(netns) = installed.other_netns()? {
                notes.push(format!("interfaces are {netns}, not of this one"));
            }
            view = Self { cgroup: path, neighbours, notes, rules, now, ..view };
        }
        Ok(view)
    }

    /// The policy in effect.
    fn installed(&self) -> Option<&Installed> {
        self.state.in_effect()
    }

    /// The state as JSON.
    fn state(&self) -> &'static str {
        match &self.state {
            State::Absent => "absent",
            State::Foreign(_) => "foreign",
            State::Ours(installed) if installed.cgroup.is_none() => "gone",
            State::Ours(installed) if installed.is_current() => "installed",
            State::Ours(_) => "other-rules",
        }
    }

    fn json(&self) -> Json {
        let installed = self.installed();
        let path = |path: &Path| json::string(path.display());
        let way = installed.and_then(|it| it.way);
        let hz = installed.map_or(1, |it| it.policy.hz);
        let hosts = self.asked.hosts.unwrap_or(0);
        let rules = self.rules.iter().map(|it| rule_json(it, hosts, self.now, hz));
        let neighbours = self.neighbours.as_ref();
        let neighbours = neighbours.map(|all| json::list(all.iter().map(Neighbour::json)));
        let room = installed.and_then(|it| it.learned.as_ref()).map(|(_, room)| room);
        json::object(&[
            ("state", json::string(self.state())),
            ("installed", json::plain(installed.is_some())),
            ("current", json::plain(installed.is_some_and(Installed::is_current))),
            ("cgroup", json::option(self.cgroup.as_deref(), path)),
            ("pin", path(&self.asked.pin)),
            ("hz", json::option(installed.map(|it| it.policy.hz), json::plain)),
            ("version", json::option(installed.map(Installed::version), json::string)),
            ("digest", json::option(installed.map(Installed::digest), json::string)),
            ("program_id", json::option(installed.map(|it| it.program_id), json::plain)),
            ("link_id", json::option(installed.map(|it| it.link_id), json::plain)),
            ("interface_method", json::option(way, |way| json::string(way.method.name()))),
            ("interface_why", json::option(way, |way| json::string(way.text()))),
            ("arrivals", json::option(way, |way| json::plain(way.arrivals && self.has_arrivals()))),
            ("hosts_room", json::option(room, json::plain)),
            ("rules", json::list(rules)),
            ("neighbours", neighbours.unwrap_or_else(json::null)),
            ("notes", json::list(self.notes.iter().map(json::string))),
        ])
    }

    fn has_arrivals(&self) -> bool {
        self.installed().is_some_and(Installed::has_arrivals)
    }

    fn print(&self) {
        let installed = match (&self.state, self.installed()) {
            (_, Some(installed)) => installed,
            (State::Foreign(what), _) => {
                return output::print(&format_args!("not installed: {what}"));
            }
            (State::Absent, _) => {
                return output::print(&format_args!(
                    "not installed at {}",
                    self.asked.pin.display()
                ));
            }
            (State::Ours(_), None) => {
                let what = "the cgroup is gone, or another tool has detached the policy";
                return output::print(&format_args!("not installed: {what}"));
            }
        };
        if self.asked.rule.is_some() {
            return self.rules.iter().for_each(|rule| self.print_rule(rule, installed.policy.hz));
        }
        let cgroup = match (&self.cgroup, installed.cgroup) {
            (Some(path), _) => path.display().to_string(),
            (None, id) => {
                format!("a cgroup that is not visible here (id {})", id.unwrap_or_default())
            }
        };
        output::print(&format_args!(
            "installed on {cgroup}, pinned at {}",
            self.asked.pin.display()
        ));
        let Installed { program_id, link_id, .. } = installed;
        output::print(&format_args!("program {program_id}, link {link_id}"));
        let (version, digest) = (installed.version(), installed.digest());
        if installed.is_current() {
            output::print(&format_args!("rules {digest:.12}, HZ {}", installed.policy.hz));
        } else {
            output::print(&format_args!(
                "not by this binary: version {version}, rules {digest:.12}; this is version {}, rules {:.12}",
                rules::VERSION,
                rules::DIGEST
            ));
        }
        if let Some(way) = installed.way {
            output::print(&format_args!("interfaces by {}", way.text()));
            if !self.has_arrivals() {
                output::print(
                    &"  but the program that records the interface of a SYN is not attached: run `set-rto install`",
                );
            }
        }
        self.notes.iter().for_each(|note| output::print(&format_args!("  {note}")));
        self.print_table();
        match &self.neighbours {
            None => output::print(&"other programs on the hook cannot be read"),
            Some(all) => {
                all.iter().for_each(|it| output::print(&format_args!("also on the hook: {it}")));
            }
        }
    }

    /// A row for each rule that has matched a connection.
    fn print_table(&self) {
        if self.rules.is_empty() {
            return;
        }
        let is_shown = |it: &&Rule| self.asked.all || it.hits > 0;
        let mut table = Table::new();
        for it in self.rules.iter().filter(is_shown) {
            let counters = it.both();
            let of = |number: fn(&Evidence) -> u64| match &counters {
                Some(evidence) => count(number(evidence)),
                None => "-".into(),
            };
            let within = |percent| {
                counters.as_ref().and_then(|it| it.quantile_us(percent)).map_or("-".into(), rough)
            };
            let timer = match it.timer_us(it.main_direction(), self.now) {
                None => "-".into(),
                Some(us) if it.rule.settings.learns() => {
                    format!("{} ({})", rough(us), count(it.hosts.len() as u64))
                }
                Some(us) => rough(us),
            };
            table.row([
                it.rule.name.into(),
                timer,
                count(it.hits),
                of(|it| it.retransmissions),
                of(|it| it.needless),
                of(|it| it.gave_up),
                within(50),
                within(95),
            ]);
        }
        table.print();
        let silent: Vec<_> = self.rules.iter().filter(|it| !is_shown(it)).collect();
        match silent.as_slice() {
            [] => {}
            [one] => output::print(&format_args!("{} has no connection yet", one.rule.name)),
            many => output::print(&format_args!(
                "{} rules have no connection yet (--all lists them)",
                many.len()
            )),
        }
        for it in &self.rules {
            print_refusals(it);
        }
    }

    /// Prints one rule in full.
    fn print_rule(&self, it: &Rule, hz: u32) {
        let rules::Rule { name, line, when, text, .. } = &it.rule;
        output::print(&format_args!("{name} (line {line}): when {when}"));
        output::print(&format_args!("  {text}"));
        print_refusals(it);
        match &it.evidence {
            None => output::print(&format_args!("  {} connections", it.hits)),
            Some(evidence) => {
                for (counters, direction) in evidence.iter().zip(DIRECTIONS) {
                    print_evidence(counters, direction);
                }
            }
        }
        for (estimate, direction) in it.learned.iter().zip(DIRECTIONS) {
            if let Some(estimate) = estimate {
                let timer = estimate.timer_us(&it.rule.settings, self.now);
                output::print(&format_args!(
                    "  {direction}, all hosts: SRTT {}, RTTVAR {}, timer {}",
                    rough(estimate.srtt_us().into()),
                    rough(estimate.rttvar_us().into()),
                    rough(timer)
                ));
            }
        }
        let shown = self.asked.hosts.unwrap_or(HOSTS);
        for (known, direction) in it.hosts.iter().take(shown) {
            let estimate = known.estimate;
            let Some(host) = known.host else { unreachable!("what is of all hosts is apart") };
            output::print(&format_args!(
                "  {host} {}: SRTT {}, timer {}, {} samples, {} s ago",
                DIRECTIONS[*direction],
                rough(estimate.srtt_us().into()),
                rough(estimate.timer_us(&it.rule.settings, self.now)),
                estimate.samples,
                estimate.age_s(self.now, hz)
            ));
        }
        if it.hosts.len() > shown {
            let rest = it.hosts.len() - shown;
            output::print(&format_args!("  and {rest} more hosts (--hosts N shows N)"));
        }
    }
}

fn print_refusals(it: &Rule) {
    let name = it.rule.name;
    for column in &it.left_out {
        output::print(&format_args!("  {name}: {column}: left out, this kernel lacks it"));
    }
    for (column, times) in &it.refused {
        let noun = if *times == 1 { "time" } else { "times" };
        output::print(&format_args!("  {name}: {column}: refused by the kernel {times} {noun}"));
    }
}

/// The counters of a direction, and the histogram as bars.
fn print_evidence(it: &Evidence, direction: &str) {
    if it.asked == 0 && it.answered == 0 {
        return output::print(&format_args!("  {direction}: no connection"));
    }
    output::print(&format_args!(
        "  {direction}: {} connections, {} answered, {} of them after a retransmission",
        it.asked, it.answered, it.answered_late
    ));
    output::print(&format_args!(
        "    {} retransmissions, {} answers later than the timer, gave up {} times",
        it.retransmissions, it.needless, it.gave_up
    ));
    let most = it.round_trips.iter().max().copied().unwrap_or(0);
    for (bucket, &number) in it.round_trips.iter().enumerate().filter(|(_, number)| **number > 0) {
        let range = match it.end_us(bucket) {
            Some(end) => format!("below {}", rough(end)),
            None => "longer".into(),
        };
        let bar = "#".repeat((number * BAR).div_ceil(most) as usize);
        output::print(&format_args!("    {range:>12} {bar} {number}"));
    }
}

/// The longest bar.
const BAR: u64 = 48;

/// A number in at most seven characters: `9999999`, `12.3M`.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..10_000_000 => number.to_string(),
        10_000_000..10_000_000_000 => tenths(number / 100_000, "M"),
        _ => tenths(number / 100_000_000, "G"),
    }
}

fn tenths(number: u64, unit: &str) -> String {
    format!("{}.{}{unit}", number / 10, number % 10)
}

fn rule_json(it: &Rule, hosts: usize, now: u32, hz: u32) -> Json {
    let refused = it.refused.iter().map(|(column, times)| {
        json::object(&[("setting", json::string(column)), ("times", json::plain(times))])
    });
    let evidence = it.evidence.as_ref().map(|both| {
        let of = |direction: usize| evidence_json(&both[direction]);
        json::object(&[(DIRECTIONS[0], of(0)), (DIRECTIONS[1], of(1))])
    });
    let learned = it.rule.settings.learns().then(|| {
        let of_all = |direction: usize| {
            let estimate = it.learned[direction].as_ref();
            json::option(estimate, |estimate| estimate_json(estimate, it, now, hz, Vec::new()))
        };
        let shown = it.hosts.iter().take(hosts).filter_map(|(known, direction)| {
            let named = vec![
                ("host", json::string(known.host?)),
                ("direction", json::string(DIRECTIONS[*direction])),
            ];
            Some(estimate_json(&known.estimate, it, now, hz, named))
        });
        json::object(&[
            ("hosts", json::plain(it.hosts.len())),
            (DIRECTIONS[0], of_all(0)),
            (DIRECTIONS[1], of_all(1)),
            ("latest", json::list(shown)),
        ])
    });
    json::object(&[
        ("name", json::string(it.rule.name)),
        ("rto_ms", it.rule.rto_json()),
        ("rto_jiffies", json::option(Some(it.jiffies).filter(|&n| n > 0), json::plain)),
        ("settings", it.rule.settings_json()),
        ("settings_text", json::string(it.rule.text)),
        ("hits", json::plain(it.hits)),
        ("refused", json::list(refused)),
        ("left_out", json::list(it.left_out.iter().map(json::string))),
        ("evidence", evidence.unwrap_or_else(json::null)),
        ("learned", learned.unwrap_or_else(json::null)),
    ])
}

fn estimate_json(
    estimate: &crate::shared::Estimate,
    rule: &Rule,
    now: u32,
    hz: u32,
    mut entries: Vec<(&'static str, Json)>,
) -> Json {
    entries.extend([
        ("srtt_us", json::plain(estimate.srtt_us())),
        ("rttvar_us", json::plain(estimate.rttvar_us())),
        ("timer_us", json::plain(estimate.timer_us(&rule.rule.settings, now))),
        ("samples", json::plain(estimate.samples)),
        ("age_s", json::plain(estimate.age_s(now, hz))),
    ]);
    json::object(&entries)
}

fn evidence_json(it: &Evidence) -> Json {
    let buckets = it.round_trips.iter().enumerate().map(|(bucket, number)| {
        json::object(&[
            ("below_us", json::option(it.end_us(bucket), json::plain)),
            ("count", json::plain(number)),
        ])
    });
    json::object(&[
        ("connections", json::plain(it.asked)),
        ("answered", json::plain(it.answered)),
        ("answered_after_retransmission", json::plain(it.answered_late)),
        ("retransmissions", json::plain(it.retransmissions)),
        ("late", json::plain(it.needless)),
        ("gave_up", json::plain(it.gave_up)),
        ("median_us", json::option(it.quantile_us(50), json::plain)),
        ("p95_us", json::option(it.quantile_us(95), json::plain)),
        ("round_trips_us", json::plain(it.round_trips_us)),
        ("round_trips", json::list(buckets)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        for (number, text) in [
            (0, "0"),
            (9_999_999, "9999999"),
            (12_345_678, "12.3M"),
            (9_999_999_999, "9999.9M"),
            (12_345_678_901, "12.3G"),
        ] {
            assert_eq!(count(number), text);
        }
    }
}
