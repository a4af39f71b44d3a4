//! The search for a device through the kernel's structures, proven by execution. The program finds the device with any
//! layout, with pointers of 4 or 8 bytes, in either byte order. The probe detects whether offsets fit.

mod support;

use set_rto_compiler::structures::MEMBERS;
use support::check::one;
use support::connection::{Connection, outgoing};
use support::image::Image;
use support::kernel::Kernel;
use support::layout::Layout;
use support::model::{Condition, Direction, Rule, Rules};
use support::oracle::decide;
use support::print::print;
use support::random::Random;
use support::runner::{Load, Runner};
use support::sample::Sampler;
use support::settings::{PASSIVE_ESTABLISHED, TIMEOUT_INIT};
use support::{clang, policy};

const LAYOUTS: usize = 40;
const CONNECTIONS: usize = 300;

/// Runs each byte order and pointer size with this many layouts.
fn all(count: usize) -> impl Iterator<Item = (bool, Layout)> {
    let mut random = Random(0x32);
    let kinds = [(false, 4), (false, 8), (true, 4), (true, 8)];
    (0..count * 4).map(move |at| {
        let (big_endian, pointer) = kinds[at % 4];
        (big_endian, Layout::made_up(&mut random, pointer))
    })
}

fn object(c: &str, big_endian: bool) -> Vec<u8> {
    clang(c, big_endian).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn devices_are_found_by_any_layout() {
    let rule = |names: &[&str]| {
        let list = names.iter().map(ToString::to_string).collect();
        let conditions = vec![Condition::Interface(list)];
        Rule { conditions, rto: Some(1_000_000), settings: Vec::new() }
    };
    let rules =
        Rules { rules: vec![rule(&["ax0", "tnc*"]), rule(&["*0"]), rule(&["w?an*"])], style: 0 };
    let c = policy(&print(&rules).text).c;
    let objects = [object(&c, false), object(&c, true)];
    let sampler = Sampler::new(&rules);
    let mut random = Random(0x64);
    let mut found = [0_usize; 4];
    for (at, (big_endian, layout)) in all(LAYOUTS).enumerate() {
        let image = Image::read(&objects[usize::from(big_endian)], big_endian);
        let load = Load { layout, ..Load::default() };
        let mut runner = Runner::loaded(image, big_endian, &load).expect("a program");
        for _ in 0..CONNECTIONS {
            let connection = sampler.connection(&mut random);
            let expected = decide(&rules, &connection);
            one(&mut runner, &connection, 0, expected, true)
                .unwrap_or_else(|what| panic!("big-endian {big_endian}, {layout:?}: {what}"));
            found[at % 4] += usize::from(expected.is_some());
        }
    }
    eprintln!("found: {found:?}");
    assert!(found.iter().all(|found| *found * 4 > LAYOUTS * CONNECTIONS), "too few: {found:?}");
}

/// Rules whose probe also covers the packet.
const PROBED: &str = "[[rule]]\nname = \"a\"\ninterface = \"ax0\"\nrto = \"1s\"\nmark = 1\n";

/// The properties that the loader assumes for a kernel: bytes of a pointer, and offsets.
type Found = (u32, Vec<u32>);

fn found(layout: &Layout) -> Found {
    (layout.pointer, layout.offsets())
}

/// The values that a probe loaded with these offsets stores at both ends of a connection in a kernel.
fn probe(object: &[u8], big_endian: bool, found: Found, real: &Layout) -> [[u8; 16]; 2] {
    let image = Image::program(object, big_endian, Some("probe_device"));
    let load = Load { layout: *real, offsets: Some(found), ..Load::default() };
    let mut runner = Runner::loaded(image, big_endian, &load).expect("a program");
    let answering =
        Connection { direction: Direction::Incoming, ..outgoing("127.0.0.1:4000", "127.0.0.1:9") };
    let asking = outgoing("127.0.0.1:9", "127.0.0.1:4000");
    [(asking, TIMEOUT_INIT), (answering, PASSIVE_ESTABLISHED)].map(|(connection, op)| {
        let kernel = Kernel::of_probe(big_endian, real);
        let (outcome, _) = runner.run_on(kernel, &connection, op, 0).expect("a run");
        assert_eq!((outcome.value, outcome.reply), (1, 0), "{outcome:?}");
        runner.stored()
    })
}

const LO: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn the_probe_tells_what_fits() {
    let c = policy(PROBED).c;
    let objects = [object(&c, false), object(&c, true)];
    for (big_endian, layout) in all(10) {
        let object = &objects[usize::from(big_endian)];
        let right = found(&layout);
        assert_eq!(probe(object, big_endian, right.clone(), &layout), [LO; 2], "{layout:?}");
        for by in [4, 8] {
            for (at, (name, _)) in MEMBERS.iter().enumerate() {
                // The link of a chain is the first member of its structure in every kernel. With few devices, nothing
                // is found through it.
                if *name == "node_next" {
                    continue;
                }
                let mut wrong = right.clone();
                wrong.1[at] += by;
                let said = probe(object, big_endian, wrong, &layout);
                assert_ne!(said, [LO; 2], "{name} by {by}: {layout:?}");
            }
        }
    }
}

/// The offsets of a 64-bit kernel in the binary for a 32-bit one, and vice versa.
#[test]
fn the_probe_tells_pointers_of_another_size() {
    let c = policy(PROBED).c;
    let objects = [object(&c, false), object(&c, true)];
    let layouts: Vec<_> = all(20).collect();
    for pair in layouts.chunks(2) {
        let [(big_endian, narrow), (_, wide)] = pair else { panic!("pairs") };
        let object = &objects[usize::from(*big_endian)];
        for (other, real) in [(narrow, wide), (wide, narrow)] {
            let said = probe(object, *big_endian, found(other), real);
            assert_ne!(said, [LO; 2], "{other:?}, {real:?}");
        }
    }
}
