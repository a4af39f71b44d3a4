//! set-rto: sets TCP's first retransmit timer per connection, by rules that are compiled into this binary.
//! It loads a sock_ops BPF program, attaches it to a cgroup, pins it and exits.

// Only output.rs writes to the streams, and nothing panics where one of them fails.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

mod advise;
mod bpf;
mod check;
mod device;
mod diff;
mod error;
mod evidence;
mod host;
mod install;
mod json;
mod learned;
#[cfg(feature = "vendored")]
#[path = "../scripts/libelf/left_out.rs"]
mod left_out;
mod metrics;
mod neighbours;
mod offsets;
mod output;
mod pin;
mod policy;
mod probe;
mod remove;
mod rules;
mod shared;
mod state;
mod status;
mod structures;
mod table;
mod timer;
mod trial;
mod try_connect;
mod way;

use argh::FromArgs;
use nix::libc;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code for wrong arguments.
const USAGE: u8 = 1;
/// Exit code for a refusal: by the kernel, for lack of a privilege, or because of a mount.
pub(crate) const REFUSED: u8 = 2;

/// Sets TCP's first retransmit timer per connection, by rules compiled into this binary.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help", "help"))]
struct Arguments {
    /// print version, digest of the rules, version of libbpf
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    verb: Option<Verb>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Install(Install),
    Remove(Remove),
    Status(Status),
    Advise(Advise),
    Diff(Diff),
    Check(Check),
    Try(Try),
    Rules(Rules),
}

/// attach the rules, or replace them in place without a gap
#[derive(FromArgs)]
#[argh(subcommand, name = "install", help_triggers("-h", "--help", "help"))]
pub(crate) struct Install {
    /// the cgroup whose sockets the rules apply to (default: the root of the cgroup2 mount)
    #[argh(option, arg_name = "dir")]
    pub(crate) cgroup: Option<PathBuf>,

    /// where to pin them in the bpffs (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "pin::PIN.into()")]
    pub(crate) pin: PathBuf,

    /// leave out settings that this kernel does not support, and list them
    #[argh(switch)]
    pub(crate) partial: bool,

    /// how the interface of a connection is found, route or address (default: route if this kernel supports it, otherwise address)
    #[argh(option, arg_name = "method")]
    pub(crate) interface_method: Option<way::Method>,

    /// forget what learned timers know about hosts
    #[argh(switch)]
    pub(crate) forget: bool,

    /// print what would be done
    #[argh(switch)]
    pub(crate) dry_run: bool,

    /// print errors only
    #[argh(switch)]
    pub(crate) quiet: bool,
}

/// detach the rules
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help", "help"))]
struct Remove {
    /// where the rules are pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "pin::PIN.into()")]
    pin: PathBuf,

    /// leave the rules of another binary attached
    #[argh(switch)]
    own: bool,
}

/// show whether the rules are attached, what each rule did, and other programs on the hook
#[derive(FromArgs)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help", "help"))]
pub(crate) struct Status {
    /// show only this rule, in full
    #[argh(positional)]
    pub(crate) rule: Option<String>,

    /// where the rules are pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "pin::PIN.into()")]
    pub(crate) pin: PathBuf,

    /// also list rules without a connection
    #[argh(switch)]
    pub(crate) all: bool,

    /// how many hosts to show for a rule, the most recent first
    #[argh(option, arg_name = "n")]
    pub(crate) hosts: Option<usize>,

    /// print one JSON object
    #[argh(switch)]
    pub(crate) json: bool,

    /// print the OpenMetrics text format
    #[argh(switch)]
    pub(crate) metrics: bool,

    /// print again at this interval (default: 2)
    #[argh(option, arg_name = "seconds")]
    pub(crate) watch: Option<u64>,
}

/// suggest a timer for each rule, from the evidence
#[derive(FromArgs)]
#[argh(subcommand, name = "advise", help_triggers("-h", "--help", "help"))]
struct Advise {
    /// where the rules are pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "pin::PIN.into()")]
    pin: PathBuf,

    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// compare this binary's rules with those attached
#[derive(FromArgs)]
#[argh(subcommand, name = "diff", help_triggers("-h", "--help", "help"))]
struct Diff {
    /// where the rules are pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "pin::PIN.into()")]
    pin: PathBuf,
}

/// show whether this kernel can run the rules, and what is missing
#[derive(FromArgs)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
struct Check {
    /// print one JSON object
    #[argh(switch)]
    json: bool,
}

/// open one connection and print the timer that the kernel gave it
#[derive(FromArgs)]
#[argh(subcommand, name = "try", help_triggers("-h", "--help", "help"))]
struct Try {
    /// address and port: 192.0.2.1:80, [2001:db8::1]:80
    #[argh(positional, arg_name = "host:port", from_str_fn(target))]
    target: SocketAddr,

    /// where the rules are pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "pin::PIN.into()")]
    pin: PathBuf,
}

/// print the rules inside this binary
#[derive(FromArgs)]
#[argh(subcommand, name = "rules", help_triggers("-h", "--help", "help"))]
struct Rules {
    /// print one JSON object
    #[argh(switch)]
    json: bool,

    /// print the rules file that this binary was built from
    #[argh(switch)]
    source: bool,
}

/// An address and a port. A static binary has no resolver that could look up names.
fn target(text: &str) -> Result<SocketAddr, String> {
    let mut text = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    // The scope of a link-local address is a number here.
    if let Some((before, rest)) = text.split_once('%')
        && let Some((name, after)) = rest.split_once(']')
        && let Ok(index) = nix::net::if_::if_nametoindex(name)
    {
        text = format!("{before}%{index}]{after}");
    }
    let numeric = text.parse().map_err(|_| {
        "expected an address and a port, 192.0.2.1:80 or [2001:db8::1]:80 (`getent hosts NAME` prints the address)".into()
    });
    #[cfg(not(target_feature = "crt-static"))]
    if numeric.is_err()
        && let Ok(mut found) = std::net::ToSocketAddrs::to_socket_addrs(&text)
        && let Some(first) = found.next()
    {
        return Ok(first);
    }
    numeric
}

/// All verbs, for hints.
const VERBS: [&str; 8] = ["install", "remove", "status", "advise", "diff", "check", "try", "rules"];

fn main() -> ExitCode {
    // Exceeding the limit on file sizes is then an error of write(2), not the end of the process.
    // SAFETY: a plain system call; no handler is set.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    libbpf_rs::set_print(None);
    let words: Result<Vec<_>, _> =
        std::env::args_os().skip(1).map(|word| word.into_string()).collect();
    let code = match words {
        Ok(words) => run(&words),
        Err(_) => usage("arguments must be UTF-8", None),
    };
    output::finish(code, REFUSED)
}

fn run(words: &[String]) -> ExitCode {
    // argh knows `--pin DIR` only.
    let words: Vec<&str> = words
        .iter()
        .flat_map(|word| match word.split_once('=').filter(|(name, _)| name.starts_with("--")) {
            Some((name, value)) => vec![name, value],
            None => vec![word.as_str()],
        })
        .collect();
    let mut words = match words.as_slice() {
        ["-V" | "version"] => vec!["--version"],
        _ => words,
    };
    // argh has no options whose value may be left out.
    if let Some(at) = words.iter().position(|word| *word == "--watch")
        && words.get(at + 1).is_none_or(|next| next.parse::<u64>().is_err())
    {
        words.insert(at + 1, "2");
    }
    let arguments = match Arguments::from_args(&["set-rto"], &words) {
        Ok(arguments) => arguments,
        Err(exit) if exit.status.is_ok() => {
            output::print(&exit.output.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(exit) => return usage(&exit.output, words.first().copied()),
    };
    if arguments.version {
        return version();
    }
    let Some(verb) = arguments.verb else { return usage("no command given", None) };
    let is_status = matches!(verb, Verb::Status(_));
    let done = match verb {
        Verb::Install(asked) => install::run(&asked),
        Verb::Remove(Remove { pin, own }) => remove::run(&pin, own),
        Verb::Status(asked) => status::run(&asked),
        Verb::Advise(Advise { pin, json }) => advise::run(&pin, json),
        Verb::Diff(Diff { pin }) => diff::run(&pin),
        Verb::Try(Try { target, pin }) => try_connect::run(&target, &pin),
        Verb::Check(Check { json }) => Ok(check::run(json)),
        Verb::Rules(Rules { json, source }) => Ok(rules::run(json, source)),
    };
    done.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::from(match (error.is_usage(), is_status) {
            (true, _) => USAGE,
            (false, true) => status::UNREADABLE,
            (false, false) => REFUSED,
        })
    })
}

/// argh's message may have several lines, of which the first states the error. `word` is the first argument.
fn usage(message: &str, word: Option<&str>) -> ExitCode {
    let lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let cause: Vec<_> = lines.take_while(|line| !line.starts_with("Run ")).collect();
    output::complain(&format_args!("set-rto: {}", cause.join(" ")));
    let word = word.unwrap_or_default();
    match VERBS.into_iter().find(|verb| is_near(verb, word)) {
        Some(verb) if verb == word => {
            output::complain(&format_args!("hint: `set-rto {verb} --help` lists its options"));
        }
        Some(verb) => output::complain(&format_args!("hint: did you mean `set-rto {verb}`?")),
        None => output::complain(&format_args!(
            "hint: set-rto {}; `set-rto --help` describes them",
            VERBS.join(" | ")
        )),
    }
    ExitCode::from(USAGE)
}

/// True for words that differ by one typing mistake: a letter added, missing or different, or two letters swapped.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let start = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let (short, long) = (&short[start..], &long[start..]);
    match (short, long) {
        (_, [_, rest @ ..]) if rest == short => true,
        ([_, short @ ..], [_, long @ ..]) if short == long => true,
        ([a, b, short @ ..], [c, d, long @ ..]) => (a, b, short) == (d, c, long),
        ([], []) => true,
        _ => false,
    }
}

fn version() -> ExitCode {
    let (major, minor) = bpf::libbpf();
    let (version, digest) = (rules::VERSION, rules::DIGEST);
    output::print(&format_args!("set-rto {version}, rules {digest:.12}, libbpf {major}.{minor}"));
    ExitCode::SUCCESS
}
