//! A machine that boots an image and prints its results on its console.

use super::console::{Console, Next};
use super::guest::Accelerator;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The time limit of a guest: some minutes without KVM on a busy machine.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The longest permitted silence.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// The configuration of a machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The kernel image.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initrd: &'a Path,
    /// The qemu program and its arguments.
    pub qemu: Vec<String>,
    /// The kernel's command line.
    pub append: String,
    /// Folders of this host, mounted read-only in the guest under these names.
    pub shares: Vec<(&'static str, PathBuf)>,
}

/// The guest's output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The names of the checks that passed.
    pub passed: Vec<String>,
    /// The checks that failed, with the values found instead.
    pub failed: Vec<(String, String)>,
    /// The number of checks that the guest counted, or `None` if it did not finish.
    end: Option<usize>,
}

impl Found {
    /// Processes a line of the console.
    fn read(&mut self, line: &str) {
        let Some((_, text)) = line.split_once("image: ") else { return };
        match text.trim_end().split_once(' ') {
            Some(("ok", name)) => self.passed.push(name.to_owned()),
            Some(("FAILED", what)) => {
                let (name, why) = what.split_once(": ").unwrap_or((what, ""));
                self.failed.push((name.to_owned(), why.to_owned()));
            }
            Some(("end", count)) => self.end = count.parse().ok(),
            _ => {}
        }
    }

    /// # Errors
    /// The guest ended early, or lines were lost.
    fn complete(self) -> Result<Self> {
        let seen = self.passed.len() + self.failed.len();
        match self.end {
            Some(end) if end == seen && end > 0 => Ok(self),
            Some(end) => bail!("the guest ran {end} checks, {seen} of them were seen"),
            None => bail!(
                "the guest did not come to its end; {} held, and these did not: {}",
                self.passed.len(),
                self.failed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

impl Machine<'_> {
    /// Boots the machine and writes its console to `log`.
    ///
    /// # Errors
    /// It does not boot, hangs, or ends early.
    pub fn run(&self, log: &Path) -> Result<Found> {
        let console = Console::start(&mut self.command()?, LIMIT, SILENCE)?;
        let mut log_file = File::create(log)?;
        let mut found = Found::default();
        let hung = loop {
            match console.next() {
                Next::Line(line) => {
                    writeln!(log_file, "{}", line.trim_end())?;
                    found.read(&line);
                    if found.end.is_some() {
                        break false;
                    }
                }
                Next::Closed => break false,
                Next::Hung => break true,
            }
        };
        if hung {
            bail!("the guest hung, and was killed; its console is {}", log.display());
        }
        found.complete().with_context(|| format!("see its console, {}", log.display()))
    }

    /// The qemu program and arguments for a machine like this host.
    pub fn x86(accelerator: Accelerator) -> Vec<String> {
        let kind = match accelerator {
            Accelerator::Kvm => "-enable-kvm -cpu host -smp 2",
            // As in the matrix, the guest's clock counts instructions. A busy host does not disturb its timers.
            Accelerator::Tcg => "-machine accel=tcg -cpu max -icount shift=2,sleep=off",
        };
        let line = format!("qemu-system-x86_64 {kind} -m 2G -nic none");
        line.split(' ').map(str::to_owned).collect()
    }

    fn command(&self) -> Result<Command> {
        let (program, words) = self.qemu.split_first().context("no program")?;
        let mut qemu = Command::new(program);
        qemu.args(words).args(["-nographic", "-no-reboot"]);
        qemu.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd);
        qemu.arg("-append").arg(&self.append);
        for (at, (tag, folder)) in self.shares.iter().enumerate() {
            let options = "security_model=none,readonly=on,multidevs=remap";
            qemu.arg("-fsdev")
                .arg(format!("local,id=share{at},path={},{options}", folder.display()))
                .arg("-device")
                .arg(format!("virtio-9p-pci,fsdev=share{at},mount_tag={tag}"));
        }
        Ok(qemu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(console: &str) -> Result<Found> {
        let mut found = Found::default();
        console.lines().for_each(|line| found.read(line));
        found.complete()
    }

    #[test]
    fn lines_are_counted() {
        let console = "Booting\nimage: ok a\r\n[1.0] noise image: ok b\nimage: FAILED c: d: e\n";
        let good = found(&format!("{console}image: end 3\n")).expect("complete");
        assert_eq!(good.passed, ["a", "b"]);
        assert_eq!(good.failed, [("c".to_owned(), "d: e".to_owned())]);
        for bad in ["", "image: end 4\n", "image: end x\n"] {
            assert!(found(&format!("{console}{bad}")).is_err(), "{bad}");
        }
        assert!(found("image: end 0\n").is_err(), "no checks at all");
    }
}
