//! Tests of files in scripts/packaging: mandoc understands the manual pages, shells understand the scripts, and recipes
//! name this version.

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
        "buildroot/set-rto/S35set-rto",
    ] {
        assert_eq!(run("sh", &["-n"], &file(script)), (true, String::new()), "{script}");
    }
    for (shell, script) in [("bash", "set-rto.bash"), ("zsh", "_set-rto"), ("fish", "set-rto.fish")]
    {
        let script = format!("completions/{script}");
        assert_eq!(run(shell, &["-n"], &file(&script)), (true, String::new()), "{script}");
    }
}

#[test]
fn recipes_name_the_version_and_the_repository() {
    let version = env!("CARGO_PKG_VERSION");
    // The place that a recipe fetches from, without the variable for the version.
    let place = format!("{}/releases/download/v", env!("CARGO_PKG_REPOSITORY"));
    let yocto = format!("yocto/recipes-connectivity/set-rto/set-rto_{version}.bb");
    for (recipe, line) in [
        ("buildroot/set-rto/set-rto.mk", format!("SET_RTO_VERSION = {version}\n")),
        ("nix/package.nix", format!("  version = \"{version}\";\n")),
        ("openwrt/set-rto/Makefile", format!("PKG_VERSION:={version}\n")),
        (yocto.as_str(), "${PV}".to_owned()),
    ] {
        let text = std::fs::read_to_string(file(recipe)).unwrap();
        assert!(text.contains(&line), "{recipe} lacks {line}");
        assert!(text.contains(&place), "{recipe} fetches from elsewhere than {place}");
    }
    let pod = std::fs::read_to_string(file("container/daemonset.yaml")).unwrap();
    let images: Vec<_> = pod.lines().filter(|line| line.contains(" image: ")).collect();
    assert!(images.len() == 2 && images.iter().all(|line| line.ends_with(version)), "{images:?}");
}

#[test]
fn a_release_has_every_target() {
    let text = include_str!("../../.github/workflows/release.yml");
    for target in crate::targets::TARGETS {
        assert!(text.contains(&format!("--target {}", target.name)), "{}", target.name);
    }
}

#[test]
fn with_the_systems_libraries_no_c_is_compiled() {
    let tree = |features: &[&str]| {
        let output = Command::new(crate::needs::cargo())
            .args(["tree", "--offline", "--package", "set-rto", "--edges", "normal,build"])
            .args(["--format", "{p} {f}"])
            .args(features)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let is_vendored = |tree: &str| tree.contains("vendored") || tree.contains("set-rto-libelf");
    assert!(is_vendored(&tree(&[])));
    let system = tree(&["--no-default-features", "--features", "system"]);
    assert!(system.contains("libbpf-sys") && !is_vendored(&system), "{system}");
}
