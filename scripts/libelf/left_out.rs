//! Replaces parts of libbpf that this program never reaches, to keep them out of the binary. A linker takes an object
//! file from a static library only for a symbol that is still undefined, so these functions carry libbpf's names.
//!
//! Each fails as the real one may, and its caller returns that as an error. Nothing is skipped silently if a later
//! version of libbpf calls it. (Checked against the callers in libbpf 1.7.) In C a function may ignore its arguments.
//! zlib is unreachable too: see src/zlib.c. The loader includes this file: its own symbols come first.

use nix::libc::{ENOTSUP, c_int};

/// Defines C functions that take no arguments and return this value.
macro_rules! left_out {
    ($type:ty = $value:expr; $($name:ident),+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> $type {
            $value
        }
    )+};
}

// Light skeletons, which load BPF objects without libbpf: libbpf generates one only for bpf_object__gen_loader().
left_out!(() = (); bpf_gen__init, bpf_gen__free, bpf_gen__load_btf, bpf_gen__prog_load);
left_out!(() = (); bpf_gen__map_create, bpf_gen__map_update_elem, bpf_gen__map_freeze);
left_out!(() = (); bpf_gen__populate_outer_map, bpf_gen__record_attach_target);
left_out!(() = (); bpf_gen__record_extern, bpf_gen__record_relo_core);
left_out!(c_int = -ENOTSUP; bpf_gen__finish);

// CO-RE relocations. The program has none: it reads structures by offsets that this loader finds.
left_out!(c_int = -ENOTSUP; bpf_core_calc_relo_insn, bpf_core_patch_insn, bpf_core_parse_spec);
left_out!(c_int = -ENOTSUP; bpf_core_format_spec, __bpf_core_types_are_compat);
left_out!(c_int = -ENOTSUP; __bpf_core_types_match);

// Uprobes and USDT, which search ELF files and Android's archives for functions and notes. Pointers and longs are
// returned as an address-sized number, negative for an error.
left_out!(isize = -(ENOTSUP as isize); usdt_manager_new, usdt_manager_attach_usdt);
left_out!(() = (); usdt_manager_free, elf_close, zip_archive_close);
left_out!(c_int = -ENOTSUP; elf_open, elf_resolve_syms_offsets, elf_resolve_pattern_offsets);
left_out!(isize = -(ENOTSUP as isize); elf_find_func_offset, elf_find_func_offset_from_file);
left_out!(isize = -(ENOTSUP as isize); zip_archive_open);
left_out!(c_int = -ENOTSUP; zip_archive_find_entry);

/// Stack unwinding, which panic=abort does not need. The standard library that rustup installs is compiled for it all
/// the same and includes readers of DWARF and of compressed debug information for the backtrace of a panic. Our static
/// binary has neither unwind tables nor debug information, so a walk that ends at once shows the same.
#[cfg(all(panic = "abort", target_feature = "crt-static"))]
mod unwinding {
    use super::c_int;

    /// _URC_END_OF_STACK.
    const END_OF_STACK: c_int = 5;

    left_out!(c_int = END_OF_STACK; _Unwind_Backtrace, _Unwind_RaiseException);
    left_out!(usize = 0; _Unwind_GetIP, _Unwind_GetIPInfo, _Unwind_GetLanguageSpecificData);
    left_out!(usize = 0; _Unwind_GetRegionStart, _Unwind_GetTextRelBase, _Unwind_GetDataRelBase);
    left_out!(() = (); _Unwind_SetGR, _Unwind_SetIP);
    // _UVRSR_NOT_IMPLEMENTED: 32-bit ARM has only these two where other machines have several functions.
    #[cfg(target_arch = "arm")]
    left_out!(c_int = 1; _Unwind_VRS_Get, _Unwind_VRS_Set);
    left_out!(! = std::process::abort(); _Unwind_Resume);
}
