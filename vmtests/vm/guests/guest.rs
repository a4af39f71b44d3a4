//! One guest, booted by vmtest in its own process group. If it hangs, the whole group can be killed.

use super::console::{Console, Next, tail};
use super::initramfs;
use super::kernel::Image;
use anyhow::{Context as _, Result, anyhow, bail};
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use vmtest::output::Output;
use vmtest::{Config, Target, VMConfig, Vmtest};

/// The argument that makes this binary boot one guest and print its output.
pub const BOOT: &str = "--boot";

/// A word on the command line of every guest's kernel, which ignores it. Tests recognise from it that the machine is a
/// guest and does not outlive them.
pub const MARK: &str = "set_rto.guest=1";

/// The longest permitted silence of a guest before it counts as hung: the longest test's limit, plus a margin for a
/// slow machine.
const SILENCE: Duration = Duration::from_secs(600);

/// The number of attempts at a boot that takes too long.
const BOOTS: u32 = 4;

/// The time limit of a guest.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// An emulated guest executes one instruction in two to the power of this many nanoseconds of its own time: 250 million
/// a second, close to the real speed of the emulation.
const NANOSECONDS_SHIFT: u32 = 2;

/// Memory of a guest.
const MEMORY: &str = "1G";

/// How guests run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// With KVM.
    Kvm,
    /// Emulated: slow, and always available. The guest's clock counts its instructions and skips idle time: a busy host
    /// does not disturb its timers, and waiting takes no time.
    Tcg,
}

/// The task of a guest.
#[derive(Debug)]
pub struct Guest<'a> {
    /// What is booted.
    pub image: &'a Image,
    /// Additional words for the kernel's command line.
    pub args: &'a [String],
    /// With KVM or emulated.
    pub accelerator: Accelerator,
    /// The path for the initramfs.
    pub scratch: &'a Path,
    /// The command for bash.
    pub command: String,
}

/// The result of a guest.
#[derive(Debug, Default)]
pub struct Ran {
    /// The kernel's console output.
    pub console: Vec<String>,
    /// The command's output.
    pub output: Vec<String>,
    /// The command's exit code, or `None` if the command did not finish.
    pub code: Option<i64>,
}

impl Guest<'_> {
    /// Boots the guest and runs the command. `line` receives the command's output as it arrives.
    ///
    /// # Errors
    /// The guest does not boot, or it hangs. The error includes the end of its console.
    pub fn run(&self, mut line: impl FnMut(&str)) -> Result<Ran> {
        let initrd = self.scratch.join("initramfs.gz");
        initramfs::write(self.image, self.scratch, &initrd).context("cannot make the initramfs")?;
        // vmtest limits a boot to 80 s, which may be too short on a busy host.
        for _ in 1..BOOTS {
            match self.run_once(&initrd, &mut line) {
                Err(error) if format!("{error:#}").contains("waiting for QGA") => {}
                other => return other,
            }
        }
        self.run_once(&initrd, &mut line).with_context(|| format!("booted {BOOTS} times"))
    }

    fn run_once(&self, initrd: &Path, line: &mut impl FnMut(&str)) -> Result<Ran> {
        let mut boot = Command::new(env::current_exe()?);
        boot.arg(BOOT)
            .arg(&self.image.file)
            .arg(initrd)
            .arg(if self.accelerator == Accelerator::Kvm { "kvm" } else { "tcg" })
            .arg(self.args.join(" "))
            .arg(&self.command)
            .stderr(Stdio::null());
        // qemu is its child.
        let console = Console::start(&mut boot, LIMIT, SILENCE)?;
        let mut ran = Ran::default();
        let hung = loop {
            match console.next() {
                Next::Line(text) => match text.split_at_checked(2) {
                    Some(("b ", text)) => ran.console.push(text.to_owned()),
                    Some(("o ", text)) => {
                        line(text);
                        ran.output.push(text.to_owned());
                    }
                    Some(("x ", code)) => ran.code = code.parse().ok(),
                    Some(("e ", error)) => ran.console.push(format!("error: {error}")),
                    _ => {}
                },
                Next::Closed => break false,
                Next::Hung => break true,
            }
        };
        match (hung, ran.code) {
            (true, _) => bail!(
                "the guest hung, and was killed; its console ended with\n    {}\n  and the tests with\n    {}",
                tail(&ran.console),
                tail(&ran.output)
            ),
            (false, None) => {
                bail!("the guest did not boot; its console ended with\n    {}", tail(&ran.console))
            }
            (false, Some(_)) => Ok(ran),
        }
    }
}

/// The process that boots a guest: kernel, initramfs, `kvm` or `tcg`, arguments, command.
///
/// # Errors
/// Wrong arguments.
pub fn boot(arguments: &[String]) -> Result<()> {
    let [kernel, initrd, accelerator, args, command] = arguments else { bail!("wrong arguments") };
    let mut extra = vec!["-initrd".to_owned(), initrd.clone()];
    if accelerator == "tcg" {
        // These follow vmtest's own options, which request KVM if /dev/kvm exists.
        extra.extend(["-machine", "accel=tcg", "-cpu", "max"].map(str::to_owned));
        let clock = format!("shift={NANOSECONDS_SHIFT},sleep=off");
        extra.extend(["-icount".to_owned(), clock]);
    }
    // One thread of the host counts the instructions of all the guest's processors.
    let num_cpus = if accelerator == "tcg" { 1 } else { 2 };
    let target = Target {
        name: "guest".into(),
        kernel: Some(PathBuf::from(kernel)),
        // Mitigations against hostile programs are expensive on an emulated processor.
        kernel_args: Some(format!("mitigations=off {MARK} {args}")),
        command: command.clone(),
        vm: VMConfig { num_cpus, memory: MEMORY.into(), extra_args: extra, ..VMConfig::default() },
        ..Target::default()
    };
    let (sender, receiver) = mpsc::channel();
    let vm = Vmtest::new(env::temp_dir(), Config { target: vec![target] })?;
    let booting = thread::spawn(move || vm.run_one(0, sender));
    let mut out = std::io::stdout();
    let mut print = |kind: char, text: &str| {
        // The other end reads whole lines.
        text.lines().try_for_each(|line| writeln!(out, "{kind} {line}")).and_then(|()| out.flush())
    };
    for update in receiver {
        match update {
            Output::Boot(text) | Output::Setup(text) => print('b', &text)?,
            Output::Command(text) => print('o', &text)?,
            Output::CommandEnd(Ok(code)) => print('x', &code.to_string())?,
            Output::BootEnd(Err(error))
            | Output::SetupEnd(Err(error))
            | Output::CommandEnd(Err(error)) => {
                print('e', &format!("{error:#}"))?;
            }
            _ => {}
        }
    }
    booting.join().map_err(|_| anyhow!("vmtest panicked"))
}

/// Finds how guests can run here. KVM counts only if a guest has started with it: the presence of /dev/kvm proves
/// nothing.
pub fn accelerator(image: &Image, scratch: &Path) -> Result<Accelerator> {
    const PROBE: Duration = Duration::from_secs(20);
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    let initrd = scratch.join("probe.gz");
    initramfs::write(image, scratch, &initrd)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-enable-kvm",
        "-cpu",
        "host",
        "-m",
        "512M",
        "-nographic",
        "-no-reboot",
        "-nic",
        "none",
    ])
    .arg("-kernel")
    .arg(&image.file)
    .arg("-initrd")
    .arg(&initrd)
    .args(["-append", "console=ttyS0 panic=-1"])
    .stderr(Stdio::null());
    let console = Console::start(&mut qemu, PROBE, PROBE)?;
    // This init runs until it finds no root to mount.
    while let Next::Line(line) = console.next() {
        if line.contains("set-rto: no root") {
            return Ok(Accelerator::Kvm);
        }
    }
    Ok(Accelerator::Tcg)
}
