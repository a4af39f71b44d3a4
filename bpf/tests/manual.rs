//! Compares the manual page of the rules (`scripts/packaging/man/set-rto-rules.5`) and the README with the compiler's
//! own tables. No key, range, version or limit may be missing or differ.

use set_rto_compiler::diag::Source;
use set_rto_compiler::duration::spell;
use set_rto_compiler::field::{FIELDS, MATCH, NAME, TEST, USE, WHEN, keys};
use set_rto_compiler::files::MOST_BYTES;
use set_rto_compiler::limits::{MOST_ITEMS, MOST_RULES};
use set_rto_compiler::setting::{Form, SETTINGS};
use set_rto_compiler::{compile, compile_with};

const PAGE: &str = include_str!("../../scripts/packaging/man/set-rto-rules.5");
const README: &str = include_str!("../../README.md");

/// The lines of a `.Sh` or `.Ss` section with the name used in the page.
fn section(name: &str) -> Vec<&'static str> {
    let is_head = |line: &&str| line.starts_with(".Sh ") || line.starts_with(".Ss ");
    let lines = PAGE.lines().skip_while(|line| line.get(4..) != Some(name));
    let lines: Vec<_> = lines.skip(1).take_while(|line| !is_head(line)).collect();
    assert!(!lines.is_empty(), "the page has no section {name}");
    lines
}

/// The items of a section's lists: the name of each, and its lines as one text without macros.
fn items(name: &str) -> Vec<(&'static str, String)> {
    let mut items: Vec<(&str, String)> = Vec::new();
    for line in section(name) {
        if let Some(key) = line.strip_prefix(".It Ic ") {
            items.push((key, String::new()));
        } else if line == ".El" {
            break;
        } else if let Some((_, text)) = items.last_mut() {
            let is_macro = |word: &&str| {
                line.starts_with('.') && word.len() == 2 && word.starts_with(char::is_uppercase)
            };
            let plain = line.trim_start_matches('.').split(' ').filter(|word| !is_macro(word));
            text.extend(plain.flat_map(|word| [word, " "]));
        }
    }
    items
}

fn range(form: &Form) -> String {
    match form {
        Form::Duration(range, unit) => {
            let (low, high) = (spell(*range.start()), spell(*range.end()));
            let steps = match unit {
                1 => String::new(),
                unit => format!(", in steps of {}", spell(*unit)),
            };
            format!("A duration from {low} to {high}{steps}.")
        }
        Form::Timer(range) => {
            let (low, high) = (spell(*range.start()), spell(*range.end()));
            format!("A duration from {low} to {high}, or a table:")
        }
        // The test below tries the limits.
        Form::Tos => "A number from 0 to 252, a multiple of 4:".to_owned(),
        Form::Number(range, "") => format!("A number from {} to {}.", range.start(), range.end()),
        Form::Number(range, of) => {
            format!("A number from {} to {} {of}.", range.start(), range.end())
        }
        Form::True => "true .".to_owned(),
        Form::Algorithm => "A name of at most 15 characters,".to_owned(),
    }
}

#[test]
fn every_setting_with_its_range_version_and_mechanism() {
    let items = items("Settings");
    let keys: Vec<_> = items.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, SETTINGS.iter().map(|setting| setting.key).collect::<Vec<_>>());
    for ((key, text), setting) in items.iter().zip(&SETTINGS) {
        let range = range(&setting.form);
        assert!(text.contains(&range), "{key}: \"{range}\" is not in \"{text}\"");
        let name = setting.constant();
        assert!(text.contains(name), "{key}: {name} is not in \"{text}\"");
        let version = text.split("Linux ").nth(1).and_then(|rest| rest.split(". ").next());
        let since = Some(setting.since).filter(|since| *since != "5.10");
        assert_eq!(version, since, "{key}");
        let is_outgoing_only = setting.is_outgoing_only();
        assert_eq!(text.contains("Outgoing connections only."), is_outgoing_only, "{key}");
    }
}

/// The keys of conditions.
fn conditions() -> Vec<&'static str> {
    FIELDS.iter().map(|field| field.key).chain([WHEN.0, TEST.0]).collect()
}

/// The keys in the first column of the README's table with this head.
fn readme(head: &str) -> Vec<&'static str> {
    let rows = README.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_key_in_the_readme() {
    assert_eq!(readme("| condition |"), conditions());
    let mut settings = readme("| settings |");
    let mut known: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    settings.sort_unstable();
    known.sort_unstable();
    assert_eq!(settings, known);
}

/// The `[[rule]]` blocks of the README compile without a note.
#[test]
fn examples_of_the_readme() {
    let blocks = README.split("\n\n").filter(|block| block.starts_with("    [[rule]]"));
    let blocks: Vec<_> =
        blocks.map(|block| block.replace("\n    ", "\n").trim().to_owned()).collect();
    assert_eq!(blocks.len(), 3);
    for text in blocks {
        let policy = compile(&Source { name: "rules.toml", text: &text }, "0");
        let notes = policy.map(|policy| policy.notes.len()).map_err(|errors| format!("{errors:?}"));
        assert_eq!(notes, Ok(0), "{text}");
    }
}

#[test]
fn every_condition_and_field() {
    let described: Vec<_> = items("Conditions").iter().map(|(key, _)| *key).collect();
    assert_eq!(described, conditions());
    let described: Vec<_> = items("DESCRIPTION").iter().map(|(key, _)| *key).collect();
    assert_eq!(described, [NAME.0, USE.0, MATCH.0]);
    let grammar = section("Expressions").join(" ");
    let of = |name: &str, next: &str| {
        let from = grammar.split_once(&format!("{name} ")).expect("a line of the grammar").1;
        let text = from.split_once(next).expect("a line behind it").0;
        let words = text.split([' ', '|', '=']).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("field  ", "op  "), FIELDS.each_ref().map(|field| field.key));
    for (op, line) in ["==", "!=", "<", "<=", ">", ">="].iter().zip(1..) {
        let rule = format!("[[rule]]\nname = \"a\"\nwhen = \"port {op} {line}\"\nrto = \"1s\"\n");
        assert!(accepts(&rule), "{op}");
        assert!(grammar.contains(&format!("\"{op}\"")), "{op}");
    }
}

/// Quotes and spaces differ, because the page uses macros for them.
#[test]
fn every_key_in_the_words_of_the_tables() {
    let plain = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>();
    let items: Vec<_> =
        ["DESCRIPTION", "Conditions", "Settings"].iter().flat_map(|name| items(name)).collect();
    assert_eq!(items.len(), keys().count());
    for ((key, page), (known, text)) in items.into_iter().zip(keys()) {
        assert_eq!(key, known);
        let page = page.replace("\\(dq", "").replace("\\&", "");
        let (page, text) = (plain(&page), plain(text));
        assert!(page.starts_with(&text), "{key}: `{text}` does not begin `{page}`");
    }
}

#[test]
fn limits() {
    let text = section("Limits").join(" ");
    for limit in [MOST_BYTES, MOST_RULES, MOST_ITEMS] {
        assert!(text.contains(&format!(" {limit} ")), "{limit} is not in \"{text}\"");
    }
}

fn accepts(rules: &str) -> bool {
    let source = Source { name: "rules.toml", text: rules };
    compile_with(&source, "0", &|name| {
        Ok(match name.ends_with(".c") {
            true => "bool odd_local_port(const struct connection *c) { return c->local_port & 1; }",
            false => "10.0.0.0/8\n44.154.64/24\n",
        }
        .into())
    })
    .is_ok()
}

#[test]
fn examples_and_what_the_page_says_of_names_and_tos_hold() {
    let blocks = PAGE.split(".Bd -literal").skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once('\n')?.1.split_once(".Ed")?.0));
    let is_rules = |block: &&str| {
        block.starts_with("[[rule]]") || block.starts_with("[lists]") || block.starts_with("[code]")
    };
    let rules: Vec<_> = blocks.filter(is_rules).collect();
    assert_eq!(rules.len(), 7);
    for text in rules {
        let source = Source { name: "rules.toml", text };
        assert!(accepts(text), "{:?}\n{text}", compile(&source, "0").err());
    }
    let rule = |name: &str, setting: &str| format!("[[rule]]\nname = \"{name}\"\n{setting}\n");
    for (tos, taken) in [("tos = 252", true), ("tos = 253", false), ("tos = 256", false)] {
        assert_eq!(accepts(&rule("a", tos)), taken, "{tos}");
    }
    for (length, taken) in [(63, true), (64, false)] {
        assert_eq!(accepts(&rule(&"a".repeat(length), "ecn = true")), taken, "{length}");
    }
    for (length, taken) in [(15, true), (16, false)] {
        let congestion = format!("congestion = \"{}\"", "a".repeat(length));
        assert_eq!(accepts(&rule("a", &congestion)), taken, "{length}");
    }
}
