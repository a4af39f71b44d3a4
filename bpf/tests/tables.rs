//! Tables of ports take as much as they hold, and are right wherever one page ends and another begins. What they take is
//! part of the binary, and of the kernel's locked memory.

mod support;

use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use support::check::one;
use support::connection::{incoming, outgoing};
use support::image::Image;
use support::runner::Runner;
use support::verifier::verify;
use support::{clang, policy};

/// Bytes of all tables.
fn table_bytes(object: &[u8]) -> u64 {
    let file = object::File::parse(object).expect("an object file");
    let is_table = |name: &str| name.starts_with(".rodata.ta") || name.starts_with(".rodata.te");
    let sections = file.sections().filter(|it| it.name().is_ok_and(is_table));
    sections.map(|section| section.size()).sum()
}

/// The rules of the boards' image: of a device, of ports, of prefixes.
#[test]
fn of_a_small_board() {
    let text = include_str!("../../vmtests/images/board/1.toml");
    let object = clang(&policy(text).c, false).unwrap_or_else(|error| panic!("{error}"));
    let bytes = table_bytes(&object);
    eprintln!("a small board: {bytes} bytes of tables");
    assert!(bytes <= 4_096, "{bytes} bytes");
}

/// A rule for each of dozens of ports, at both ends of the numbers and of pages, on either byte order: what is around
/// each of them, and at the borders of every page.
#[test]
fn at_the_borders_of_pages() {
    let mut ports: Vec<u16> = vec![0, 1, 22, 443, 65_534, 65_535];
    ports.extend((2..=15).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]));
    ports.sort_unstable();
    ports.dedup();
    let mut text = String::new();
    for port in &ports {
        let _ = write!(text, "[[rule]]\nname = \"p{port}\"\nlocal_port = {port}\nrto = \"2s\"\n");
    }
    let rules: BTreeMap<u16, usize> = ports.iter().copied().zip(0..).collect();
    let near = ports.iter().flat_map(|port| [port.wrapping_sub(1), *port, port.wrapping_add(1)]);
    let borders = (0..u16::MAX).step_by(16).flat_map(|port| [port, port + 15]);
    let asked: Vec<u16> = near.chain(borders).collect();
    let c = policy(&text).c;
    assert!(c.contains("u64 ports_0(u64 port)") && c.contains("ports_0_pages["), "not by pages");
    for big_endian in [false, true] {
        let object = clang(&c, big_endian).unwrap_or_else(|error| panic!("{error}"));
        assert!(table_bytes(&object) <= 4_096, "{} bytes", table_bytes(&object));
        if big_endian == cfg!(target_endian = "big") {
            verify(&object).unwrap_or_else(|error| panic!("{error}"));
        }
        let image = Image::read(&object, big_endian);
        let mut runner = Runner::new(image, big_endian).expect("a program");
        for port in &asked {
            let rule = rules.get(port).copied();
            let local = format!("10.0.0.1:{port}");
            for connection in [outgoing(&local, "10.0.0.2:22"), incoming(&local, "10.0.0.2:22")] {
                one(&mut runner, &connection, 0, rule, false)
                    .unwrap_or_else(|what| panic!("big-endian {big_endian}: {what}"));
            }
        }
    }
}

/// More addresses than a section has room for: the table is cut into parts.
#[test]
fn more_addresses_than_fit_in_a_section() {
    const COUNT: u128 = 280_000;
    let networks: [(u128, u128, bool); 3] = [
        // Far from each other, hosts of one network, and hosts of as many networks.
        (1 << 24, 15_001, true),
        (0xfd00 << 112, (1 << 40) + 3, false),
        (0xfd00 << 112, (1 << 64) + 3, false),
    ];
    for (first, apart, is_v4) in networks {
        let address = |value: u128| match is_v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(value as u32)),
            false => IpAddr::V6(Ipv6Addr::from_bits(value)),
        };
        let hosts = (0..COUNT).map(|at| format!("\"{}\"", address(first + at * apart)));
        let list = hosts.collect::<Vec<_>>().join(", ");
        let c = policy(&format!("[[rule]]\nname = \"a\"\nremote = [{list}]\nrto = \"2s\"\n")).c;
        let object = clang(&c, false).unwrap_or_else(|error| panic!("{error}"));
        verify(&object).unwrap_or_else(|error| panic!("{error}"));
        let mut runner = Runner::new(Image::read(&object, false), false).expect("a program");
        for at in (0..COUNT).step_by(97).chain([1, COUNT / 2 - 1, COUNT / 2, COUNT - 1]) {
            for (value, rule) in [
                (first + at * apart, Some(0)),
                (first + at * apart + 1, None),
                ((first + at * apart).wrapping_sub(1), None),
            ] {
                let local = address(if is_v4 { 1 } else { 0xfd01 << 112 });
                let connection = outgoing(
                    &SocketAddr::new(local, 7).to_string(),
                    &SocketAddr::new(address(value), 9).to_string(),
                );
                one(&mut runner, &connection, 0, rule, false)
                    .unwrap_or_else(|what| panic!("{}: {what}", address(value)));
            }
        }
    }
}
