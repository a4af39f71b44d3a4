//! Learned timers: connections one after the other, over a slow channel, over one that changes, and in a datacentre.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use serde_json::json;

use super::FAST;
use super::LEARNED;
use super::channel::Channel;
use super::channel::Link;
use super::channel::ROUND_TRIP;
use super::datacentre;
use super::radio::Call;
use super::say;

/// Connections at each state of a channel.
const SERIES: usize = 10;

/// The round trip of a channel when it is fast.
const SHORT: Duration = Duration::from_millis(100);

/// Bits per second of the channel that changes: packets take a few milliseconds.
const QUICK: u32 = 100_000;

pub(super) fn run() -> Result<()> {
    let [radio, changes, fast] = LEARNED;
    for (number, connect) in datacentre::connects(fast, FAST)?.into_iter().enumerate() {
        say(&json!({
            "scene": "datacentre",
            "policy": "learned",
            "number": number,
            "connect": connect.as_secs_f64(),
        }));
    }
    let link = |rate, round_trip| Link { rate, loss: 0, round_trip };
    let slow = [("300 bit/s", link(300, ROUND_TRIP))];
    let changing = [
        ("100 ms", link(QUICK, SHORT)),
        ("then 7.5 s", link(QUICK, ROUND_TRIP)),
        ("then 100 ms", link(QUICK, SHORT)),
    ];
    // Both mostly wait.
    thread::scope(|scope| {
        let other = scope.spawn(|| series(&slow, radio));
        series(&changing, changes)?;
        other.join().map_err(|_| anyhow!("the series on the slow channel panicked"))?
    })
}

/// Makes connections over one channel, [`SERIES`] in each of its states.
fn series(states: &[(&str, Link)], port: u16) -> Result<()> {
    let (_, first) = states.first().context("a channel has a state")?;
    let channel = Arc::new(Channel::new(*first)?);
    for (name, link) in states {
        channel.change(*link)?;
        for number in 0..SERIES {
            let mut call = Call::start(&channel, *link, port)?;
            while !call.is_over()? {
                thread::sleep(Duration::from_secs(1));
            }
            let mut report = call.report(number + 1 == SERIES)?;
            report["scene"] = json!("learned");
            report["policy"] = json!("learned");
            report["channel"] = json!(name);
            report["number"] = json!(number);
            say(&report);
        }
    }
    Ok(())
}
