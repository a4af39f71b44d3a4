//! `set-rto diff`: this binary's rules against those that are attached.

use crate::error::{Error, Result};
use crate::pin::{self, State};
use crate::rules;
use crate::status::NOT_THIS;
use crate::{output, status};
use std::path::Path;
use std::process::ExitCode;

/// `set-rto diff`: prints a line for each rule that is only attached (`-`) or only in this binary (`+`), and both for
/// a changed rule. The exit codes are those of `status`.
pub(crate) fn run(pin: &Path) -> Result<ExitCode> {
    let state = pin::look_at(pin)?;
    let Some(installed) = state.in_effect() else {
        output::note(&match &state {
            State::Foreign(what) => format!("not installed: {what}"),
            _ => "not installed".into(),
        });
        return Ok(ExitCode::from(status::code(&state)));
    };
    if installed.is_current() {
        output::note(&"no difference");
        return Ok(ExitCode::SUCCESS);
    }
    let attached = installed.rules()?.ok_or_else(|| {
        Error::new(
            "the attached rules are too long to be kept as text",
            "compare the files: `set-rto status` shows their digests",
        )
    })?;
    let own: String = rules::all().map(|rule| rule.line_of_text()).collect();
    let lines = compare(&attached, &own);
    lines.iter().for_each(|line| output::print(line));
    if lines.is_empty() {
        output::note(&"the same rules, by another version or from another text");
    }
    Ok(ExitCode::from(NOT_THIS))
}

/// The differences of two texts of rules, a line each.
fn compare(old: &str, new: &str) -> Vec<String> {
    let rules = |text| -> Vec<(&str, &str)> {
        str::lines(text).filter_map(|it| it.split_once('\t')).collect()
    };
    let (old, new) = (rules(old), rules(new));
    let sorted = |rules: &[(_, _)]| {
        let mut rules = rules.to_vec();
        rules.sort_unstable();
        rules
    };
    let (known, by_name) = (sorted(&old), sorted(&new));
    let line = |mark, (name, rest): &(&str, &str)| {
        let (when, settings) = rest.split_once('\t').unwrap_or((rest, ""));
        format!("{mark} {name}: when {when}, {settings}")
    };
    let mut lines = Vec::new();
    for rule @ (name, rest) in &old {
        match find(&by_name, name) {
            Some(now) if now == *rest => {}
            Some(now) => lines.extend([line('-', rule), line('+', &(name, now))]),
            None => lines.push(line('-', rule)),
        }
    }
    lines.extend(
        new.iter().filter(|(name, _)| find(&known, name).is_none()).map(|it| line('+', it)),
    );
    let order = |rules: &[(&str, &str)], other: &[(&str, &str)]| -> Vec<String> {
        let common = rules.iter().filter(|(name, _)| find(other, name).is_some());
        common.map(|it| it.0.into()).collect()
    };
    if order(&old, &by_name) != order(&new, &known) {
        lines.push("the common rules are in a different order".into());
    }
    lines
}

/// The rest of a rule by its name, in sorted rules.
fn find<'a>(rules: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    rules.binary_search_by_key(&name, |it| it.0).ok().map(|at| rules[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_added_removed_changed_and_moved() {
        let old = "a\tport == 1\trto 2s\nb\ttrue\trto 3s\nc\ttrue\trto 3s\n";
        assert_eq!(compare(old, old), Vec::<String>::new());
        let new = "d\ttrue\trto 9s\nb\ttrue\trto 4s\na\tport == 1\trto 2s\n";
        let expected = [
            "- b: when true, rto 3s",
            "+ b: when true, rto 4s",
            "- c: when true, rto 3s",
            "+ d: when true, rto 9s",
            "the common rules are in a different order",
        ];
        assert_eq!(compare(old, new), expected);
    }
}
