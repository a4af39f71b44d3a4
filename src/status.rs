//! `set-rto status`: is it there, is it this binary's, and who else is on the hook.

use crate::bpf;
use crate::device::arrivals;
use crate::error::Result;
use crate::host::cgroup;
use crate::installed::{self, Installed, Program, State};
use crate::json::{self, Json};
use crate::rules;
use crate::rules::Column;
use crate::way::Way;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit code for no policy in force.
pub(crate) const NOT_INSTALLED: u8 = 3;
/// Exit code for one of another binary or other rules, or something foreign at the pin.
pub(crate) const NOT_THIS: u8 = 4;

/// `set-rto status`.
pub(crate) fn run(pin: &Path, as_json: bool) -> Result<ExitCode> {
    let state = installed::look(pin)?;
    let (code, installed) = match &state {
        State::Absent => (NOT_INSTALLED, None),
        State::Foreign(_) => (NOT_THIS, None),
        State::Ours(installed) if installed.cgroup_id == 0 => (NOT_INSTALLED, None),
        State::Ours(installed) if installed.is_current() => (0, Some(installed)),
        State::Ours(installed) => (NOT_THIS, Some(installed)),
    };
    let view = View::new(pin, installed);
    if as_json {
        crate::print(&view.json());
    } else {
        match &state {
            State::Foreign(what) => crate::print(&format_args!("not installed: {what}")),
            State::Absent => crate::print(&format_args!("not installed at {}", pin.display())),
            State::Ours(_) => view.print(),
        }
    }
    Ok(ExitCode::from(code))
}

/// A rule of this binary, with what the kernel tells of it.
struct Counted {
    rule: rules::Rule,
    /// 0 where the timer is left to the kernel.
    jiffies: u32,
    hits: u64,
    /// Settings that the kernel refused, and how often.
    refused: Vec<(Column, u64)>,
    left_out: Vec<Column>,
}

/// What there is to show.
struct View<'a> {
    pin: &'a Path,
    installed: Option<&'a Installed>,
    cgroup: Option<PathBuf>,
    neighbours: Vec<(u32, String)>,
}

impl<'a> View<'a> {
    fn new(pin: &'a Path, installed: Option<&'a Installed>) -> Self {
        let cgroup = installed.and_then(|installed| cgroup::path(installed.cgroup_id));
        let hook = cgroup.as_ref().and_then(|path| File::open(path).ok());
        let ids = hook.and_then(|hook| bpf::hook(hook.as_fd()).ok()).unwrap_or_default();
        let own = installed.map(|installed| installed.program_id);
        let neighbours = ids
            .into_iter()
            .filter(|id| Some(*id) != own)
            .map(|id| (id, bpf::program_name(id)))
            .collect();
        Self { pin, installed, cgroup, neighbours }
    }

    /// True where the second program is in force that this way needs.
    fn has_arrivals(&self, way: Way) -> bool {
        way.arrivals && arrivals::are_attached(self.pin)
    }

    fn program(&self) -> Option<&'a Program> {
        self.installed.and_then(|installed| installed.program.as_ref())
    }

    /// The rules of this binary with what the kernel counts for them; none if it runs others.
    fn rules(&self) -> Vec<Counted> {
        let current = self.installed.is_some_and(Installed::is_current);
        let Some(program) = self.program().filter(|_| current) else { return Vec::new() };
        let counted = program.jiffies.iter().zip(&program.hits).enumerate();
        rules::all()
            .zip(counted)
            .map(|(rule, (at, (&jiffies, &hits)))| {
                let of_rule = program.failures.get(at);
                let failed = |(at, column): (usize, Column)| {
                    let times = of_rule.and_then(|row| row.get(at)).copied().filter(|&n| n > 0)?;
                    Some((column, times))
                };
                let refused = rule.columns().filter_map(failed).collect();
                let is_out = |at: usize| program.without >> at & 1 == 1;
                let left_out =
                    rule.columns().filter(|(at, _)| is_out(*at)).map(|(_, it)| it).collect();
                Counted { rule, jiffies, hits, refused, left_out }
            })
            .collect()
    }

    fn json(&self) -> Json {
        let installed = self.installed;
        let program = self.program();
        let path = |path: &Path| json::string(path.display());
        let way = program.and_then(|program| program.way);
        let rules = self.rules().into_iter().map(|it| {
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
        let neighbours = self.neighbours.iter().map(|(id, name)| {
            json::object(&[("id", json::plain(id)), ("name", json::string(name))])
        });
        json::object(&[
            ("installed", json::plain(installed.is_some())),
            ("current", json::plain(installed.is_some_and(Installed::is_current))),
            ("cgroup", json::option(self.cgroup.as_deref(), path)),
            ("pin", path(self.pin)),
            ("hz", json::option(program.map(|program| program.hz), json::plain)),
            ("version", json::option(program.map(|program| &program.version), json::string)),
            ("digest", json::option(program.map(|program| &program.digest), json::string)),
            ("program_id", json::option(installed.map(|it| it.program_id), json::plain)),
            ("link_id", json::option(installed.map(|it| it.link_id), json::plain)),
            ("interface_method", json::option(way, |way| json::string(way.method.name()))),
            ("interface_why", json::option(way, |way| json::string(way.text()))),
            ("arrivals", json::option(way, |way| json::plain(self.has_arrivals(way)))),
            ("rules", json::list(rules)),
            ("neighbours", json::list(neighbours)),
        ])
    }

    fn print(&self) {
        let Some(installed) = self.installed else {
            return crate::print(&"not installed: the cgroup that it was attached to is gone");
        };
        let cgroup = match &self.cgroup {
            Some(path) => path.display().to_string(),
            None => format!("a cgroup out of sight (id {})", installed.cgroup_id),
        };
        crate::print(&format_args!("installed on {cgroup}, pinned at {}", self.pin.display()));
        let Installed { program_id, link_id, .. } = installed;
        crate::print(&format_args!("program {program_id}, link {link_id}"));
        match &installed.program {
            None => crate::print(&"its rules can't be read: needs CAP_SYS_ADMIN"),
            Some(program) if !installed.is_current() => crate::print(&format_args!(
                "not by this binary: version {}, rules {:.12}; this is version {}, rules {:.12}",
                program.version,
                program.digest,
                rules::VERSION,
                rules::DIGEST
            )),
            Some(program) => {
                crate::print(&format_args!("rules {:.12}, HZ {}", program.digest, program.hz));
                if let Some(way) = program.way {
                    crate::print(&format_args!("interfaces by {}", way.text()));
                    if way.arrivals && !self.has_arrivals(way) {
                        crate::print(
                            &"  but the program that notes by which device a SYN comes in is not attached: `set-rto install`",
                        );
                    }
                }
            }
        }
        for Counted { rule, jiffies, hits, refused, left_out } in self.rules() {
            let connections = if hits == 1 { "connection" } else { "connections" };
            let ticks = match jiffies {
                0 => String::new(),
                1 => " (1 jiffy)".into(),
                _ => format!(" ({jiffies} jiffies)"),
            };
            let (name, text) = (rule.name, rule.text);
            crate::print(&format_args!("  {name}: {text}{ticks}, {hits} {connections}"));
            for column in left_out {
                crate::print(&format_args!("    {column}: left out, this kernel lacks it"));
            }
            for (column, times) in refused {
                let noun = if times == 1 { "time" } else { "times" };
                crate::print(&format_args!("    {column}: refused by the kernel {times} {noun}"));
            }
        }
        for (id, name) in &self.neighbours {
            crate::print(&format_args!("also on the hook: program {id} {name}"));
        }
    }
}
