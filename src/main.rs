//! set-rto: sets TCP's first retransmit timer per connection, by rules that are compiled into this binary.
//! It loads a sock_ops BPF program, attaches it to a cgroup, pins it and exits.

mod bpf;
mod check;
mod device;
#[cfg(test)]
mod documented;
mod error;
mod host;
mod install;
mod installed;
mod json;
#[cfg(feature = "vendored")]
mod left_out;
mod offsets;
mod policy;
mod probe;
mod remove;
mod rules;
mod shared;
mod status;
mod structures;
mod timer;
mod try_connect;
mod undo;
mod way;

use argh::FromArgs;
use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code for wrong arguments.
const USAGE: u8 = 1;
/// Exit code for what the kernel, a privilege or a mount refused.
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
    Check(Check),
    Try(Try),
    Rules(Rules),
}

/// attach, or replace in place without a gap
#[derive(FromArgs)]
#[argh(subcommand, name = "install", help_triggers("-h", "--help", "help"))]
struct Install {
    /// the cgroup whose sockets are meant (default: the root of the cgroup2 mount)
    #[argh(option, arg_name = "dir")]
    cgroup: Option<PathBuf>,

    /// where on the bpffs to pin it (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "installed::PIN.into()")]
    pin: PathBuf,

    /// leave out the settings that this kernel lacks, and say which
    #[argh(switch)]
    partial: bool,

    /// how the interface of a connection is found, route or address (default: what works)
    #[argh(option, arg_name = "method")]
    interface_method: Option<way::Method>,
}

/// detach and unpin
#[derive(FromArgs)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help", "help"))]
struct Remove {
    /// where it is pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "installed::PIN.into()")]
    pin: PathBuf,
}

/// is it there, is it this binary's, rules, hits, who else is on the hook
#[derive(FromArgs)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help", "help"))]
struct Status {
    /// where it is pinned (default: /sys/fs/bpf/set-rto)
    #[argh(option, arg_name = "dir", default = "installed::PIN.into()")]
    pin: PathBuf,

    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// can this kernel run these rules, and if not, what is missing
#[derive(FromArgs)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
struct Check {
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// open one connection and print the timer that the kernel gave it
#[derive(FromArgs)]
#[argh(subcommand, name = "try", help_triggers("-h", "--help", "help"))]
struct Try {
    /// numeric address and port: 192.0.2.1:80, [2001:db8::1]:80
    #[argh(positional, arg_name = "host:port", from_str_fn(target))]
    target: SocketAddr,
}

/// the rules inside this binary
#[derive(FromArgs)]
#[argh(subcommand, name = "rules", help_triggers("-h", "--help", "help"))]
struct Rules {
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// Names are not looked up: a static binary has no resolver that could.
fn target(text: &str) -> Result<SocketAddr, String> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.into(),
    };
    numeric.parse().map_err(|_| {
        "expected a numeric address and a port, 192.0.2.1:80 or [2001:db8::1]:80 (getent hosts NAME tells the address)".into()
    })
}

fn main() -> ExitCode {
    libbpf_rs::set_print(None);
    let words: Result<Vec<_>, _> =
        std::env::args_os().skip(1).map(|word| word.into_string()).collect();
    let Ok(words) = words else { return usage("arguments must be UTF-8") };
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let arguments = match Arguments::from_args(&["set-rto"], &words) {
        Ok(arguments) => arguments,
        Err(exit) if exit.status.is_ok() => {
            print(&exit.output.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(exit) => return usage(&exit.output),
    };
    if arguments.version {
        return version();
    }
    let Some(verb) = arguments.verb else { return usage("what shall be done?") };
    let done = match verb {
        Verb::Install(Install { cgroup, pin, partial, interface_method }) => {
            install::run(cgroup.as_deref(), &pin, partial, interface_method)
        }
        Verb::Remove(Remove { pin }) => remove::run(&pin),
        Verb::Status(Status { pin, json }) => status::run(&pin, json),
        Verb::Try(Try { target }) => try_connect::run(&target),
        Verb::Check(Check { json }) => Ok(check::run(json)),
        Verb::Rules(Rules { json }) => Ok(rules::run(json)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(REFUSED)
    })
}

/// argh's message may have several lines; the first says what is wrong.
fn usage(message: &str) -> ExitCode {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let cause: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("Run ")).collect();
    eprintln!("set-rto: {}", cause.join(" "));
    eprintln!(
        "hint: set-rto install | remove | status | check | try HOST:PORT | rules; --help says more"
    );
    ExitCode::from(USAGE)
}

fn version() -> ExitCode {
    print(&format_args!(
        "set-rto {}, rules {:.12}, libbpf {}.{}",
        rules::VERSION,
        rules::DIGEST,
        // SAFETY: no arguments, no state.
        unsafe { libbpf_rs::libbpf_sys::libbpf_major_version() },
        // SAFETY: as above.
        unsafe { libbpf_rs::libbpf_sys::libbpf_minor_version() },
    ));
    ExitCode::SUCCESS
}

/// A line on standard output. A reader that has gone (`set-rto rules | head -1`) is no error.
pub(crate) fn print(line: &dyn Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
