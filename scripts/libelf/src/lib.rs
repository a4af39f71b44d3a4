//! This library has no functions. `build.rs` compiles libelf and puts it where the linker finds it for libbpf-sys.
