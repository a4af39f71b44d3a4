//! Downloads that all checkouts share: a cache in the user's home, and packages of other Debian suites.

pub mod apt;
pub mod cache;
