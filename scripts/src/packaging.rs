//! Tests of files in scripts/packaging: mandoc understands the manual pages, and shells understand the scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn run(program: &str, arguments: &[&str], file: &Path) -> (bool, String) {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask test` installs it"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn mandoc_finds_nothing_in_the_manual_pages() {
    for page in ["man/set-rto.8", "man/set-rto-rules.5"] {
        let (_, said) = run("mandoc", &["-T", "lint"], &file(page));
        // Other pages may be missing on this machine.
        let is_about_others = |line: &&str| {
            line.contains("referenced manual not found") || line.contains("mandoc.db")
        };
        let said: Vec<_> = said.lines().filter(|line| !is_about_others(line)).collect();
        assert!(said.is_empty(), "{said:#?}");
    }
}

#[test]
fn shells_can_read_what_is_for_them() {
    for script in [
        "debian/postinst",
        "debian/prerm",
        "debian/postrm",
        "openwrt/set-rto/files/set-rto.init",
        "openwrt/set-rto/files/set-rto.hotplug",
    ] {
        assert_eq!(run("sh", &["-n"], &file(script)), (true, String::new()), "{script}");
    }
    for (shell, script) in [("bash", "set-rto.bash"), ("zsh", "_set-rto"), ("fish", "set-rto.fish")]
    {
        let script = format!("completions/{script}");
        assert_eq!(run(shell, &["-n"], &file(&script)), (true, String::new()), "{script}");
    }
}
