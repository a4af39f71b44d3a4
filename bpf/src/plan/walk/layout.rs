//! Where the axes stand in the words that a test holds against its bounds. Each has a bit above it, its guard: all of a
//! word are compared by one subtraction, which clears the guards of those that are too small.

use super::{Axes, Axis};

/// An axis in a word.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Which axis.
    pub axis: Axis,
    /// Which word.
    pub word: usize,
    /// Bits below it.
    pub shift: u32,
    /// Bits of it.
    pub width: u32,
}

/// The words.
#[derive(Debug, Default)]
pub struct Layout {
    /// One or two; the guards are the same in both.
    pub words: usize,
    /// All axes but lists of interfaces.
    pub places: Vec<Place>,
    /// The guards' bits.
    pub guards: u64,
}

/// The topmost bit is for the sign.
const MOST_BITS: u32 = 63;

impl Layout {
    /// One word if that is enough.
    #[must_use]
    pub fn new(axes: &Axes) -> Self {
        let width = |count: u32| (u32::BITS - count.saturating_sub(1).leading_zeros()).max(1);
        let words = axes.iter().filter(|(axis, _)| !matches!(axis, Axis::List(_)));
        let mut widths: Vec<(u32, Axis)> =
            words.map(|(axis, scale)| (width(scale.count), *axis)).collect();
        widths.sort_unstable();
        widths.reverse();
        let bits: u32 = widths.iter().map(|(width, _)| width + 1).sum();
        let words = if bits <= MOST_BITS { 1 } else { 2 };
        let mut layout = Self { words, ..Self::default() };
        let mut shift = 0;
        // Pairs of about the same width stand one in each word.
        for pair in widths.chunks(words) {
            let width = pair[0].0;
            for (word, (_, axis)) in pair.iter().enumerate() {
                layout.places.push(Place { axis: *axis, word, shift, width });
            }
            layout.guards |= 1 << (shift + width);
            shift += width + 1;
        }
        layout
    }

    /// Bytes of a test: the bounds of each word, those of interface lists, two ways to go on.
    #[must_use]
    pub fn bytes(&self, has_lists: bool) -> usize {
        16 * self.words + if has_lists { 16 } else { 0 } + 8
    }
}
