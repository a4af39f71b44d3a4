//! The demonstration's scenes on the running kernel: networks that need set-rto.
//!
//! `live --demo --bin-dir DIR`: DIR has the executable `rules`, built from `vmtests/demo/rules.toml`. Prints one line
//! of JSON for each connection, prefixed with [`RESULT`]. The kernel needs what `ip` and `tc` use: veth, ifb, netem,
//! mirred, matchall, flower and gact.

mod channel;
mod datacentre;
mod learned;
mod radio;

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

use crate::harness::Test;
use crate::harness::cgroup::Cgroup;
use crate::harness::netns::sysctl;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use channel::Channel;
use channel::Link;
use channel::ROUND_TRIP;
use radio::Call;

/// The argument that requests the scenes.
pub(crate) const DEMO: &str = "--demo";
/// The argument for the process that runs the scenes. Its cgroup follows.
pub(crate) const INSIDE: &str = "--demo-inside";
/// Prefix of a line with a result.
const RESULT: &str = "demo: ";

/// The number of connections over each lossless channel, and over each lossy one.
const SURE: usize = 3;
const LOSSY: usize = 16;
/// Connections in the datacentre.
const FAST: usize = 20;

/// A policy, and the ports that select it: on the radio and in the datacentre.
const POLICIES: [(&str, u16, Option<u16>); 3] =
    [("none", 12340, Some(9041)), ("caller", 12346, None), ("both", 12345, Some(9042))];
/// Ports of learned timers: on the radio, on a channel that changes, in the datacentre.
const LEARNED: [u16; 3] = [12347, 12348, 9043];

/// Runs the scenes in a separate process with its own cgroup for the policy.
pub(crate) fn run(bin_dir: Option<&Path>) -> ExitCode {
    let ran = || -> Result<bool> {
        let bin_dir = bin_dir.context("--demo needs --bin-dir DIR")?;
        let cgroup = Cgroup::create("demo")?;
        let mut command = Command::new(std::env::current_exe()?);
        let status = command.arg(INSIDE).arg(cgroup.path()).arg(bin_dir).status()?;
        cgroup.remove()?;
        Ok(status.success())
    };
    match ran() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("live: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenes in this process.
pub(crate) fn inside(cgroup: &Path, bin_dir: PathBuf) -> ExitCode {
    let scenes =
        Test { name: "demo", limit: 0, needs_bpf: true, whole_machine: false, run: scenes };
    sandbox::run(&scenes, cgroup, Some(bin_dir))
}

fn scenes() -> Result<()> {
    SetRto::of("rules")?.ok(&["install"])?;
    for (policy, _, port) in POLICIES {
        let Some(port) = port else { continue };
        let connects = datacentre::connects(port, FAST).context("the datacentre")?;
        for connect in connects {
            say(
                &json!({"scene": "datacentre", "policy": policy, "connect": connect.as_secs_f64()}),
            );
        }
    }
    radio()?;
    learned::run()
}

/// Runs all channels at the same time: they mostly wait.
fn radio() -> Result<()> {
    let linear = sysctl("ipv4/tcp_syn_linear_timeouts");
    let mut calls = Vec::new();
    for rate in [1200, 300] {
        for (loss, count) in [(0, SURE), (10, LOSSY)] {
            for (policy, port, _) in POLICIES {
                for number in 0..count {
                    let link = Link { rate, loss, round_trip: ROUND_TRIP };
                    let channel = Arc::new(Channel::new(link).context("a channel")?);
                    calls.push((policy, number, Call::start(&channel, link, port)?));
                }
            }
        }
    }
    println!("{} calls are made", calls.len());
    let begin = Instant::now();
    while !calls.is_empty() {
        let mut open = Vec::new();
        for (policy, number, mut call) in calls {
            if call.is_over()? {
                let mut report = call.report(number == 0)?;
                report["scene"] = json!("radio");
                report["policy"] = json!(policy);
                report["linear_timeouts"] = json!(linear);
                say(&report);
            } else {
                open.push((policy, number, call));
            }
        }
        calls = open;
        println!("after {} s, {} calls go on", begin.elapsed().as_secs(), calls.len());
        sleep(Duration::from_secs(5));
    }
    Ok(())
}

fn say(result: &Value) {
    println!("{RESULT}{result}");
}
