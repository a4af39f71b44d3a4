//! Where the build looks for a rules file.

use std::path::{Path, PathBuf};

/// The places of a rules file, in order. A relative path is looked up in the directory of the shell (`PWD`), then at the
/// root of the sources, where cargo runs the build script.
#[must_use]
pub fn places(name: &str, shell: Option<&str>, root: &Path) -> Vec<PathBuf> {
    let mut places: Vec<_> = shell.map(|shell| Path::new(shell).join(name)).into_iter().collect();
    places.push(root.join(name));
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_looked_up_where_one_stands() {
        let root = Path::new("/src");
        let of = |name, shell| places(name, shell, root);
        assert_eq!(
            of("my.toml", Some("/home")),
            ["/home/my.toml", "/src/my.toml"].map(PathBuf::from)
        );
        for (name, shell, place) in [
            ("my.toml", None, "/src/my.toml"),
            ("my.toml", Some("/src"), "/src/my.toml"),
            ("/etc/my.toml", Some("/home"), "/etc/my.toml"),
        ] {
            assert_eq!(of(name, shell), [PathBuf::from(place)], "{name} {shell:?}");
        }
    }
}
