//! One guest: booted by vmtest in a process group of its own, so that one that hangs can be killed with all that
//! belongs to it.

use super::initramfs;
use super::kernel::Image;
use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use vmtest::output::Output;
use vmtest::{Config, Target, VMConfig, Vmtest};

/// The argument that makes this binary boot one guest and print what comes out of it.
pub const BOOT: &str = "--boot";

/// On the command line of every guest's kernel, which has no use for it: what runs there can tell that the machine is
/// a guest of ours, and does not outlive it.
pub const MARK: &str = "set_rto.guest=1";

/// How long a guest may be silent before it counts as hung: the longest test's limit, and time for a slow machine.
const SILENCE: Duration = Duration::from_secs(600);

/// So many times it may be too slow to boot.
const BOOTS: u32 = 4;

/// The longest that a whole guest may take.
const LIMIT: Duration = Duration::from_secs(45 * 60);

/// An emulated guest executes an instruction in two to the power of that many nanoseconds of its own time: 250 million
/// a second, about as fast as the emulation really is.
const NANOSECONDS_SHIFT: u32 = 2;

/// Memory of a guest.
const MEMORY: &str = "1G";

/// How machines are made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// Emulated: slow, and always there. The guest's clock counts its instructions, and jumps where it has nothing
    /// to do: a host that is busy does not disturb its timers, and waiting takes no time.
    Tcg,
}

/// What a guest is to do.
#[derive(Debug)]
pub struct Guest<'a> {
    /// What is booted.
    pub image: &'a Image,
    /// Words for the kernel's command line.
    pub args: &'a [String],
    /// How the machine is made.
    pub accelerator: Accelerator,
    /// A place for the initramfs.
    pub scratch: &'a Path,
    /// Run by bash.
    pub command: String,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Ran {
    /// What the kernel printed.
    pub console: Vec<String>,
    /// What the command printed.
    pub output: Vec<String>,
    /// The command's exit code. None where it did not come so far.
    pub code: Option<i64>,
}

impl Guest<'_> {
    /// Boots it and runs the command. `line` sees the command's output as it comes.
    ///
    /// # Errors
    /// It does not boot, or hangs: with the end of its console.
    pub fn run(&self, mut line: impl FnMut(&str)) -> Result<Ran> {
        let initrd = self.scratch.join("initramfs.gz");
        initramfs::write(self.image, self.scratch, &initrd).context("cannot make the initramfs")?;
        // vmtest gives a guest no more than 80 s, which a busy host may need for booting alone.
        for _ in 1..BOOTS {
            match self.run_once(&initrd, &mut line) {
                Err(error) if format!("{error:#}").contains("waiting for QGA") => {}
                other => return other,
            }
        }
        self.run_once(&initrd, &mut line).with_context(|| format!("booted {BOOTS} times"))
    }

    fn run_once(&self, initrd: &Path, line: &mut impl FnMut(&str)) -> Result<Ran> {
        let mut child = Command::new(env::current_exe()?)
            .arg(BOOT)
            .arg(&self.image.file)
            .arg(initrd)
            .arg(if self.accelerator == Accelerator::Kvm { "kvm" } else { "tcg" })
            .arg(self.args.join(" "))
            .arg(&self.command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a guest")?;
        let lines = lines(&mut child)?;
        let end = Instant::now() + LIMIT;
        let mut ran = Ran::default();
        let hung = loop {
            let wait = SILENCE.min(end.saturating_duration_since(Instant::now()));
            match lines.recv_timeout(wait) {
                Ok(text) => match text.split_at_checked(2) {
                    Some(("b ", text)) => ran.console.push(text.to_owned()),
                    Some(("o ", text)) => {
                        line(text);
                        ran.output.push(text.to_owned());
                    }
                    Some(("x ", code)) => ran.code = code.parse().ok(),
                    Some(("e ", error)) => ran.console.push(format!("error: {error}")),
                    _ => {}
                },
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => break true,
            }
        };
        // qemu is in the child's group.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        let _ = killpg(group, Signal::SIGKILL);
        child.wait()?;
        let tail = |lines: &[String]| lines[lines.len().saturating_sub(25)..].join("\n    ");
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

pub(super) fn lines(child: &mut Child) -> Result<mpsc::Receiver<String>> {
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("no pipe"))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Ends with the pipe; a broken one is as good as the end.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The process that boots: kernel, initramfs, `kvm` or `tcg`, arguments, command.
///
/// # Errors
/// Wrong arguments.
pub fn boot(arguments: &[String]) -> Result<()> {
    let [kernel, initrd, accelerator, args, command] = arguments else { bail!("wrong arguments") };
    let mut extra = vec!["-initrd".to_owned(), initrd.clone()];
    if accelerator == "tcg" {
        // After vmtest's own, which request KVM if /dev/kvm exists.
        extra.extend(["-machine", "accel=tcg", "-cpu", "max"].map(str::to_owned));
        let clock = format!("shift={NANOSECONDS_SHIFT},sleep=off");
        extra.extend(["-icount".to_owned(), clock]);
    }
    // One thread of the host counts the instructions of all processors of the guest.
    let num_cpus = if accelerator == "tcg" { 1 } else { 2 };
    let target = Target {
        name: "guest".into(),
        kernel: Some(PathBuf::from(kernel)),
        // What guards against hostile programs costs an emulated processor a lot.
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
        // Lines are what the other end reads.
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

/// How machines can be made here: KVM only where a guest has really started with it, since a /dev/kvm proves nothing.
pub fn accelerator(image: &Image, scratch: &Path) -> Result<Accelerator> {
    const PROBE: Duration = Duration::from_secs(20);
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Tcg);
    }
    let initrd = scratch.join("probe.gz");
    initramfs::write(image, scratch, &initrd)?;
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
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
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64")?;
    let lines = lines(&mut qemu)?;
    let end = Instant::now() + PROBE;
    let mut accelerator = Accelerator::Tcg;
    // Our init gets as far as finding no root to mount.
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        if line.contains("set-rto: no root") {
            accelerator = Accelerator::Kvm;
            break;
        }
    }
    let _ = qemu.kill();
    qemu.wait()?;
    Ok(accelerator)
}
