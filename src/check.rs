//! `set-rto check`: can this kernel run these rules, and if not, what is missing.

use crate::device::{self, Loaded, Wanted};
use crate::host::{self, cgroup, mounts};
use crate::json;
use crate::probe::{self, Answer};
use crate::rules::{self, Column, Rule};
use crate::{bpf, policy, timer};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// One thing that is needed: what was found, or what is wrong.
struct Check {
    name: &'static str,
    found: Result<String, String>,
}

/// `set-rto check`.
pub(crate) fn run(as_json: bool) -> ExitCode {
    let checks = all();
    let settings = settings();
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
        crate::print(&json::object(&[
            ("ok", json::plain(ok)),
            ("checks", json::list(items)),
            ("settings", json::list(settings)),
        ]));
    } else {
        for Check { name, found } in &checks {
            match found {
                Ok(detail) => crate::print(&format_args!("ok      {name}: {detail}")),
                Err(detail) => crate::print(&format_args!("MISSING {name}: {detail}")),
            }
        }
        for (rule, column, answer) in &settings {
            let mark = match answer {
                Answer::Yes | Answer::NotMapped(_) => "ok     ",
                Answer::No(_) => "MISSING",
                Answer::Unknown => "UNKNOWN",
            };
            crate::print(&format_args!(
                "{mark} rule `{rule}`: {column}: {}",
                probe::why(column, *answer)
            ));
        }
        crate::print(&match ok {
            true => "this kernel can run these rules",
            false => "this kernel can't run these rules as it is",
        });
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::from(crate::REFUSED) }
}

/// Each rule's settings besides `rto`, and whether this kernel takes them.
fn settings() -> Vec<(&'static str, Column, Answer)> {
    if !rules::has_columns() {
        return Vec::new();
    }
    // Why nothing can be tried at all is said by the checks of the program.
    let answers = cgroup::root().ok().and_then(|root| probe::ask(&root).ok()).unwrap_or_default();
    let answer = |at: usize| answers.get(at).map_or(Answer::Unknown, |(_, answer)| *answer);
    let of_rule = |rule: Rule| {
        let name = rule.name;
        let columns: Vec<_> = rule.columns().collect();
        columns.into_iter().map(move |(at, column)| (at, name, column))
    };
    rules::all().flat_map(of_rule).map(|(at, name, column)| (name, column, answer(at))).collect()
}

fn all() -> Vec<Check> {
    let missing = policy::missing_capabilities(None);
    let mut checks = vec![
        Check { name: "kernel", found: kernel() },
        Check {
            name: "capabilities",
            found: match missing.as_slice() {
                [] => Ok("enough".into()),
                _ => Err(format!("missing {}: run it as root", missing.join(", "))),
            },
        },
        Check { name: "cgroup2", found: cgroup_mount() },
        Check { name: "hook", found: hook() },
        Check { name: "bpffs", found: bpffs() },
        Check {
            name: "hz",
            found: timer::hz().map(|hz| hz.to_string()).ok_or_else(|| "can't be told".into()),
        },
    ];
    // The proof: the verifier takes the program. Nothing is attached, but where a connection is tried for a moment.
    let root = cgroup::root().ok();
    let wanted = Wanted { without: 0, asked: None, cgroup: root.as_deref(), arrivals: None };
    let loaded = device::load(&wanted);
    if rules::ask_for_interface() {
        let found = match &loaded {
            Ok(Loaded { way: Some(way), failed, .. }) => {
                let before = failed.iter().map(|why| format!("; {why}")).collect::<String>();
                Ok(way.text() + &before)
            }
            _ => Err("devices can't be found, see `program`".into()),
        };
        checks.push(Check { name: "interface", found });
    }
    let found = match loaded {
        Ok(_) => Ok("the verifier accepts it".into()),
        Err(error) => Err(error.in_a_line()),
    };
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

fn cgroup_mount() -> Result<String, String> {
    cgroup::root().map(|root| root.display().to_string()).map_err(|_| {
        "not mounted: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
            .into()
    })
}

fn hook() -> Result<String, String> {
    use nix::errno::Errno;
    let root = cgroup::root().map_err(|_| "no cgroup2 to look at".to_string())?;
    let directory = File::open(&root).map_err(|error| error.to_string())?;
    match bpf::hook(directory.as_fd()) {
        Ok(programs) => Ok(format!("sock_ops, {} programs on it", programs.len())),
        Err(Errno::ENOSYS) => Err("this kernel is built without CONFIG_BPF_SYSCALL".into()),
        Err(Errno::EINVAL) => Err("this kernel is built without CONFIG_CGROUP_BPF".into()),
        Err(errno) => Err(errno.desc().into()),
    }
}

fn bpffs() -> Result<String, String> {
    let path = Path::new(mounts::BPFFS_DIR);
    if mounts::bpffs_of(path).is_some() {
        return Ok(path.display().to_string());
    }
    match path.is_dir() {
        true => Ok(format!("not mounted, install mounts it at {}", path.display())),
        false => {
            Err("no /sys/fs/bpf to mount it at: a kernel without CONFIG_BPF_SYSCALL, or no sysfs"
                .into())
        }
    }
}
