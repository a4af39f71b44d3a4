//! What bash, fish and zsh really offer behind the words of a command line.

use super::loader::{options, verbs};
use std::collections::BTreeSet;
use std::process::Command;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/completions");

/// The lines that a shell prints.
fn lines(shell: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(shell).args(arguments).env("HOME", "/nonexistent").output();
    let output =
        output.unwrap_or_else(|error| panic!("{shell}: {error}; `cargo xtask test` installs it"));
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{shell} {arguments:?}: {output:?}"
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn bash(words: &str) -> BTreeSet<String> {
    const SCRIPT: &str = r#". "$0/set-rto.bash"
        read -ra COMP_WORDS <<<"$1"; [[ $1 == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _set_rto; printf '%s\n' "${COMPREPLY[@]}""#;
    lines("bash", &["-c", SCRIPT, FILES, &format!("set-rto {words}")])
}

fn fish(words: &str) -> BTreeSet<String> {
    let script = format!("source {FILES}/set-rto.fish; complete -C 'set-rto {words}'");
    let offered = lines("fish", &["--no-config", "-c", &script]);
    offered.iter().map(|line| line.split('\t').next().unwrap_or_default().into()).collect()
}

/// zsh completes in its line editor only: one in a pseudo-terminal, whose `compadd` writes down what it is given.
fn zsh(words: &str) -> BTreeSet<String> {
    const SCRIPT: &str = r#"
zmodload zsh/zpty || exit 1
out=$(mktemp)
zpty inner zsh -f -i
zpty -w inner "fpath=(${(q)1} \$fpath); out=$out"'
autoload -Uz compinit && compinit -u -D
compadd() {
    if [[ " ${@[1,(i)(-|--)]} " == *" -"(O|A|D)[^-]#" "* ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -rl -- "${hits[@]}" >>$out
}
capture() { _main_complete; print END >>$out }
zle -C capture complete-word capture
bindkey "^I" capture'
zpty -w -n inner "set-rto $2"$'\t'
for try in {1..600}; do
    [[ $(tail -n 1 $out) == END ]] && break
    sleep 0.05
done
cat $out
rm $out
zpty -d inner"#;
    let mut offered = lines("zsh", &["-f", "-c", SCRIPT, "zsh", FILES, words]);
    assert!(offered.remove("END"), "zsh did not come to an end: {offered:?}");
    offered
}

/// What a shell offers behind these words.
type Offer = fn(&str) -> BTreeSet<String>;

const SHELLS: [(&str, Offer); 3] = [("bash", bash), ("fish", fish), ("zsh", zsh)];

fn names(words: &[&str]) -> BTreeSet<String> {
    let names = options(words).into_iter().map(|(name, _)| name);
    names.chain(["--help".to_owned()]).collect()
}

#[test]
fn every_command() {
    for (shell, offer) in SHELLS {
        let offered = offer("");
        let commands: BTreeSet<_> =
            offered.into_iter().filter(|word| !word.starts_with('-')).collect();
        assert_eq!(commands, verbs().into_iter().collect(), "{shell}");
        assert_eq!(offer("ins"), BTreeSet::from(["install".to_owned()]), "{shell}");
    }
}

#[test]
fn every_option_of_every_command_and_no_other() {
    for (shell, offer) in SHELLS {
        assert_eq!(offer("--"), names(&[]), "{shell}");
        for verb in verbs() {
            assert_eq!(offer(&format!("{verb} --")), names(&[&verb]), "{shell} {verb}");
        }
    }
}

#[test]
fn directories_behind_options_that_take_one() {
    for (shell, offer) in SHELLS {
        for option in ["install --cgroup", "status --pin"] {
            let offered = offer(&format!("{option} /pro"));
            let is_proc = |word: &String| word.trim_end_matches('/').ends_with("proc");
            assert!(offered.iter().any(is_proc), "{shell} {option}: {offered:?}");
        }
    }
}
