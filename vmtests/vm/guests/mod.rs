//! Kernels of other versions, and virtual machines that boot them: for the matrix, the images and the demonstration.

pub use set_rto_downloads::{apt, cache};

pub mod busybox;
mod console;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod kernels;
pub mod machine;
pub mod reboot;
