//! Huge and deep files: an answer or mistakes, in seconds.

mod support;

use set_rto_compiler::compile;
use set_rto_compiler::diag::{Source, render};
use set_rto_compiler::limits::{MOST_BYTES, MOST_ITEMS, MOST_RULES};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use support::VERSION;

/// For the slowest of them, on a machine that has other things to do.
const SECONDS: Duration = Duration::from_secs(60);

const HUGE: usize = 50_000_000;

/// True if it was accepted.
fn accepts(name: &str, text: &str) -> bool {
    let source = Source { name: "rules.toml", text };
    let start = Instant::now();
    let result = compile(&source, VERSION);
    let shown = result.as_ref().err().map(|errors| render(&source, errors));
    let spent = start.elapsed();
    eprintln!(
        "{name}, {} MB: {spent:?}, {}",
        text.len() / 1_000_000,
        if shown.is_none() { "accepted" } else { "refused" }
    );
    assert!(spent < SECONDS, "{name}: {spent:?}");
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
    // Every port: the rule holds for all, which is fine.
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
