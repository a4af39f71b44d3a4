//! `cargo xtask check | show | explain | schema` call this, in the workspace root:
//!
//!     rules check FILE
//!     rules show FILE
//!     rules explain FILE CONNECTION
//!     rules schema

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use set_rto_compiler::diag::{Source, render, render_notes};
use set_rto_compiler::explain::{Connection, explain};
use set_rto_compiler::schema::schema;
use set_rto_compiler::{Policy, compile_with};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match run(&words).and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String, String> {
    match *words {
        ["check", file] => compiled(file, |policy, source| {
            let notes = render_notes(source, &policy.notes);
            let count = |number: usize, of: &str| match number {
                1 => format!("1 {of}"),
                _ => format!("{number} {of}s"),
            };
            let rules = count(policy.rules.len(), "rule");
            let summary = format!("{file}: {rules}, {}\n", count(policy.notes.len(), "note"));
            Ok(notes.iter().map(|note| format!("{note}\n")).chain([summary]).collect())
        }),
        ["show", file] => compiled(file, |policy, _| Ok(policy.c)),
        ["explain", file, connection] => compiled(file, |policy, _| {
            let connection: Connection =
                connection.parse().map_err(|error| format!("error: {error}"))?;
            Ok(explain(&policy.rules, &connection))
        }),
        ["schema"] => Ok(schema()),
        _ => Err("error: expected check, show, explain or schema, with their words".into()),
    }
}

/// Returns the policy of a rules file. The error contains every mistake of the file.
fn compiled(
    file: &str,
    work: impl FnOnce(Policy, &Source<'_>) -> Result<String, String>,
) -> Result<String, String> {
    let text =
        fs::read_to_string(file).map_err(|error| format!("error: cannot read {file}: {error}"))?;
    let source = Source { name: file, text: &text };
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let load =
        |list: &str| fs::read_to_string(folder.join(list)).map_err(|error| error.to_string());
    let policy = compile_with(&source, env!("CARGO_PKG_VERSION"), &load)
        .map_err(|diagnostics| render(&source, &diagnostics))?;
    work(policy, &source)
}

/// It is not an error if the reader closes the pipe (`cargo xtask show | head`).
fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("error: cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}
