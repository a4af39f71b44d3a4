//! `show RULES`: prints the C that a rules file becomes. `cargo xtask show` calls it.

use set_rto_compiler::compile;
use set_rto_compiler::diag::{Source, render};
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_else(|| "rules.toml".into());
    let text = match std::fs::read_to_string(&name) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("error: cannot read {name}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let source = Source { name: &name, text: &text };
    match compile(&source, env!("CARGO_PKG_VERSION")) {
        Ok(policy) => {
            print!("{}", policy.c);
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            eprint!("{}", render(&source, &diagnostics));
            ExitCode::FAILURE
        }
    }
}
