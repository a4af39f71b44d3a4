//! The initramfs: busybox and the kernel's modules. It mounts the host's root read-only with a writable layer in memory
//! on top, and continues there with vmtest's init.
//!
//! Debian's kernels have virtio and 9p as modules. The layer protects the host's files from programs that run as root
//! in the guest. The word `payload` on the command line mounts a second folder and runs its before.sh in the image
//! before the image's own init starts.

use super::kernel::{Image, run};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules that the machine and the tests need. Drivers that are built in are not modules of that name.
const MODULES: [&str; 27] = [
    "virtio_pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
    "veth",
    // Device types.
    "dummy",
    "8021q",
    "bridge",
    "bonding",
    "macvlan",
    "tun",
    "ipip",
    "vrf",
    "sch_netem",
    "sch_tbf",
    "ipv6",
    "tcp_bbr",
    "tcp_dctcp",
    "sch_fq",
    // For the channels of the demonstration.
    "ifb",
    "sch_ingress",
    "cls_matchall",
    "cls_flower",
    "act_mirred",
    "act_gact",
    "tcp_diag",
];

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host /layer /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
	/bin/busybox insmod "$module" || echo "set-rto: cannot load $module"
done </modules
init=
for word in $(/bin/busybox cat /proc/cmdline); do
	case $word in
	init=*) init=${word#init=} ;;
	esac
done
fail() { echo "set-rto: $1"; /bin/busybox sleep 1; /bin/busybox poweroff -f; }
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=mmap,msize=1048576 /dev/root /host || fail "no root"
/bin/busybox mount -t tmpfs tmpfs /layer || fail "no memory"
/bin/busybox mkdir /layer/upper /layer/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /root || fail "no overlay"
case " $(/bin/busybox cat /proc/cmdline) " in
*" payload "*)
	/bin/busybox mkdir -p /root/payload
	/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=mmap,msize=1048576 payload /root/payload || fail "no payload"
	if [ -e /root/payload/before.sh ]; then
		/bin/busybox mount -t devtmpfs dev /root/dev
		/bin/busybox chroot /root /bin/sh /payload/before.sh || fail "before.sh failed"
		/bin/busybox umount /root/dev
	fi
	;;
esac
/bin/busybox umount /sys /proc
exec /bin/busybox switch_root /root "$init"
fail "no init"
"#;

/// Writes the initramfs for this kernel to `file`.
///
/// # Errors
/// No busybox, a missing module, or a full disk.
pub fn write(image: &Image, dir: &Path, file: &Path) -> Result<()> {
    let root = dir.join("initramfs");
    begin(&root, INIT)?;
    put_modules(image, &MODULES, &root)?;
    pack(&root, file)
}

/// Copies those of the named modules that exist, with their dependencies, to `lib` below the root. Writes their paths
/// to the file `modules` in load order.
///
/// # Errors
/// None of them exists, or the disk is full.
pub fn put_modules(image: &Image, wanted: &[&str], root: &Path) -> Result<()> {
    let mut names = String::new();
    for module in modules(image, wanted)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.split(".ko").next().unwrap_or_default().to_owned() + ".ko";
        let to = root.join("lib").join(&plain);
        match name.rsplit('.').next() {
            Some("xz") => unpack("xz", &module, &to)?,
            Some("zst") => unpack("zstd", &module, &to)?,
            _ => drop(fs::copy(&module, &to)?),
        }
        names.push_str(&format!("/lib/{plain}\n"));
    }
    Ok(fs::write(root.join("modules"), names)?)
}

/// Writes an initramfs without modules, with a static program as `/bin/program`.
///
/// # Errors
/// No busybox, a missing program, or a full disk.
pub(crate) fn small(program: &Path, init: &str, root: &Path, file: &Path) -> Result<()> {
    begin(root, init)?;
    fs::copy(program, root.join("bin/program"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    pack(root, file)
}

fn begin(root: &Path, init: &str) -> Result<()> {
    let _ = fs::remove_dir_all(root);
    for part in ["bin", "lib"] {
        fs::create_dir_all(root.join(part))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.context("no busybox (package busybox-static)")?, root.join("bin/busybox"))?;
    let place = root.join("init");
    fs::write(&place, init)?;
    Ok(fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?)
}

/// Archives everything below the root.
///
/// # Errors
/// No cpio, or a full disk.
pub fn pack(root: &Path, file: &Path) -> Result<()> {
    let script = format!("find . | cpio --quiet -o -H newc | gzip -1 > '{}'", file.display());
    run(Command::new("sh").arg("-c").arg(script).current_dir(root))
}

fn unpack(program: &str, from: &Path, to: &Path) -> Result<()> {
    let output = Command::new(program).arg("-dc").arg(from).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} cannot unpack {}", from.display());
    }
    Ok(fs::write(to, output.stdout)?)
}

/// The files of the modules, each after its dependencies.
fn modules(image: &Image, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let Some((root, release)) = &image.modules else { return Ok(Vec::new()) };
    let base = root.join("lib/modules").join(release);
    let base = if base.is_dir() { base } else { root.join("usr/lib/modules").join(release) };
    if !base.join("modules.dep").exists() {
        // modprobe searches lib/modules below the given root.
        let parent = base.parent().and_then(Path::parent).and_then(Path::parent).unwrap_or(root);
        run(Command::new("depmod").arg("-b").arg(parent).arg(release))?;
    }
    let dep = fs::read_to_string(base.join("modules.dep"))?;
    let mut files: Vec<PathBuf> = Vec::new();
    for wanted in wanted {
        let line = dep.lines().find(|line| {
            let path = line.split(':').next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split('.').next() == Some(*wanted)
        });
        let Some((own, needs)) = line.and_then(|line| line.split_once(':')) else { continue };
        // modules.dep lists the nearest dependency first.
        for path in needs.split_whitespace().rev().chain([own]) {
            let path = base.join(path);
            if !files.contains(&path) {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        bail!("no modules in {}", base.display());
    }
    Ok(files)
}
