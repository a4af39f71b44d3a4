//! What the programs of this crate share: kernels to boot, guests that boot them, and machines of other kinds.

pub mod boards;
pub mod guests;
