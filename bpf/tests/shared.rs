//! What the loader shares with the program (src/shared.rs) is the same in C: asked of clang for each structure, field and map.

mod support;

use set_rto_compiler::structures::MEMBERS;
use std::fmt::Write as _;
use std::mem::offset_of;
use support::image::Image;
use support::shared::{
    Estimate, Finding, LAYOUT, LOCAL_DEVICES, LocalDevice, MARK, Peers, Policy, Shape, Ticks,
};
use support::{clang, policy, shared};

/// Rules whose program has all that is shared.
const RULES: &str =
    "[[rule]]\nname = \"a\"\ninterface = \"ax0\"\nrto = { learn = true }\nmark = 1\n";

/// Fields of a structure: `_Static_assert`s that they are where Rust has them.
macro_rules! fields {
    ($out:ident, $rust:ident, $c:literal, $($field:ident),+) => {$(
        let (at, name) = (offset_of!($rust, $field), stringify!($field));
        let size = size_of_val(&shared::read::<$rust>(&[0; 256]).expect("enough bytes").0.$field);
        claim(&mut $out, format_args!("__builtin_offsetof({}, {name}) == {at}", $c));
        claim(&mut $out, format_args!("sizeof((({} *)0)->{name}) == {size}", $c));
    )+};
}

fn claim(out: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(out, "_Static_assert({what}, \"src/shared.rs\");").expect("memory");
}

fn map(out: &mut String, name: &str, shape: &Shape) {
    let Shape { kind, key_size, value_size, max_entries, .. } = shape;
    claim(out, format_args!("sizeof(*{name}.type) == {kind} * sizeof(int)"));
    claim(out, format_args!("sizeof(*{name}.key) == {key_size}"));
    claim(out, format_args!("sizeof(*{name}.value) == {value_size}"));
    claim(out, format_args!("sizeof(*{name}.max_entries) == {max_entries} * sizeof(int)"));
}

/// The program's C, and what must be true of it.
fn claims() -> String {
    let mut out = policy(RULES).c;
    fields!(
        out,
        Policy,
        "struct policy",
        mark,
        layout,
        hz,
        netns,
        rules,
        columns,
        two_jiffies_us,
        without,
        version,
        digest
    );
    let head = size_of::<Policy>();
    claim(&mut out, format_args!("__builtin_offsetof(struct policy, jiffies) == {head}"));
    fields!(out, Finding, "struct finding", method, why, cookie, arrivals, pointer);
    for (at, (name, _)) in (size_of::<Finding>()..).step_by(4).zip(MEMBERS) {
        claim(&mut out, format_args!("__builtin_offsetof(struct finding, at.{name}) == {at}"));
    }
    claim(&mut out, format_args!("sizeof(struct offsets) == {}", 4 * MEMBERS.len()));
    fields!(out, LocalDevice, "struct local_device", name, index, is_vrf);
    claim(&mut out, format_args!("sizeof(struct local_device) == {}", size_of::<LocalDevice>()));
    fields!(out, Ticks, "struct ticks", per_us, shift, most);
    fields!(out, Peers, "struct peers", host, rule);
    claim(&mut out, format_args!("sizeof(struct peers) == {}", size_of::<Peers>()));
    fields!(out, Estimate, "struct estimate", srtt8, rttvar4, when, samples);
    claim(&mut out, format_args!("sizeof(struct estimate) == {}", size_of::<Estimate>()));
    map(&mut out, "local_devices", &LOCAL_DEVICES);
    claim(&mut out, format_args!("sizeof(*local_devices.map_flags) == {} * sizeof(int)", 1));
    assert_eq!(LOCAL_DEVICES.flags, 1);
    out
}

#[test]
fn rust_and_c_agree() {
    for big_endian in [false, true] {
        clang(&claims(), big_endian).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_constants_are_marked() {
    let object = clang(&policy(RULES).c, cfg!(target_endian = "big")).expect("a program");
    let image = Image::read(&object, cfg!(target_endian = "big"));
    let section = image.section(".rodata").expect("constants");
    let (policy, jiffies) = shared::read::<Policy>(&section.bytes).expect("enough of them");
    assert_eq!((policy.mark, policy.layout), (MARK, LAYOUT));
    assert_eq!((policy.rules, policy.columns), (1, 1));
    assert!(!jiffies.is_empty());
    assert_eq!(policy.digest[..64], *support::policy(RULES).digest.as_bytes());
    assert_eq!(policy.digest[64..], [0; 8]);
}

#[test]
fn what_was_written_is_read() {
    let device = LocalDevice { name: *b"ax0\0\0\0\0\0\0\0\0\0\0\0\0\0", index: 7, is_vrf: 1 };
    let mut bytes = [0xff; 32];
    assert!(shared::write(&mut bytes, &device, &[9]));
    assert_eq!(shared::read::<LocalDevice>(&bytes), Some((device, vec![9, u32::MAX])));
    // Three bytes too few; and none at all.
    assert!(!shared::write(&mut bytes[..27], &device, &[9]));
    assert_eq!(shared::read::<LocalDevice>(&bytes[..23]), None);
    assert_eq!(shared::read::<LocalDevice>(&[]), None);
    // From an address that no structure could be at.
    assert_eq!(
        shared::read::<LocalDevice>(&[&[0], &bytes[..24]].concat()[1..]),
        Some((device, vec![]))
    );
}
