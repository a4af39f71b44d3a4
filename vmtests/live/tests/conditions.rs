//! Every condition except `interface`: one case that matches and one that just fails to, for each direction and
//! family.

use anyhow::Result;
use anyhow::ensure;

use super::policy::Policy;
use super::policy::Rule;
use super::policy::end;
use super::support::need_ipv6;
use crate::harness::note;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Own;
use crate::harness::tests;

const RULES: &str = include_str!("../rules/conditions.toml");

tests! {
    condition_port: 60,
    condition_local_port: 60,
    condition_remote_port: 60,
    condition_remote_ipv4: 60,
    condition_remote_ipv6: 60,
    condition_local_address: 60,
    condition_family: 60,
    condition_direction: 60,
    condition_socket: 60,
    condition_tos: 60,
    source_with_its_files: 20,
    condition_in_a_file: 60,
    condition_in_c: 60,
    rule_order: 60,
}

fn install(devices: &[&str]) -> Result<Policy> {
    Policy::install("conditions", RULES, devices)
}

/// Opens a connection to each of the ends. The same rule must decide all of them.
fn outgoing(policy: &Policy, rule: Rule, ends: &[&str]) -> Result<()> {
    ends.iter().try_for_each(|text| policy.outgoing(end(text)?, rule))
}

/// Receives a SYN at each of the ends. The same rule must decide all of them.
fn incoming(policy: &Policy, rule: Rule, ends: &[&str]) -> Result<()> {
    ends.iter().try_for_each(|text| policy.incoming(text, rule))
}

fn condition_port() -> Result<()> {
    let policy = install(&["va"])?;
    let single = Some("port-single");
    outgoing(&policy, single, &["10.99.0.1:1010", "[fd99::1]:1010", "[::ffff:10.99.0.1]:1010"])?;
    outgoing(&policy, None, &["10.99.0.1:1011", "[fd99::1]:1009", "[::ffff:10.99.0.1]:1011"])?;
    incoming(&policy, single, &["10.20.1.1:1010", "[fd20:1::1]:1010"])?;
    incoming(&policy, None, &["10.20.1.1:1011", "[fd20:1::1]:1009"])?;
    // The port may be at either end.
    policy.outgoing_bound("10.20.1.1:1010", "10.99.0.1:80", single)?;
    policy.incoming_from(end("10.99.0.2:1010")?, end("10.20.1.1:80")?, single)?;

    let range = Some("port-range");
    outgoing(&policy, range, &["10.99.0.1:1020", "10.99.0.1:1029", "[fd99::1]:1025"])?;
    outgoing(&policy, None, &["10.99.0.1:1019", "10.99.0.1:1030", "[fd99::1]:1030"])?;
    incoming(&policy, range, &["10.20.1.1:1020", "10.20.1.1:1029"])?;
    incoming(&policy, None, &["10.20.1.1:1019", "10.20.1.1:1030"])?;
    policy.outgoing_bound("10.20.1.1:1029", "10.99.0.1:80", range)?;

    let list = Some("port-list");
    outgoing(&policy, list, &["10.99.0.1:1040", "10.99.0.1:1042", "10.99.0.1:1044"])?;
    outgoing(&policy, None, &["10.99.0.1:1039", "10.99.0.1:1041", "10.99.0.1:1045"])?;
    incoming(&policy, list, &["10.20.1.1:1040", "[fd20:1::1]:1043"])?;
    incoming(&policy, None, &["10.20.1.1:1041", "[fd20:1::1]:1045"])?;
    policy.finish()
}

fn condition_local_port() -> Result<()> {
    let policy = install(&["va"])?;
    let single = Some("local-port");
    incoming(&policy, single, &["10.20.1.1:1050", "[fd20:1::1]:1050"])?;
    policy.outgoing_bound("10.20.1.1:1050", "10.99.0.1:80", single)?;
    policy.outgoing_bound("10.20.1.1:1051", "10.99.0.1:80", None)?;
    // The condition does not apply to the other end's port.
    outgoing(&policy, None, &["10.99.0.1:1050", "[fd99::1]:1050"])?;
    policy.incoming_from(end("10.99.0.2:1050")?, end("10.20.1.1:80")?, None)?;

    let list = Some("local-port-list");
    incoming(&policy, list, &["10.20.1.1:1060", "10.20.1.1:1062", "[fd20:1::1]:1064"])?;
    incoming(&policy, None, &["10.20.1.1:1059", "10.20.1.1:1063", "[fd20:1::1]:1065"])?;
    policy.finish()
}

fn condition_remote_port() -> Result<()> {
    let policy = install(&["va"])?;
    let single = Some("remote-port");
    outgoing(&policy, single, &["10.99.0.1:1070", "[fd99::1]:1070", "[::ffff:10.99.0.1]:1070"])?;
    policy.incoming_from(end("10.99.0.2:1070")?, end("10.20.1.1:80")?, single)?;
    policy.incoming_from(end("[fd99::2]:1070")?, end("[fd20:1::1]:80")?, single)?;
    policy.outgoing_bound("10.20.1.1:1070", "10.99.0.1:80", None)?;
    incoming(&policy, None, &["10.20.1.1:1070", "[fd20:1::1]:1070"])?;

    let list = Some("remote-port-list");
    outgoing(&policy, list, &["10.99.0.1:1080", "10.99.0.1:1082", "[fd99::1]:1084"])?;
    outgoing(&policy, None, &["10.99.0.1:1079", "10.99.0.1:1083", "[fd99::1]:1085"])?;
    policy.incoming_from(end("10.99.0.2:1081")?, end("10.20.1.1:80")?, list)?;
    policy.incoming_from(end("10.99.0.2:1083")?, end("10.20.1.1:80")?, None)?;

    // 65025 is 0xfe01; in the wrong byte order it reads as 510.
    outgoing(&policy, Some("remote-port-high"), &["10.99.0.1:65025", "[fd99::1]:65025"])?;
    outgoing(&policy, None, &["10.99.0.1:510", "[fd99::1]:510", "10.99.0.1:65024"])?;
    policy.finish()
}

fn condition_remote_ipv4() -> Result<()> {
    let policy = install(&["va"])?;
    let prefix = Some("remote-prefix4");
    outgoing(&policy, prefix, &["10.99.1.1:1100", "10.99.1.0:1100", "10.99.1.255:1100"])?;
    outgoing(&policy, None, &["10.99.0.255:1100", "10.99.2.0:1100", "10.99.1.1:1099"])?;
    outgoing(&policy, prefix, &["[::ffff:10.99.1.200]:1100"])?;
    outgoing(&policy, None, &["[::ffff:10.99.2.200]:1100", "[fd99::a63:101]:1100"])?;
    // An IPv4 client connects to a dual-stack listener, as most servers have.
    policy.incoming_from(end("10.99.1.77:4000")?, end("10.20.1.1:1100")?, prefix)?;
    policy.incoming_from(end("10.99.2.77:4000")?, end("10.20.1.1:1100")?, None)?;
    // An IPv4 client connects to an IPv4-only listener.
    let four = (end("0.0.0.0:1100")?, None);
    policy.incoming_at(four, "va", end("10.99.1.78:4000")?, end("10.20.1.1:1100")?, prefix)?;
    policy.incoming_at(four, "va", end("10.99.2.78:4000")?, end("10.20.1.1:1100")?, None)?;

    outgoing(&policy, Some("remote-host4"), &["10.99.2.7:1101", "[::ffff:10.99.2.7]:1101"])?;
    outgoing(&policy, None, &["10.99.2.6:1101", "10.99.2.8:1101", "7.2.99.10:1101"])?;

    let odd = Some("remote-odd-prefix4");
    outgoing(&policy, odd, &["10.99.64.0:1102", "10.99.95.255:1102"])?;
    outgoing(&policy, None, &["10.99.63.255:1102", "10.99.96.0:1102"])?;

    let list = Some("remote-list");
    outgoing(&policy, list, &["10.99.3.0:1106", "10.99.3.3:1106", "10.99.4.9:1106"])?;
    outgoing(&policy, None, &["10.99.3.4:1106", "10.99.4.8:1106", "10.99.4.10:1106"])?;

    let loopback = Some("remote-loopback4");
    outgoing(&policy, loopback, &["127.0.0.1:1109", "127.255.255.254:1109"])?;
    outgoing(&policy, None, &["10.99.0.1:1109", "[fd99::1]:1109", "[::1]:1109"])?;
    incoming(&policy, None, &["[fd20:1::1]:1109"])?;

    let any = Some("remote-any4");
    outgoing(&policy, any, &["10.99.0.1:1107", "200.1.2.3:1107", "[::ffff:10.99.0.1]:1107"])?;
    outgoing(&policy, None, &["[fd99::1]:1107"])?;
    policy.finish()
}

fn condition_remote_ipv6() -> Result<()> {
    need_ipv6()?;
    let policy = install(&["va"])?;
    let prefix = Some("remote-prefix6");
    outgoing(&policy, prefix, &["[fd99:1::]:1103", "[fd99:1::ffff:ffff:ffff:ffff]:1103"])?;
    outgoing(&policy, None, &["[fd99:1:0:1::]:1103", "[fd99::1]:1103", "10.99.1.1:1103"])?;
    policy.incoming_from(end("[fd99:1::77]:4000")?, end("[fd20:1::1]:1103")?, prefix)?;
    policy.incoming_from(end("[fd99:1:0:1::77]:4000")?, end("[fd20:1::1]:1103")?, None)?;

    let odd = Some("remote-odd-prefix6");
    outgoing(&policy, odd, &["[fd99:2:0:0:8000::1]:1104", "[fd99:2::9fff:ffff:ffff:ffff]:1104"])?;
    outgoing(&policy, None, &["[fd99:2::7fff:ffff:ffff:ffff]:1104", "[fd99:2:0:0:a000::]:1104"])?;

    outgoing(&policy, Some("remote-host6"), &["[fd99:3::7]:1105"])?;
    outgoing(&policy, None, &["[fd99:3::6]:1105", "[fd99:3::1:7]:1105"])?;

    let list = Some("remote-list");
    outgoing(&policy, list, &["[fd99:4::1]:1106", "[fd99:4:ffff::]:1106"])?;
    outgoing(&policy, None, &["[fd99:5::1]:1106", "[fd99:3::1]:1106"])?;

    outgoing(&policy, Some("remote-around-mapped6"), &["[::99:0:0:1]:1113", "[::99:1]:1113"])?;
    outgoing(&policy, None, &["[0:0:0:1::1]:1113", "[::ffff:10.99.0.1]:1113", "10.99.0.1:1113"])?;
    policy.incoming_from(end("10.99.0.2:4001")?, end("10.20.1.1:1113")?, None)?;

    outgoing(&policy, Some("remote-any6"), &["[fd99::1]:1108", "[2001:db8::1]:1108"])?;
    // A mapped address counts as IPv4, and ::/0 as IPv6.
    outgoing(&policy, None, &["10.99.0.1:1108", "[::ffff:10.99.0.1]:1108"])?;
    policy.incoming_from(end("10.99.0.2:4000")?, end("10.20.1.1:1108")?, None)?;
    policy.finish()
}

fn condition_local_address() -> Result<()> {
    let policy = install(&["va", "vc", "vd"])?;
    let host = Some("local-host4");
    outgoing(&policy, host, &["10.99.0.1:1110", "[::ffff:10.99.0.1]:1110"])?;
    outgoing(&policy, None, &["10.30.2.1:1110", "[::ffff:10.30.2.1]:1110"])?;
    incoming(&policy, host, &["10.20.1.1:1110"])?;
    incoming(&policy, None, &["10.20.2.1:1110"])?;

    let prefix = Some("local-prefix6");
    outgoing(&policy, prefix, &["[fd99::1]:1111"])?;
    outgoing(&policy, None, &["[fd30:2::1]:1111", "10.99.0.1:1111"])?;
    incoming(&policy, prefix, &["[fd20:1::1]:1111"])?;
    incoming(&policy, None, &["[fd20:2::1]:1111"])?;

    let list = Some("local-list");
    outgoing(&policy, list, &["10.30.2.1:1112", "[fd30:2::1]:1112"])?;
    outgoing(&policy, None, &["10.99.0.1:1112", "[fd99::1]:1112"])?;
    incoming(&policy, list, &["10.20.2.1:1112", "[fd20:2::1]:1112"])?;
    incoming(&policy, None, &["10.20.1.1:1112", "[fd20:3::1]:1112"])?;
    let loopback = Some("local-loopback4");
    policy.outgoing_bound("127.0.0.1:0", "127.0.0.9:1114", loopback)?;
    outgoing(&policy, None, &["[fd99::1]:1114", "[::1]:1114", "10.99.0.1:1114"])?;
    incoming(&policy, None, &["[fd20:1::1]:1114"])?;
    // The condition does not apply to the other end's address.
    policy.incoming_from(end("10.20.2.9:4000")?, end("10.20.1.1:1112")?, None)?;
    policy.finish()
}

fn condition_family() -> Result<()> {
    let policy = install(&["va"])?;
    let four = Some("family4");
    outgoing(&policy, four, &["10.99.0.1:1120", "[::ffff:10.99.0.1]:1120"])?;
    outgoing(&policy, None, &["[fd99::1]:1120"])?;
    incoming(&policy, four, &["10.20.1.1:1120"])?;
    incoming(&policy, None, &["[fd20:1::1]:1120"])?;

    let six = Some("family6");
    outgoing(&policy, six, &["[fd99::1]:1121"])?;
    outgoing(&policy, None, &["10.99.0.1:1121", "[::ffff:10.99.0.1]:1121"])?;
    incoming(&policy, six, &["[fd20:1::1]:1121"])?;
    incoming(&policy, None, &["10.20.1.1:1121"])?;
    policy.finish()
}

fn condition_direction() -> Result<()> {
    let policy = install(&["va"])?;
    outgoing(&policy, Some("outgoing"), &["10.99.0.1:1130", "[fd99::1]:1130"])?;
    incoming(&policy, None, &["10.20.1.1:1130", "[fd20:1::1]:1130"])?;
    incoming(&policy, Some("incoming"), &["10.20.1.1:1131", "[fd20:1::1]:1131"])?;
    outgoing(&policy, None, &["10.99.0.1:1131", "[fd99::1]:1131"])?;
    policy.finish()
}

fn condition_socket() -> Result<()> {
    let policy = install(&["va"])?;
    for remote in ["10.99.0.1:1140", "[fd99::1]:1140", "[::ffff:10.99.0.1]:1140"] {
        for (mark, priority, rule) in [
            (0x105, 0, Some("marked")),
            (0x1fa, 6, Some("marked")),
            (0x205, 6, Some("urgent")),
            (0, 4, Some("urgent")),
            (0, 5, Some("unmarked")),
            (7, 0, None),
        ] {
            policy.outgoing_with(Own { mark, priority, tos: 0 }, remote, rule)?;
        }
    }
    // An answered SYN has no socket with a mark, so it is not 7.
    incoming(&policy, Some("unmarked"), &["10.20.1.1:1140", "[fd20:1::1]:1140"])?;
    policy.finish()
}

fn condition_in_a_file() -> Result<()> {
    let policy = install(&["va"])?;
    let listed = Some("listed");
    outgoing(&policy, listed, &["10.99.0.1:1150", "10.99.0.7:1150", "[fd99::1]:1150"])?;
    outgoing(&policy, None, &["10.99.0.8:1150", "10.99.0.1:1151", "[fd99:0:0:1::1]:1150"])?;
    policy.finish()
}

fn condition_in_c() -> Result<()> {
    let policy = install(&["va"])?;
    let local = end("10.20.1.1:1160")?;
    policy.incoming_from(end("10.99.0.2:40001")?, local, Some("coded"))?;
    policy.incoming_from(end("10.99.0.2:40002")?, local, None)?;
    policy.outgoing_bound("10.20.1.1:1160", "10.99.0.1:81", None)?;
    policy.finish()
}

fn condition_tos() -> Result<()> {
    let policy = install(&["va"])?;
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
    let printed = SetRto::of("conditions")?.ok(&["rules", "--source"])?;
    let (code, list) = (include_str!("../rules/tests.c"), include_str!("../rules/nets.txt"));
    let files = [RULES, code, list].concat();
    ensure!(printed.stdout == files, "not the files one after the other: {printed}");
    Ok(())
}

/// The first rule whose conditions all match decides. The hit counters show that no later rule did.
fn rule_order() -> Result<()> {
    let rules = include_str!("../rules/order.toml");
    let policy = Policy::install("order", rules, &["va"])?;
    outgoing(&policy, Some("first"), &["10.99.0.1:3000", "10.99.0.1:3005", "[fd99::1]:3009"])?;
    outgoing(&policy, Some("second"), &["10.99.0.1:3010", "[fd99::1]:3014"])?;
    outgoing(&policy, Some("third"), &["10.99.0.1:3015", "[fd99::1]:3019"])?;
    incoming(&policy, Some("third"), &["10.20.1.1:3000", "10.20.1.1:3007", "[fd20:1::1]:3012"])?;
    // These connections match the first two rules by their remote port.
    policy.incoming_from(end("10.99.0.2:3007")?, end("10.20.1.1:3007")?, Some("first"))?;
    policy.incoming_from(end("10.99.0.2:3012")?, end("10.20.1.1:3007")?, Some("second"))?;
    outgoing(&policy, Some("rest"), &["[fd99::1]:3020", "[fd99::1]:2999"])?;
    outgoing(&policy, None, &["10.99.0.1:3020", "10.99.0.1:2999"])?;
    policy.finish()
}
