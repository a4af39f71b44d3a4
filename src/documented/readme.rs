//! What the READMEs and manual pages tell people to type: each `set-rto …` is a command that there is.

use super::verbs;
use crate::Arguments;
use argh::FromArgs;

const README: &str = include_str!("../../README.md");

const PAGES: [(&str, &str); 5] = [
    ("README.md", README),
    ("scripts/packaging/README.md", include_str!("../../scripts/packaging/README.md")),
    ("bpf/README.md", include_str!("../../bpf/README.md")),
    ("set-rto.8", include_str!("../../scripts/packaging/man/set-rto.8")),
    ("set-rto-rules.5", include_str!("../../scripts/packaging/man/set-rto-rules.5")),
];

/// The words behind each `set-rto ` that begins a command: in backticks, in an indented block, in roff's literals.
fn commands(text: &str) -> Vec<String> {
    let starts = [
        "`set-rto ",
        "\n    set-rto ",
        "\nset-rto ",
        ".Ql set-rto ",
        "&& set-rto ",
        "radio set-rto ",
    ];
    let behind = |start: &&str| {
        let found = text.match_indices(*start).map(|(at, it)| &text[at + it.len()..]);
        found
            .map(|rest| rest[..rest.find(['`', '\n', '\'']).unwrap_or(rest.len())].to_owned())
            .collect::<Vec<_>>()
    };
    starts.iter().flat_map(behind).collect()
}

#[test]
fn every_command_that_is_named_can_be_typed() {
    let mut named = 0;
    for (page, text) in PAGES {
        for line in commands(text) {
            // The static binary reads no names: an address in place of the word for one.
            let line = line.replace("HOST:PORT", "192.0.2.1:80");
            let words: Vec<_> = line.split_whitespace().collect();
            // The error that prints a help text is a good one.
            let is_good = Arguments::from_args(&["set-rto"], &words)
                .map_or_else(|exit| exit.status.is_ok(), |it| it.verb.is_some());
            assert!(is_good, "{page}: set-rto {line}");
            named += 1;
        }
    }
    assert!(named > 15, "{named}");
}

#[test]
fn the_table_of_commands_has_all() {
    let rows = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `set-rto ")?.split(['`', ' ']).next());
    assert_eq!(rows.collect::<Vec<_>>(), verbs());
}
