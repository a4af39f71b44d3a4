//! Parses the output of the scenes.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Prefix of a line with a result.
pub(crate) const RESULT: &str = "demo: ";

/// The stations that have the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Nobody,
    /// Only the calling station.
    Caller,
    /// Both stations.
    Both,
    /// Both stations, with a timer that is learned.
    Learned,
}

/// One transmission, with times in seconds since the first one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packet {
    pub(crate) kind: String,
    /// True if the calling station sent it.
    pub(crate) by_caller: bool,
    pub(crate) sent: f64,
    pub(crate) until: f64,
}

/// One connection over a radio channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) policy: Policy,
    /// Bits per second.
    pub(crate) rate: u64,
    /// Packets lost, in percent.
    pub(crate) loss: u64,
    /// The time in seconds until the first byte, or `None` if it did not arrive.
    pub(crate) first_byte: Option<f64>,
    pub(crate) syns: u64,
    pub(crate) bytes: u64,
    /// Recorded for only one connection of each kind.
    pub(crate) packets: Vec<Packet>,
}

/// All results of one kernel.
#[derive(Debug)]
pub(crate) struct Scenes {
    /// The kernel's package.
    pub(crate) origin: String,
    pub(crate) calls: Vec<Call>,
    /// The durations of `connect` in seconds if the first SYN was lost.
    pub(crate) connects: Vec<(Policy, f64)>,
    /// Calls one after the other with a learned timer, by the state of the channel.
    pub(crate) learned: Vec<(String, Call)>,
}

impl Scenes {
    /// Parses the output.
    ///
    /// # Errors
    /// An invalid line, or no line at all.
    pub(crate) fn read(origin: &str, output: &[String]) -> Result<Self> {
        let mut scenes = Scenes {
            origin: origin.into(),
            calls: Vec::new(),
            connects: Vec::new(),
            learned: Vec::new(),
        };
        for text in output.iter().filter_map(|line| line.strip_prefix(RESULT)) {
            let value: Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
            scenes.add(&value).with_context(|| text.to_owned())?;
        }
        ensure!(!scenes.calls.is_empty(), "no results");
        Ok(scenes)
    }

    fn add(&mut self, value: &Value) -> Result<()> {
        let policy = match value["policy"].as_str() {
            Some("none") => Policy::Nobody,
            Some("caller") => Policy::Caller,
            Some("both") => Policy::Both,
            Some("learned") => Policy::Learned,
            _ => anyhow::bail!("no such policy"),
        };
        if value["scene"] == "datacentre" {
            self.connects.push((policy, value["connect"].as_f64().context("connect")?));
            return Ok(());
        }
        let number = |name: &'static str| value[name].as_u64().context(name);
        let packets = value["timeline"].as_array().context("timeline")?;
        let call = Call {
            policy,
            rate: number("rate")?,
            loss: number("loss")?,
            first_byte: value["first_byte"].as_f64(),
            syns: number("syns")?,
            bytes: number("bytes")?,
            packets: packets.iter().map(packet).collect::<Option<_>>().context("timeline")?,
        };
        match value["channel"].as_str() {
            Some(channel) => self.learned.push((channel.to_owned(), call)),
            None => self.calls.push(call),
        }
        Ok(())
    }

    /// The version in the package's name: `6.1`.
    pub(crate) fn version(&self) -> &str {
        let version = self.origin.trim_start_matches(|first: char| !first.is_ascii_digit());
        let second = version.match_indices('.').nth(1).map_or(version.len(), |(at, _)| at);
        &version[..second]
    }

    /// The calls of one kind.
    pub(crate) fn of(&self, rate: u64, loss: u64, policy: Policy) -> Vec<&Call> {
        let wanted = |it: &&Call| it.rate == rate && it.loss == loss && it.policy == policy;
        self.calls.iter().filter(wanted).collect()
    }
}

fn packet(value: &Value) -> Option<Packet> {
    Some(Packet {
        kind: value["kind"].as_str()?.to_owned(),
        by_caller: value["caller"].as_bool()?,
        sent: value["sent"].as_f64()?,
        until: value["until"].as_f64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let radio = r#"demo: {"scene":"radio","policy":"both","rate":300,"loss":0,"first_byte":16.5,"syns":1,"bytes":500,
            "timeline":[{"kind":"SYN","caller":true,"sent":0.0,"until":2.1}]}"#;
        let lines = [
            "3 calls are made",
            radio,
            r#"demo: {"scene":"datacentre","policy":"none","connect":1.02}"#,
        ];
        let lines = lines.map(str::to_owned);
        let scenes = Scenes::read("linux-image-6.12.9-amd64 6.12.9-1", &lines).expect("good lines");
        assert_eq!(scenes.version(), "6.12");
        assert_eq!(scenes.connects, [(Policy::Nobody, 1.02)]);
        let calls = scenes.of(300, 0, Policy::Both);
        assert_eq!((calls[0].syns, calls[0].first_byte), (1, Some(16.5)));
        assert!(calls[0].packets[0].by_caller);
        assert!(scenes.of(300, 0, Policy::Nobody).is_empty());
        assert!(scenes.learned.is_empty());
    }

    #[test]
    fn what_is_no_result_is_refused() {
        assert!(Scenes::read("x 6.1", &["hello".to_owned()]).is_err());
        assert!(Scenes::read("x 6.1", &["demo: {}".to_owned()]).is_err());
    }
}
