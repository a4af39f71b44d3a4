//! Huge and deep files: an answer or mistakes, in seconds.

mod support;

use set_rto_compiler::compile;
use set_rto_compiler::diag::{Source, render};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use support::VERSION;

/// For the slowest of them, on a machine that has other things to do.
const SECONDS: Duration = Duration::from_secs(30);

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
#[ignore = "minutes without optimisation"]
fn fifty_megabytes() {
    assert!(accepts("a comment", &(rule("port = 80") + "# " + &"x".repeat(HUGE))));
    for what in ["[", "a", "\"", "a = 1\n", "\u{1f4fb}", "\0", "[[rule]]\n"] {
        assert!(!accepts(what, &what.repeat(HUGE / what.len())));
    }
    assert!(!accepts(
        "an expression",
        &rule(&format!("when = '{}port == 2'", "port == 1 or ".repeat(HUGE / 13)))
    ));
}

#[test]
fn a_million_items() {
    let million = 1_000_000_usize;
    let ports = list((0..million).map(|at| (at * 7 % 65_536).to_string()));
    // Every port: the rule holds for all, which is fine.
    assert!(accepts("a million ports", &rule(&format!("port = [{ports}]"))));
    assert!(accepts("a million ports in a set", &rule(&format!("when = 'port in {{{ports}}}'"))));
    let addresses =
        list((0..million).map(|at| {
            format!("\"{}\"", Ipv4Addr::from_bits((at as u32).wrapping_mul(2_654_435_761)))
        }));
    assert!(accepts("a million addresses", &rule(&format!("remote = [{addresses}]"))));
}

#[test]
#[ignore = "minutes without optimisation"]
fn a_million_rules() {
    let mut text = String::new();
    for at in 0..1_000_000_u32 {
        let address = Ipv4Addr::from_bits(at * 2_654);
        let _ = write!(text, "[[rule]]\nname = \"r{at}\"\nrto = \"1s\"\nremote = \"{address}\"\n");
    }
    accepts("a million rules", &text);
    let wrong = text.replace("rto", "rtt");
    assert!(!accepts("a million mistakes", &wrong));
}
