//! What the programs of this crate share: kernels to boot, and guests that boot them.

pub mod guests;
