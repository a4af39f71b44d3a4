//! Hundreds to thousands of rules that test ranges of several fields at once. The program must be correct, the
//! kernel's verifier must accept it with a wide margin, and a decision must stay within its limit.

mod support;

use std::time::Instant;
use support::check::{Seen, check};
use support::tangle::{ALL, Tangle, tangle};
use support::verifier::verify;
use support::{clang, minutes, policy};

fn look(kind: Tangle, count: usize, seed: u64, connections: usize) -> Seen {
    let rules = tangle(kind, count, seed);
    let mut seen = Seen::default();
    let start = Instant::now();
    check(&rules, connections, &mut seen).unwrap_or_else(|what| {
        panic!(
            "{kind:?}, {count} rules, seed {seed}: {}",
            what.chars().take(2_000).collect::<String>()
        )
    });
    let Seen { worst, verified, rules, decided, runs, .. } = seen;
    eprintln!(
        "{kind:?}: {rules} of {count} rules: {worst} instructions executed at most, {verified} verified, {decided} of {runs} decided, {:.1?}",
        start.elapsed()
    );
    seen
}

#[test]
fn hundreds_of_rules() {
    for kind in ALL {
        let worst = look(kind, 250, 1, 1_000).worst;
        let most = if kind == Tangle::Interfaces { 3_000 } else { 400 };
        assert!(worst <= most, "{kind:?}: {worst} instructions");
    }
    let end = minutes().map(|minutes| Instant::now() + minutes);
    let mut seed = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64;
    while end.is_some_and(|end| Instant::now() < end) {
        for kind in ALL {
            look(kind, 1 + seed as usize % 600, seed, 500);
            seed += 1;
        }
    }
}

#[test]
fn thousands_of_rules() {
    for kind in ALL {
        let worst = look(kind, 2_000, 1, 300).worst;
        let most = if kind == Tangle::Interfaces { 10_000 } else { 650 };
        assert!(worst <= most, "{kind:?}: {worst} instructions");
    }
}

/// The verifier follows the code after the lookup of a device once for each path through the lookup.
#[test]
fn little_is_code_behind_a_device() {
    let object =
        clang(&policy(include_str!("entangled/device.toml")).c, cfg!(target_endian = "big"));
    let verified = verify(&object.expect("C")).expect("the verifier takes it");
    eprintln!("{verified} instructions verified");
}

/// The worst decision grows no faster than the logarithm of the number of rules.
#[test]
fn mixed_rules_grow_slowly() {
    let worst = |count: usize| {
        let connections = if count > 5_000 { 1_000 } else { 3_000 };
        look(Tangle::Mixed, count, 1, connections).worst as f64
    };
    let counts = [10_usize, 100, 1_000, 10_000];
    let worst = counts.map(worst);
    let grown = worst[3] / worst[0];
    assert!(grown <= 4.0, "10,000 rules execute {grown:.2} times as much as 10");
    // Once rules are data, the count is the same for any number of rules.
    assert!(worst[3] <= worst[1] * 1.2, "{worst:?}");
}
