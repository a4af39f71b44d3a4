//! Programs that read kernel structures, and kernels to read them from, made up.

use set_rto_compiler::btf::types::{Btf, Kind, Member, Type};

/// Of a program with these declarations that reads the fields, `offset(FIELD)` or `exists(FIELD)`, the object.
pub(crate) fn object(declarations: &str, uses: &str, big_endian: bool) -> Vec<u8> {
    let c = format!(
        "#define BTF_OF_KERNEL __attribute__((preserve_access_index))\n\
         #define offset(of) __builtin_preserve_field_info(of, 0)\n\
         #define exists(of) __builtin_preserve_field_info(of, 2)\n\
         {declarations}\n\
         __attribute__((section(\"sockops\"), used)) int program(void *ctx)\n\
         {{\n\treturn {uses};\n}}\n"
    );
    super::clang(&c, big_endian).unwrap_or_else(|error| panic!("{error}"))
}

/// A kernel in the making.
pub(crate) struct Kernel {
    types: Vec<Type>,
    names: Vec<u8>,
}

impl Kernel {
    /// With `unsigned long` of so many bytes as type 1.
    pub(crate) fn new(pointer: u32) -> Self {
        let void = Type { name: 0, kind: Kind::Other(0) };
        let mut kernel = Self { types: vec![void], names: vec![0] };
        kernel.add("long unsigned int", Kind::Int(pointer, pointer * 8));
        kernel
    }

    pub(crate) fn add(&mut self, name: &str, kind: Kind) -> u32 {
        let name = self.name(name);
        self.types.push(Type { name, kind });
        self.types.len() as u32 - 1
    }

    /// A struct of members: name, type, offset in bytes.
    pub(crate) fn structure(&mut self, name: &str, size: u32, of: &[(&str, u32, u32)]) -> u32 {
        let members = of
            .iter()
            .map(|&(name, kind, at)| Member { name: self.name(name), kind, offset: at * 8 })
            .collect();
        self.add(name, Kind::Composite { is_union: false, has_widths: false, size, members })
    }

    pub(crate) fn raw(self, big_endian: bool) -> Vec<u8> {
        Btf::new(big_endian, self.types, self.names).write()
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.names.len() as u32;
        self.names.extend(name.bytes().chain([0]));
        at
    }
}
