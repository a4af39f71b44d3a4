//! What `dist` can build for.

use std::env::consts::ARCH;

use anyhow::{Result, bail};

/// One kind of machine.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    /// The name of its folder, and what `--target` takes.
    pub(crate) name: &'static str,
    /// Rust's name, which `--target` takes, too.
    pub(crate) triple: &'static str,
    /// Debian's name; None for what Debian has no port for.
    pub(crate) debian: Option<&'static str>,
}

/// All of them.
pub(crate) const TARGETS: &[Target] =
    &[Target { name: "x86_64", triple: "x86_64-unknown-linux-gnu", debian: Some("amd64") }];

/// The targets of these names or triples; this machine's when there are none.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    let here = [ARCH.to_owned()];
    let names = if names.is_empty() { &here } else { names };
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> Result<&'static Target> {
    let found = TARGETS.iter().find(|target| target.name == name || target.triple == name);
    let Some(target) = found else {
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!("dist: no target {name}; there are {}", known.join(", "));
    };
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_triple() {
        for target in TARGETS {
            assert_eq!(find(target.name).unwrap(), target);
            assert_eq!(find(target.triple).unwrap(), target);
        }
        let message = find("vax").unwrap_err().to_string();
        assert!(message.contains("vax") && message.contains("x86_64"), "{message}");
    }
}
