//! The tests, by what they are about.

mod bare;
mod by_hand;
mod conditions;
mod install;
mod interfaces;
mod killed;
mod lacking;
mod neighbours;
mod policy;
mod privileges;
mod random;
mod refusals;
mod remove;
mod report;
mod samples;
mod settings;
mod state;
mod support;
mod timers;
mod wire;

use crate::harness::Test;

/// Every test, in the order in which they run.
pub(crate) const ALL: &[&[Test]] = &[
    bare::TESTS,
    conditions::TESTS,
    interfaces::TESTS,
    random::TESTS,
    timers::TESTS,
    by_hand::TESTS,
    wire::TESTS,
    samples::TESTS,
    settings::TESTS,
    install::TESTS,
    remove::TESTS,
    killed::TESTS,
    neighbours::TESTS,
    report::TESTS,
    refusals::TESTS,
    lacking::TESTS,
    privileges::TESTS,
];
