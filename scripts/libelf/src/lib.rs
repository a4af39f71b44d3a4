//! Nothing to call: `build.rs` compiles libelf and puts it where the linker looks for what libbpf-sys asks for.
