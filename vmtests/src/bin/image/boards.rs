//! The machines of other kinds, by name, with the target of `cargo xtask dist` that each gets.

use crate::board::Board;

/// All of them.
pub(crate) const BOARDS: [(&str, &str, Board); 3] = [
    (
        "aarch64-virt",
        "aarch64",
        Board {
            architecture: "arm64",
            suite: "trixie",
            kernel: "linux-image-arm64",
            qemu: &["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "512M"],
            device_tree: None,
            console: "ttyAMA0",
            card: Some("virtio-net-pci"),
        },
    ),
    (
        "aarch64-raspi3b",
        "aarch64",
        Board {
            architecture: "arm64",
            suite: "trixie",
            kernel: "linux-image-arm64",
            qemu: &["qemu-system-aarch64", "-M", "raspi3b"],
            device_tree: Some("broadcom/bcm2837-rpi-3-b.dtb"),
            console: "ttyAMA0",
            card: None,
        },
    ),
    (
        "s390x",
        "s390x",
        Board {
            architecture: "s390x",
            suite: "bookworm",
            kernel: "linux-image-s390x",
            qemu: &["qemu-system-s390x", "-M", "s390-ccw-virtio", "-m", "512M"],
            device_tree: None,
            console: "ttysclp0",
            card: Some("virtio-net-ccw"),
        },
    ),
];
