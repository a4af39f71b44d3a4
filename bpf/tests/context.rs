//! How the compiled program treats its context. A guarded field that is loaded into the register that held
//! the context crashes kernels up to 5.4 and reads the wrong object on 5.10 to 6.6, 6.1.176 and 6.18.2: the
//! guard (`is_fullsock`) is put into that register first (`sock_ops_convert_ctx_access()`, net/core/filter.c).

mod support;

use std::path::Path;
use support::hazards::{LDX_WORD, hazards};
use support::machine::Instruction;
use support::{compile_c, instructions};

#[test]
fn no_guarded_field_is_loaded_over_the_context() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good");
    let mut seen = 0;
    for entry in folder.read_dir().expect("the golden files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path).expect("a rules file");
            let code = instructions(&text);
            assert_eq!(hazards(&code), [], "{}", path.display());
            let asks = |it: &Instruction| it.code == LDX_WORD && it.offset == 136;
            assert!(code.iter().any(asks), "{}: total_retrans is never asked", path.display());
            seen += 1;
        }
    }
    assert!(seen > 3, "only {seen} rules files");
}

#[test]
fn the_walk_finds_what_it_looks_for() {
    let program = |body: &str| {
        compile_c(&format!(
            "__attribute__((section(\"sockops\"), used)) int set_rto(void *ctx) {{ asm volatile(\"{body}\" ::: \"r0\", \"r1\", \"r2\", \"r6\"); return 1; }}"
        ))
    };
    let count = |body: &str| hazards(&program(body)).len();
    assert_eq!(count("r1 = *(u32 *)(r1 + 136)"), 1, "a guarded load over the context");
    assert_eq!(count("r6 = r1\\n r2 = 0\\n r6 = *(u32 *)(r6 + 76)"), 1, "over a copy of it");
    assert_eq!(count("if r1 == 0 goto +1\\n r1 = 5\\n r1 = *(u32 *)(r1 + 136)"), 1, "on one path");
    assert_eq!(count("r2 = *(u32 *)(r1 + 92)"), 1, "rtt_min");
    assert_eq!(count("r2 = *(u8 *)(r1 + 0)"), 1, "a narrow load");
    assert_eq!(count("r1 = *(u32 *)(r1 + 68)"), 0, "local_port is not guarded");
    assert_eq!(count("r2 = *(u32 *)(r1 + 136)"), 0, "into another register");
    assert_eq!(
        count("r1 = r10\\n *(u64 *)(r10 - 8) = r1\\n r1 = *(u32 *)(r1 - 8)"),
        0,
        "the stack"
    );
}
