//! Kernels to boot: Debian's, extracted from their packages, and ours, built from Debian's sources.

use super::apt::{self, Suite};
use super::cache;
use super::kernels::{Kernel, Origin};
use anyhow::{Context as _, Result, anyhow, bail};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

/// A kernel to boot.
#[derive(Debug, Clone)]
pub struct Image {
    /// What is booted.
    pub file: PathBuf,
    /// The root of its modules and its release. `None` if everything is built in.
    pub modules: Option<(PathBuf, String)>,
    /// The name of the package, with its version.
    pub origin: String,
    /// Its BTF, `RELEASE.btf`, if it was generated.
    pub btf: Option<PathBuf>,
}

/// A build target.
#[derive(Debug)]
pub struct Processor {
    /// Part of the source tree's name: the object files of one architecture are useless to another one's build.
    name: &'static str,
    /// Arguments for make.
    make: &'static [&'static str],
    /// The make target, and the path of its result.
    target: &'static str,
    file: &'static str,
}

const HOST: Processor =
    Processor { name: "", make: &[], target: "bzImage", file: "arch/x86/boot/bzImage" };

/// Big-endian MIPS, built with Debian's cross compiler.
pub const MIPS: Processor = Processor {
    name: "_mips",
    make: &["ARCH=mips", "CROSS_COMPILE=mips-linux-gnu-"],
    target: "vmlinux",
    file: "vmlinux",
};

/// The suites whose lists were fetched in this run, or the error. A mirror that hangs is tried only once.
#[derive(Default)]
pub struct Suites(HashMap<String, Result<Suite, String>>);

impl Suites {
    fn get(&mut self, name: &str) -> Result<&Suite> {
        let fetch = || Suite::fetch(name).map_err(|error| format!("{error:#}"));
        let suite = self.0.entry(name.to_owned()).or_insert_with(fetch);
        suite.as_ref().map_err(|why| anyhow!("{why}"))
    }

    /// Gets the kernel, from the cache if possible.
    ///
    /// # Errors
    /// The step that failed.
    pub fn image(&mut self, kernel: &Kernel, configs: &Path) -> Result<Image> {
        match &kernel.origin {
            Origin::Debian { suite } => {
                let meta = "linux-image-amd64";
                stock(self.newest(suite, meta)?, meta)
            }
            Origin::Source { suite, config } => self.built(suite, configs, config, &HOST),
        }
    }

    /// Builds a kernel from the newest sources of suites separated by commas, unless it is in the cache.
    ///
    /// # Errors
    /// The step that failed.
    pub fn built(
        &mut self,
        suites: &str,
        configs: &Path,
        config: &str,
        processor: &Processor,
    ) -> Result<Image> {
        built(self.newest(suites, "linux-source")?, configs, config, processor)
    }

    /// Of suites separated by commas, picks the one with the newest version of a package. A missing suite is reported,
    /// and the others are used.
    fn newest(&mut self, suites: &str, meta: &str) -> Result<&Suite> {
        let mut best: Option<(&str, String)> = None;
        let mut gone = Vec::new();
        for name in suites.split(',') {
            match self.get(name).and_then(|suite| suite.version(meta)) {
                Ok(version) => {
                    if best.as_ref().is_none_or(|(_, known)| apt::is_newer(&version, known)) {
                        best = Some((name, version));
                    }
                }
                Err(error) => gone.push(format!("{error:#}")),
            }
        }
        let Some((name, _)) = best else { bail!("no suite to be had: {}", gone.join("; ")) };
        for error in gone {
            eprintln!("matrix: {error}; {name} serves");
        }
        self.get(name)
    }
}

/// Resolves a meta-package to its kernel package.
///
/// # Errors
/// The step that failed.
pub fn stock(suite: &Suite, meta: &str) -> Result<Image> {
    const IMAGE: &str = "linux-image-";
    let package = suite.newest(meta, IMAGE)?;
    let version = suite.version(&package)?;
    let release = package.trim_start_matches(IMAGE).to_owned();
    let boot = |root: &Path| {
        // Before Linux 7.3 it was in the first place. Since then it is in the second; on MIPS, in the third.
        let places = [
            format!("boot/vmlinuz-{release}"),
            format!("usr/lib/modules/{release}/vmlinuz"),
            format!("boot/vmlinux-{release}"),
        ];
        places.map(|place| root.join(place)).into_iter().find(|file| file.is_file())
    };
    let root = cache::entry(&format!("debian/{package}_{version}"), |dir| {
        // Newer releases split the kernel and its modules into further packages.
        let parts = suite.depends(&package)?.into_iter();
        let parts = parts.filter(|it| it.starts_with("linux-") && it.ends_with(&release));
        for package in [package.clone()].into_iter().chain(parts) {
            let parts = dir.join("package");
            let deb = suite.download(&package, &parts)?;
            run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(dir))?;
            fs::remove_dir_all(parts)?;
        }
        boot(dir).with_context(|| format!("{package} and what belongs to it have no vmlinuz"))?;
        Ok(())
    })?;
    let file = boot(&root).with_context(|| format!("no vmlinuz in {}", root.display()))?;
    let origin = format!("{package} {version}");
    Ok(Image { file, modules: Some((root, release)), origin, btf: None })
}

fn built(suite: &Suite, configs: &Path, config: &str, processor: &Processor) -> Result<Image> {
    let package = suite.newest("linux-source", "linux-source-")?;
    let version = suite.version(&package)?;
    let fragments = fragments(configs, config)?;
    let text: String = fragments.iter().map(|(_, text)| text.as_str()).collect();
    // A different configuration makes a different kernel. Comments do not count.
    let options: Vec<_> = text.lines().filter(|line| line.starts_with("CONFIG_")).collect();
    let mark = fingerprint(&options.join("\n"));
    let name = format!("built/{package}_{version}_{config}_{mark:016x}");
    let image = cache::entry(&name, |dir| {
        let tree = format!("{package}_{version}{}", processor.name);
        let source = source(suite, &package, &tree)?;
        // Two runs must not build in the same tree.
        let _lock = cache::lock(&tree)?;
        println!("building {package} {version} as {config}: some minutes; {}", dir.display());
        build(&source, &text, config, dir, processor)
    })?;
    Ok(Image {
        file: image.join(processor.target),
        modules: None,
        origin: format!("{package} {version}, {config}"),
        btf: fs::read_dir(&image)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "btf")),
    })
}

/// The unpacked source: one tree for all configurations, which shortens later builds.
fn source(suite: &Suite, package: &str, tree: &str) -> Result<PathBuf> {
    cache::entry(&format!("source/{tree}"), |dir| {
        let parts = dir.join("package");
        let deb = suite.download(package, &parts)?;
        run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&parts))?;
        let tar = parts.join("usr/src").join(format!("{package}.tar.xz"));
        run(Command::new("tar").arg("-C").arg(dir).args(["--strip-components=1", "-xf"]).arg(tar))?;
        Ok(fs::remove_dir_all(parts)?)
    })
}

/// A configuration may begin with `# based on NAME`.
fn fragments(configs: &Path, name: &str) -> Result<Vec<(String, String)>> {
    let file = configs.join(format!("{name}.config"));
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let base = text.lines().find_map(|line| line.strip_prefix("# based on "));
    let mut all = match base {
        Some(base) if base.trim() != name => fragments(configs, base.trim())?,
        _ => Vec::new(),
    };
    all.push((name.to_owned(), text));
    Ok(all)
}

fn build(
    source: &Path,
    fragment: &str,
    config: &str,
    into: &Path,
    processor: &Processor,
) -> Result<()> {
    let log_file = into.join("build.log");
    let step = |command: &mut Command| -> Result<()> {
        let log = File::options().create(true).append(true).open(&log_file)?;
        let command = command.current_dir(source).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let status = watch(&mut child, config, &log_file)?;
        if !status.success() {
            let text = fs::read_to_string(&log_file).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            bail!("the build of {config} failed: {command:?}\n{end}");
        }
        Ok(())
    };
    let merged = into.join("fragment");
    fs::write(&merged, fragment)?;
    let make = processor.make;
    step(Command::new("make").args(make).args(["-s", "tinyconfig"]))?;
    step(Command::new("scripts/kconfig/merge_config.sh").args(["-m", ".config"]).arg(&merged))?;
    step(Command::new("make").args(make).args(["-s", "olddefconfig"]))?;
    complain(fragment, &fs::read_to_string(source.join(".config"))?)?;
    let jobs = thread::available_parallelism().map_or(2, usize::from);
    let mut nice = Command::new("nice");
    let nice = nice.arg("make").args(make).args(["WERROR=0", processor.target]);
    step(nice.arg(format!("-j{jobs}")))?;
    fs::copy(source.join(processor.file), into.join(processor.target))?;
    let configured = fs::read_to_string(source.join(".config"))?;
    if configured.contains("\nCONFIG_DEBUG_INFO=y\n") {
        // It has no BTF, but its DWARF contains the same information.
        let release = fs::read_to_string(source.join("include/config/kernel.release"))?;
        let file = into.join(format!("{}.btf", release.trim()));
        let option = format!("--btf_encode_detached={}", file.display());
        step(Command::new("pahole").arg(option).arg("vmlinux"))?;
    }
    Ok(())
}

/// Waits for a build step and reports progress from its output.
fn watch(child: &mut Child, config: &str, log: &Path) -> Result<ExitStatus> {
    const EVERY: Duration = Duration::from_secs(30);
    let start = Instant::now();
    let mut next = EVERY;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() >= next {
            let text = fs::read_to_string(log).unwrap_or_default();
            let files = text.lines().filter(|line| line.starts_with("  CC ")).count();
            println!("{config}: {files} files compiled in {} s", next.as_secs());
            next += EVERY;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Options that are missing in the result because their dependencies are missing.
fn complain(fragment: &str, config: &str) -> Result<()> {
    // Later fragments override earlier ones.
    let mut wanted: HashMap<&str, &str> = HashMap::new();
    for line in fragment.lines().filter(|line| line.starts_with("CONFIG_")) {
        wanted.extend(line.split_once('='));
    }
    let is_there = |(name, value): &(&&str, &&str)| match **value {
        "n" => !config.contains(&format!("\n{name}=")),
        value => config.contains(&format!("\n{name}={value}\n")),
    };
    let mut lost: Vec<_> =
        wanted.iter().filter(|option| !is_there(option)).map(|(name, _)| *name).collect();
    lost.sort_unstable();
    // Options change between releases. Those that tests need must be set.
    let vital = [
        "CONFIG_CGROUP_BPF",
        "CONFIG_BPF_SYSCALL",
        "CONFIG_IPV6",
        "CONFIG_HZ_100",
        "CONFIG_HZ_300",
        "CONFIG_HZ_1000",
        "CONFIG_9P_FS",
        "CONFIG_VETH",
        "CONFIG_OVERLAY_FS",
    ];
    if let Some(name) = lost.iter().find(|name| vital.contains(name)) {
        bail!("the source has no {name} as asked for");
    }
    Ok(())
}

/// FNV-1a, used only for names in the cache.
#[must_use]
pub fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Runs a command that must succeed.
///
/// # Errors
/// It cannot be started or it fails. The error includes its output.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
