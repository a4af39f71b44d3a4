//! What is taken out of a kernel's BTF for a program: enough to find again all that the program asks for, at the
//! same places; and what is refused.

mod support;

use proptest::prelude::*;
use set_rto_compiler::btf::fit::{Found, find};
use set_rto_compiler::btf::relocations::Program;
use set_rto_compiler::btf::types::{Btf, Kind};
use set_rto_compiler::btf::{Error, minimal, program, read_kernel};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use support::btf::{Kernel, object};

const OWN: &str = "/sys/kernel/btf/vmlinux";
const RULES: &str = "[[rule]]\nname = \"a\"\ninterface = \"ax*\"\nrto = \"1s\"\n";

/// The program of rules on interfaces.
fn interfaces(big_endian: bool) -> Vec<u8> {
    support::clang(&support::policy(RULES).c, big_endian).unwrap_or_else(|error| panic!("{error}"))
}

/// The BTF of the kernel that runs here, read once.
fn own() -> Option<&'static [u8]> {
    static BYTES: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| std::fs::read(OWN).ok()).as_deref();
    if bytes.is_none() {
        eprintln!("skipped: this kernel has no {OWN}");
    }
    bytes
}

/// Where a kernel has all that a program asks for, in bits.
fn places(program: &Program, kernel: &Btf) -> Vec<Option<u64>> {
    let bits = |found: Found| found.bits;
    let all = program.relocations.iter();
    all.map(|it| find(program, it, kernel).expect("sound BTF").map(bits)).collect()
}

#[test]
fn enough_of_the_running_kernel() {
    let Some(kernel) = own() else { return };
    let object = interfaces(cfg!(target_endian = "big"));
    let small = minimal(&object, kernel).expect("this kernel's BTF");
    let (program, full) = (program(&object).expect("an object"), read_kernel(kernel).expect("BTF"));
    let expected = places(&program, &full);
    assert!(expected.len() >= 8, "{expected:?}");
    assert!(expected.iter().any(|it| it.is_some_and(|bits| bits > 0)), "{expected:?}");
    assert_eq!(places(&program, &Btf::read(&small).expect("what was written")), expected);
    println!("{} bytes of {}", small.len(), kernel.len());
    assert!(small.len() < 1_200, "{} bytes", small.len());
    // It is its own minimum.
    assert_eq!(minimal(&object, &small).expect("the same"), small);
}

/// The same types of a kernel with the other byte order.
fn turned(mut btf: Btf) -> Btf {
    btf.big_endian = !btf.big_endian;
    btf
}

#[test]
fn the_other_byte_order() {
    let Some(kernel) = own() else { return };
    let here = read_kernel(kernel).expect("BTF");
    let there = turned(here.clone()).write();
    let (ours, theirs) = (interfaces(here.big_endian), interfaces(!here.big_endian));
    let small = minimal(&theirs, &there).expect("the other order");
    assert_eq!(
        Btf::is_raw(&small).then(|| small[0]),
        Some(if here.big_endian { 0x9f } else { 0xeb })
    );
    let small = Btf::read(&small).expect("what was written");
    assert_eq!(small.big_endian, !here.big_endian);
    let same = Btf::read(&minimal(&ours, kernel).expect("ours")).expect("what was written");
    assert_eq!(turned(small), same);
    let wrong = Err(Error::ByteOrder(!here.big_endian));
    assert_eq!(minimal(&ours, &there), wrong);
    assert_eq!(minimal(&theirs, kernel), Err(Error::ByteOrder(here.big_endian)));
}

/// A struct: its name, its bytes, its members with their offsets in bits.
type Fields = (String, u32, Vec<(String, u32)>);

/// All structs, by name: what libbpf's own tool keeps and what is kept here.
fn fields(btf: &Btf) -> Vec<Fields> {
    let mut all: Vec<_> = btf
        .types()
        .filter_map(|(_, it)| match &it.kind {
            Kind::Composite { size, members, has_widths, .. } => {
                let of = |it: &set_rto_compiler::btf::types::Member| {
                    (btf.text(it.name), it.bits(*has_widths))
                };
                Some((btf.text(it.name), *size, members.iter().map(of).collect()))
            }
            _ => None,
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_same_as_bpftool() {
    if own().is_none() || Command::new("bpftool").arg("version").output().is_err() {
        eprintln!("skipped: no bpftool here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("a.o"), folder.path().join("a.btf"));
    let object = interfaces(cfg!(target_endian = "big"));
    std::fs::write(&input, &object).expect("the object");
    let ran = Command::new("bpftool")
        .args(["gen", "min_core_btf", OWN])
        .args([&output, &input])
        .output()
        .expect("bpftool");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let theirs = std::fs::read(output).expect("what bpftool wrote");
    let ours = minimal(&object, own().unwrap_or_default()).expect("this kernel's BTF");
    println!("{} bytes, by bpftool {}", ours.len(), theirs.len());
    let (theirs, ours) = (Btf::read(&theirs).expect("BTF"), Btf::read(&ours).expect("BTF"));
    assert_eq!(fields(&ours), fields(&theirs));
    // And the size of pointers, which bpftool leaves out.
    let count = |btf: &Btf| btf.types().count();
    assert!((count(&theirs)..=count(&theirs) + 1).contains(&count(&ours)));
}

const SOCK: &str = "struct device { int index; } BTF_OF_KERNEL;\n\
                    struct sock { int state; struct device *dev; } BTF_OF_KERNEL;";
const READ: &str = "offset(((struct sock *)0)->dev) + offset(((struct device *)0)->index)";

/// A kernel of 32 bits, either order, with more around the fields than the program knows.
fn narrow(rename: &str) -> Kernel {
    let mut kernel = Kernel::new(4);
    let int = kernel.add("int", Kind::Int(4, 0x0100_0020));
    let device = kernel.structure("device", 44, &[("other", int, 0), ("index", int, 40)]);
    let pointer = kernel.add("", Kind::Pointer(device));
    let constant = kernel.add("", Kind::Alias(10, pointer));
    let inner = kernel.structure("", 8, &[("x", int, 0), (rename, constant, 4)]);
    kernel.structure("sock", 24, &[("state", int, 0), ("", inner, 16)]);
    kernel.structure("unrelated", 4, &[("dev", int, 0)]);
    kernel
}

#[test]
fn through_what_has_no_name() {
    for big_endian in [false, true] {
        let object = object(SOCK, READ, big_endian);
        let kernel = narrow("dev").raw(big_endian);
        let small = minimal(&object, &kernel).expect("it is all there");
        let program = program(&object).expect("an object");
        let small = Btf::read(&small).expect("what was written");
        let mut found = places(&program, &small);
        found.sort();
        assert_eq!(found, [Some(20 * 8), Some(40 * 8)]);
        assert_eq!(small.big_endian, big_endian);
        let names: Vec<_> = fields(&small).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["", "device", "sock"]);
        // libbpf tells by it how long pointers are.
        assert!(small.types().any(
            |(_, it)| small.text(it.name) == "long unsigned int" && it.kind == Kind::Int(4, 32)
        ));
    }
}

#[test]
fn what_is_lacking_is_named() {
    let object = object(SOCK, READ, false);
    let kernel = narrow("device").raw(false);
    assert_eq!(minimal(&object, &kernel), Err(Error::Lacks(vec!["struct sock.dev".into()])));
    let none = Kernel::new(8).raw(false);
    let all = vec!["struct device.index".into(), "struct sock.dev".into()];
    let error = minimal(&object, &none).expect_err("nothing is there");
    assert_eq!(error, Error::Lacks(all));
    assert_eq!(error.to_string(), "it has no struct device.index, no struct sock.dev");
    // A field of another kind is none.
    let mut kernel = Kernel::new(4);
    let int = kernel.add("int", Kind::Int(4, 0x0100_0020));
    kernel.structure("device", 4, &[("index", int, 0)]);
    kernel.structure("sock", 4, &[("dev", int, 0)]);
    let error = minimal(&object, &kernel.raw(false)).expect_err("a number is no pointer");
    assert_eq!(error, Error::Lacks(vec!["struct sock.dev".into()]));
}

#[test]
fn what_is_asked_for_may_be_lacking() {
    let declarations = "struct device { int index; } BTF_OF_KERNEL;\n\
         struct sock___new { struct device *device; } BTF_OF_KERNEL;\n\
         struct sock___old { struct device *dev; } BTF_OF_KERNEL;";
    let uses = "exists(((struct sock___new *)0)->device) ? offset(((struct sock___new *)0)->device)\n\
                : exists(((struct sock___old *)0)->dev) ? offset(((struct sock___old *)0)->dev) : 0";
    let object = object(declarations, uses, false);
    for (name, expected) in [
        ("device", [Some(160), Some(160), None, None]),
        ("dev", [None, None, Some(160), Some(160)]),
    ] {
        let small = minimal(&object, &narrow(name).raw(false)).expect("one of the two");
        let mut expected = expected.to_vec();
        let mut found =
            places(&program(&object).expect("an object"), &Btf::read(&small).expect("BTF"));
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn two_places_are_no_place() {
    let object = object(SOCK, READ, false);
    let mut kernel = narrow("dev");
    let pointer = kernel.add("", Kind::Pointer(0));
    // The same struct once more, as deduplication may leave it: good at the same place, else not.
    kernel.structure("sock", 24, &[("dev", pointer, 20)]);
    assert!(minimal(&object, &kernel.raw(false)).is_ok());
    let mut kernel = narrow("dev");
    let pointer = kernel.add("", Kind::Pointer(0));
    kernel.structure("sock", 24, &[("dev", pointer, 12)]);
    let error = minimal(&object, &kernel.raw(false)).expect_err("two places");
    assert!(error.to_string().contains("struct sock.dev is at several places"), "{error}");
}

#[test]
fn elements_of_arrays() {
    let declarations = "struct link { void *to; int of; } BTF_OF_KERNEL;\n\
         struct chain { struct link links[4]; void *all[]; } BTF_OF_KERNEL;";
    let uses = "offset(((struct chain *)0)->links[2].of) + offset(((struct chain *)0)->all[3])";
    let object = object(declarations, uses, false);
    let kernel = |links, size| {
        let mut kernel = Kernel::new(size);
        let int = kernel.add("int", Kind::Int(4, 0x0100_0020));
        let pointer = kernel.add("", Kind::Pointer(0));
        let link = kernel.structure("link", 12, &[("to", pointer, 0), ("of", int, 8)]);
        let array = kernel.add("", Kind::Array(link, int, links));
        let rest = kernel.add("", Kind::Array(pointer, int, 0));
        kernel.structure("chain", 64, &[("links", array, 4), ("all", rest, 64)]);
        kernel.raw(false)
    };
    let of = |kernel: &[u8]| {
        let small = minimal(&object, kernel).expect("all is there");
        places(&program(&object).expect("an object"), &Btf::read(&small).expect("BTF"))
    };
    // 4 + 2 × 12 + 8, and 64 + 3 pointers.
    assert_eq!(of(&kernel(4, 4)), [Some(36 * 8), Some(76 * 8)]);
    assert_eq!(of(&kernel(4, 8)), [Some(36 * 8), Some(88 * 8)]);
    let error = minimal(&object, &kernel(2, 8)).expect_err("two links only");
    assert_eq!(error, Error::Lacks(vec!["struct chain.links[2].of".into()]));
}

#[test]
fn a_program_that_asks_for_nothing() {
    let object = object("", "0", false);
    assert_eq!(minimal(&object, &Kernel::new(8).raw(false)), Ok(Vec::new()));
}

#[test]
fn other_files_are_told_apart() {
    let object = interfaces(false);
    for (file, error) in [
        (&b""[..], Error::Foreign),
        (b"MZ\x00\x00", Error::Foreign),
        (b"\x7fELF", Error::broken_elf()),
    ] {
        match (minimal(&object, file), error) {
            (Err(Error::Broken(found)), Error::Broken(start)) => {
                assert!(found.starts_with(&start), "{found}");
            }
            (found, expected) => assert_eq!(found, Err(expected)),
        }
    }
    // Types, but not of a kernel.
    let types = Kernel::new(8).raw(false);
    let error = minimal(&object, &types).expect_err("a number only").to_string();
    assert!(error.contains("it has no struct ") && error.contains(" more"), "{error}");
    // An ELF file without BTF: of a machine's own programs.
    let own = std::fs::read("/proc/self/exe").expect("this program");
    assert_eq!(minimal(&object, &own), Err(Error::Without));
    // On top of another BTF: its strings begin where the others end.
    let mut module = Kernel::new(8).raw(false);
    let strings = module.len() - "\0long unsigned int\0".len();
    module[strings] = b'x';
    assert_eq!(minimal(&object, &module), Err(Error::Module));
    for error in [Error::Foreign, Error::Without, Error::Module, Error::ByteOrder(true)] {
        assert!(!error.to_string().is_empty() && !error.help().is_empty());
    }
}

trait BrokenElf {
    fn broken_elf() -> Error;
}

impl BrokenElf for Error {
    fn broken_elf() -> Error {
        Error::Broken("not a whole ELF file".into())
    }
}

#[test]
fn types_within_themselves_have_an_end() {
    let object = object(SOCK, READ, false);
    let mut kernel = Kernel::new(8);
    // A struct of nothing but itself, twice, without a name: 2^64 ways to go.
    let id = 2;
    assert_eq!(kernel.structure("sock", 8, &[("", id, 0), ("", id, 0)]), id);
    let error = minimal(&object, &kernel.raw(false)).expect_err("no end");
    assert!(error.to_string().contains("without end"), "{error}");
    let mut kernel = Kernel::new(8);
    let alias = kernel.add("", Kind::Alias(10, 2));
    assert_eq!(alias, 2);
    kernel.structure("sock", 8, &[("dev", alias, 0)]);
    let error = minimal(&object, &kernel.raw(false)).expect_err("a circle");
    assert!(error.to_string().contains("stands for itself"), "{error}");
}

/// A small kernel that has all that the program of interface rules needs: the minimum of the running one's, else
/// a made-up one that lacks much.
fn specimen() -> (&'static [u8], &'static [u8]) {
    static BOTH: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    let (object, kernel) = BOTH.get_or_init(|| match own() {
        Some(own) if cfg!(target_endian = "little") => {
            let object = interfaces(false);
            let kernel = minimal(&object, own).expect("this kernel's BTF");
            (object, kernel)
        }
        _ => (object(SOCK, READ, false), narrow("dev").raw(false)),
    });
    (object, kernel)
}

#[test]
fn cut_off_anywhere() {
    let (object, kernel) = specimen();
    for length in 0..kernel.len() {
        let error = minimal(object, &kernel[..length]).expect_err("a part of it");
        assert!(!error.to_string().is_empty());
    }
}

/// Changes some bytes.
fn spoilt(bytes: &[u8], changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

/// What was read can be written and read again.
fn round(btf: &Btf) {
    assert_eq!(Btf::read(&btf.write()).as_ref(), Ok(btf));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn broken_kernels(changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6)) {
        let (object, kernel) = specimen();
        let kernel = spoilt(kernel, &changes);
        if let Ok(small) = minimal(object, &kernel) {
            let small = Btf::read(&small).expect("what was written");
            let kernel = read_kernel(&kernel).expect("what was read before");
            let program = program(object).expect("an object");
            prop_assert_eq!(places(&program, &small), places(&program, &kernel));
            round(&small);
        }
    }

    #[test]
    fn broken_programs(changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6)) {
        let (object, kernel) = specimen();
        let _ = minimal(&spoilt(object, &changes), kernel);
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..400), start in 0_usize..4) {
        let start = [&b"\x9f\xeb\x01\0\x18\0\0\0"[..], b"\xeb\x9f\x01\0\0\0\0\x18", b"\x7fELF\x02\x01\x01", b""][start];
        let file = [start, &bytes].concat();
        let (object, kernel) = specimen();
        prop_assert!(minimal(object, &file).is_err());
        let _ = minimal(&file, kernel);
    }
}

#[test]
fn a_release_out_of_a_banner() {
    use set_rto_compiler::btf::release::release;
    // An ELF file with the banner among its constants, as a vmlinux has it.
    let banner = |text: &str| {
        let text = format!("const char linux_banner[] = \"{text}\";");
        support::clang(&text, false).unwrap_or_else(|error| panic!("{error}"))
    };
    let real = banner("Linux version 5.15.134 (builder@host) (gcc 12.3.0) #0 SMP Mon Oct 9");
    assert_eq!(release(&real, "vmlinux").as_deref(), Some("5.15.134"));
    assert_eq!(release(&real, "vmlinux-6.1.0").as_deref(), Some("5.15.134"));
    assert_eq!(release(&banner("Linux version %s"), "vmlinux-6.1.0").as_deref(), Some("6.1.0"));
    assert_eq!(release(&banner("something else"), "vmlinux"), None);
    assert_eq!(release(b"", "6.6.30.btf").as_deref(), Some("6.6.30"));
    assert!(
        Path::new(OWN)
            .file_name()
            .is_some_and(|it| release(b"", it.to_str().unwrap_or_default()).is_none())
    );
}
