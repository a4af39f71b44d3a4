//! Tests: the manual page, the completions of shells (scripts/packaging/) and the READMEs say what `--help` says, all
//! of it and no more.

mod completions;
mod readme;

use crate::{Arguments, REFUSED, USAGE, status};
use argh::FromArgs;

const PAGE: &str = include_str!("../../scripts/packaging/man/set-rto.8");

/// What `set-rto WORDS --help` prints.
fn help(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().copied().chain(["--help"]).collect();
    let exit = Arguments::from_args(&["set-rto"], &words).err().expect("help is no command");
    exit.status.expect("help is no mistake");
    exit.output
}

/// The rows of a part of a help text: name and text.
fn rows(help: &str, part: &str) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    let lines = help.lines().skip_while(|line| *line != part).skip(1);
    for line in lines.take_while(|line| !line.is_empty()) {
        match (line.starts_with("   "), rows.last_mut()) {
            (true, Some((_, text))) => *text = format!("{text} {}", line.trim()).trim().into(),
            _ => {
                // Behind a long name the text begins on the next line.
                let (name, text) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
                rows.push((name.into(), text.trim().into()));
            }
        }
    }
    rows
}

fn verbs() -> Vec<String> {
    let verbs: Vec<_> = rows(&help(&[]), "Commands:").into_iter().map(|(name, _)| name).collect();
    assert!(verbs.len() >= 6, "{verbs:?}");
    verbs
}

/// The long options of a command, or of none, with their texts.
fn options(words: &[&str]) -> Vec<(String, String)> {
    let options = rows(&help(words), "Options:").into_iter();
    options.filter(|(name, _)| name.starts_with("--")).collect()
}

/// The lines of the page's sections, by their heads.
fn section(head: &str) -> Vec<&'static str> {
    let is_head = |line: &&str| line.starts_with(".Sh ") || line.starts_with(".Ss ");
    let lines = PAGE.lines().skip_while(|line| line.get(4..) != Some(head));
    let lines: Vec<_> = lines.skip(1).take_while(|line| !is_head(line)).collect();
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
        match (line, written.last_mut()) {
            (".Nm", _) => written.push("Usage: set-rto".into()),
            (line, Some(usage)) => usage.push_str(&format!(" {}", as_usage(line))),
            (line, None) => panic!("{line}"),
        }
    }
    let usage = |verb: &String| {
        let help = help(&[verb]);
        // `--` may stand before every positional argument: no news.
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
            let lines = lines.take_while(|line| !line.starts_with(".It ") && **line != ".El");
            let text = lines.copied().collect::<Vec<_>>().join(" ");
            // Followed by something: /sys/fs/bpf/set-rto is not /sys/fs/bpf/set-rto2.
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

#[test]
fn every_exit_code() {
    let section = section("EXIT STATUS");
    let codes: Vec<_> = section.iter().filter_map(|line| line.strip_prefix(".It ")).collect();
    let status = [status::NOT_INSTALLED, status::NOT_THIS, status::UNREADABLE];
    let known = [[0, USAGE, REFUSED], status].concat();
    assert_eq!(codes, known.iter().map(u8::to_string).collect::<Vec<_>>());
}
