//! The tests, grouped by subject.

mod bad_input;
mod bare;
mod btf;
mod by_hand;
mod concurrency;
mod conditions;
mod contention;
mod faults;
mod foreign;
mod handshakes;
mod install;
mod interfaces;
mod interfaces_arrivals;
mod interfaces_methods;
mod killed;
mod lacking;
mod learned;
mod learned_kept;
mod links;
mod machine;
mod mounts;
mod neighbours;
mod policy;
mod privileges;
mod random;
mod reach;
mod refusals;
mod remove;
mod report;
mod samples;
mod settings;
mod settings_handshake;
mod state;
mod support;
mod sweep;
mod system;
mod timers;
mod updates;
mod wire;

use crate::harness::Test;

/// Every test, in the order of execution.
pub(crate) const ALL: &[&[Test]] = &[
    bare::TESTS,
    conditions::TESTS,
    interfaces::TESTS,
    interfaces_methods::TESTS,
    interfaces_arrivals::TESTS,
    links::TESTS,
    btf::TESTS,
    system::TESTS,
    random::TESTS,
    timers::TESTS,
    by_hand::TESTS,
    wire::TESTS,
    handshakes::TESTS,
    learned::TESTS,
    learned_kept::TESTS,
    samples::TESTS,
    settings::TESTS,
    settings_handshake::TESTS,
    install::TESTS,
    remove::TESTS,
    killed::TESTS,
    faults::TESTS,
    concurrency::TESTS,
    contention::TESTS,
    updates::TESTS,
    foreign::TESTS,
    mounts::TESTS,
    bad_input::TESTS,
    neighbours::TESTS,
    report::TESTS,
    reach::TESTS,
    refusals::TESTS,
    lacking::TESTS,
    privileges::TESTS,
    machine::root::TESTS,
    machine::layouts::TESTS,
    // These change the kernel until it shuts down.
    machine::net_cls::TESTS,
];
