//! The values of settings.

/// The value of a setting, as passed to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// In the unit of the setting's [`Form`](super::Form); 1 for `true`.
    Number(u32),
    /// A name.
    Name(String),
    /// A timer that is learned.
    Learned(Learned),
}

/// A timer that is learned; microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Learned {
    /// Where nothing is known.
    pub start: u32,
    /// The shortest timer, not above `start`.
    pub min: u32,
    /// The longest timer, not below `start`.
    pub max: u32,
}

impl Value {
    /// The number; of a timer that is learned, the first one. A setting whose value may be a name must not be asked for
    /// it.
    #[must_use]
    pub fn number(&self) -> u32 {
        match self {
            Self::Number(number) => *number,
            Self::Learned(learned) => learned.start,
            Self::Name(name) => unreachable!("`{name}` is a name: the form has no number"),
        }
    }
}
