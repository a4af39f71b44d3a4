//! Kernels of other versions, and virtual machines that boot them: for the matrix and the demonstration.

mod apt;
pub mod cache;
pub mod guest;
mod initramfs;
pub mod kernel;
pub mod kernels;
pub mod reboot;
