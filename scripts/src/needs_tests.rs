use std::fs;

use xshell::{Shell, TempDir};

use super::*;
use crate::scratch::script;

/// An empty directory, removed when dropped, and a machine with only that directory in its search path.
fn machine() -> (TempDir, Host) {
    let temp = Shell::new().unwrap().create_temp_dir().unwrap();
    let search = vec![temp.path().to_owned()];
    (temp, Host { search, clang: None })
}

fn for_bare_machine(needs: &[Need], manager: Manager) -> String {
    let bare = missing(needs, Some(manager), |_| false);
    packages(&bare, manager, |_| true).join(" ")
}

#[test]
fn packages_of_the_build() {
    let lines = Manager::ALL.map(|manager| for_bare_machine(BUILD, manager));
    assert_eq!(lines[0], "clang gcc libc6-dev make");
    assert_eq!(lines[1], "clang gcc glibc-static make");
    assert_eq!(lines[2], "clang gcc glibc make");
    assert_eq!(lines[3], "clang gcc musl-dev make linux-headers");
}

#[test]
fn packages_of_the_tests() {
    let line = |manager| {
        format!("{} + {}", for_bare_machine(LINT, manager), for_bare_machine(LIVE, manager))
    };
    assert_eq!(line(Manager::Apt), "rustfmt rust-clippy + iproute2 bpftool");
    assert_eq!(line(Manager::Dnf), "rustfmt clippy + iproute bpftool");
    assert_eq!(line(Manager::Pacman), "rust + iproute2 bpf");
    assert_eq!(line(Manager::Apk), "rustfmt rust-clippy + iproute2 bpftool");
}

#[test]
fn packages_of_cross_builds() {
    let lines = Manager::ALL.map(|manager| for_bare_machine(CROSS, manager));
    assert_eq!(lines, ["python3-pip", "python3-pip", "python-pip", "py3-pip"]);
}

#[test]
fn packages_of_the_packaging() {
    for manager in Manager::ALL {
        let line = for_bare_machine(PACKAGING, manager);
        assert_eq!(line, "dpkg gzip mandoc bash fish zsh");
    }
}

#[test]
fn packages_of_the_matrix() {
    let line = |manager| for_bare_machine(MATRIX, manager);
    assert_eq!(
        line(Manager::Apt),
        "qemu-system-x86 qemu-guest-agent busybox-static cpio kmod xz-utils zstd bc pahole dpkg libssl-dev \
         libelf-dev"
    );
    assert_eq!(
        line(Manager::Dnf),
        "qemu-system-x86-core qemu-guest-agent busybox cpio kmod xz zstd bc dwarves dpkg openssl-devel \
         elfutils-libelf-devel"
    );
}

#[test]
fn an_alternative_is_taken_where_the_first_is_unknown() {
    let bpftool = missing(LIVE, Some(Manager::Apt), |probe| *probe != Probe::Program("bpftool"));
    let with = |known: &'static str| packages(&bpftool, Manager::Apt, |name| name == known);
    assert_eq!(with("bpftool"), ["bpftool"]);
    assert_eq!(with("linux-tools-generic"), ["linux-tools-generic"]);
    assert_eq!(with("neither"), ["bpftool"]);
}

#[test]
fn alternatives_only_where_packages_can_be_looked_up() {
    for manager in Manager::ALL {
        let alternatives = BUILD
            .iter()
            .chain(LINT)
            .chain(LIVE)
            .flat_map(|need| need.packages[manager as usize])
            .any(|entry| entry.contains('|'));
        assert!(!alternatives || manager.lookup("x").is_some(), "{manager:?}");
    }
}

#[test]
fn only_what_is_missing() {
    let gone = |probe: &Probe| !matches!(probe, Probe::Program("make") | Probe::Header(_));
    let names = |manager| {
        missing(BUILD, manager, gone).iter().map(|need| need.name()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(Some(Manager::Apt)), "make");
    assert_eq!(names(None), "make");
    assert_eq!(names(Some(Manager::Apk)), "make <linux/bpf.h>");
    assert!(missing(BUILD, Some(Manager::Apt), |_| true).is_empty());
}

#[test]
fn programs_are_found_on_the_path_given() {
    let (temp, host) = machine();
    script(&temp.path().join("make"), "");
    fs::write(temp.path().join("flex"), "not executable").unwrap();
    fs::create_dir(temp.path().join("bison")).unwrap();
    assert!(host.meets(&Probe::Program("make")));
    for absent in ["flex", "bison", "gawk"] {
        assert!(!host.meets(&Probe::Program(absent)), "{absent}");
    }
    assert_eq!(host.manager(), None);
    script(&temp.path().join("dnf"), "");
    assert_eq!(host.manager(), Some(Manager::Dnf));
}

#[test]
fn clang_may_have_another_name() {
    let (temp, host) = machine();
    let path = temp.path().join("clang-19");
    script(&path, "");
    assert!(!host.meets(&Probe::Clang));
    let called = |name: &str| Host { search: host.search.clone(), clang: Some(name.to_owned()) };
    assert!(called("clang-19").meets(&Probe::Clang));
    assert!(called(path.to_str().unwrap()).meets(&Probe::Clang));
    assert!(!called("/nowhere/clang").meets(&Probe::Clang));
}

#[test]
fn the_compiler_knows_its_static_library() {
    let (temp, host) = machine();
    let probe = Probe::StaticLibrary("libc.a");
    assert!(!host.meets(&probe), "no compiler");
    script(&temp.path().join("cc"), "echo libc.a");
    assert!(!host.meets(&probe), "not found by the compiler");
    script(&temp.path().join("cc"), "[ \"$1\" = -print-file-name=libc.a ] && echo /usr/lib/libc.a");
    assert!(host.meets(&probe));
}
