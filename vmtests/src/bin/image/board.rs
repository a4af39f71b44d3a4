//! Machines of other kinds, as qemu makes them, with Debian's kernels for them: busybox, the static binary, and what
//! leaves the machine captured by qemu.

use crate::machine::{Found, Machine};
use crate::openwrt::{busybox_image, copy};
use crate::wire;
use anyhow::{Context as _, Result};
use set_rto_vmtests::guests::apt::Suite;
use set_rto_vmtests::guests::{cache, initramfs, kernel};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Board {
    /// Debian's name of it.
    pub(crate) architecture: &'static str,
    /// A suite of Debian with a kernel for it.
    pub(crate) suite: &'static str,
    /// Its meta-package.
    pub(crate) kernel: &'static str,
    /// The program, and what it is to imitate.
    pub(crate) qemu: &'static [&'static str],
    /// In the kernel's package, below `usr/lib/linux-image-RELEASE`.
    pub(crate) device_tree: Option<&'static str>,
    pub(crate) console: &'static str,
    /// Its network card; without one, nothing is captured.
    pub(crate) card: Option<&'static str>,
}

/// What a card and a dummy interface need, where it is not built in.
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
    /// Its kernel, for the report.
    pub(crate) fn describe(&self) -> String {
        format!("{} of {}", self.kernel, self.suite)
    }

    /// Boots it with the binary of `built`. The guest's checks, and those of what it sent.
    ///
    /// # Errors
    /// It cannot be made, or does not come to its end.
    pub(crate) fn run(
        &self,
        room: &Path,
        built: &Path,
        scratch: &Path,
        log: &Path,
    ) -> Result<Found> {
        let suite = Suite::fetch_for(self.suite, self.architecture)?;
        let image = kernel::stock(&suite, self.kernel)?;
        let root = scratch.join("root");
        busybox_image(&busybox(&suite, self.architecture)?, room, built, &root)?;
        copy(&room.join("init.sh"), &root.join("init"))?;
        initramfs::put_modules(&image, &MODULES, &root)?;
        let initrd = scratch.join("initramfs.gz");
        initramfs::pack(&root, &initrd)?;
        let mut qemu: Vec<String> = self.qemu.iter().map(|&word| word.to_owned()).collect();
        // The guest's clock counts instructions while it works, and is this host's while it waits: if it jumped then, as
        // in the matrix, it would do so before qemu has captured what is to be sent.
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
        Ok(found)
    }
}

/// The machine's own busybox.
fn busybox(suite: &Suite, architecture: &str) -> Result<PathBuf> {
    let version = suite.version("busybox-static")?;
    let name = format!("debian/busybox-static_{version}_{architecture}");
    let dir = cache::entry(&name, |dir| {
        let parts = dir.join("package");
        let deb = suite.download("busybox-static", &parts)?;
        kernel::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir))?;
        Ok(fs::remove_dir_all(parts)?)
    })?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| dir.join(place));
    places.into_iter().find(|path| path.is_file()).context("no busybox in its package")
}
