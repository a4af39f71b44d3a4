//! Boards: machines of other kinds, emulated by qemu, with Debian's kernels for them, busybox and the static binary.
//! qemu captures the packets that leave the machine.

use super::wire;
use crate::guests::apt::Suite;
use crate::guests::busybox::{self, copy};
use crate::guests::initramfs;
use crate::guests::kernel::{self, Image, Suites};
use crate::guests::machine::{Found, Machine};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// A board.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    /// Its name here.
    pub name: &'static str,
    /// The target of `cargo xtask dist` that it runs.
    pub target: &'static str,
    /// Its kernel.
    pub kernel: From,
    /// The qemu program and the machine it emulates.
    pub qemu: &'static [&'static str],
    /// The path of its device tree in the kernel's package, below `usr/lib/linux-image-RELEASE`.
    pub device_tree: Option<&'static str>,
    /// The kernel's name for its serial line, and further words for the kernel command line.
    pub console: &'static str,
    /// Its network card. Without one, nothing is captured.
    pub card: Option<&'static str>,
}

/// The origin of a board's kernel and busybox.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// Debian's packages for the architecture.
    Packages {
        /// A suite that has the packages.
        suite: &'static str,
        /// Debian's name of the architecture.
        architecture: &'static str,
        /// The kernel's meta-package.
        kernel: &'static str,
    },
    /// Debian's sources: it no longer has packages for big-endian MIPS.
    MipsSources {
        /// Suites separated by commas. The newest kernel in any of them is used.
        suites: &'static str,
        /// A configuration in `vmtests/vm/kernels`.
        config: &'static str,
        /// A suite with busybox.
        busybox: &'static str,
    },
}

impl From {
    /// For the report.
    fn describe(&self) -> String {
        match self {
            Self::Packages { suite, kernel, .. } => format!("{kernel} of {suite}"),
            Self::MipsSources { suites, config, .. } => {
                format!("source of {suites}, configured as {config}")
            }
        }
    }

    /// Fetches or builds the kernel and the busybox. `configs` is `vmtests/vm/kernels`.
    fn get(&self, configs: &Path) -> Result<(Image, PathBuf)> {
        match *self {
            Self::Packages { suite, architecture, kernel } => {
                let suite = Suite::fetch_for(suite, architecture)?;
                Ok((kernel::stock(&suite, kernel)?, busybox::packaged(&suite, architecture)?))
            }
            Self::MipsSources { suites, config, busybox } => {
                let image = Suites::default().built(suites, configs, config, &kernel::MIPS)?;
                Ok((image, busybox::built(busybox, "mips-linux-gnu-")?))
            }
        }
    }
}

/// The modules that a card and a dummy interface need if they are not built in.
const MODULES: [&str; 8] = [
    "pci-host-generic",
    "virtio_pci",
    "virtio_mmio",
    "virtio_ccw",
    "virtio_net",
    "pcnet32",
    "dummy",
    "ipv6",
];

impl Board {
    /// The kernel's package, for the report.
    pub fn describe(&self) -> String {
        self.kernel.describe()
    }

    /// Boots the board with the binary of `built` and the scripts of `room` (vmtests/images/board). Returns the
    /// kernel's package, the guest's checks, and the checks of the captured packets.
    ///
    /// # Errors
    /// It cannot be created, or does not finish.
    pub fn run(
        &self,
        room: &Path,
        built: &Path,
        scratch: &Path,
        log: &Path,
    ) -> Result<(String, Found)> {
        let _ = fs::remove_dir_all(scratch);
        fs::create_dir_all(scratch)?;
        let (image, busybox) = self.kernel.get(&room.join("../../vm/kernels"))?;
        let root = scratch.join("root");
        busybox::lay_out(&busybox, room, built, &root)?;
        copy(&room.join("init.sh"), &root.join("init"))?;
        if env::var_os("SET_RTO_BTF").is_some_and(|value| !value.is_empty()) {
            // The BTF was built into the binary, and the guest must use it.
            fs::write(root.join("payload/btf"), "")?;
        }
        match image.modules {
            Some(_) => initramfs::put_modules(&image, &MODULES, &root)?,
            None => fs::write(root.join("modules"), "")?,
        }
        let initrd = scratch.join("initramfs.gz");
        initramfs::pack(&root, &initrd)?;
        let mut qemu: Vec<String> = self.qemu.iter().map(|&word| word.to_owned()).collect();
        // The guest's clock counts instructions while the guest works, and follows this host's clock while it waits. If
        // it skipped idle time, as in the matrix, it would do so before qemu has captured the packets.
        qemu.extend(["-icount", "shift=2"].map(str::to_owned));
        if let Some(tree) = self.device_tree {
            let (root, release) = image.modules.as_ref().context("a kernel without modules")?;
            let tree = root.join(format!("usr/lib/linux-image-{release}")).join(tree);
            qemu.extend(["-dtb".to_owned(), tree.display().to_string()]);
        }
        let capture = scratch.join("wire.pcap");
        if let Some(card) = self.card {
            let dump = format!("filter-dump,id=dump0,netdev=net0,file={}", capture.display());
            let device = format!("{card},netdev=net0,mac=02:00:00:00:00:01");
            let words =
                ["-netdev", "user,id=net0,restrict=on", "-device", &device, "-object", &dump];
            qemu.extend(words.map(str::to_owned));
        }
        println!("booting {} on {}", image.origin, self.qemu.join(" "));
        let append = format!("console={} panic=-1 quiet", self.console);
        let shares = Vec::new();
        let machine = Machine { kernel: &image.file, initrd: &initrd, qemu, append, shares };
        let mut found = machine.run(log)?;
        if self.card.is_some() {
            let bytes = fs::read(&capture).with_context(|| format!("no {}", capture.display()))?;
            let hz = 250;
            wire::check(&wire::syns(&bytes)?, hz, &mut found);
        }
        Ok((image.origin, found))
    }
}
