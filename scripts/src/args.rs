//! The command line, parsed by argh like the product's. Each task has its own `--help`.

use std::path::PathBuf;

use argh::{EarlyExit, FromArgs};

use crate::test::Extent;

/// Sets up, builds, installs, removes and tests set-rto. FILE is SET_RTO_RULES or rules.toml where it is left out.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(help_triggers("-h", "--help", "help"))]
pub(crate) struct Arguments {
    #[argh(subcommand)]
    pub(crate) task: Task,
}

/// A task with its options.
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand)]
pub(crate) enum Task {
    Install(Install),
    Remove(Remove),
    Build(Build),
    Check(Check),
    Show(Show),
    Explain(Explain),
    Schema(Schema),
    Dist(Dist),
    Test(Test),
    Fuzz(Fuzz),
    Mutants(Mutants),
    Bench(Bench),
    Demo(Demo),
    Image(Image),
    Matrix(Matrix),
}

/// install what the build needs, build, copy the binary, attach the rules
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "install", help_triggers("-h", "--help", "help"))]
pub(crate) struct Install {
    /// the rules file to compile in
    #[argh(option, arg_name = "file")]
    pub(crate) rules: Option<String>,

    /// where `sbin/set-rto` goes (default: /usr/local)
    #[argh(option, arg_name = "dir", default = "PREFIX.into()")]
    pub(crate) prefix: PathBuf,

    /// copy the binary, but do not attach the rules
    #[argh(switch)]
    pub(crate) no_activate: bool,
}

/// detach the rules and delete the binary
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help", "help"))]
pub(crate) struct Remove {
    /// where `sbin/set-rto` is (default: /usr/local)
    #[argh(option, arg_name = "dir", default = "PREFIX.into()")]
    pub(crate) prefix: PathBuf,
}

/// build the static binary and print its path
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "build", help_triggers("-h", "--help", "help"))]
pub(crate) struct Build {
    /// the rules file to compile in
    #[argh(option, arg_name = "file")]
    pub(crate) rules: Option<String>,

    /// another machine: x86_64, aarch64, … or a Rust target triple (default: this one)
    #[argh(option, arg_name = "target")]
    pub(crate) target: Option<String>,
}

/// report every mistake in a rules file, and print the notes
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub(crate) struct Check {
    /// the rules file
    #[argh(positional, arg_name = "file")]
    pub(crate) rules: Option<String>,
}

/// print the C that a rules file compiles to
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help", "help"))]
pub(crate) struct Show {
    /// the rules file
    #[argh(positional, arg_name = "file")]
    pub(crate) rules: Option<String>,
}

/// print which rule decides a connection, and why no earlier one does
#[derive(FromArgs, Debug, PartialEq)]
#[argh(
    subcommand,
    name = "explain",
    help_triggers("-h", "--help", "help"),
    example = "{command_name} rules.toml 'outgoing ax0 10.0.0.1:40000 -> 44.1.2.3:12345'"
)]
pub(crate) struct Explain {
    /// the rules file
    #[argh(positional, arg_name = "file")]
    pub(crate) rules: String,

    /// in quotes: direction, interface, local end, arrow, remote end
    #[argh(positional, arg_name = "connection")]
    pub(crate) connection: String,
}

/// print the JSON Schema of rules files, for editors
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "schema", help_triggers("-h", "--help", "help"))]
pub(crate) struct Schema {}

/// put binary, package, manual pages and completions into target/dist, and compare sizes
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "dist", help_triggers("-h", "--help", "help"))]
pub(crate) struct Dist {
    /// another machine; may be repeated (default: this one; an unknown name lists all)
    #[argh(option, long = "target", arg_name = "target")]
    pub(crate) targets: Vec<String>,

    /// the rules file to compile in
    #[argh(option, arg_name = "file")]
    pub(crate) rules: Option<String>,

    /// a kernel's vmlinux or BTF to build in, PATH or RELEASE=PATH; may be repeated
    #[argh(option, arg_name = "file")]
    pub(crate) btf: Vec<String>,

    /// the revision of the Debian package: raise it with each change of rules (default: 1)
    #[argh(option, arg_name = "n", default = "String::from(\"1\")")]
    pub(crate) revision: String,

    /// write the sizes to scripts/SIZES
    #[argh(switch)]
    pub(crate) record: bool,

    /// print what takes the room in each binary, and package nothing
    #[argh(switch)]
    pub(crate) symbols: bool,

    /// also pack the sources of the last commit, and recipes for other trees with their checksum
    #[argh(switch)]
    pub(crate) source: bool,

    /// build the last commit again in another folder, and compare: the same bytes
    #[argh(switch)]
    pub(crate) twice: bool,

    /// succeed where zig or the sources of the standard library cannot be fetched
    #[argh(switch)]
    pub(crate) if_possible: bool,
}

/// install what tests need, check the source, run every test
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "test", help_triggers("-h", "--help", "help"))]
pub(crate) struct Test {
    /// tests that try a share of very many things try all of them
    #[argh(switch)]
    pub(crate) thorough: bool,

    /// less than a minute: formatting, lints, unit tests, golden files, a few live tests
    #[argh(switch)]
    pub(crate) quick: bool,

    /// parts of test names; all tests where there is none
    #[argh(positional, arg_name = "filter")]
    pub(crate) filters: Vec<String>,
}

/// run random rule sets against random connections, or random text through the compiler
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "fuzz", help_triggers("-h", "--help", "help"))]
pub(crate) struct Fuzz {
    /// for how long, 1 to 1440 (default: 10)
    #[argh(option, arg_name = "n", default = "10", from_str_fn(minutes))]
    pub(crate) minutes: u32,

    /// the text of rules files, guided by coverage (bpf/fuzz), instead of rule sets
    #[argh(switch)]
    pub(crate) text: bool,
}

/// change the code in small ways, and list the changes that no test notices
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "mutants", help_triggers("-h", "--help", "help"))]
pub(crate) struct Mutants {
    /// source files below bpf/src; the whole compiler where there is none
    #[argh(positional, arg_name = "file")]
    pub(crate) files: Vec<String>,
}

/// measure the compiled programs beside other ways to write them
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "bench", help_triggers("-h", "--help", "help"))]
pub(crate) struct Bench {
    /// a shorter run with fewer rule sets
    #[argh(switch)]
    pub(crate) quick: bool,

    /// write the figures to vmtests/bench/README.md
    #[argh(switch)]
    pub(crate) readme: bool,
}

/// measure connections over slow links with and without a rule, in virtual machines
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "demo", help_triggers("-h", "--help", "help"))]
pub(crate) struct Demo {
    /// write the tables and the timeline to vmtests/demo
    #[argh(switch)]
    pub(crate) readme: bool,

    /// kernels as `matrix --list` prints them
    #[argh(positional, arg_name = "kernel")]
    pub(crate) kernels: Vec<String>,
}

/// boot the systems that packages are for, and the boards, in virtual machines
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "image", help_triggers("-h", "--help", "help"))]
pub(crate) struct Image {
    /// list the names
    #[argh(switch)]
    pub(crate) list: bool,

    /// which ones; all where there is none
    #[argh(positional, arg_name = "name")]
    pub(crate) names: Vec<String>,
}

/// run the live suite on other kernels and the boards, in virtual machines
#[derive(FromArgs, Debug, PartialEq)]
#[argh(subcommand, name = "matrix", help_triggers("-h", "--help", "help"))]
pub(crate) struct Matrix {
    /// list the names
    #[argh(switch)]
    pub(crate) list: bool,

    /// only the kernels that CI runs
    #[argh(switch)]
    pub(crate) core: bool,

    /// write the tables to vmtests/matrix/README.md
    #[argh(switch)]
    pub(crate) readme: bool,

    /// how many guests run at a time
    #[argh(option, arg_name = "n")]
    pub(crate) jobs: Option<u32>,

    /// only tests with this in their name, on kernels
    #[argh(option, arg_name = "part")]
    pub(crate) test: Option<String>,

    /// kernels and boards; all where there is none
    #[argh(positional, arg_name = "name")]
    pub(crate) names: Vec<String>,
}

const PREFIX: &str = "/usr/local";

fn minutes(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=1440).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to 1440, not `{text}`"))
}

impl Image {
    /// For the program that boots the machines.
    pub(crate) fn words(&self) -> Vec<String> {
        let list = self.list.then(|| "--list".to_owned());
        list.into_iter().chain(self.names.iter().cloned()).collect()
    }
}

impl Test {
    pub(crate) fn extent(&self) -> Extent {
        match (self.quick, self.thorough) {
            (true, _) => Extent::Quick,
            (false, true) => Extent::Thorough,
            (false, false) => Extent::Usual,
        }
    }
}

impl Matrix {
    /// For the program that boots the machines.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (is_set, word) in
            [(self.list, "--list"), (self.core, "--core"), (self.readme, "--readme")]
        {
            words.extend(is_set.then(|| word.to_owned()));
        }
        let jobs = self.jobs.map(|number| number.to_string());
        for (value, word) in [(&jobs, "--jobs"), (&self.test, "--test")] {
            words.extend(value.iter().flat_map(|value| [word.to_owned(), value.clone()]));
        }
        words.extend(self.names.iter().cloned());
        words
    }
}

/// Parses the words after `cargo xtask`. No words at all also print the help.
///
/// # Errors
/// A help text with a success status, or a description of the mistake.
pub(crate) fn parse(words: &[String]) -> Result<Task, EarlyExit> {
    let words = separate(words);
    let mut words: Vec<_> = words.iter().map(String::as_str).collect();
    if words.is_empty() {
        words.push("--help");
    }
    let task = Arguments::from_args(&["cargo xtask"], &words)?.task;
    match conflict(&task) {
        Some(message) => Err(EarlyExit { output: message.to_owned(), status: Err(()) }),
        None => Ok(task),
    }
}

/// Splits `--name=value` into the two words that argh reads.
fn separate(words: &[String]) -> Vec<String> {
    let options = words.iter().take_while(|word| *word != "--").count();
    let (options, rest) = words.split_at(options);
    let two = options.iter().flat_map(|word| match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
        _ => vec![word.clone()],
    });
    two.chain(rest.iter().cloned()).collect()
}

/// Options that exclude each other.
fn conflict(task: &Task) -> Option<&'static str> {
    match task {
        Task::Dist(dist)
            if dist.record && (dist.symbols || dist.rules.is_some() || !dist.btf.is_empty()) =>
        {
            Some("dist: --record is for the sizes with the default rules")
        }
        Task::Test(test) if test.quick && (test.thorough || !test.filters.is_empty()) => {
            Some("test: --quick is a choice of tests by itself")
        }
        Task::Bench(bench) if bench.quick && bench.readme => {
            Some("bench: --readme is for the full run, not for --quick")
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
