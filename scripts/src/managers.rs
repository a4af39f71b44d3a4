//! The package managers of the distributions, and the commands of each.

/// A package manager; the discriminant is its column in the table of needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manager {
    /// Debian, Ubuntu, Raspberry Pi OS.
    Apt,
    /// Fedora, RHEL and derivatives.
    Dnf,
    /// Arch.
    Pacman,
    /// Alpine.
    Apk,
}

impl Manager {
    /// All managers, in the order of detection.
    pub(crate) const ALL: [Self; 4] = [Self::Apt, Self::Dnf, Self::Pacman, Self::Apk];

    /// The name of the program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
        }
    }

    /// The command that fetches package lists, if `install` does not do that by itself. `has_lists` is true if lists
    /// exist already. pacman's are then left alone, because a refresh without an upgrade of everything is a partial
    /// upgrade.
    pub(crate) fn refresh(self, has_lists: bool) -> Option<Vec<String>> {
        match self {
            Self::Apt => Some(words(&["apt-get", "update"])),
            Self::Pacman if !has_lists => Some(words(&["pacman", "-Sy"])),
            Self::Pacman | Self::Dnf | Self::Apk => None,
        }
    }

    /// The command that installs packages without confirmation and without recommended ones.
    pub(crate) fn install(self, packages: &[String]) -> Vec<String> {
        let command: &[&str] = match self {
            Self::Apt => &[
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-y",
                "--no-install-recommends",
            ],
            Self::Dnf => &["dnf", "install", "-y", "--setopt=install_weak_deps=False"],
            Self::Pacman => &["pacman", "-S", "--needed", "--noconfirm"],
            Self::Apk => &["apk", "add", "--no-cache"],
        };
        words(command).into_iter().chain(packages.iter().cloned()).collect()
    }

    /// The command whose exit code shows whether a package exists, for managers with alternatives in their column of
    /// the table of needs.
    pub(crate) fn lookup(self, package: &str) -> Option<Vec<String>> {
        match self {
            Self::Apt => Some(words(&["apt-cache", "show", "--no-all-versions", package])),
            Self::Pacman => Some(words(&["pacman", "-Si", package])),
            Self::Dnf | Self::Apk => None,
        }
    }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_commands() {
        let packages = ["clang".to_owned(), "make".to_owned()];
        let line = |manager: Manager| manager.install(&packages).join(" ");
        assert_eq!(
            line(Manager::Apt),
            "env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends clang make"
        );
        assert_eq!(
            line(Manager::Dnf),
            "dnf install -y --setopt=install_weak_deps=False clang make"
        );
        assert_eq!(line(Manager::Pacman), "pacman -S --needed --noconfirm clang make");
        assert_eq!(line(Manager::Apk), "apk add --no-cache clang make");
    }

    #[test]
    fn lists_are_fetched_only_where_needed() {
        let line = |manager: Manager, has| manager.refresh(has).map(|words| words.join(" "));
        assert_eq!(line(Manager::Apt, true).as_deref(), Some("apt-get update"));
        assert_eq!(line(Manager::Pacman, false).as_deref(), Some("pacman -Sy"));
        assert_eq!(line(Manager::Pacman, true), None);
        assert_eq!(line(Manager::Dnf, false), None);
        assert_eq!(line(Manager::Apk, false), None);
    }
}
