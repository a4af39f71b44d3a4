//! `set-rto check`: can this kernel run these rules, and if not, what is missing.

use crate::device::{self, Loaded};
use crate::error::Result;
use crate::host::cgroup::Cgroup;
use crate::host::{self, mounts};
use crate::policy::Load;
use crate::probe::{self, Answer, Setting};
use crate::rules::{self, Column};
use crate::{json, learned, output, pin, policy, timer};
use std::path::Path;
use std::process::ExitCode;

/// One requirement: what was found, or what is wrong.
struct Check {
    name: &'static str,
    found: std::result::Result<String, String>,
}

impl Check {
    fn of(name: &'static str, found: Result<String>) -> Self {
        Self { name, found: found.map_err(|error| error.in_a_line()) }
    }
}

/// `set-rto check`.
pub(crate) fn run(as_json: bool) -> ExitCode {
    let (checks, settings) = all();
    let ok = checks.iter().all(|check| check.found.is_ok())
        && settings.iter().all(|it| !matches!(it.answer, Answer::No(_)));
    if as_json {
        let items = checks.iter().map(|Check { name, found }| {
            let (Ok(detail) | Err(detail)) = found;
            json::object(&[
                ("name", json::string(name)),
                ("ok", json::plain(found.is_ok())),
                ("detail", json::string(detail)),
            ])
        });
        let settings = settings.iter().map(|it| {
            let Column { key, algorithm, since, .. } = it.column;
            let ok = match it.answer {
                Answer::Unknown => json::null(),
                known => json::plain(!matches!(known, Answer::No(_))),
            };
            let algorithm = Some(algorithm).filter(|it| !it.is_empty());
            json::object(&[
                ("rule", json::string(it.rule)),
                ("setting", json::string(key)),
                ("algorithm", json::option(algorithm, json::string)),
                ("ok", ok),
                ("since", json::string(since)),
                ("detail", json::string(it.why())),
            ])
        });
        output::print(&json::object(&[
            ("ok", json::plain(ok)),
            ("checks", json::list(items)),
            ("settings", json::list(settings)),
        ]));
    } else {
        for Check { name, found } in &checks {
            match found {
                Ok(detail) => output::print(&format_args!("ok      {name}: {detail}")),
                Err(detail) => output::print(&format_args!("MISSING {name}: {detail}")),
            }
        }
        for setting in &settings {
            let mark = match setting.answer {
                Answer::Yes | Answer::NotMapped(_) => "ok     ",
                Answer::No(_) => "MISSING",
                Answer::Unknown => "UNKNOWN",
            };
            output::print(&format_args!("{mark} {setting}"));
        }
        output::print(&match ok {
            true => "this kernel can run these rules",
            false => "this kernel can't run these rules as it is",
        });
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::from(crate::REFUSED) }
}

fn all() -> (Vec<Check>, Vec<Setting>) {
    let mut checks = vec![
        Check::of("kernel", host::supported_release()),
        Check::of("capabilities", policy::require_capabilities(None).map(|()| "enough".into())),
        Check::of("bpffs", bpffs()),
        Check::of("hz", timer::hz().map(|hz| hz.to_string())),
    ];
    let cgroup = match Cgroup::root() {
        Ok(cgroup) => cgroup,
        Err(error) => {
            checks.push(Check::of("cgroup2", Err(error)));
            return (checks, Vec::new());
        }
    };
    let count = |ids: Vec<u32>| format!("sock_ops, {} programs on it", ids.len());
    checks.push(Check::of("cgroup2", Ok(cgroup.path.display().to_string())));
    checks.push(Check::of("hook", policy::hook(&cgroup).map(count)));
    // The proof is that the verifier accepts the program. Nothing stays attached: only trial connections need that.
    let loaded = device::load(Load::default(), None, &cgroup);
    if rules::ASKS_FOR_INTERFACE {
        let found = match &loaded {
            Ok(Loaded { way: Some(way), failed, .. }) => {
                let before = failed.iter().map(|why| format!("; {why}")).collect::<String>();
                Ok(way.text() + &before)
            }
            _ => Err("interfaces can't be found, see `program`".into()),
        };
        checks.push(Check { name: "interface", found });
    }
    checks.push(Check::of("program", loaded.map(|_| "the verifier accepts it".into())));
    checks.push(Check::of("memory", memory()));
    let settings = probe::settings(&cgroup).unwrap_or_else(|error| {
        checks.push(Check::of("settings", Err(error)));
        Vec::new()
    });
    (checks, settings)
}

/// What the maps of evidence and of hosts take.
fn memory() -> Result<String> {
    /// An entry of a hash map with its key and value, and its share of the buckets (kernel/bpf/hashtab.c).
    const HOST: usize = 104;
    let kib = |bytes: usize| bytes.div_ceil(1024);
    let evidence = kib(rules::COUNT * 2 * rules::EVIDENCE * 8);
    if rules::HOSTS.is_none() {
        return Ok(format!("{evidence} KiB for evidence"));
    }
    let hosts = learned::hosts()?;
    let learned = kib(hosts as usize * HOST);
    Ok(format!("{evidence} KiB for evidence, {learned} KiB for {hosts} hosts"))
}

fn bpffs() -> Result<String> {
    let path = mounts::BPFFS_DIR;
    if pin::is_on_bpffs(Path::new(pin::PIN))? {
        return Ok(path.into());
    }
    mounts::refuse_private_mount()?;
    Ok(format!("not mounted, install mounts it at {path}"))
}
