//! `set-rto check`: can this kernel run these rules, and if not, what is missing.

use crate::device::{self, Loaded, Wanted};
use crate::error::{Error, hint};
use crate::host::cgroup::Cgroup;
use crate::host::{self, mounts};
use crate::probe::{self, Answer};
use crate::rules::{self, Column, Rule};
use crate::{bpf, json, output, pin, policy, timer};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// One requirement: what was found, or what is wrong.
struct Check {
    name: &'static str,
    found: Result<String, String>,
}

/// `set-rto check`.
pub(crate) fn run(as_json: bool) -> ExitCode {
    let mut checks = all();
    let settings = settings().unwrap_or_else(|error| {
        checks.push(Check { name: "settings", found: Err(error.in_a_line()) });
        Vec::new()
    });
    let ok = checks.iter().all(|check| check.found.is_ok())
        && settings.iter().all(|(_, _, answer)| !matches!(answer, Answer::No(_)));
    if as_json {
        let items = checks.iter().map(|Check { name, found }| {
            let (Ok(detail) | Err(detail)) = found;
            json::object(&[
                ("name", json::string(name)),
                ("ok", json::plain(found.is_ok())),
                ("detail", json::string(detail)),
            ])
        });
        let settings = settings.iter().map(|(rule, column, answer)| {
            json::object(&[
                ("rule", json::string(rule)),
                ("setting", json::string(column.key)),
                (
                    "algorithm",
                    json::option(Some(column.algorithm).filter(|it| !it.is_empty()), json::string),
                ),
                (
                    "ok",
                    match answer {
                        Answer::Unknown => json::null(),
                        known => json::plain(!matches!(known, Answer::No(_))),
                    },
                ),
                ("since", json::string(column.since)),
                ("detail", json::string(probe::why(column, *answer))),
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
        for (rule, column, answer) in &settings {
            let mark = match answer {
                Answer::Yes | Answer::NotMapped(_) => "ok     ",
                Answer::No(_) => "MISSING",
                Answer::Unknown => "UNKNOWN",
            };
            output::print(&format_args!(
                "{mark} rule `{rule}`: {column}: {}",
                probe::why(column, *answer)
            ));
        }
        output::print(&match ok {
            true => "this kernel can run these rules",
            false => "this kernel can't run these rules as it is",
        });
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::from(crate::REFUSED) }
}

/// The settings of each rule besides `rto`, and whether this kernel accepts them.
fn settings() -> crate::error::Result<Vec<(&'static str, Column, Answer)>> {
    if !rules::has_columns() {
        return Ok(Vec::new());
    }
    let answers = probe::ask(&Cgroup::root()?)?;
    let answer = |at: usize| answers.get(at).map_or(Answer::Unknown, |(_, answer)| *answer);
    let of_rule = |rule: Rule| {
        let name = rule.name;
        let columns: Vec<_> = rule.columns().collect();
        columns.into_iter().map(move |(at, column)| (at, name, column))
    };
    let all = rules::all().flat_map(of_rule);
    Ok(all.map(|(at, name, column)| (name, column, answer(at))).collect())
}

fn all() -> Vec<Check> {
    let in_a_line = |error: Error| error.in_a_line();
    let cgroup = Cgroup::root();
    let mut checks = vec![
        Check { name: "kernel", found: kernel() },
        Check { name: "capabilities", found: capabilities() },
        Check {
            name: "cgroup2",
            found: match &cgroup {
                Ok(root) => Ok(root.path.display().to_string()),
                Err(error) => Err(error.in_a_line()),
            },
        },
        Check { name: "hook", found: hook(cgroup.as_ref().ok()) },
        Check { name: "bpffs", found: bpffs().map_err(in_a_line) },
        Check { name: "hz", found: timer::hz().map(|hz| hz.to_string()).map_err(in_a_line) },
    ];
    // The proof is that the verifier accepts the program. Nothing stays attached: only trial connections need that.
    let Ok(cgroup) = cgroup else { return checks };
    let loaded = device::load(&Wanted { without: 0, asked: None, cgroup: &cgroup, counters: None });
    if rules::ask_for_interface() {
        let found = match &loaded {
            Ok(Loaded { way: Some(way), failed, .. }) => {
                let before = failed.iter().map(|why| format!("; {why}")).collect::<String>();
                Ok(way.text() + &before)
            }
            _ => Err("interfaces can't be found, see `program`".into()),
        };
        checks.push(Check { name: "interface", found });
    }
    let found = loaded.map(|_| "the verifier accepts it".into()).map_err(in_a_line);
    checks.push(Check { name: "program", found });
    checks
}

fn kernel() -> Result<String, String> {
    let release = host::release();
    match host::too_old(&release) {
        false => Ok(release),
        true => Err(format!("{release}: set-rto needs Linux 5.10 or newer")),
    }
}

fn capabilities() -> Result<String, String> {
    let missing = policy::missing_capabilities(None).map_err(|error| error.in_a_line())?;
    match missing.as_slice() {
        [] => Ok("enough".into()),
        _ => Err(format!("missing {}: {}", missing.join(", "), hint::ROOT)),
    }
}

fn hook(cgroup: Option<&Cgroup>) -> Result<String, String> {
    let cgroup = cgroup.ok_or("no cgroup2 to look at")?;
    match bpf::hook(cgroup.as_fd()) {
        Ok(programs) => Ok(format!("sock_ops, {} programs on it", programs.len())),
        Err(Errno::ENOSYS) => Err(hint::NO_BPF.into()),
        Err(Errno::EINVAL) => Err(hint::NO_CGROUP_BPF.into()),
        Err(errno) => Err(errno.desc().into()),
    }
}

fn bpffs() -> crate::error::Result<String> {
    let (pin, path) = (Path::new(pin::PIN), mounts::BPFFS_DIR);
    match pin::is_on_bpffs(pin)? {
        true => Ok(path.into()),
        false => {
            mounts::refuse_private_mount()?;
            Ok(format!("not mounted, install mounts it at {path}"))
        }
    }
}
