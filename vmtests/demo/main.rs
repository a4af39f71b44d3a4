//! The demonstration: connections over slow radio links and in a datacentre, with and without a rule. Runs on a kernel
//! older than Linux 6.5 and on a newer one, each in a virtual machine.
//!
//!     demo --suite FILE --bin-dir DIR --out DIR [KERNEL…]
//!
//! FILE is the live suite, which contains the scenes (`live --demo`). DIR has the executable of
//! `vmtests/demo/rules.toml`, named `rules`. KERNEL is a name in KERNELS. `cargo xtask demo` builds both and calls this
//! program. The program writes a table, the timeline and all results to the DIR of `--out`.

mod outcome;
mod table;
mod timeline;

use anyhow::{Context as _, Result, bail};
use outcome::Scenes;
use set_rto_vmtests::guests::guest::{self, Guest};
use set_rto_vmtests::guests::kernel::Suites;
use set_rto_vmtests::guests::kernels;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One kernel before and one since Linux 6.5, which sends more SYNs at first.
const KERNELS: [&str; 2] = ["debian-6.1", "debian-6.12"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == guest::BOOT => guest::boot(rest),
        _ => Options::read(&arguments).and_then(|options| run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line.
#[derive(Default)]
struct Options {
    suite: PathBuf,
    bin_dir: PathBuf,
    out: PathBuf,
    names: Vec<String>,
}

impl Options {
    fn read(words: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--suite" => options.suite = fs::canonicalize(value()?)?,
                "--bin-dir" => options.bin_dir = fs::canonicalize(value()?)?,
                "--out" => options.out = value()?.into(),
                _ if word.starts_with('-') => bail!("unknown option {word}"),
                _ => options.names.push(word.clone()),
            }
        }
        if options.names.is_empty() {
            options.names = KERNELS.map(str::to_owned).to_vec();
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<()> {
    let room = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let known = kernels::parse(&fs::read_to_string(room.join("vm/KERNELS"))?)?;
    fs::create_dir_all(&options.out)?;
    let out = fs::canonicalize(&options.out)?;
    let mut suites = Suites::default();
    let mut accelerator = None;
    let mut scenes = Vec::new();
    for name in &options.names {
        let kernel = known.iter().find(|kernel| kernel.name == *name);
        let kernel = kernel.with_context(|| format!("KERNELS has no {name}"))?;
        println!("{name}: getting the kernel");
        let image = suites.image(kernel, &room.join("vm/kernels"))?;
        let scratch = out.join("scratch").join(name);
        fs::create_dir_all(&scratch)?;
        let accelerator = match accelerator {
            Some(known) => known,
            None => *accelerator.insert(guest::accelerator(&image, &scratch)?),
        };
        println!("{name}: booting {} ({accelerator:?})", image.origin);
        let quote = |path: &Path| format!("'{}'", path.display());
        let command =
            format!("{} --demo --bin-dir {}", quote(&options.suite), quote(&options.bin_dir));
        let args = &kernel.args;
        let guest = Guest { image: &image, args, accelerator, scratch: &scratch, command };
        let ran = guest.run(|line| {
            if !line.starts_with(outcome::RESULT) {
                println!("{name}: {line}");
            }
        })?;
        fs::write(out.join(format!("{name}.console")), ran.console.join("\n") + "\n")?;
        let output = ran.output.join("\n") + "\n";
        fs::write(out.join(format!("{name}.log")), &output)?;
        if ran.code != Some(0) {
            bail!("{name}: the scenes failed: exit code {:?}\n{output}", ran.code);
        }
        scenes.push(Scenes::read(&image.origin, &ran.output)?);
    }
    let table = table::markdown(&scenes);
    fs::write(out.join("demo.md"), &table)?;
    fs::write(out.join("timeline.svg"), timeline::svg(&scenes)?)?;
    println!("\n{table}");
    Ok(())
}
