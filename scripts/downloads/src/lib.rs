//! Downloads that are kept for all checkouts: a cache in the user's home, and packages of other suites of Debian.

pub mod apt;
pub mod cache;
