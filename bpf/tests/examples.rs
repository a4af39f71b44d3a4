//! The rule files in `examples/` and the default one, compiled and run on hand-picked connections.

mod support;

use std::path::Path;
use support::check::{one, other};
use support::connection::{Connection, incoming, outgoing};
use support::image::Image;
use support::runner::Runner;
use support::{clang, policy};

/// An example, and the rule of it that decides.
fn decides(file: &str, cases: &[(Connection, Option<usize>)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
    decides_text(&std::fs::read_to_string(path).expect("an example"), cases);
}

fn decides_text(text: &str, cases: &[(Connection, Option<usize>)]) {
    let c = policy(text).c;
    for big_endian in [false, true] {
        let object = clang(&c, big_endian).unwrap_or_else(|error| panic!("{error}"));
        let mut runner =
            Runner::new(Image::read(&object, big_endian), big_endian).expect("a program");
        for (connection, rule) in cases {
            let ran = one(&mut runner, connection, 0, *rule, false);
            ran.and_then(|_| other(&mut runner, connection, 3, 0, 4))
                .unwrap_or_else(|what| panic!("{what}\n{text}"));
        }
    }
}

/// A first build must not print a note about rules that the user did not write, even after the user uncomments a rule.
#[test]
fn default_rules_and_those_in_comments_are_without_notes() {
    let text = include_str!("../../rules.toml");
    let commented = text.lines().skip_while(|line| !line.starts_with("[[rule]]")).map(|line| {
        let is_rule = line.starts_with("# [[") || line.starts_with("# ") && line.contains(" = ");
        if is_rule { &line[2..] } else { line }
    });
    let all = commented.collect::<Vec<_>>().join("\n");
    for (text, rules) in [(text, 1), (&*all, 4)] {
        let policy = policy(text);
        assert_eq!(policy.rules.len(), rules, "{text}");
        assert!(policy.notes.is_empty(), "{:?}", policy.notes);
    }
}

/// Functions in C, in a chain and where tables decide.
#[test]
fn tests_in_c() {
    let code = include_str!("good/code.toml");
    let others = (0..40).map(|at| {
        let (port, remote) = (7000 + at, 10 + at);
        format!(
            "[[rule]]\nname = \"r{at}\"\nlocal_port = {port}\nremote = \"{remote}.0.0.0/8\"\nrto = \"1s\"\n"
        )
    });
    let many = [code.to_owned()].into_iter().chain(others).collect::<String>();
    for text in [code, &many] {
        decides_text(
            text,
            &[
                (outgoing("10.0.0.1:1001", "10.0.0.2:4000"), Some(0)),
                (outgoing("10.0.0.1:1000", "10.0.0.2:4000"), None),
                (outgoing("[2001:db8::1]:1001", "[2001:db8::2]:4000"), Some(0)),
                (incoming("10.0.0.1:1001", "10.0.0.2:4000"), Some(0)),
                (incoming("10.9.9.7:2", "10.0.0.7:80"), Some(1)),
                (outgoing("10.9.9.7:2", "10.0.0.7:80"), None),
                (incoming("10.9.9.7:2", "10.0.0.8:80"), None),
                (incoming("[2001:db8::7]:2", "[2001:db8::7]:80"), None),
            ],
        );
    }
}

#[test]
fn ports_equal_on_both_ends() {
    decides(
        "same-port.toml",
        &[
            (outgoing("10.0.0.1:123", "10.0.0.2:123"), Some(0)),
            (incoming("10.0.0.1:123", "10.0.0.2:123"), Some(0)),
            (outgoing("[fe80::1]:500", "[fe80::2]:500"), Some(0)),
            (outgoing("10.0.0.1:123", "10.0.0.2:124"), None),
            // The bytes of one are those of the other in reverse order.
            (outgoing("10.0.0.1:258", "10.0.0.2:513"), None),
        ],
    );
}

#[test]
fn a_network_but_one_port() {
    decides(
        "net-44-but-one-port.toml",
        &[
            (outgoing("44.1.0.1:40000", "44.128.0.1:80"), Some(0)),
            (outgoing("10.0.0.1:8080", "44.191.255.255:1"), Some(0)),
            (outgoing("10.0.0.1:40000", "44.192.0.1:80"), None),
            (outgoing("10.0.0.1:40000", "44.128.0.1:8080"), None),
            (outgoing("10.0.0.1:40000", "43.255.255.255:80"), None),
            (outgoing("10.0.0.1:40000", "45.0.0.0:80"), None),
            (incoming("44.0.0.1:80", "10.0.0.1:40000"), None),
            (outgoing("[::ffff:10.0.0.1]:40000", "[::ffff:44.0.0.1]:80"), Some(0)),
            (outgoing("[2c00::1]:40000", "[2c00::2]:80"), None),
        ],
    );
}

#[test]
fn a_pair_of_datacentres() {
    let (here, there) = ("[2001:db8:40::1]:40000", "[2001:db8:50::1]:443");
    decides(
        "datacentre.toml",
        &[
            (outgoing(here, "[2001:db8:4f:ffff:ffff:ffff:ffff:ffff]:443"), Some(0)),
            (outgoing(here, there), Some(1)),
            (incoming(there, here), Some(1)),
            (outgoing(there, "[2001:db8:50::2]:443"), None),
            (outgoing(here, "[2001:db8:3f:ffff:ffff:ffff:ffff:ffff]:443"), None),
            (outgoing(here, "[2001:db8:60::]:443"), None),
            (outgoing("10.0.0.1:40000", "10.0.0.2:443"), None),
        ],
    );
}

#[test]
fn ten_thousand_ports() {
    let mut cases = Vec::new();
    let text = include_str!("../examples/ten-thousand-ports.toml");
    let listed: Vec<u16> =
        text.split(['[', ']', ',', '\n']).filter_map(|word| word.trim().parse().ok()).collect();
    assert_eq!(listed.len(), 10_000);
    for port in
        [0, 1, 21, 22, 23, 79, 80, 5002, 5003, 5004, 5008, 5009, 5010, 8443, 64_937, 65_534, 65_535]
    {
        let rule = listed.contains(&port).then_some(0);
        cases.push((incoming(&format!("10.0.0.1:{port}"), "10.0.0.2:40000"), rule));
        cases.push((outgoing("10.0.0.1:21", &format!("10.0.0.2:{port}")), None));
    }
    assert!(cases.iter().filter(|(_, rule)| rule.is_some()).count() > 5);
    decides("ten-thousand-ports.toml", &cases);
}
