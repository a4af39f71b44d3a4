//! The boards by name. Each boots one of Debian's kernels, or one built from source, with the output of `cargo xtask
//! dist` for its target.

mod board;
mod wire;

pub use board::{Board, From};

/// All boards.
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
        // qemu does not emulate the registers that this driver expects.
        console: "ttyAMA0 initcall_blacklist=bcm2835_power_driver_init",
        card: None,
    },
    Board {
        name: "mipsel",
        target: "mipsel",
        // The last suite with kernels for this machine.
        kernel: From::Packages {
            suite: "bookworm",
            architecture: "mipsel",
            kernel: "linux-image-4kc-malta",
        },
        // The kernel calibrates the processor with the real-time clock. Both must count instructions.
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
    // As in OpenWrt's routers with such a processor: no BTF, big-endian, 32 bits.
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
