//! Machines of other kinds, by name: each boots a kernel of Debian's, or one built from its source, with what
//! `cargo xtask dist` makes for it.

mod board;
mod wire;

pub use board::{Board, From};

/// All of them.
pub const BOARDS: [Board; 7] = [
    Board {
        name: "aarch64-virt",
        target: "aarch64",
        kernel: From::Packages {
            suite: "trixie",
            architecture: "arm64",
            kernel: "linux-image-arm64",
        },
        qemu: &["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "512M"],
        device_tree: None,
        console: "ttyAMA0",
        card: Some("virtio-net-pci"),
    },
    Board {
        name: "aarch64-raspi3b",
        target: "aarch64",
        kernel: From::Packages {
            suite: "trixie",
            architecture: "arm64",
            kernel: "linux-image-arm64",
        },
        qemu: &["qemu-system-aarch64", "-M", "raspi3b"],
        device_tree: Some("broadcom/bcm2837-rpi-3-b.dtb"),
        console: "ttyAMA0",
        card: None,
    },
    Board {
        name: "armv7",
        target: "armv7",
        kernel: From::Packages {
            suite: "bookworm",
            architecture: "armhf",
            kernel: "linux-image-armmp",
        },
        qemu: &["qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-m", "512M"],
        device_tree: None,
        console: "ttyAMA0",
        card: Some("virtio-net-device"),
    },
    // The processor of a Raspberry Pi Zero and a Pi 1.
    Board {
        name: "armv6-raspi0",
        target: "armv6",
        kernel: From::Packages {
            suite: "bookworm",
            architecture: "armel",
            kernel: "linux-image-rpi",
        },
        qemu: &["qemu-system-arm", "-M", "raspi0"],
        device_tree: Some("bcm2835-rpi-zero.dtb"),
        // qemu has no registers where that driver looks for them.
        console: "ttyAMA0 initcall_blacklist=bcm2835_power_driver_init",
        card: None,
    },
    Board {
        name: "mipsel",
        target: "mipsel",
        // The last one with kernels for this machine.
        kernel: From::Packages {
            suite: "bookworm",
            architecture: "mipsel",
            kernel: "linux-image-4kc-malta",
        },
        // The kernel measures the processor by the clock of the day, so both must go by the instructions.
        qemu: &[
            "qemu-system-mipsel",
            "-M",
            "malta",
            "-cpu",
            "24Kf",
            "-m",
            "512M",
            "-rtc",
            "clock=vm",
        ],
        device_tree: None,
        console: "ttyS0",
        card: Some("virtio-net-pci"),
    },
    // As OpenWrt's routers with such a processor: without BTF, big-endian, 32 bits.
    Board {
        name: "mips",
        target: "mips",
        kernel: From::MipsSources {
            suites: "trixie-backports,forky,sid",
            config: "malta",
            busybox: "bookworm",
        },
        qemu: &[
            "qemu-system-mips",
            "-M",
            "malta",
            "-cpu",
            "24Kf",
            "-m",
            "512M",
            "-rtc",
            "clock=vm",
        ],
        device_tree: None,
        console: "ttyS0",
        card: Some("virtio-net-pci"),
    },
    Board {
        name: "s390x",
        target: "s390x",
        kernel: From::Packages {
            suite: "bookworm",
            architecture: "s390x",
            kernel: "linux-image-s390x",
        },
        qemu: &["qemu-system-s390x", "-M", "s390-ccw-virtio", "-m", "512M"],
        device_tree: None,
        console: "ttysclp0",
        card: Some("virtio-net-ccw"),
    },
];
