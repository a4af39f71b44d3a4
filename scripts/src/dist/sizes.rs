//! scripts/SIZES: the budget of each static binary, and its last recorded size.

use anyhow::{Context as _, Result, ensure};

/// By how much a binary may exceed its budget, in percent, because compilers differ.
const ALLOWANCE: u64 = 2;

/// A line of the file, in bytes.
#[derive(Debug, PartialEq)]
pub(crate) struct Known {
    name: String,
    budget: u64,
    size: u64,
}

/// A target's name, and the size of its binary in bytes.
pub(crate) type Built = (&'static str, u64);

/// Reads the file.
pub(crate) fn parse(text: &str) -> Result<Vec<Known>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let known = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, budget, size] = words[..] else { return None };
        Some(Known {
            name: name.to_owned(),
            budget: budget.parse().ok()?,
            size: size.parse().ok()?,
        })
    };
    lines
        .map(|line| {
            known(line).with_context(|| format!("SIZES: a name and two numbers, not `{line}`"))
        })
        .collect()
}

/// Prints the new sizes next to the recorded ones.
pub(crate) fn table(built: &[Built], known: &[Known]) -> String {
    let mut text =
        format!("{:<14}{:>10}{:>10}{:>9}{:>10}\n", "target", "bytes", "before", "", "budget");
    for (name, size) in built {
        text += &match known.iter().find(|known| known.name == *name) {
            Some(known) => {
                let percent = (*size as f64 / known.size.max(1) as f64 - 1.0) * 100.0;
                format!(
                    "{name:<14}{size:>10}{:>10}{percent:>+7.1} %{:>10}\n",
                    known.size, known.budget
                )
            }
            None => format!("{name:<14}{size:>10}{:>10}\n", "-"),
        };
    }
    text
}

/// Returns an error if a binary exceeds its budget or has none.
pub(crate) fn check(built: &[Built], known: &[Known]) -> Result<()> {
    for (name, size) in built {
        let known = known.iter().find(|known| known.name == *name);
        let Known { budget, .. } =
            known.with_context(|| format!("scripts/SIZES has no line for {name}"))?;
        let most = budget + budget * ALLOWANCE / 100;
        ensure!(
            *size <= most,
            "{name}: {size} bytes, {} over what scripts/SIZES allows ({budget} and {ALLOWANCE} %); \
             `dist --symbols` shows what takes the room",
            size - most
        );
    }
    Ok(())
}

/// The contents of the file with the new sizes.
pub(crate) fn record(text: &str, built: &[Built]) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (Some(name), Some(budget)) = (words.next(), words.next()) else {
            return line.to_owned();
        };
        match built.iter().find(|(built, _)| *built == name) {
            Some((_, size)) => format!("{name:<14}{budget:>10}{size:>10}"),
            None => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::TARGETS;

    const TEXT: &str = "# a comment\n\nmips 1000 900\nx86_64 500 500\n";

    #[test]
    fn every_target_has_a_line() {
        let known = parse(include_str!("../../SIZES")).unwrap();
        let names: Vec<_> = known.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names, TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        for Known { name, budget, size } in known {
            assert!(size <= budget + budget * ALLOWANCE / 100, "{name}");
        }
    }

    #[test]
    fn over_by_two_percent() {
        let known = parse(TEXT).unwrap();
        check(&[("mips", 1020), ("x86_64", 510)], &known).unwrap();
        let message = check(&[("mips", 1020), ("x86_64", 511)], &known).unwrap_err().to_string();
        assert!(message.starts_with("x86_64: 511 bytes, 1 over"), "{message}");
        assert!(check(&[("vax", 1)], &known).is_err());
        for bad in ["mips 1", "mips 1 x", "mips 1 2 3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn recorded_and_compared() {
        let text = record(TEXT, &[("mips", 950)]);
        assert!(text.starts_with("# a comment\n\nmips"));
        let known = parse(&text).unwrap();
        assert_eq!((known[0].budget, known[0].size, known[1].size), (1000, 950, 500));
        let table = table(&[("mips", 969), ("x86_64", 499)], &known);
        assert!(table.contains("969       950   +2.0 %      1000"), "{table}");
        assert!(table.contains("499       500   -0.2 %       500"), "{table}");
    }
}
