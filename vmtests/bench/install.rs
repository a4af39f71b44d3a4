//! Compares `set-rto install` with `bpftool prog load` and attach of the same object. Runs in the sandbox.

use crate::compile::milliseconds;
use crate::row::median;
use crate::sandbox;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// The path at which bpftool pins.
const PIN: &str = "/sys/fs/bpf/bench";

/// Measures one directory of [`crate::cargo`] and prints the results as a JSON object.
pub(crate) fn measure(name: &str, directory: &Path, pairs: usize, end: Instant) -> Result<()> {
    let (binary, object) = (directory.join("set-rto"), directory.join("set_rto.o"));
    let cgroup = sandbox::cgroup_root()?;
    let has_bpftool = Command::new("bpftool").arg("version").stdout(Stdio::null()).status().is_ok();
    let install = || -> Result<f64> {
        let start = Instant::now();
        quiet(Command::new(&binary).arg("install"))?;
        let took = milliseconds(start.elapsed());
        // Only this process may remain in the sandbox.
        let left = fs::read_to_string(cgroup.join("cgroup.procs"))?.lines().count();
        ensure!(left == 1, "{left} processes are left after install");
        quiet(Command::new(&binary).arg("remove"))?;
        Ok(took)
    };
    let bpftool = || -> Result<f64> {
        let start = Instant::now();
        quiet(Command::new("bpftool").args(["prog", "load"]).arg(&object).arg(PIN))?;
        let hook = |verb: &str| {
            let mut command = Command::new("bpftool");
            command.args(["cgroup", verb]).arg(&cgroup).args(["sock_ops", "pinned", PIN]);
            command
        };
        quiet(hook("attach").arg("multi"))?;
        let took = milliseconds(start.elapsed());
        quiet(&mut hook("detach"))?;
        fs::remove_file(PIN)?;
        Ok(took)
    };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..pairs {
        if Instant::now() > end {
            break;
        }
        let first = (pair % 2 == 0).then(&install).transpose()?;
        if has_bpftool {
            theirs.push(bpftool()?);
        }
        let own = first.map_or_else(&install, Ok)?;
        ours.push(own);
        ratios.extend(theirs.last().map(|other| own / other));
    }
    let least = ours.iter().copied().min_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "install": name,
            "pairs": ours.len(),
            "set_rto_ms": median(ours),
            "set_rto_least_ms": least,
            "bpftool_ms": median(theirs),
            "ratio": median(ratios),
        })
    );
    Ok(())
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
