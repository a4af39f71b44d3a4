//! Parts of READMEs that tasks write, each between two marker lines, and commands in READMEs that tasks and tests run.

use anyhow::{Context, Result, ensure};
use xshell::Shell;

/// The file that contains such a part, and the lines before and after the part.
pub(crate) struct Place {
    pub(crate) file: &'static str,
    pub(crate) begin: &'static str,
    pub(crate) end: &'static str,
}

impl Place {
    /// The file's text with this part replaced.
    pub(crate) fn replace(&self, readme: &str, text: &str) -> Result<String> {
        let Place { file, begin, end } = self;
        let lacks = |line: &str| format!("{file} lacks the line `{}`", line.trim());
        let (before, rest) = readme.split_once(begin).with_context(|| lacks(begin))?;
        let (_, after) = rest.split_once(end).with_context(|| lacks(end))?;
        Ok(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
    }
}

/// Fails if the place is missing. The check runs before the task, which takes minutes.
pub(crate) fn check(sh: &Shell, place: &Place) -> Result<()> {
    place.replace(&sh.read_file(place.file)?, "").map(drop)
}

/// Writes a text into its place.
pub(crate) fn update(sh: &Shell, place: &Place, text: &str) -> Result<()> {
    let readme = place.replace(&sh.read_file(place.file)?, text)?;
    Ok(sh.write_file(place.file, readme)?)
}

/// The commands of the first block after the paragraph that starts with this title in bold.
pub(crate) fn commands(readme: &str, title: &str) -> Result<String> {
    let lines = readme.lines().skip_while(|line| !line.starts_with(&format!("**{title}")));
    let lines = lines.skip_while(|line| !line.starts_with("    "));
    let block: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    ensure!(!block.is_empty(), "no commands behind **{title}");
    Ok(block.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_behind_a_title() {
        let readme = "**Not.** x\n\n    no\n\n**This, that.** Text,\nmore:\n\n    a b\n    c\n\nText\n\n    d\n";
        assert_eq!(commands(readme, "This").expect("a block"), "a b\nc\n");
        assert!(commands(readme, "That").is_err());
    }

    #[test]
    fn only_the_part_changes() {
        let (begin, end) = ("<!-- from -->\n", "<!-- to -->\n");
        let place = Place { file: "README.md", begin, end };
        let readme = "# a\n<!-- from -->\nold\n<!-- to -->\nb\n";
        let once = place.replace(readme, "| 1 |\n").expect("both lines");
        assert_eq!(once, "# a\n<!-- from -->\n\n| 1 |\n\n<!-- to -->\nb\n");
        assert_eq!(place.replace(&once, "| 1 |\n").expect("both lines"), once);
        assert!(place.replace("# a\n", "").is_err() && place.replace(place.begin, "").is_err());
    }
}
