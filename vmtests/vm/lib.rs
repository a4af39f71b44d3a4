//! Code shared by the programs of this crate: kernels to boot, guests that boot them, and boards.

pub mod boards;
pub mod guests;
