//! The measurements of one program for one rule set.

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// The programs that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Nothing,
    Empty,
    Hand,
    Chain,
    Map,
    Ours,
    /// The same rules, with evidence of what happens to connections.
    Evidence,
    /// The same, with timers that are learned.
    Learned,
}

impl Program {
    pub(crate) const ALL: [Program; 8] = [
        Program::Nothing,
        Program::Empty,
        Program::Hand,
        Program::Chain,
        Program::Map,
        Program::Ours,
        Program::Evidence,
        Program::Learned,
    ];

    /// The name in the table and in file names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Program::Nothing => "none",
            Program::Empty => "empty",
            Program::Hand => "hand-written",
            Program::Chain => "chain",
            Program::Map => "map",
            Program::Ours => "set-rto",
            Program::Evidence => "with evidence",
            Program::Learned => "learned",
        }
    }

    /// True for a program of the compiler.
    pub(crate) fn is_compiled(self) -> bool {
        matches!(self, Program::Ours) || self.is_observed()
    }

    /// True if it follows connections until their handshake ends.
    pub(crate) fn is_observed(self) -> bool {
        matches!(self, Program::Evidence | Program::Learned)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }
}

/// A quantity that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// Rules file to C, in ms.
    Generator,
    /// C to object, in ms.
    Clang,
    /// Size of the object.
    Bytes,
    /// Opening and loading by libbpf, including filling the map, in ms.
    Load,
    /// Instructions that the verifier examined.
    Verified,
    /// Translated instructions of the program.
    Translated,
    /// Kernel memory of the program and its maps, in bytes.
    Memory,
    /// Instructions executed per decision.
    StepsMedian,
    StepsWorst,
    /// The maximum number of helper calls per decision.
    Calls,
    /// The maximum number of instructions executed by a callback that no rule needs.
    Idle,
    /// ns per callback, from the kernel's statistics.
    Callback,
    /// Callbacks per connection.
    Callbacks,
    /// ns per connection in excess of the empty program, for both ends and all callbacks: the median of the rounds and
    /// their maximum. With nine rounds, the true median lies below the maximum with a confidence of 99.8 %.
    Extra,
    ExtraMost,
    /// The same as shares of the duration of connect() with the empty program.
    Share,
    ShareMost,
    /// Duration of connect() on loopback, in µs.
    Connect,
    /// The same as a multiple of the duration with the empty program.
    Ratio,
    /// The bounds of that multiple, with a confidence of 99 %.
    RatioLow,
    RatioHigh,
}

impl Measure {
    /// All measures, with their names in the JSON file.
    const ALL: [(Measure, &'static str); 21] = [
        (Measure::Generator, "generator_ms"),
        (Measure::Clang, "clang_ms"),
        (Measure::Bytes, "object_bytes"),
        (Measure::Load, "load_ms"),
        (Measure::Verified, "verified_instructions"),
        (Measure::Translated, "translated_instructions"),
        (Measure::Memory, "kernel_memory_bytes"),
        (Measure::StepsMedian, "executed_median"),
        (Measure::StepsWorst, "executed_worst"),
        (Measure::Calls, "helper_calls_worst"),
        (Measure::Idle, "executed_idle_callback"),
        (Measure::Callback, "ns_per_callback"),
        (Measure::Callbacks, "callbacks_per_connection"),
        (Measure::Extra, "ns_per_connection_more_than_empty"),
        (Measure::ExtraMost, "ns_per_connection_more_than_empty_most"),
        (Measure::Share, "share_of_connect"),
        (Measure::ShareMost, "share_of_connect_most"),
        (Measure::Connect, "connect_us"),
        (Measure::Ratio, "connect_to_empty"),
        (Measure::RatioLow, "connect_to_empty_low"),
        (Measure::RatioHigh, "connect_to_empty_high"),
    ];
}

/// The measures of one program for one rule set.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// [`crate::sets::RuleSet::name`].
    pub(crate) set: String,
    pub(crate) program: Program,
    pub(crate) values: BTreeMap<Measure, f64>,
    /// The reason why some or all measurements are missing.
    pub(crate) note: Option<String>,
}

impl Row {
    pub(crate) fn new(set: &str, program: Program) -> Self {
        Row { set: set.into(), program, values: BTreeMap::new(), note: None }
    }

    pub(crate) fn get(&self, measure: Measure) -> Option<f64> {
        self.values.get(&measure).copied()
    }

    pub(crate) fn put(&mut self, measure: Measure, value: f64) {
        self.values.insert(measure, value);
    }

    /// Returns `None` if there are no values.
    pub(crate) fn put_median(&mut self, measure: Measure, values: Vec<f64>) {
        if let Some(value) = median(values) {
            self.put(measure, value);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let name = |measure: Measure| Measure::ALL.iter().find(|it| it.0 == measure).map(|it| it.1);
        let values = self.values.iter().filter_map(|(measure, value)| {
            Some((name(*measure)?.to_string(), json!((value * 10_000.0).round() / 10_000.0)))
        });
        json!({
            "set": self.set,
            "program": self.program.name(),
            "values": values.collect::<serde_json::Map<_, _>>(),
            "note": self.note,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Result<Self> {
        let text = |key: &str| value[key].as_str().with_context(|| format!("a row without {key}"));
        let program = Program::named(text("program")?).context("a row of an unknown program")?;
        let mut row = Row::new(text("set")?, program);
        row.note = value["note"].as_str().map(str::to_owned);
        for (measure, name) in Measure::ALL {
            if let Some(number) = value["values"][name].as_f64() {
                row.put(measure, number);
            }
        }
        Ok(row)
    }

    /// Takes over the measurements of another row.
    pub(crate) fn merge(&mut self, other: Row) {
        self.values.extend(other.values);
        self.note = other.note.or(self.note.take());
    }
}

/// The median. For an even number of values, the upper one of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_the_pipe() {
        let mut row = Row::new("10 port rules", Program::Chain);
        for (at, (measure, _)) in Measure::ALL.into_iter().enumerate() {
            row.put(measure, at as f64 + 0.5);
        }
        row.note = Some("too slow".into());
        let again = Row::from_json(&row.to_json()).expect("a row");
        assert_eq!(format!("{row:?}"), format!("{again:?}"));
        assert_eq!(again.values.len(), Measure::ALL.len());
    }

    #[test]
    fn the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
