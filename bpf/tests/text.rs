//! The text of the rules, mutated, random, huge or deep, gives C or errors in bounded time and never a panic. Every
//! small file that is accepted yields C that clang accepts, and the kernel too if it is available.
//!
//! The normal run is deterministic. With `SET_RTO_FUZZ_MINUTES=N` it continues with new seeds for N minutes.

mod support;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use set_rto_compiler::compile_with;
use set_rto_compiler::diag::{Source, render};
use std::path::Path;
use std::time::{Duration, Instant};
use support::generate::{Flavour, rules};
use support::print::print;
use support::random::Random;
use support::verifier::verify;
use support::{VERSION, clang, minutes};

/// The time limit for a small file, even on a busy machine.
const SLOW: Duration = Duration::from_secs(5);

/// The number of accepted files that clang compiles in the normal run.
const COMPILED: usize = 40;

/// List files of every kind; some cannot be read.
fn load(name: &str) -> Result<String, String> {
    match name.len() % 4 {
        0 => Err("no such file".into()),
        1 => Ok("10.0.0.0/8 a\n44.1/16 b\n\n2001:db8::/32\n".into()),
        2 => Ok("\u{feff}80 # one\r\n8000-8999\r\n".into()),
        _ => Ok("ax0,1\n\u{0};\u{e9}\n10.0.0.1/8 #\n# \n".into()),
    }
}

/// Compiles the text and renders the mistakes. Returns the C if the text was accepted.
fn judge(text: &str) -> Option<String> {
    let source = Source { name: "rules.toml", text };
    let start = Instant::now();
    let ran = std::panic::catch_unwind(|| match compile_with(&source, VERSION, &load) {
        Ok(policy) => Some(policy.c),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            let shown = render(&source, &errors);
            assert!(shown.starts_with("error: ") && shown.ends_with('\n'), "{shown}");
            None
        }
    });
    let answer = ran.unwrap_or_else(|_| panic!("a panic over:\n{text}"));
    assert!(start.elapsed() < SLOW, "{:?} for:\n{text}", start.elapsed());
    answer
}

/// The initial files for mutations.
fn corpus() -> Vec<String> {
    let mut files = Vec::new();
    for folder in ["tests/good", "tests/bad", "examples"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in folder.read_dir().expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|it| it == "toml") {
                files.push(std::fs::read_to_string(&path).expect("a rules file"));
            }
        }
    }
    files.retain(|text| text.len() < 4_000);
    files.sort();
    let mut runner = TestRunner::deterministic();
    for _ in 0..40 {
        let tree = rules(Flavour::Mixed).new_tree(&mut runner).expect("rules");
        let mut model = tree.current();
        model.rules.truncate(3);
        files.push(print(&model).text);
    }
    assert!(files.len() > 50, "only {} files", files.len());
    files
}

const WORDS: [&str; 80] = [
    "[[rule]]",
    "\n",
    "name = ",
    "[lists]",
    "{ file = \"x.txt\", column = 2 }",
    "@a",
    " + ",
    " - ",
    " & ",
    "(",
    "use = \"kernel\"",
    "rto = ",
    "port = ",
    "local_port = ",
    "remote = ",
    "local = ",
    "family = ",
    "when = ",
    "direction = ",
    "interface = ",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ",",
    "=",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    " and ",
    " or ",
    " not ",
    " in ",
    "port",
    "local_port",
    "remote_port",
    "local",
    "remote",
    "interface",
    "family",
    "0",
    "80",
    "65535",
    "65536",
    "-1",
    "1-2",
    "2-1",
    "18446744073709551616",
    "44.0.0.0/8",
    "::ffff:0:0/96",
    "::/0",
    "0.0.0.0/0",
    "fe80::1%eth0",
    "\"ax*\"",
    "\"ipv4\"",
    "\"outgoing\"",
    "1s",
    "120s",
    "\\u0000",
    "\u{0}",
    "\u{e9}",
    "\u{202e}",
    "\u{1f4fb}",
    "\r",
    "\t",
    "#",
    "\\",
    "\"a\"",
    "0x50",
    "1e9",
    "??)",
];

/// A few random changes.
fn mutate(files: &[String], random: &mut Random) -> String {
    let mut text: Vec<char> = random.pick(files).chars().collect();
    for _ in 0..1 + random.below(6) {
        let (a, b) = (random.below(text.len() + 1), random.below(text.len() + 1));
        let (from, to) = (a.min(b), a.max(b));
        let near = (from + random.below(12)).min(text.len());
        match random.below(8) {
            0 => drop(text.drain(from..near)),
            1 => drop(text.drain(from..to)),
            2 => drop(text.splice(from..near, random.pick(&WORDS).chars())),
            3 | 4 => drop(text.splice(from..from, random.pick(&WORDS).chars())),
            5 => {
                let copy: Vec<char> = text[from..to].to_vec();
                text.splice(near..near, copy);
            }
            6 => {
                let other: Vec<char> = random.pick(files).chars().collect();
                let start = random.below(other.len() + 1);
                let end = (start + random.below(200)).min(other.len());
                text.splice(from..from, other[start..end].iter().copied());
            }
            _ if from < text.len() => {
                text[from] = char::from_u32(random.next() as u32 % 0x300).unwrap_or('x');
            }
            _ => {}
        }
        text.truncate(20_000);
    }
    text.into_iter().collect()
}

/// Runs the tries and continues with other seeds while time remains. clang compiles the accepted files.
fn fuzz(tries: usize, fewest: usize, mut make: impl FnMut(&mut Random) -> String) {
    let end = minutes().map(|minutes| Instant::now() + minutes);
    let mut random = Random(match end {
        Some(_) => std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64,
        None => 1,
    });
    loop {
        let mut accepted = Vec::new();
        for _ in 0..tries {
            let text = make(&mut random);
            accepted.extend(judge(&text).map(|c| (text, c)));
        }
        assert!(accepted.len() >= fewest, "only {} of {tries} were accepted", accepted.len());
        let step = if end.is_some() { 1 } else { accepted.len().div_ceil(COMPILED).max(1) };
        for (text, c) in accepted.iter().step_by(step) {
            let loaded = clang(c, false).and_then(|object| verify(&object));
            loaded.unwrap_or_else(|error| panic!("{error}\nfor:\n{text}"));
        }
        if end.is_none_or(|end| Instant::now() > end) {
            return;
        }
    }
}

#[test]
fn mutated_files() {
    let files = corpus();
    fuzz(15_000, 200, |random| mutate(&files, random));
}

#[test]
fn words_as_an_expression() {
    const TESTS: [&str; 16] = [
        "port == 80",
        "port in {80, 443-445}",
        "local == 10.0.0.0/8",
        "remote != fd00::/8",
        "family == \"ipv6\"",
        "local_port == remote_port",
        "remote == local",
        "interface in {\"ax*\", \"e?\"}",
        "direction != \"incoming\"",
        "port >= 0",
        "port < 0",
        "remote_port > 65535",
        "local_port & 1 == 0",
        "remote_port - local_port == 1000",
        "(local_port + 5) - (remote_port & 0xff) <= 70000",
        "port + 1 > 8000",
    ];
    fuzz(15_000, 500, |random| {
        let mut when = String::new();
        let is_proper = random.percent(50);
        for at in 0..1 + random.below(12) {
            let word = match (is_proper, at % 2) {
                (true, 0) => random.pick(&TESTS),
                (true, _) => {
                    random.pick(&[" and ", " or ", " and not ", " or not ", " and (", ") or "])
                }
                (false, _) if random.percent(40) => random.pick(&TESTS),
                (false, _) => random.pick(&WORDS[12..]),
            };
            when.push_str(word);
        }
        let missing = when.matches('(').count().saturating_sub(when.matches(')').count());
        when.push_str(&")".repeat(missing));
        format!("[[rule]]\nname = \"a\"\nrto = \"1s\"\nwhen = '''{when} '''\n")
    });
}

#[test]
fn garbage() {
    fuzz(5_000, 0, |random| {
        let bytes: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match random.below(3) {
            0 => format!("[[rule]]\nname = \"a\"\nrto = \"1s\"\nwhen = '''{text}'''\n"),
            1 => format!("[[rule]]\n{text}"),
            _ => text,
        }
    });
}
