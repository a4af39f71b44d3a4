//! What libbpf brings that no way through this program leads to, kept out of the binary: a linker takes
//! a file out of a static library only for a function that nobody before has. So these have the names of theirs.
//!
//! Each fails as the real one may, and its caller passes that on as an error: nothing is skipped in silence should a
//! later version of libbpf call it. (Checked against the callers in libbpf 1.7.) C lets a function ignore its arguments.
//! zlib, of which nothing is reached either: scripts/libelf.

use nix::libc::{ENOTSUP, c_int};

/// Defines C functions without arguments that return this.
macro_rules! left_out {
    ($type:ty = $value:expr; $($name:ident),+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> $type {
            $value
        }
    )+};
}

// Programs that load BPF objects without libbpf ("light skeletons"): libbpf writes one if bpf_object__gen_loader()
// asks for it.
left_out!(() = (); bpf_gen__init, bpf_gen__free, bpf_gen__load_btf, bpf_gen__prog_load);
left_out!(() = (); bpf_gen__map_create, bpf_gen__map_update_elem, bpf_gen__map_freeze);
left_out!(() = (); bpf_gen__populate_outer_map, bpf_gen__record_attach_target);
left_out!(() = (); bpf_gen__record_extern, bpf_gen__record_relo_core);
left_out!(c_int = -ENOTSUP; bpf_gen__finish);

// CO-RE relocations, of which the program has none: it reads structures by offsets that this loader finds.
left_out!(c_int = -ENOTSUP; bpf_core_calc_relo_insn, bpf_core_patch_insn, bpf_core_parse_spec);
left_out!(c_int = -ENOTSUP; bpf_core_format_spec, __bpf_core_types_are_compat);
left_out!(c_int = -ENOTSUP; __bpf_core_types_match);

// Probes in programs and libraries: they look for functions and notes in ELF files and Android's archives. What is
// like a pointer or a long is an address-sized number, negative for an error.
left_out!(isize = -(ENOTSUP as isize); usdt_manager_new, usdt_manager_attach_usdt);
left_out!(() = (); usdt_manager_free, elf_close, zip_archive_close);
left_out!(c_int = -ENOTSUP; elf_open, elf_resolve_syms_offsets, elf_resolve_pattern_offsets);
left_out!(isize = -(ENOTSUP as isize); elf_find_func_offset, elf_find_func_offset_from_file);
left_out!(isize = -(ENOTSUP as isize); zip_archive_open);
left_out!(c_int = -ENOTSUP; zip_archive_find_entry);

/// Unwinding of the stack, which panic=abort does not do. The standard library that rustup brings is compiled for it all
/// the same, and brings readers of DWARF and of compressed debug information for the backtrace of a panic. A static
/// binary of ours has neither the tables nor that information, so a walk that ends at once shows the same.
#[cfg(all(panic = "abort", target_feature = "crt-static"))]
mod unwinding {
    use super::c_int;

    /// _URC_END_OF_STACK.
    const END_OF_STACK: c_int = 5;

    left_out!(c_int = END_OF_STACK; _Unwind_Backtrace, _Unwind_RaiseException);
    left_out!(usize = 0; _Unwind_GetIP, _Unwind_GetIPInfo, _Unwind_GetLanguageSpecificData);
    left_out!(usize = 0; _Unwind_GetRegionStart, _Unwind_GetTextRelBase, _Unwind_GetDataRelBase);
    left_out!(() = (); _Unwind_SetGR, _Unwind_SetIP);
    // _UVRSR_NOT_IMPLEMENTED: 32-bit ARM has these two for what others have more of.
    #[cfg(target_arch = "arm")]
    left_out!(c_int = 1; _Unwind_VRS_Get, _Unwind_VRS_Set);
    left_out!(! = std::process::abort(); _Unwind_Resume);
}
