//! Proof by execution: random rule sets, compiled, run on random connections and compared with an oracle that
//! shares no code with the compiler.
//!
//! The normal run is deterministic. With `SET_RTO_FUZZ_MINUTES=N` (`cargo xtask fuzz --minutes N`) each test continues
//! with new rule sets for N minutes.

mod support;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use std::cell::Cell;
use std::time::{Instant, SystemTime};
use support::check::{Seen, check};
use support::generate::{Flavour, rules};
use support::minutes;
use support::model::{Condition, Ports, Rule, Rules, Side, Which};
use support::settings::{SPECS, Setting};

/// The number of connections for each rule set.
const CONNECTIONS: usize = 2_000;

/// The number of rule sets that are tried to find a smaller failing one, which takes seconds.
const SHRINKS: u32 = 150;

fn runner(cases: u32, seed: u64) -> TestRunner {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: SHRINKS, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn prove(flavour: Flavour, sets: u32) -> Seen {
    let end = minutes().map(|minutes| Instant::now() + minutes);
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64;
    let mut seed = if end.is_some() { now } else { 0 };
    let seen = Cell::new(Seen::default());
    loop {
        let ran = runner(sets, seed).run(&rules(flavour), |rules| {
            let mut sums = seen.get();
            check(&rules, CONNECTIONS, &mut sums).map_err(TestCaseError::fail)?;
            seen.set(sums);
            Ok(())
        });
        if let Err(TestError::Fail(reason, _)) = ran {
            panic!("{flavour:?} with seed {seed}: {}", reason.message());
        }
        seed += 1;
        if end.is_none_or(|end| Instant::now() > end) {
            break;
        }
    }
    let seen = seen.get();
    eprintln!("{flavour:?}: {seen:?}");
    // Few sets are refused completely, and rbpf fails on few programs.
    assert!(seen.sets as u32 * 10 >= sets * 9, "too few rule sets: {seen:?}");
    assert!(seen.seconded * 2 >= seen.sets, "rbpf was asked too seldom: {seen:?}");
    assert!(seen.runs >= seen.sets * CONNECTIONS, "too few connections: {seen:?}");
    seen
}

#[test]
fn mixed_rules() {
    let seen = prove(Flavour::Mixed, 110);
    assert!(seen.decisive * 10 >= seen.rules * 7, "too few rules decided anything: {seen:?}");
    assert!(seen.decided * 10 >= seen.runs * 3, "too few connections were decided: {seen:?}");
    assert!(seen.refused > 10, "too few rules were refused: {seen:?}");
    assert!(seen.set * 5 >= seen.sets, "too few sets with more than timers: {seen:?}");
    assert!(seen.changed * 10 >= seen.lives * 3, "too little was set: {seen:?}");
    assert!(seen.listeners * 200 >= seen.lives, "too few listeners were set: {seen:?}");
    assert!(seen.denied * 50 >= seen.assigned, "too few options were refused: {seen:?}");
    let (sets, decided) = seen.narrow;
    assert!(sets * 10 >= seen.sets, "too few kernels with pointers of 4 bytes: {seen:?}");
    assert!(decided * 30 >= seen.decided, "too little was decided there: {seen:?}");
}

#[test]
fn hundreds_of_ports() {
    let seen = prove(Flavour::Ports, 30);
    assert!(seen.decisive * 10 >= seen.rules * 7, "too few rules decided anything: {seen:?}");
}

#[test]
fn long_lists_of_prefixes() {
    prove(Flavour::Prefixes, 30);
}

#[test]
fn ports_and_prefixes() {
    prove(Flavour::Crossed, 30);
}

/// If a rule sets only `syn_retries` through an option, an incoming connection is changed and counted where a reply is
/// given. The tests cover in-place answers and answers by rule number. The case is rare among random rules.
#[test]
fn syn_retries_beside_replies() {
    let setting = |key: &str| {
        let at = SPECS.iter().position(|spec| spec.0 == key).expect("a setting");
        Setting { at, value: 1, name: "" }
    };
    let forty = (0..40).map(|at| Ports(1000 + 7 * at, 1000 + 7 * at)).collect();
    let by_table = vec![Condition::Port(Which::One(Side::Local), forty)];
    for conditions in [Vec::new(), by_table] {
        for reply in ["initial_rwnd", "ecn"] {
            let settings = vec![setting("syn_retries"), setting(reply)];
            let rule = Rule { conditions: conditions.clone(), rto: None, settings };
            let mut seen = Seen::default();
            check(&Rules { rules: vec![rule], style: 1 }, 400, &mut seen)
                .unwrap_or_else(|what| panic!("{what}"));
            assert!(seen.changed > 0, "{seen:?}");
        }
    }
}
