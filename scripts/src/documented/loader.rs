//! Tests: the manual page, the shell completions and the READMEs match `set-rto --help` exactly.

use std::process::{Command, Output};
use std::sync::OnceLock;

use super::{Path, PathBuf, read};

/// The loader with the default rules. The first test that needs it builds it.
fn set_rto(words: &[&str]) -> Output {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let sh = xshell::Shell::new().expect("a shell");
        crate::build::dev(&sh, "set-rto", None).expect("the loader is built")
    });
    Command::new(binary).args(words).output().expect("the loader runs")
}

/// The output of `set-rto WORDS --help`.
fn help(words: &[&str]) -> String {
    let output = set_rto(&[words, &["--help"]].concat());
    assert!(output.status.success(), "set-rto {words:?} --help: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The rows of a section of a help text: name and text.
fn rows(help: &str, part: &str) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let lines = help.lines().skip_while(|line| *line != part).skip(1);
    for line in lines.take_while(|line| !line.is_empty()) {
        match (line.starts_with("   "), rows.last_mut()) {
            (true, Some((_, text))) => *text = format!("{text} {}", line.trim()).trim().into(),
            _ => {
                // After a long name the text begins on the next line.
                let (name, text) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
                rows.push((name.into(), text.trim().into()));
            }
        }
    }
    rows
}

pub(super) fn verbs() -> Vec<String> {
    let verbs: Vec<_> = rows(&help(&[]), "Commands:").into_iter().map(|(name, _)| name).collect();
    assert!(verbs.len() >= 6, "{verbs:?}");
    verbs
}

/// The long options of a command, or the global ones, with their texts.
pub(super) fn options(words: &[&str]) -> Vec<(String, String)> {
    let options = rows(&help(words), "Options:").into_iter();
    options.filter(|(name, _)| name.starts_with("--")).collect()
}

/// The lines of the page's sections, by heading.
fn section(head: &str) -> Vec<String> {
    let page = read(Path::new("scripts/packaging/man/set-rto.8"));
    let is_head = |line: &&str| line.starts_with(".Sh ") || line.starts_with(".Ss ");
    let lines = page.lines().skip_while(|line| line.get(4..) != Some(head));
    let lines: Vec<_> = lines.skip(1).take_while(|line| !is_head(line)).map(String::from).collect();
    assert!(!lines.is_empty(), "the page has no section {head}");
    lines
}

/// `.Op Fl -pin Ar dir` → `[--pin <dir>]`, as argh writes it.
fn as_usage(line: &str) -> String {
    let mut text = String::new();
    let mut words = line.trim_start_matches('.').split(' ').peekable();
    let is_optional = words.next_if_eq(&"Op").is_some();
    while let Some(word) = words.next() {
        let next = words.next().unwrap_or_default();
        let (space, text) = (if text.is_empty() { "" } else { " " }, &mut text);
        match word {
            "Cm" => text.push_str(next),
            "Fl" => text.push_str(&format!("{space}-{next}")),
            "Ar" => text.push_str(&format!("{space}<{next}>")),
            _ => panic!("{line}"),
        }
    }
    if is_optional { format!("[{text}]") } else { text }
}

#[test]
fn synopsis_is_the_usage_of_every_command() {
    let mut written: Vec<String> = Vec::new();
    for line in section("SYNOPSIS") {
        match (line.as_str(), written.last_mut()) {
            (".Nm", _) => written.push("Usage: set-rto".into()),
            (line, Some(usage)) => usage.push_str(&format!(" {}", as_usage(line))),
            (line, None) => panic!("{line}"),
        }
    }
    let usage = |verb: &String| {
        let help = help(&[verb]);
        // `--` is allowed before every positional argument, so it is not an option.
        help.lines().next().unwrap_or_default().trim_end().replace(" [--]", "")
    };
    let mut expected: Vec<_> = verbs().iter().map(usage).collect();
    expected.push("Usage: set-rto --version".into());
    assert_eq!(written, expected);
}

#[test]
fn every_option_stands_in_the_section_of_its_command_with_its_default() {
    for verb in verbs() {
        let head = format!("set-rto {verb}");
        let section = section(&head);
        let items: Vec<_> = section.iter().filter_map(|line| line.strip_prefix(".It ")).collect();
        let options = options(&[&verb]);
        let positional = rows(&help(&[&verb]), "Positional Arguments:");
        let mut names: Vec<_> =
            options.iter().map(|(name, _)| format!("Fl {}", &name[1..])).collect();
        names.extend(positional.iter().map(|(name, _)| format!("Ar {name}")));
        let of = |item: &str| item.split(' ').take(2).collect::<Vec<_>>().join(" ");
        assert_eq!(items.iter().map(|item| of(item)).collect::<Vec<_>>(), names, "{head}");
        for (name, text) in options {
            let Some(default) = text.split_once("(default: ").map(|(_, rest)| rest) else {
                continue;
            };
            let default = default.trim_end_matches(')');
            let item = format!("Fl {}", &name[1..]);
            let lines = section.iter().skip_while(|line| !line.contains(&item)).skip(1);
            let lines = lines.take_while(|line| !line.starts_with(".It ") && *line != ".El");
            let text = lines.cloned().collect::<Vec<_>>().join(" ");
            // The path continues: /sys/fs/bpf/set-rto is not /sys/fs/bpf/set-rto2.
            let is_told = [' ', '.'].iter().any(|end| text.contains(&format!("{default}{end}")));
            assert!(is_told, "{head}: {name}: \"{default}\" is not in \"{text}\"");
        }
    }
    let global: Vec<_> = options(&[]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(global, ["--version"]);
    section("set-rto --version");
    let text = section("DESCRIPTION").join("\n");
    for word in [".Fl h ,", ".Fl -help", ".Cm help"] {
        assert!(text.contains(word), "{word}");
    }
    assert!(help(&[]).contains("-h, --help, help "), "the page names three ways to ask for help");
}

/// vmtests/live/tests checks each of them.
#[test]
fn every_exit_code() {
    let section = section("EXIT STATUS");
    let codes: Vec<_> = section.iter().filter_map(|line| line.strip_prefix(".It ")).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5"]);
}

/// The pages that mention commands.
const PAGES: [&str; 5] = [
    "README.md",
    "scripts/packaging/README.md",
    "bpf/README.md",
    "scripts/packaging/man/set-rto.8",
    "scripts/packaging/man/set-rto-rules.5",
];

/// The words after each `set-rto ` that begins a command: in backticks, in an indented block, in roff's literals.
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
    for page in PAGES {
        for line in commands(&read(Path::new(page))) {
            // The static binary does not resolve names, so an address replaces the placeholder.
            let line = line.replace("HOST:PORT", "192.0.2.1:80");
            let mut words: Vec<_> = line.split_whitespace().collect();
            // The command is parsed but not run. Help is printed only if the words before it are valid.
            if words != ["version"] {
                words.push("--help");
            }
            let is_good = !words.is_empty() && set_rto(&words).status.success();
            assert!(is_good, "{page}: set-rto {line}");
            named += 1;
        }
    }
    assert!(named > 15, "{named}");
}

#[test]
fn the_table_of_commands_has_all() {
    let readme = read(Path::new("README.md"));
    let rows = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `set-rto ")?.split(['`', ' ']).next());
    assert_eq!(rows.collect::<Vec<_>>(), verbs());
}
