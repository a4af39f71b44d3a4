//! The command line: words in, a task out.

use crate::dist;

/// What `cargo xtask` and `cargo xtask --help` print.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask TASK

  install [--rules FILE] [--no-activate] [--prefix DIR]  install what the build needs, build, put into force
  remove [--prefix DIR]                                  put out of force, delete the binary
  build [--rules FILE] [--target TRIPLE]                 build the static release binary, print its path
  dist [--target T]... [--rules FILE] [--btf FILE]... [--revision N] [--record | --symbols] [--if-possible]
                                                         binary, package, manual pages in target/dist, sizes
  test [--thorough] [FILTER...]                          install what tests need, check, run every test
  show [FILE]                                            print the C that the rules become
  explain FILE CONNECTION                                say which rule decides, and why no earlier one does
  fuzz [--minutes N]                                     random rule sets against random connections
  bench [--quick | --readme]                             sizes, times, instructions, beside other ways
  demo [--readme] [KERNEL...]                            slow links with and without a rule, in virtual machines
  image [--list] [NAME...]                               packages on the systems they are for, in virtual machines
  matrix [--list] [--core] [--readme] [--jobs N] [--test PART] [NAME...]
                                                         the live suite on other kernels, and other machines

FILE defaults to SET_RTO_RULES or rules.toml, DIR to /usr/local, TRIPLE and T (x86_64, ...) to this machine's.
";

const DEFAULT_PREFIX: &str = "/usr/local";

/// A task with its options.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    /// Print [`USAGE`].
    Help,
    /// Build and put into force.
    Install { rules: Option<String>, prefix: String, activate: bool },
    /// Put out of force and delete.
    Remove { prefix: String },
    /// Build the static release binary.
    Build { rules: Option<String>, target: Option<String> },
    /// Make what is shipped.
    Dist { options: dist::Options },
    /// Run the tests whose names contain one of the filters; all when there is none. `thorough`: tests that try a share
    /// of very many things try all of them.
    Test { filters: Vec<String>, thorough: bool },
    /// Print the C of a rules file.
    Show { rules: Option<String> },
    /// Say which rule decides a connection.
    Explain { rules: String, connection: String },
    /// Run random rule sets for so many minutes.
    Fuzz { minutes: u32 },
    /// Measure the compiled programs; put the figures into the README.
    Bench { quick: bool, readme: bool },
    /// Measure connections over slow links on these kernels; put the tables into the README.
    Demo { kernels: Vec<String>, readme: bool },
    /// Boot images; the words are for the program that does.
    Image { options: Vec<String> },
    /// Run the live suite on other kernels; the words are for the program that does.
    Matrix { options: Vec<String> },
}

/// Reads the words after `cargo xtask`. The error is a message for the user.
pub(crate) fn parse(words: &[String]) -> Result<Task, String> {
    let Some((task, rest)) = words.split_first() else { return Ok(Task::Help) };
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Task::Help);
    }
    let mut rest = Words { task, left: rest.to_vec() };
    match task.as_str() {
        "install" => {
            let rules = rest.value("--rules")?;
            let prefix = rest.value("--prefix")?.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
            let activate = !rest.flag("--no-activate");
            rest.end()?;
            Ok(Task::Install { rules, prefix, activate })
        }
        "remove" => {
            let prefix = rest.value("--prefix")?.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
            rest.end()?;
            Ok(Task::Remove { prefix })
        }
        "build" => {
            let rules = rest.value("--rules")?;
            let target = rest.value("--target")?;
            rest.end()?;
            Ok(Task::Build { rules, target })
        }
        "dist" => {
            let mut targets = Vec::new();
            while let Some(target) = rest.value("--target")? {
                targets.push(target);
            }
            let rules = rest.value("--rules")?;
            let mut btf = Vec::new();
            while let Some(file) = rest.value("--btf")? {
                btf.push(file);
            }
            let revision = rest.value("--revision")?.unwrap_or_else(|| "1".to_owned());
            let (record, symbols) = (rest.flag("--record"), rest.flag("--symbols"));
            let if_possible = rest.flag("--if-possible");
            rest.end()?;
            if record && (symbols || rules.is_some() || !btf.is_empty()) {
                return Err(
                    "dist: --record writes down the sizes with the default rules".to_owned()
                );
            }
            let options =
                dist::Options { targets, rules, btf, revision, record, symbols, if_possible };
            Ok(Task::Dist { options })
        }
        "test" => {
            let thorough = rest.flag("--thorough");
            match rest.left.iter().find(|word| word.starts_with('-')) {
                Some(option) => Err(rest.unknown(option)),
                None => Ok(Task::Test { filters: rest.left, thorough }),
            }
        }
        "show" => {
            let rules = (!rest.left.is_empty()).then(|| rest.left.remove(0));
            rest.end()?;
            Ok(Task::Show { rules })
        }
        "explain" => match <[String; 2]>::try_from(rest.left) {
            Ok([rules, connection]) => Ok(Task::Explain { rules, connection }),
            Err(_) => Err("explain: expected FILE and a connection in quotes, such as \
                           'outgoing ax0 10.0.0.1:40000 -> 44.1.2.3:12345'"
                .to_owned()),
        },
        "fuzz" => {
            let minutes = rest.value("--minutes")?.unwrap_or_else(|| "10".to_owned());
            rest.end()?;
            match minutes.parse() {
                Ok(minutes @ 1..=1440) => Ok(Task::Fuzz { minutes }),
                _ => Err(format!("fuzz: --minutes takes a number from 1 to 1440, not `{minutes}`")),
            }
        }
        "bench" => {
            let (quick, readme) = (rest.flag("--quick"), rest.flag("--readme"));
            rest.end()?;
            if quick && readme {
                return Err("bench: the README shows the full run, not --quick".to_owned());
            }
            Ok(Task::Bench { quick, readme })
        }
        "demo" => {
            let readme = rest.flag("--readme");
            match rest.left.iter().find(|word| word.starts_with('-')) {
                Some(option) => Err(rest.unknown(option)),
                None => Ok(Task::Demo { kernels: rest.left, readme }),
            }
        }
        "image" => Ok(Task::Image { options: rest.left }),
        "matrix" => Ok(Task::Matrix { options: rest.left }),
        other => Err(format!("there is no task `{other}`; `cargo xtask --help` lists them")),
    }
}

/// The words of one task that are not read yet.
struct Words<'a> {
    task: &'a str,
    left: Vec<String>,
}

impl Words<'_> {
    /// Takes `name VALUE` or `name=VALUE`. An option given twice stays for [`Words::end`] to refuse.
    fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let joined = |word: &str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let Some(at) = self.left.iter().position(|word| word == name || joined(word).is_some())
        else {
            return Ok(None);
        };
        let word = self.left.remove(at);
        let value = match joined(&word) {
            Some(value) => value,
            // A following option is a forgotten value rather than a file called `--target`.
            None if self.left.get(at).is_some_and(|next| !next.starts_with('-')) => {
                self.left.remove(at)
            }
            None => String::new(),
        };
        if value.is_empty() {
            return Err(format!("{}: {name} needs a value", self.task));
        }
        Ok(Some(value))
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|word| word != name);
        self.left.len() != before
    }

    fn end(&self) -> Result<(), String> {
        self.left.first().map_or(Ok(()), |word| Err(self.unknown(word)))
    }

    fn unknown(&self, word: &str) -> String {
        format!("{}: unexpected `{word}`; `cargo xtask --help` lists the options", self.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Task, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn help_in_every_form() {
        for line in ["", "--help", "-h", "install --help", "build --rules --help"] {
            assert_eq!(words(line), Ok(Task::Help), "{line}");
        }
        for task in [
            "install", "remove", "build", "dist", "test", "show", "explain", "fuzz", "bench",
            "matrix", "demo", "image",
        ] {
            assert!(USAGE.lines().any(|line| line.trim_start().starts_with(task)), "{task}");
        }
    }

    #[test]
    fn the_compiler_by_itself() {
        assert_eq!(words("show"), Ok(Task::Show { rules: None }));
        assert_eq!(words("show a.toml"), Ok(Task::Show { rules: Some("a.toml".to_owned()) }));
        assert_eq!(words("fuzz"), Ok(Task::Fuzz { minutes: 10 }));
        assert_eq!(words("fuzz --minutes 3"), Ok(Task::Fuzz { minutes: 3 }));
        assert_eq!(words("bench --quick"), Ok(Task::Bench { quick: true, readme: false }));
        let readme = Task::Bench { quick: false, readme: true };
        assert_eq!(words("bench --readme"), Ok(readme));
        let options = ["--core", "debian-6.1"].map(str::to_owned).to_vec();
        assert_eq!(words("matrix --core debian-6.1"), Ok(Task::Matrix { options }));
        let kernels = vec!["debian-6.1".to_owned()];
        assert_eq!(words("demo debian-6.1 --readme"), Ok(Task::Demo { kernels, readme: true }));
        assert_eq!(words("demo"), Ok(Task::Demo { kernels: vec![], readme: false }));
        for line in [
            "show a b",
            "explain a",
            "explain a b c",
            "fuzz --minutes 0",
            "fuzz --minutes x",
            "fuzz 3",
            "bench quick",
            "demo --quick",
            "bench --quick --readme",
        ] {
            assert!(words(line).is_err(), "{line}");
        }
    }

    #[test]
    fn defaults() {
        let prefix = "/usr/local".to_owned();
        let install = Task::Install { rules: None, prefix: prefix.clone(), activate: true };
        assert_eq!(words("install"), Ok(install));
        assert_eq!(words("remove"), Ok(Task::Remove { prefix }));
        assert_eq!(words("build"), Ok(Task::Build { rules: None, target: None }));
        assert_eq!(words("test"), Ok(Task::Test { filters: vec![], thorough: false }));
    }

    #[test]
    fn several_targets() {
        let dist = |targets: &[&str], rules: Option<&str>, btf: &[&str], revision: &str| {
            let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
            let (rules, revision) = (rules.map(str::to_owned), revision.to_owned());
            let (targets, btf) = (own(targets), own(btf));
            let (record, symbols, if_possible) = (false, false, false);
            let options =
                dist::Options { targets, rules, btf, revision, record, symbols, if_possible };
            Ok(Task::Dist { options })
        };
        assert_eq!(words("dist"), dist(&[], None, &[], "1"));
        let line = "dist --target x86_64 --rules a.toml --btf b --target=mips --revision 2 --btf=c";
        let expected = dist(&["x86_64", "mips"], Some("a.toml"), &["b", "c"], "2");
        assert_eq!(words(line), expected);
        for line in ["dist x86_64", "dist --record --symbols", "dist --record --rules a.toml"] {
            assert!(words(line).is_err(), "{line}");
        }
        let Ok(Task::Dist { options }) = words("dist --record --target mips") else { panic!() };
        assert!(options.record && !options.symbols && !options.if_possible);
        let Ok(Task::Dist { options }) = words("dist --if-possible") else { panic!() };
        assert!(options.if_possible);
    }

    #[test]
    fn options_in_any_order_and_form() {
        let expected = Task::Install {
            rules: Some("a.toml".to_owned()),
            prefix: "/opt".to_owned(),
            activate: false,
        };
        assert_eq!(words("install --no-activate --prefix=/opt --rules a.toml").unwrap(), expected);
        assert_eq!(words("install --rules=a.toml --prefix /opt --no-activate").unwrap(), expected);
        let filters = vec!["syn".to_owned(), "ack".to_owned()];
        let test = |thorough| Ok(Task::Test { filters: filters.clone(), thorough });
        assert_eq!(words("test syn ack"), test(false));
        assert_eq!(words("test syn --thorough ack"), test(true));
    }

    #[test]
    fn refusals_name_the_word() {
        for (line, part) in [
            ("instal", "`instal`"),
            ("install extra", "`extra`"),
            ("install --target x", "`--target`"),
            ("install --rules", "--rules needs a value"),
            ("install --rules --no-activate", "--rules needs a value"),
            ("build --rules=", "--rules needs a value"),
            ("build --rules a --rules b", "`--rules`"),
            ("remove --prefixes=x", "`--prefixes=x`"),
            ("test --nocapture", "`--nocapture`"),
        ] {
            let message = words(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
