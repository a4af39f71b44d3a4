//! What stands in files beside the rules, and the type of service of a socket.

use anyhow::Result;
use anyhow::ensure;

use super::policy::Policy;
use super::policy::end;
use crate::harness::note;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Own;
use crate::harness::tests;

const RULES: &str = include_str!("../rules/beside.toml");
const LIST: &str = include_str!("../rules/beside.txt");
const CODE: &str = include_str!("../rules/beside.c");

tests! {
    list_files: 60,
    tests_in_c: 60,
    condition_tos: 60,
    source_with_its_files: 20,
}

fn install() -> Result<Policy> {
    Policy::install("beside", RULES, &["va"])
}

fn list_files() -> Result<()> {
    let policy = install()?;
    for (rule, port) in [("file", 1150), ("named", 1152)] {
        for host in ["10.99.0.1", "10.99.1.255", "[fd99::1]", "[::ffff:10.99.1.0]"] {
            policy.outgoing(end(&format!("{host}:{port}"))?, Some(rule))?;
        }
        for host in ["10.99.0.2", "10.99.3.1", "[fd99::2]"] {
            policy.outgoing(end(&format!("{host}:{port}"))?, None)?;
        }
    }
    // An item beside the file.
    policy.outgoing(end("10.99.2.7:1150")?, Some("file"))?;
    policy.outgoing(end("10.99.2.7:1152")?, None)?;
    policy.finish()
}

fn tests_in_c() -> Result<()> {
    let policy = install()?;
    for host in ["10.99.0.1", "[fd99::1]", "[::ffff:10.99.0.1]"] {
        policy.outgoing(end(&format!("{host}:1167"))?, Some("code"))?;
        policy.outgoing(end(&format!("{host}:1166"))?, None)?;
        for (mark, rule) in [(9, Some("code-marked")), (8, None)] {
            let own = Own { mark, ..Own::default() };
            policy.outgoing_with(own, &format!("{host}:1170"), rule)?;
        }
    }
    policy.finish()
}

fn condition_tos() -> Result<()> {
    let policy = install()?;
    for remote in ["10.99.0.1:1180", "[fd99::1]:1180"] {
        for (tos, rule) in
            [(184, Some("tos")), (160, Some("tos")), (28, Some("tos-below")), (128, None)]
        {
            policy.outgoing_with(Own { tos, ..Own::default() }, remote, rule)?;
        }
    }
    policy.finish_round()?;
    // Where the kernel does not report the TOS of this socket, it is 0.
    let mapped = |rule| {
        policy.outgoing_with(Own { tos: 184, ..Own::default() }, "[::ffff:10.99.0.1]:1180", rule)
    };
    mapped(Some("tos")).or_else(|error| {
        note(format!("a mapped socket's TOS is not reported: {error:#}"));
        mapped(Some("tos-below"))
    })
}

/// The digest covers the rules and the files, in the order of their first use.
fn source_with_its_files() -> Result<()> {
    let printed = SetRto::of("beside")?.ok(&["rules", "--source"])?;
    let files = [RULES, CODE, LIST].concat();
    ensure!(printed.stdout == files, "not the files one after the other: {printed}");
    Ok(())
}
