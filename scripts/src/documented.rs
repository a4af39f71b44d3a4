//! Tests of the commands in READMEs and manual pages.
//!
//! Each command of each README is in [`COMMANDS`], with the test that runs it or the reason why no test does. Commands
//! that are cheap and change nothing are run here unchanged.

mod completions;
mod loader;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args;
use crate::image::{BLOCKS, COMMANDS as IN_IMAGES};
use crate::readme;

/// How a command is tested.
enum How {
    /// It is run here.
    Run,
    /// `cargo xtask image` runs it in virtual machines, together with its block.
    Image,
    /// A test of this name in this file does the same.
    By(&'static str, &'static str),
    /// It is not run, for this reason.
    Not(&'static str),
}
use How::{By, Image, Not, Run};

const MINUTES: &str = "takes minutes or hours: a task of its own, run before a release";
const TREE: &str = "needs the tree of another project: tried by hand";
const MACHINE: &str = "needs another machine";

const COMMANDS: &[(&str, How)] = &[
    ("$EDITOR rules.toml", Not("interactive")),
    (
        "cargo xtask install",
        Not("changes the machine; its steps have tests: scripts/src/install.rs"),
    ),
    (
        "set-rto try 192.0.2.1:12345",
        By("vmtests/live/tests/install.rs", "default_rules_give_twenty_seconds"),
    ),
    ("cargo xtask check rules.toml", Run),
    ("cargo xtask show rules.toml", Run),
    ("cargo xtask explain rules.toml 'outgoing ax0 10.0.0.1:40000 -> 44.1.2.3:12345'", Run),
    ("set-rto advise", By("vmtests/live/tests/learned.rs", "fn evidence_counts")),
    (
        "cargo xtask dist --target aarch64 --rules my.toml",
        Not("fetches zig; `cargo xtask image` and .ci/run build what it builds"),
    ),
    ("scp target/dist/aarch64/set-rto root@pi:/usr/local/sbin/set-rto.new", Not(MACHINE)),
    (
        "ssh root@pi 'mv /usr/local/sbin/set-rto.new /usr/local/sbin/set-rto && set-rto install'",
        Not(MACHINE),
    ),
    (
        "SET_RTO_BTF=/path/to/vmlinux cargo xtask build --rules my.toml",
        By("scripts/src/loaders.rs", "interfaces-btf"),
    ),
    (
        "cargo build --release",
        Not("`cargo xtask bench` times it; the other builds are the same package"),
    ),
    (
        "cargo build --profile dist --no-default-features --features system",
        By("scripts/src/build.rs", "dev_with_system"),
    ),
    ("cargo xtask test", Not("runs this test")),
    ("cargo xtask dist --rules my.toml", Not("`cargo xtask image` builds what it builds")),
    ("sudo apt install ./target/dist/x86_64/set-rto_*.deb", Image),
    ("sudo systemctl enable --now set-rto", Image),
    ("sudo dpkg-deb -x target/dist/aarch64/set-rto_*.deb /mnt", Not("needs a card")),
    ("sudo systemctl --root=/mnt enable set-rto", Not("needs a card")),
    ("cd target/dist/aarch64 && scp -O set-rto root@router:/usr/sbin/", Not(MACHINE)),
    ("scp -O set-rto.init root@router:/etc/init.d/set-rto", Not(MACHINE)),
    ("ssh root@router '/etc/init.d/set-rto enable; /etc/init.d/set-rto start'", Not(MACHINE)),
    (
        "cargo xtask dist --source",
        By("scripts/src/dist/source.rs", "the_recipes_have_the_checksum"),
    ),
    ("cp -r target/dist/source/recipes/buildroot/set-rto $BR2_EXTERNAL/package/", Not(TREE)),
    (
        "echo 'source \"$BR2_EXTERNAL_MINE_PATH/package/set-rto/Config.in\"' >> $BR2_EXTERNAL/Config.in",
        Not(TREE),
    ),
    (
        "echo 'include $(BR2_EXTERNAL_MINE_PATH)/package/set-rto/set-rto.mk' >> $BR2_EXTERNAL/external.mk",
        Not(TREE),
    ),
    (
        "podman build -t set-rto -f scripts/packaging/container/Containerfile target/dist/x86_64",
        Image,
    ),
    ("scripts/packaging/container/run.sh install", Image),
    ("cargo xtask fuzz --text --minutes 10", Not(MINUTES)),
    ("cargo xtask bench", Not(MINUTES)),
    ("cargo xtask demo", Not(MINUTES)),
    ("cargo xtask image", Not(MINUTES)),
    ("cargo xtask matrix", Not(MINUTES)),
];

/// The first words of blocks that are not commands.
const OTHER: [&str; 3] = ["[[rule]]", "192.0.2.1:12345: first", "parse → "];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root")
}

/// All Markdown files of the repository, by their paths within it.
fn pages() -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    let mut found = Vec::new();
    below(root(), &mut found);
    found.sort();
    assert!(found.len() >= 10, "{found:?}");
    found
}

fn read(path: &Path) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The commands of the indented blocks, without comments.
fn commands(page: &Path) -> Vec<String> {
    let text = read(page);
    let mut commands = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("    ") else { continue };
        let mut block = vec![first];
        // A blank line does not end a block if indented lines follow.
        while let Some(next) = lines.next_if(|next| next.starts_with("    ") || next.is_empty()) {
            block.push(next.trim_start_matches("    "));
        }
        if OTHER.iter().any(|other| first.starts_with(other)) {
            continue;
        }
        let plain = |line: &&str| line.split("  #").next().unwrap_or_default().trim().to_owned();
        commands.extend(block.iter().map(plain).filter(|line| !line.is_empty()));
    }
    commands
}

#[test]
fn every_command_is_run_or_not_for_a_reason() {
    let written: BTreeSet<_> = pages().iter().flat_map(|page| commands(page)).collect();
    let known: BTreeSet<_> = COMMANDS.iter().map(|(line, _)| (*line).to_owned()).collect();
    assert_eq!(written, known, "COMMANDS says what becomes of each");
    let in_images = read(Path::new(IN_IMAGES));
    let in_images = BLOCKS.map(|(_, title)| readme::commands(&in_images, title).expect("a block"));
    for (line, how) in COMMANDS {
        match how {
            Run => {
                let output = Command::new("sh").args(["-c", line]).current_dir(root()).output();
                let output = output.expect("a shell");
                assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {output:?}");
            }
            Image => {
                let is_run = in_images.iter().any(|block| block.lines().any(|it| it == *line));
                assert!(is_run, "no image runs `{line}`");
            }
            By(file, test) => assert!(read(Path::new(file)).contains(test), "{line}: no {test}"),
            Not(reason) => assert!(!reason.is_empty(), "{line}"),
        }
    }
}

#[test]
fn tasks_that_are_named_exist() {
    let manual =
        ["set-rto.8", "set-rto-rules.5"].map(|name| format!("scripts/packaging/man/{name}"));
    let mut named = 0;
    for page in pages().into_iter().chain(manual.map(PathBuf::from)) {
        let text = read(&page);
        for (at, _) in text.match_indices("cargo xtask ") {
            let rest = &text[at + "cargo xtask ".len()..];
            // The command extends to its end in a block, in backticks, or in roff.
            let end = rest.find(['`', '\n', '"', ';', '&']).unwrap_or(rest.len());
            let line = rest[..end]
                .split("  #")
                .next()
                .unwrap_or_default()
                .trim_end_matches([' ', ',', '.']);
            let words = words(line);
            let is_known = args::parse(&words).map_or_else(|exit| exit.status.is_ok(), |_| true);
            // `explain` is often mentioned without its arguments.
            assert!(is_known || words == ["explain"], "{}: cargo xtask {line}", page.display());
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}

/// Splits words like a shell, to the extent that the pages need.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// The files of the repository that a page links to.
#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        let folder = page.parent().expect("a folder");
        let targets = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
        let pictures = text.match_indices("src=\"").map(|(at, _)| &text[at + 5..]);
        for target in targets.chain(pictures) {
            let target = target.split([')', '"']).next().unwrap_or_default();
            let (file, part) = target.split_once('#').unwrap_or((target, ""));
            if file.starts_with("https:") {
                continue;
            }
            let path =
                if file.is_empty() { root().join(&page) } else { root().join(folder).join(file) };
            assert!(path.exists(), "{}: {target}", page.display());
            let heads = if part.is_empty() { String::new() } else { read(&path) };
            let is_head = |line: &str| {
                line.starts_with('#')
                    && line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-") == part
            };
            assert!(part.is_empty() || heads.lines().any(is_head), "{}: {target}", page.display());
        }
    }
}

/// The first screen must suffice for a decision.
#[test]
fn the_readme_is_short() {
    let readme = read(Path::new("README.md"));
    assert!(readme.lines().count() <= 200, "{} lines", readme.lines().count());
    let first: Vec<_> = readme.lines().take(30).collect();
    assert!(first.iter().any(|line| line.contains("timeline.svg")), "the picture comes first");
    for page in pages() {
        for (number, line) in (1..).zip(read(&page).lines()) {
            let fits =
                line.chars().count() <= 140 || line.starts_with('|') || line.contains("https:");
            assert!(fits, "{}:{number} is too wide", page.display());
        }
    }
}
