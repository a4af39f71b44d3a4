//! Runs set-rto as a program: passes arguments, and checks its exit code, output and messages.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;

use super::restrict::Restriction;
use super::sandbox;

/// Runs the second executable instead of the first.
static SUBSTITUTE: OnceLock<(&str, &str)> = OnceLock::new();

/// Replaces the executable of a rules file by another one with the same rules, for the rest of this test.
pub(crate) fn substitute(rules: &'static str, other: &'static str) {
    SUBSTITUTE.get_or_init(|| (rules, other));
}

/// The executable built from one rules file.
#[derive(Debug, Clone)]
pub(crate) struct SetRto {
    binary: PathBuf,
    restrictions: Vec<Restriction>,
}

impl SetRto {
    /// The executable of `rules/<rules>.toml`.
    pub(crate) fn of(rules: &str) -> Result<Self> {
        let rules = match SUBSTITUTE.get() {
            Some((known, other)) if *known == rules => other,
            _ => rules,
        };
        let binary = sandbox::bin_dir()?.join(rules);
        ensure!(binary.exists(), "no executable {}", binary.display());
        Ok(SetRto { binary, restrictions: Vec::new() })
    }

    /// Another executable.
    pub(crate) fn at(binary: PathBuf) -> Self {
        SetRto { binary, restrictions: Vec::new() }
    }

    /// The same executable, run under a restriction.
    pub(crate) fn restricted(&self, restriction: Restriction) -> Result<Self> {
        restriction.require()?;
        let mut restricted = self.clone();
        restricted.restrictions.push(restriction);
        Ok(restricted)
    }

    /// The command, ready to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).stdin(Stdio::null());
        for restriction in self.restrictions.clone() {
            // SAFETY: between fork and exec, `apply` does nothing but system calls.
            unsafe { command.pre_exec(move || -> io::Result<()> { restriction.apply() }) };
        }
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.finish(&mut self.command(arguments))
    }

    /// Runs a command of [`SetRto::command`] to its end.
    pub(crate) fn finish(&self, command: &mut Command) -> Result<Output> {
        let rules = self.binary.file_name().unwrap_or_default().to_string_lossy();
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        // One word may be a megabyte long.
        let what = format!("set-rto[{rules}] {:.200}", words.join(" "));
        let output = command.output().with_context(|| format!("cannot run {what}"))?;
        Ok(Output {
            what,
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it. An exit code other than 0 is an error.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.run(arguments)?;
        output.exits(0)?;
        Ok(output)
    }

    /// `status --json`, with any exit code.
    pub(crate) fn status(&self) -> Result<Status> {
        Status::of(&self.run(&["status", "--json"])?)
    }

    /// The output of `try` for a connection to that end.
    pub(crate) fn try_to(&self, remote: SocketAddr) -> Result<String> {
        Ok(self.ok(&["try", &remote.to_string()])?.stdout)
    }
}

/// The result of one run of set-rto.
#[derive(Debug)]
pub(crate) struct Output {
    what: String,
    pub(crate) code: Option<i32>,
    signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output { what, code, signal, stdout, stderr } = self;
        write!(formatter, "`{what}`: exit code {code:?}, ")?;
        if let Some(signal) = signal {
            write!(formatter, "signal {signal}, ")?;
        }
        write!(formatter, "stdout `{stdout}`, stderr `{stderr}`")
    }
}

impl Output {
    /// Requires an exit code.
    pub(crate) fn exits(&self, code: i32) -> Result<()> {
        if self.code != Some(code) {
            bail!("expected exit code {code} of {self}");
        }
        Ok(())
    }

    /// Requires a refusal: the exit code, one line `set-rto: …` with the cause and one line `hint: …`, and nothing
    /// else. All of `words` must appear in them, in any case.
    pub(crate) fn refuses(&self, code: i32, words: &[&str]) -> Result<()> {
        self.exits(code)?;
        let lines: Vec<&str> = self.stderr.lines().collect();
        let shaped = matches!(lines[..], [cause, hint]
            if cause.len() > "set-rto: ".len() && cause.starts_with("set-rto: ")
            && hint.len() > "hint: ".len() && hint.starts_with("hint: "));
        ensure!(shaped, "expected one line `set-rto: …` and one line `hint: …` from {self}");
        self.says(words)
    }

    /// Requires an end without a signal or a panic, with a documented exit code.
    pub(crate) fn ends_well(&self) -> Result<i32> {
        ensure!(!self.stderr.contains("panicked"), "a panic: {self}");
        match self.code {
            Some(code @ 0..=5) => Ok(code),
            _ => bail!("no such end is documented: {self}"),
        }
    }

    /// Requires words on stderr, in any case.
    pub(crate) fn says(&self, words: &[&str]) -> Result<()> {
        let text = self.stderr.to_lowercase();
        for word in words {
            ensure!(text.contains(&word.to_lowercase()), "expected `{word}` on stderr of {self}");
        }
        Ok(())
    }

    /// The JSON object on stdout.
    pub(crate) fn json(&self) -> Result<Value> {
        let value: Value = serde_json::from_str(&self.stdout)
            .with_context(|| format!("expected one JSON object on stdout of {self}"))?;
        ensure!(value.is_object(), "expected a JSON object on stdout of {self}");
        Ok(value)
    }
}

/// `status --json`.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) code: i32,
    pub(crate) json: Value,
}

impl Status {
    /// Parses the output of `status --json`.
    pub(crate) fn of(output: &Output) -> Result<Self> {
        let code = output.code.context("status was killed")?;
        Ok(Status { code, json: output.json()? })
    }

    /// Whether rules are attached.
    pub(crate) fn installed(&self) -> Result<bool> {
        self.json["installed"].as_bool().with_context(|| format!("no `installed` in {self:?}"))
    }

    /// The number of connections that a rule decided.
    pub(crate) fn hits(&self, rule: &str) -> Result<u64> {
        self.rule(rule)?["hits"].as_u64().with_context(|| format!("no hits of {rule}: {self:?}"))
    }

    /// The timer of a rule, as written in its file.
    pub(crate) fn rto(&self, rule: &str) -> Result<Duration> {
        let ms = self.rule(rule)?["rto_ms"].as_u64();
        Ok(Duration::from_millis(ms.with_context(|| format!("no rto_ms of {rule}: {self:?}"))?))
    }

    /// The entry of a rule.
    pub(crate) fn rule(&self, name: &str) -> Result<&Value> {
        let rules = self.json["rules"].as_array().context("`rules` is no array")?;
        rules
            .iter()
            .find(|rule| rule["name"] == name)
            .with_context(|| format!("no rule {name} in {self:?}"))
    }
}
