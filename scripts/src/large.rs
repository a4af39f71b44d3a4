//! Thousands of rules for the live suite, which shows the result to each kernel's verifier: a thousand mixed rules,
//! 256 globs, and 100,000 IPv6 prefixes in several maps. They are generated because they are too large for the
//! repository.

use std::fmt::Write as _;

/// The number of rules with several conditions each.
const MIXED: usize = 1_000;

/// The number of prefixes in two lists.
const PREFIXES: usize = 100_000;

/// The rules file. Connections of the suite match them: its addresses are 10.20.1.1 and fd20:1::1 on `va`, and it
/// connects to addresses in 10.0.0.0/8 and fd99::/16.
pub(crate) fn rules() -> String {
    let mut out = String::new();
    let mut number = 0;
    let mut rule = |conditions: &[String]| {
        let lines: String = conditions.iter().map(|line| format!("{line}\n")).collect();
        // A tenth of a second is a whole number of jiffies at any HZ.
        let rto = 1_000 + number * 100;
        let _ = write!(out, "[[rule]]\nname = \"r{number}\"\n{lines}rto = \"{rto}ms\"\n\n");
        number += 1;
    };
    rule(&[globs(0), "remote_port = 7".into()]);
    for at in 0..MIXED {
        rule(&mixed(at));
    }
    for list in 1..4 {
        let ports = format!("remote_port = \"{}-{}\"", list * 16_000, list * 16_000 + 9_999);
        rule(&[globs(list), ports]);
    }
    for list in 0..2 {
        rule(&[prefixes(list)]);
    }
    out
}

/// One rule in five has its own remote prefix and port. The others have their own value of one of them. Some have more
/// conditions.
fn mixed(at: usize) -> Vec<String> {
    let site = at + 1;
    let is_v4 = at % 5 < 3;
    let remote = match is_v4 {
        true => format!("remote = \"10.{}.{}.0/24\"", 96 + site / 256, site % 256),
        false => format!("remote = \"fd99:1:{site:x}::/48\""),
    };
    let (low, width) = (1_024 + at * 60, [0, 0, 9, 49][at % 4]);
    let ports = format!("\"{low}-{}\"", low + width);
    let mut all = match at % 5 {
        0 | 3 => vec![remote],
        1 | 4 => vec![format!("remote_port = {ports}")],
        _ => vec![remote, format!("remote_port = {ports}")],
    };
    if at.is_multiple_of(7) {
        all.push(format!("local_port = {ports}"));
    }
    if at.is_multiple_of(3) {
        let here = at.is_multiple_of(2);
        all.push(match (is_v4, here) {
            (true, true) => "local = \"10.20.0.0/16\"".into(),
            (true, false) => "local = \"10.21.0.0/16\"".into(),
            (false, true) => "local = \"fd20:1::/64\"".into(),
            (false, false) => "local = \"fd21::/32\"".into(),
        });
    }
    if at % 11 < 4 {
        all.push(format!("direction = \"{}\"", ["outgoing", "incoming"][at % 2]));
    }
    all
}

/// A list of 64 globs. All lists but one also match `va`.
fn globs(list: usize) -> String {
    let some = |at: usize| {
        [format!("w?an{at}"), format!("ppp{at}?*"), format!("*.{at}"), format!("v*h{at}-")]
    };
    let mut all: Vec<_> = (0..16).flat_map(|at| some(100 + 16 * list + at)).collect();
    if list != 2 {
        all.push("v?".into());
    }
    let quoted: Vec<_> = all.iter().map(|glob| format!("\"{glob}\"")).collect();
    format!("interface = [{}]", quoted.join(", "))
}

/// Every second prefix, in three blocks of different sizes.
fn prefixes(list: usize) -> String {
    let one = |at: usize| {
        let block = [0x10_0000, 0x4000_0000, 0xc012_0000_usize][at % 3];
        let site = block + at * 3 + at * at % 3;
        format!("\"fd99:{:x}:{:x}::/48\"", site >> 16, site & 0xffff)
    };
    let all: Vec<_> = (0..PREFIXES).skip(list).step_by(2).map(one).collect();
    format!("remote = [{}]", all.join(", "))
}
