//! Parses the file KERNELS.

use anyhow::{Context as _, Result, bail};

/// The origin of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The stock kernel of a Debian suite.
    Debian {
        /// The suite's name, or several names separated by commas.
        suite: String,
    },
    /// Built from a suite's linux-source package with one of our configurations.
    Source {
        /// The suite's name, or several names separated by commas.
        suite: String,
        /// The name of a file in `vmtests/vm/kernels/`, without its extension.
        config: String,
    },
}

/// One kernel line, with the lines that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel's name.
    pub name: String,
    /// Its origin.
    pub origin: Origin,
    /// True if CI runs it.
    pub core: bool,
    /// True if its BTF is built into one of the executables, because the kernel itself has none.
    pub btf: bool,
    /// Words for the kernel's command line.
    pub args: Vec<String>,
    /// Patterns of tests that cannot pass, with reasons. A pattern without a reason names tests that pass.
    pub unsupported: Vec<(String, Option<String>)>,
}

impl Kernel {
    /// The reason why a test cannot pass here, if it cannot.
    pub fn excuse(&self, test: &str) -> Option<&str> {
        let matching = |(pattern, _): &&(String, _)| matches(pattern, test);
        self.unsupported.iter().find(matching)?.1.as_deref()
    }
}

/// `*` matches any characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            (0..=text.len()).any(|at| text.is_char_boundary(at) && matches(rest, &text[at..]))
        }),
    }
}

/// Reads the file.
///
/// # Errors
/// The error, with its line.
pub fn parse(text: &str) -> Result<Vec<Kernel>> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("KERNELS, line {}: {line}", number + 1);
        if let Some(expected) = expected(line).with_context(place)? {
            let kernel = kernels.last_mut().with_context(|| format!("{}: no kernel", place()))?;
            kernel.unsupported.push(expected);
            continue;
        }
        let kernel = kernel(line).with_context(place)?;
        if kernels.iter().any(|known| known.name == kernel.name) {
            bail!("{}: there is one of that name already", place());
        }
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// Parses a line that belongs to the kernel above it.
fn expected(line: &str) -> Result<Option<(String, Option<String>)>> {
    if let Some(pattern) = line.strip_prefix('+') {
        return Ok(Some((pattern.trim().to_owned(), None)));
    }
    let Some(rest) = line.strip_prefix('-') else { return Ok(None) };
    let (pattern, reason) = rest.split_once(':').context("no reason")?;
    Ok(Some((pattern.trim().to_owned(), Some(reason.trim().to_owned()))))
}

fn kernel(line: &str) -> Result<Kernel> {
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut next = |what: &str| words.next().with_context(|| format!("no {what}"));
    let name = next("name")?;
    let origin = match next("origin")?.as_str() {
        "debian" => Origin::Debian { suite: next("suite")? },
        "source" => Origin::Source { suite: next("suite")?, config: next("configuration")? },
        other => bail!("unknown origin {other}: debian or source"),
    };
    let mut kernel =
        Kernel { name, origin, core: false, btf: false, args: Vec::new(), unsupported: Vec::new() };
    for word in words {
        match word.strip_prefix("args=") {
            Some(arg) => kernel.args.push(arg.to_owned()),
            None if word == "core" => kernel.core = true,
            None if word == "btf" => kernel.btf = true,
            None => bail!("unknown option {word}: core, btf, or args="),
        }
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_the_repository_is_good() {
        let kernels = parse(include_str!("../KERNELS")).expect("a good file");
        // The oldest and the newest.
        assert!(kernels.iter().filter(|kernel| kernel.core).count() >= 2);
    }

    #[test]
    fn lines_are_read() {
        let text = "# x\na debian sid core args=x=1\n+ syn_v6\n- syn_*: too old\n\nb source trixie hz300 btf\n";
        let kernels = parse(text).expect("good lines");
        assert_eq!(kernels[0].args, ["x=1"]);
        assert!(kernels[0].core && !kernels[0].btf && kernels[1].btf);
        assert_eq!(kernels[0].excuse("syn_v4"), Some("too old"));
        assert_eq!(kernels[0].excuse("my_syn"), None);
        assert_eq!(kernels[0].excuse("syn_v6"), None);
        assert_eq!(
            kernels[1].origin,
            Origin::Source { suite: "trixie".into(), config: "hz300".into() }
        );
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "a",
            "a debian",
            "a rpm sid",
            "a source sid",
            "a debian sid fast",
            "- x: y",
            "+ x",
            "a debian sid\n- x",
            "a debian sid\na debian sid",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
