//! Huge and deep files must give C or errors within seconds and in little memory.

mod support;

use object::{Object, ObjectSection};
use set_rto_compiler::compile;
use set_rto_compiler::diag::{Source, render};
use set_rto_compiler::files::MOST_BYTES;
use set_rto_compiler::limits::{MOST_ITEMS, MOST_RULES};
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use support::VERSION;

/// The limit of processor time for any file.
const SECONDS: Duration = Duration::from_secs(10);

/// The processor time of this thread. The machine may have other work.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("statistics");
    let nanoseconds = text.split(' ').next().and_then(|it| it.parse().ok()).expect("a number");
    Duration::from_nanos(nanoseconds)
}

/// The limit of memory for any file, in bytes.
const MEMORY: usize = 512 << 20;

/// Only one file is compiled at a time, because memory is measured for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes of memory: the current use of this process, and its peak since the last [`forget`].
fn memory() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/status").expect("statistics");
    let kilobytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    (kilobytes("VmRSS:") << 10, kilobytes("VmHWM:") << 10)
}

/// Resets the peak to the current use (proc(5), clear_refs).
fn forget() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a reset");
}

const HUGE: usize = 50_000_000;

/// True if the file was accepted.
fn accepts(name: &str, text: &str) -> bool {
    let source = Source { name: "rules.toml", text };
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    forget();
    let (before, _) = memory();
    let start = spent();
    let result = compile(&source, VERSION);
    let shown = result.as_ref().err().map(|errors| render(&source, errors));
    let spent = spent() - start;
    let grown = memory().1.saturating_sub(before);
    drop(alone);
    eprintln!(
        "{name}, {} MB: {spent:?}, {} MiB, {}",
        text.len() / 1_000_000,
        grown >> 20,
        if shown.is_none() { "accepted" } else { "refused" }
    );
    assert!(spent < SECONDS, "{name}: {spent:?}");
    assert!(grown < MEMORY, "{name}: {grown} bytes");
    assert!(shown.is_none_or(|shown| shown.len() < 1_000_000), "{name}: too much is said");
    result.is_ok()
}

fn rule(conditions: &str) -> String {
    format!("[[rule]]\nname = \"a\"\nrto = \"1s\"\n{conditions}\n")
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",")
}

#[test]
fn deep_nesting() {
    let deep = 10_000;
    for (open, close) in [("(", ")"), ("not ", ""), ("not (", ")"), ("(((((", ")"), ("((", "")] {
        let when = format!("when = '{}port == 80{}'", open.repeat(deep), close.repeat(deep));
        assert!(!accepts(open, &rule(&when)));
    }
    for (before, open, close) in
        [("port = ", "[", "]"), ("port = ", "{ a = ", " }"), ("", "a.", "a = 1"), ("", "[a.", "a]")]
    {
        let text = format!("{before}{}{}", open.repeat(deep), close.repeat(deep));
        assert!(!accepts(open, &rule(&text)));
    }
}

#[test]
fn fifty_megabytes() {
    assert!(!accepts("a comment", &(rule("port = 80") + "# " + &"x".repeat(HUGE))));
    for size in [HUGE, MOST_BYTES] {
        for what in [
            "[",
            "a",
            "\"",
            "a = 1\n",
            "\u{1f4fb}",
            "\0",
            "[[rule]]\n",
            "a.",
            "[a]\n",
            "#\n",
            "[a.b]\n",
            "(",
            "1,",
            "a = [1]\n",
            "a = {b=1}\n",
            "[[a",
            "a\n",
            "'''\n",
        ] {
            assert!(!accepts(what, &what.repeat(size / what.len())));
            if size == MOST_BYTES {
                let most = what.repeat((size - 60) / what.len());
                assert!(!accepts(&format!("{what} in a list"), &rule(&format!("port = [{most}]"))));
                let when = rule(&format!("when = '''{most}'''"));
                assert!(!accepts(&format!("{what} in an expression"), &when));
            }
        }
    }
}

#[test]
fn long_expressions() {
    for test in
        ["port == 1", "port in {1,2}", "local == ::1", "remote_port == 2 and local_port == 3"]
    {
        for join in [" or ", " and "] {
            let expression =
                [test, join].concat().repeat((MOST_BYTES - 60) / (test.len() + join.len()));
            accepts(test, &rule(&format!("when = '{expression}{test}'")));
        }
    }
    let odd = (0..32_768).map(|at| format!("local_port == {}", at * 2)).collect::<Vec<_>>();
    assert!(accepts("ports one by one", &rule(&format!("when = '{}'", odd.join(" or ")))));
    let both = (0..60_000).map(|at| format!("local_port == {at} and remote_port == {}", at / 2));
    let both = both.collect::<Vec<_>>();
    accepts("pairs of ports", &rule(&format!("when = '{}'", both.join(" or "))));
}

#[test]
fn many_items() {
    let most = MOST_ITEMS - 1;
    // The range covers every port, so the rule matches everything, which is valid.
    let ports = |count: usize| list((0..count).map(|at| (at * 7 % 65_536).to_string()));
    assert!(accepts("ports", &rule(&format!("local_port = [{}]", ports(most)))));
    assert!(accepts(
        "ports in a set",
        &rule(&format!("when = 'local_port in {{{}}}'", ports(most)))
    ));
    assert!(!accepts("a million ports", &rule(&format!("port = [{}]", ports(1_000_000)))));
    let addresses = |count: usize| {
        list((0..count).map(|at| {
            format!("\"{}\"", Ipv4Addr::from_bits((at as u32).wrapping_mul(2_654_435_761)))
        }))
    };
    assert!(accepts("addresses", &rule(&format!("remote = [{}]", addresses(most)))));
    assert!(!accepts(
        "a million addresses",
        &rule(&format!("remote = [{}]", addresses(1_000_000)))
    ));
}

fn rules(count: usize, more: impl Fn(usize) -> String) -> String {
    (0..count)
        .map(|at| format!("[[rule]]\nname = \"r{at}\"\nrto = \"1s\"\n{}\n", more(at)))
        .collect()
}

#[test]
fn many_rules() {
    let remote = |at: usize| format!("remote = \"{}\"", Ipv4Addr::from_bits(at as u32 * 2_654));
    assert!(accepts("rules", &rules(MOST_RULES, remote)));
    assert!(!accepts("a rule too many", &rules(MOST_RULES + 1, remote)));
    assert!(!accepts("a million rules", &rules(1_000_000, remote)));
    assert!(!accepts("a mistake each", &rules(MOST_RULES, remote).replace("rto", "rtt")));
    assert!(!accepts("a million mistakes", &rules(1_000_000, remote).replace("rto", "rtt")));
    assert!(!accepts("idle rules", &rules(MOST_RULES, |_| "port = 80".into())));
    assert!(!accepts("never", &rules(MOST_RULES, |_| "port = 80\nwhen = 'port < 80'".into())));
}

#[test]
fn many_entangled_rules() {
    let two =
        |at: usize| format!("local_port = {}\nremote_port = {}", at % 60_000, at * 7 % 60_000);
    let wide = |at: usize| {
        let (low, high) = (at * 7 % 30_000, 30_000 + at * 11 % 30_000);
        format!("local_port = \"{low}-{high}\"\nremote_port = \"{}-{high}\"", high - 20_000)
    };
    let three = |at: usize| {
        let address = Ipv4Addr::from_bits((at as u32).wrapping_mul(2_654_435_761));
        format!("{}\nremote = \"{address}\"\ndirection = \"outgoing\"", wide(at))
    };
    for count in [1_000, 10_000, MOST_RULES] {
        accepts(&format!("{count} rules about two ports"), &rules(count, two));
        accepts(&format!("{count} rules about two ranges"), &rules(count, wide));
        accepts(&format!("{count} rules about ranges and an address"), &rules(count, three));
    }
}

/// Lists with a product of a million ranges for each rule.
#[test]
fn products_of_lists() {
    let ports = |rule: usize, count: usize| {
        list((0..count).map(|at| ((rule * 31 + at * 2) % 65_536).to_string()))
    };
    let nets = |rule: usize, count: usize| {
        let address = |at: usize| {
            Ipv4Addr::from_bits(((rule * 977 + at * 2) as u32).wrapping_mul(2_654_435_761) & !0xff)
        };
        list((0..count).map(|at| format!("\"{}/24\"", address(at))))
    };
    let conditions = |rule: usize, count: usize| {
        format!(
            "local_port = [{}]\nremote_port = [{}]\nremote = [{}]",
            ports(rule, count),
            ports(rule + 7, count),
            nets(rule, count)
        )
    };
    accepts("20 rules of lists", &rules(20, |rule| conditions(rule, 200)));
    accepts("1,171 rules of lists", &rules(1_171, |rule| conditions(rule, 85)));
    accepts("11 rules of long lists", &rules(11, |rule| conditions(rule, 9_000)));
}

#[test]
fn thousands_of_cases() {
    let case = |rule: usize, at: usize| {
        let port = (at * 16 + rule) % 65_536;
        format!("local_port == {port} and remote_port == {}", at * 13 % 65_536)
    };
    for cases in [1_000, 4_096] {
        let when = |rule: usize| {
            let all: Vec<_> = (0..cases).map(|at| case(rule, at)).collect();
            format!("when = '{}'", all.join(" or "))
        };
        accepts(&format!("{cases} cases of 16 rules"), &rules(16, when));
    }
}

/// Maps of a program's data: those of tables, and `.rodata`, `.bss`, `.rodata.device` and three maps of devices.
fn maps(c: &str) -> usize {
    let names = c.split("SEC(\".rodata.tables").skip(1).filter_map(|rest| rest.split('"').next());
    names.collect::<std::collections::BTreeSet<_>>().len() + 6
}

#[test]
fn hosts_and_settings_fit_into_maps() {
    let host = |at: usize| {
        let network = (at as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff;
        format!("\"{}\"", std::net::Ipv6Addr::from_bits(0x2001 << 112 | network << 64 | at as u128))
    };
    let hosts = rule(&format!("remote = [{}]", list((0..MOST_ITEMS - 1).map(host))));
    let c = support::policy(&hosts).c;
    assert!(maps(&c) <= 16, "{} maps", maps(&c));
    let settings = "syn_retries = 2\ninitial_cwnd = 3\ninitial_rwnd = 3\ncwnd_clamp = 9\nrto_min = \"5ms\"\n\
        delack_max = \"5ms\"\nrto_max = \"9s\"\ncongestion = \"reno\"\necn = true\nuser_timeout = \"9s\"\n\
        keepalive_idle = \"9s\"\nkeepalive_interval = \"9s\"\nkeepalive_count = 3\nthin_linear_timeouts = true\n\
        notsent_lowat = 9\nsndbuf = 9000\nrcvbuf = 9000\nmax_pacing_rate = 9000\nmark = 1\ntos = 4\npriority = 1";
    // The text has no spaces, because a file may have only a limited number.
    let many = rules(24_000, |at| format!("local_port = {at}\n{settings}")).replace(" = ", "=");
    let object = support::clang(&support::policy(&many).c, false).expect("C");
    let file = object::File::parse(&*object).expect("an object file");
    for section in file.sections() {
        let is_data = section.name().is_ok_and(|it| it.starts_with(".rodata") || it == ".bss");
        assert!(!is_data || section.size() <= 4 << 20, "{:?}", section.name());
    }
    support::verifier::verify(&object).expect("the kernel takes it");
}

/// Globs that multiply the states of the automaton.
#[test]
fn many_globs() {
    let text = "[[rule]]\nname = \"a\"\nrto = \"1s\"\n";
    let glob = |rule: usize, at: usize| match rule % 3 {
        0 => format!("\"*{rule:x}?{at:x}*\""),
        1 => format!("\"?*{rule:x}-{at:x}\""),
        _ => format!("\"w{rule:x}*{at:x}\""),
    };
    for (count, length) in [(3, 20), (30, 20), (300, 20), (3_000, 60)] {
        let globs = |rule: usize| list((0..length).map(|at| glob(rule, at)));
        let rules = rules(count, |rule| format!("interface = [{}]", globs(rule)));
        accepts(&format!("{count} lists of {length} globs"), &rules);
    }
    let names = list((0..MOST_ITEMS - 1).map(|at| format!("\"if{at}\"")));
    accepts("names", &format!("{text}interface = [{names}]"));
}
