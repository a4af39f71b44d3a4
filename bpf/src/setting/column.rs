//! What a kernel may refuse, as bits of a word.

use super::{SETTINGS, Setting, Settings, Value};
use std::collections::BTreeSet;

/// Something that a kernel may lack or refuse: a setting other than `rto`, or one of the algorithms of `congestion`.
/// Each is a bit of a 64-bit word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The setting.
    pub setting: &'static Setting,
    /// The algorithm, of `congestion`.
    pub algorithm: String,
}

/// The maximum number of columns.
pub const MOST_COLUMNS: usize = 64;

impl Column {
    /// Its value in these settings.
    #[must_use]
    pub fn value<'s>(&self, settings: &'s Settings) -> Option<&'s Value> {
        settings.get(self.setting.key).filter(|value| match value {
            Value::Name(name) => *name == self.algorithm,
            Value::Number(_) | Value::Learned(_) => true,
        })
    }

    /// The columns that these settings have, as bits.
    #[must_use]
    pub fn bits(columns: &[Self], settings: &Settings) -> u64 {
        let has = |column: &Self| u64::from(column.value(settings).is_some());
        columns.iter().enumerate().fold(0, |bits, (at, column)| bits | has(column) << at)
    }

    /// Everything that these rules set besides `rto`, in the order of [`SETTINGS`] and of the algorithms' names.
    #[must_use]
    pub fn all<'s>(rules: impl IntoIterator<Item = &'s Settings>) -> Vec<Self> {
        let algorithm = |value: &'s Value| match value {
            Value::Name(name) => name.as_str(),
            Value::Number(_) | Value::Learned(_) => "",
        };
        let values = rules.into_iter().flat_map(|settings| &settings.0);
        let columns: BTreeSet<_> =
            values.map(|(place, value)| (*place, algorithm(value))).collect();
        let others = columns.into_iter().filter(|(place, _)| SETTINGS[*place].key != "rto");
        others
            .map(|(place, algorithm)| Self {
                setting: &SETTINGS[place],
                algorithm: algorithm.to_owned(),
            })
            .collect()
    }
}
