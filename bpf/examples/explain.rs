//! `explain RULES CONNECTION`: says which rule decides, and why each earlier one does not. `cargo xtask
//! explain` calls it.

use set_rto_compiler::compile;
use set_rto_compiler::diag::{Source, render};
use set_rto_compiler::explain::{Connection, FORM, explain};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(connection), None) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(format!("error: expected a rules file and a connection such as '{FORM}'"));
    };
    let text = std::fs::read_to_string(&name)
        .map_err(|error| format!("error: cannot read {name}: {error}"))?;
    let source = Source { name: &name, text: &text };
    let policy = compile(&source, env!("CARGO_PKG_VERSION"))
        .map_err(|diagnostics| render(&source, &diagnostics))?;
    let connection: Connection = connection.parse().map_err(|error| format!("error: {error}"))?;
    Ok(explain(&policy.rules, &connection))
}
