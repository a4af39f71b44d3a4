//! Boots images of the systems that set-rto is packaged for in virtual machines, and checks each package there.
//!
//!     image --built DIR --out DIR [--list] [NAME…]
//!
//! DIR is the output of `cargo xtask image`: one folder for each rules file of an image. A guest prints its results on
//! its console, one per line (vmtests/images/lib.sh).

mod openwrt;
mod rootfs;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use set_rto_vmtests::boards::{BOARDS, Board};
use set_rto_vmtests::guests::guest::{self, Accelerator};
use set_rto_vmtests::guests::kernel::Suites;
use set_rto_vmtests::guests::machine::{Found, Machine};
use set_rto_vmtests::guests::{cache, initramfs, kernels};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The contents of an image.
#[derive(Debug, Clone, Copy)]
enum Made {
    /// Debian's packages in addition to the essential ones.
    Debian(&'static [&'static str]),
    /// Only busybox and the static binary.
    Busybox,
    /// Busybox and the static binary on a board with its own kernel.
    Board(Board),
}

/// An image.
#[derive(Debug, Clone, Copy)]
struct Image {
    name: &'static str,
    /// The folder of `images` with its rules, its preparation before boot, and the script that runs in it.
    room: &'static str,
    /// The target of `cargo xtask dist` whose output it gets.
    target: &'static str,
    /// Its kernel in KERNELS.
    kernel: &'static str,
    made: Made,
    /// A folder of scripts/packaging that is copied unchanged.
    packaging: Option<&'static str>,
}

const IMAGES: [Image; 4] = [
    Image {
        name: "debian",
        room: "debian",
        target: "x86_64",
        kernel: "debian-6.12",
        made: Made::Debian(&["systemd-sysv", "udev", "iproute2", "libbpf1", "sudo"]),
        packaging: None,
    },
    Image {
        name: "container",
        room: "container",
        target: "x86_64",
        kernel: "debian-6.12",
        made: Made::Debian(&[
            "iproute2",
            "podman",
            "crun",
            "catatonit",
            "busybox-static",
            "apparmor",
        ]),
        packaging: Some("container"),
    },
    Image {
        name: "openwrt",
        room: "openwrt",
        target: "x86_64",
        kernel: "openwrt-old",
        made: Made::Busybox,
        packaging: None,
    },
    Image {
        name: "openwrt-new",
        room: "openwrt",
        target: "x86_64",
        kernel: "openwrt-new",
        made: Made::Busybox,
        packaging: None,
    },
];

/// All images.
fn images() -> impl Iterator<Item = Image> {
    let board = |board: Board| Image {
        name: board.name,
        room: "board",
        target: board.target,
        kernel: "",
        made: Made::Board(board),
        packaging: None,
    };
    IMAGES.into_iter().chain(BOARDS.map(board))
}

fn main() -> ExitCode {
    match Options::read().and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line.
#[derive(Default)]
struct Options {
    built: PathBuf,
    out: PathBuf,
    list: bool,
    names: Vec<String>,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--built" => options.built = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--list" => options.list = true,
                _ if word.starts_with('-') => bail!("unknown option {word}"),
                _ => options.names.push(word),
            }
        }
        for name in &options.names {
            if images().all(|image| image.name != name) {
                bail!("there is no image {name}; --list shows what there is");
            }
        }
        Ok(options)
    }

    fn chooses(&self, image: &Image) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == image.name)
    }
}

/// The path of vmtests/ at build time.
fn room() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns true if all images passed.
fn run(options: &Options) -> Result<bool> {
    if options.list {
        // `cargo xtask image` parses the first three words.
        for Image { name, room, target, kernel, made, .. } in images() {
            let kernel = match made {
                Made::Board(board) => board.describe(),
                _ => kernel.to_owned(),
            };
            println!("{name} {room} {target} {kernel}");
        }
        return Ok(true);
    }
    // Images run one after another, as in the matrix: they share kernels and the processor.
    let lock = File::create(cache::dir()?.join("image.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    fs::create_dir_all(&options.out)?;
    let out = fs::canonicalize(&options.out)?;
    let mut suites = Suites::default();
    let mut accelerator = None;
    let (mut passed, mut failed) = (0, 0);
    for image in images().filter(|image| options.chooses(image)) {
        match one(&image, &options.built, &out, &mut suites, &mut accelerator) {
            Ok(found) => {
                let counts = (found.passed.len(), found.failed.len());
                passed += counts.0;
                failed += counts.1;
                println!("{}: {} passed, {} failed", image.name, counts.0, counts.1);
                found.failed.iter().for_each(|(name, why)| println!("  {name}: {why}"));
            }
            Err(error) => {
                failed += 1;
                println!("{}: {error:#}", image.name);
            }
        }
    }
    println!("image: {passed} passed; {failed} failed");
    Ok(failed == 0 && passed > 0)
}

fn one(
    image: &Image,
    built: &Path,
    out: &Path,
    suites: &mut Suites,
    accelerator: &mut Option<Accelerator>,
) -> Result<Found> {
    println!("{}: getting its parts", image.name);
    let scratch = out.join(image.name);
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let log = out.join(format!("{}.console", image.name));
    let built = built.join(format!("{}-{}", image.room, image.target));
    let scripts = room().join("images");
    if let Made::Board(board) = image.made {
        let ran = board.run(&scripts.join(image.room), &built, &scratch, &log);
        return ran.map(|(_, found)| found);
    }
    let kernels = kernels::parse(&fs::read_to_string(room().join("vm/KERNELS"))?)?;
    let kernel = kernels.iter().find(|kernel| kernel.name == image.kernel);
    let kernel = kernel.with_context(|| format!("KERNELS has no {}", image.kernel))?;
    let kernel = suites.image(kernel, &room().join("vm/kernels"))?;
    let accelerator = match *accelerator {
        Some(known) => known,
        None => *accelerator.insert(guest::accelerator(&kernel, &scratch)?),
    };
    let initrd = scratch.join("initramfs.gz");
    let shares = match image.made {
        Made::Debian(packages) => {
            initramfs::write(&kernel, &scratch, &initrd)?;
            let payload = scratch.join("payload");
            let packaging = room().join("../scripts/packaging");
            let mut folders = vec![scripts.join(image.room), built];
            folders.extend(image.packaging.map(|folder| packaging.join(folder)));
            rootfs::payload(&scripts.join("lib.sh"), &folders, &payload)?;
            vec![("/dev/root", rootfs::debian(packages)?), ("payload", payload)]
        }
        Made::Busybox | Made::Board(_) => {
            openwrt::write(&scripts.join(image.room), &built, &scratch, &initrd)?;
            Vec::new()
        }
    };
    println!("{}: booting {} ({accelerator:?})", image.name, kernel.origin);
    let append = "console=ttyS0 panic=-1 mitigations=off quiet init=/sbin/init payload".to_owned();
    let qemu = Machine::x86(accelerator);
    let machine = Machine { kernel: &kernel.file, initrd: &initrd, qemu, append, shares };
    machine.run(&log)
}
