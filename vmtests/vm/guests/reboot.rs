//! Reboots a machine: the policy is gone afterwards, and `install` works again.
//!
//! vmtest cannot do this, because its guests end with their command. The initramfs has everything needed, and the
//! kernel boots twice in one machine.

use super::console::{Console, Next, tail};
use super::guest::Accelerator;
use super::initramfs;
use super::kernel::Image;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Prefix of the lines with results.
const SAID: &str = "set-rto: then ";

/// The results of each boot: exit codes (3: not installed).
const EACH: [&str; 3] = ["status 3", "install 0", "status 0"];

/// The time limit of both boots on a busy host without KVM.
const LIMIT: Duration = Duration::from_secs(600);

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox mount -t cgroup2 none /sys/fs/cgroup
/bin/busybox ip link set lo up
for verb in status install status; do
	/bin/program $verb
	echo "set-rto: then $verb $?"
done
/bin/busybox sleep 1
/bin/busybox reboot -f
"#;

/// Boots the kernel twice and runs `status`, `install`, `status` each time.
///
/// # Errors
/// It does not boot, or prints something else. The error includes the end of its console.
pub fn check(image: &Image, accelerator: Accelerator, program: &Path, dir: &Path) -> Result<()> {
    let initrd = dir.join("reboot.gz");
    initramfs::small(program, INIT, &dir.join("reboot"), &initrd)?;
    let machine: &[&str] = match accelerator {
        Accelerator::Kvm => &["-enable-kvm", "-cpu", "host"],
        Accelerator::Tcg => &["-machine", "accel=tcg", "-cpu", "max"],
    };
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(machine)
        .args(["-m", "512M", "-nographic", "-nic", "none", "-kernel"])
        .arg(&image.file)
        .arg("-initrd")
        .arg(&initrd)
        .args(["-append", "console=ttyS0 mitigations=off panic=-1"])
        .stderr(Stdio::null());
    let console = Console::start(&mut qemu, LIMIT, LIMIT)?;
    let (mut all, mut said) = (Vec::new(), Vec::new());
    while said.len() < 2 * EACH.len() {
        let Next::Line(line) = console.next() else { break };
        if let Some((_, text)) = line.split_once(SAID) {
            said.push(text.trim().to_owned());
        }
        all.push(line);
    }
    judge(&said)
        .with_context(|| format!("started twice; the console ended with\n    {}", tail(&all)))
}

fn judge(said: &[String]) -> Result<()> {
    let expected = [EACH, EACH].concat();
    if said.len() < expected.len() {
        bail!("only {said:?} of {expected:?}");
    }
    ensure!(said == expected, "{said:?}, expected {expected:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_outlives_a_start_is_found() {
        let said = |words: [&str; 6]| words.map(str::to_owned).to_vec();
        let [status, install, after] = EACH;
        assert!(judge(&said([status, install, after, status, install, after])).is_ok());
        assert!(judge(&said([status, install, after, after, install, after])).is_err());
        assert!(judge(&said([status, install, after, status, "install 2", after])).is_err());
        assert!(judge(&said([status, install, after, status, install, after])[..4]).is_err());
    }
}
