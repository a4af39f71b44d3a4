//! `set-rto status`: whether a policy is installed, whether it is this binary's, and what else is on the hook.

use crate::bpf;
use crate::error::Result;
use crate::host::cgroup::{self, Cgroup};
use crate::json::{self, Json};
use crate::output;
use crate::pin::{self, Installed, State};
use crate::rules;
use crate::rules::Column;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code if no policy is in effect.
pub(crate) const NOT_INSTALLED: u8 = 3;
/// Exit code for a policy of another binary or of other rules, or something foreign at the pin.
pub(crate) const NOT_THIS: u8 = 4;
/// Exit code if the state cannot be read.
pub(crate) const UNREADABLE: u8 = 5;

/// `set-rto status`.
pub(crate) fn run(pin: &Path, as_json: bool) -> Result<ExitCode> {
    let found = pin::look_at(pin).and_then(|state| View::new(pin, state));
    let view = match found {
        Ok(view) => view,
        Err(error) => {
            if as_json {
                let state = [("state", json::string("unreadable")), ("installed", json::null())];
                output::print(&json::object(&state));
            }
            return Err(error);
        }
    };
    match as_json {
        true => output::print(&view.json()),
        false => view.print(),
    }
    Ok(ExitCode::from(view.code()))
}

/// A rule of this binary with its state in the kernel.
struct Counted {
    rule: rules::Rule,
    /// 0 if the timer is left to the kernel.
    jiffies: u32,
    hits: u64,
    /// Settings that the kernel refused, and how often.
    refused: Vec<(Column, u64)>,
    left_out: Vec<Column>,
}

/// What `status` shows.
struct View<'a> {
    pin: &'a Path,
    state: State,
    cgroup: Option<PathBuf>,
    /// Ids and names of other programs on the hook; names need CAP_SYS_ADMIN. None if the hook cannot be read.
    neighbours: Option<Vec<(u32, Option<String>)>>,
    rules: Vec<Counted>,
}

impl<'a> View<'a> {
    fn new(pin: &'a Path, state: State) -> Result<Self> {
        let mut view =
            Self { pin, state, cgroup: None, neighbours: Some(Vec::new()), rules: Vec::new() };
        if let Some(installed) = view.installed() {
            let rules = if installed.is_current() { counted(installed)? } else { Vec::new() };
            let cgroup = installed.cgroup.and_then(cgroup::path);
            let neighbours = cgroup.as_deref().and_then(|path| neighbours(path, installed));
            view = Self { cgroup, neighbours, rules, ..view };
        }
        Ok(view)
    }

    /// The policy in effect.
    fn installed(&self) -> Option<&Installed> {
        match &self.state {
            State::Ours(installed) if installed.cgroup.is_some() => Some(installed),
            _ => None,
        }
    }

    fn code(&self) -> u8 {
        match (&self.state, self.installed()) {
            (State::Foreign(_), _) => NOT_THIS,
            (State::Absent, _) | (State::Ours(_), None) => NOT_INSTALLED,
            (State::Ours(_), Some(installed)) => {
                if installed.is_current() {
                    0
                } else {
                    NOT_THIS
                }
            }
        }
    }

    /// Prints JSON.
    fn state(&self) -> &'static str {
        match (&self.state, self.installed()) {
            (State::Absent, _) => "absent",
            (State::Foreign(_), _) => "foreign",
            (State::Ours(_), None) => "gone",
            (State::Ours(_), Some(installed)) => {
                if installed.is_current() {
                    "installed"
                } else {
                    "other-rules"
                }
            }
        }
    }

    fn json(&self) -> Json {
        let installed = self.installed();
        let path = |path: &Path| json::string(path.display());
        let way = installed.and_then(|it| it.way);
        let rules = self.rules.iter().map(|it| {
            let refused = it.refused.iter().map(|(column, times)| {
                json::object(&[("setting", json::string(column)), ("times", json::plain(times))])
            });
            json::object(&[
                ("name", json::string(it.rule.name)),
                ("rto_ms", it.rule.rto_json()),
                ("rto_jiffies", json::option(Some(it.jiffies).filter(|&n| n > 0), json::plain)),
                ("settings", json::string(it.rule.text)),
                ("hits", json::plain(it.hits)),
                ("refused", json::list(refused)),
                ("left_out", json::list(it.left_out.iter().map(json::string))),
            ])
        });
        let neighbours = self.neighbours.as_ref().map(|all| {
            json::list(all.iter().map(|(id, name)| {
                let name = json::option(name.as_ref(), json::string);
                json::object(&[("id", json::plain(id)), ("name", name)])
            }))
        });
        json::object(&[
            ("state", json::string(self.state())),
            ("installed", json::plain(installed.is_some())),
            ("current", json::plain(installed.is_some_and(Installed::is_current))),
            ("cgroup", json::option(self.cgroup.as_deref(), path)),
            ("pin", path(self.pin)),
            ("hz", json::option(installed.map(|it| it.policy.hz), json::plain)),
            ("version", json::option(installed.map(Installed::version), json::string)),
            ("digest", json::option(installed.map(Installed::digest), json::string)),
            ("program_id", json::option(installed.map(|it| it.program_id), json::plain)),
            ("link_id", json::option(installed.map(|it| it.link_id), json::plain)),
            ("interface_method", json::option(way, |way| json::string(way.method.name()))),
            ("interface_why", json::option(way, |way| json::string(way.text()))),
            ("arrivals", json::option(way, |way| json::plain(way.arrivals && self.has_arrivals()))),
            ("rules", json::list(rules)),
            ("neighbours", neighbours.unwrap_or_else(json::null)),
        ])
    }

    fn has_arrivals(&self) -> bool {
        self.installed().is_some_and(Installed::has_arrivals)
    }

    fn print(&self) {
        let installed = match (&self.state, self.installed()) {
            (State::Foreign(what), _) => {
                return output::print(&format_args!("not installed: {what}"));
            }
            (State::Absent, _) => {
                return output::print(&format_args!("not installed at {}", self.pin.display()));
            }
            (State::Ours(_), None) => {
                let what = "the cgroup is gone, or another tool has detached the policy";
                return output::print(&format_args!("not installed: {what}"));
            }
            (State::Ours(_), Some(installed)) => installed,
        };
        let cgroup = match (&self.cgroup, installed.cgroup) {
            (Some(path), _) => path.display().to_string(),
            (None, id) => {
                format!("a cgroup that is not visible here (id {})", id.unwrap_or_default())
            }
        };
        output::print(&format_args!("installed on {cgroup}, pinned at {}", self.pin.display()));
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
        for counted in &self.rules {
            counted.print();
        }
        match &self.neighbours {
            None => output::print(&"other programs on the hook cannot be read"),
            Some(all) => {
                for (id, name) in all {
                    let name = name.as_deref().unwrap_or("(its name needs CAP_SYS_ADMIN)");
                    output::print(&format_args!("also on the hook: program {id} {name}"));
                }
            }
        }
    }
}

impl Counted {
    fn print(&self) {
        let connections = if self.hits == 1 { "connection" } else { "connections" };
        let ticks = match self.jiffies {
            0 => String::new(),
            1 => " (1 jiffy)".into(),
            jiffies => format!(" ({jiffies} jiffies)"),
        };
        let rules::Rule { name, text, .. } = &self.rule;
        output::print(&format_args!("  {name}: {text}{ticks}, {} {connections}", self.hits));
        for column in &self.left_out {
            output::print(&format_args!("    {column}: left out, this kernel lacks it"));
        }
        for (column, times) in &self.refused {
            let noun = if *times == 1 { "time" } else { "times" };
            output::print(&format_args!("    {column}: refused by the kernel {times} {noun}"));
        }
    }
}

/// The rules of this binary with the kernel's counters.
fn counted(installed: &Installed) -> Result<Vec<Counted>> {
    let (hits, failures) = installed.count()?;
    let without = installed.policy.without;
    let counted = installed.jiffies.iter().zip(&hits).enumerate();
    let rules = rules::all().zip(counted).map(|(rule, (at, (&jiffies, &hits)))| {
        let of_rule = failures.get(at);
        let failed = |(at, column): (usize, Column)| {
            let times = of_rule.and_then(|row| row.get(at)).copied().filter(|&n| n > 0)?;
            Some((column, times))
        };
        let refused = rule.columns().filter_map(failed).collect();
        let left_out = rule.columns().filter(|(at, _)| without >> at & 1 == 1);
        let left_out = left_out.map(|(_, column)| column).collect();
        Counted { rule, jiffies, hits, refused, left_out }
    });
    Ok(rules.collect())
}

/// The other programs on the hook of a cgroup and of its ancestors; None if it cannot be read.
fn neighbours(cgroup: &Path, installed: &Installed) -> Option<Vec<(u32, Option<String>)>> {
    let cgroup = Cgroup::chosen(Some(cgroup)).ok()?;
    let ids = bpf::hook(cgroup.as_fd()).ok()?;
    let others = ids.into_iter().filter(|id| *id != installed.program_id);
    Some(others.map(|id| (id, bpf::program_name(id).ok())).collect())
}
