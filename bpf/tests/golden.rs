//! Golden files: `bad/NAME.toml` must be refused with exactly the text of `bad/NAME.stderr`, `good/NAME.toml`
//! must compile to exactly the C of `good/NAME.c`, with the notes of `good/NAME.notes`.
//! `UPDATE_EXPECT=1 cargo test -p set-rto-compiler` writes them.

use expect_test::expect_file;
use set_rto_compiler::compile_with;
use set_rto_compiler::diag::{Source, render, render_notes};
use std::path::{Path, PathBuf};

/// The version in the golden banners. It is fixed, because a release must not rewrite all files.
const VERSION: &str = "0.0.0";

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = folder.read_dir().expect("the folder of the golden files");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() > 3, "too few files in {}", folder.display());
    files
}

/// Reads list files beside the rules.
fn load(path: &Path, list: &str) -> Result<String, String> {
    std::fs::read_to_string(path.with_file_name(list)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        _ => error.to_string(),
    })
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).expect("a readable file")
}

#[test]
fn mistakes_are_explained() {
    for path in files("bad") {
        let text = read(&path);
        let source = Source { name: "rules.toml", text: &text };
        let diagnostics = match compile_with(&source, VERSION, &|list| load(&path, list)) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(diagnostics) => diagnostics,
        };
        expect_file![path.with_extension("stderr")].assert_eq(&render(&source, &diagnostics));
    }
}

#[test]
fn rules_become_c() {
    for path in files("good") {
        let text = read(&path);
        let source = Source { name: "rules.toml", text: &text };
        let policy = compile_with(&source, VERSION, &|list| load(&path, list))
            .unwrap_or_else(|errors| panic!("{}:\n{}", path.display(), render(&source, &errors)));
        // The prelude is the same for all and has its own file.
        let find = |what: &str| policy.c.find(what);
        let settings = find("static __always_inline int set_0(");
        let settings = settings.and_then(|at| policy.c[..at].rfind("\n// ")).map(|at| at + 1);
        let decision = find("static __always_inline u64 rule_of(");
        let program =
            settings.or(decision).or_else(|| find("SEC(\"sockops\")\nint")).expect("a program");
        expect_file![path.with_extension("c")].assert_eq(&policy.c[program..]);
        let again =
            compile_with(&source, VERSION, &|list| load(&path, list)).expect("compiled before");
        assert_eq!(policy.c, again.c, "{}: the same rules, other bytes", path.display());
        let notes = path.with_extension("notes");
        let drawn = render_notes(&source, &policy.notes).join("\n\n");
        if notes.exists() || !drawn.is_empty() {
            expect_file![notes].assert_eq(&format!("{drawn}\n"));
        }
    }
}
