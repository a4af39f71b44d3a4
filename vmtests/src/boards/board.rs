//! Machines of other kinds, as qemu makes them, with Debian's kernels for them: busybox, the static binary, and what
//! leaves the machine captured by qemu.

use super::wire;
use crate::guests::apt::Suite;
use crate::guests::busybox::{self, copy};
use crate::guests::machine::{Found, Machine};
use crate::guests::{cache, initramfs, kernel};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A machine.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    /// What it is called here.
    pub name: &'static str,
    /// The target of `cargo xtask dist` that it gets.
    pub target: &'static str,
    /// Debian's name of it.
    pub architecture: &'static str,
    /// A suite of Debian with a kernel for it.
    pub suite: &'static str,
    /// Its meta-package.
    pub kernel: &'static str,
    /// The program, and what it is to imitate.
    pub qemu: &'static [&'static str],
    /// In the kernel's package, below `usr/lib/linux-image-RELEASE`.
    pub device_tree: Option<&'static str>,
    /// Its serial line, as the kernel calls it.
    pub console: &'static str,
    /// Its network card; without one, nothing is captured.
    pub card: Option<&'static str>,
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
    pub fn describe(&self) -> String {
        format!("{} of {}", self.kernel, self.suite)
    }

    /// Boots it with the binary of `built` and the scripts of `room` (vmtests/images/board). The kernel's package, the
    /// guest's checks, and those of what it sent.
    ///
    /// # Errors
    /// It cannot be made, or does not come to its end.
    pub fn run(
        &self,
        room: &Path,
        built: &Path,
        scratch: &Path,
        log: &Path,
    ) -> Result<(String, Found)> {
        let _ = fs::remove_dir_all(scratch);
        fs::create_dir_all(scratch)?;
        let suite = Suite::fetch_for(self.suite, self.architecture)?;
        let image = kernel::stock(&suite, self.kernel)?;
        let root = scratch.join("root");
        busybox::lay_out(&of_debian(&suite, self.architecture)?, room, built, &root)?;
        copy(&room.join("init.sh"), &root.join("init"))?;
        if env::var_os("SET_RTO_BTF").is_some_and(|value| !value.is_empty()) {
            // It was built in, and must serve.
            fs::write(root.join("payload/btf"), "")?;
        }
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
        Ok((image.origin, found))
    }
}

/// The machine's own busybox.
fn of_debian(suite: &Suite, architecture: &str) -> Result<PathBuf> {
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
