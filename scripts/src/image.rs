//! `cargo xtask image`: boots images of the systems that set-rto is packaged for, and tests the packages there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::needs::{BOARDS, BUILD, IMAGE, MATRIX, MIPS, Need, PACKAGING, SYSTEM};
use crate::privilege::is_root;
use crate::step::{step, tee};
use crate::{build, dist, readme, setup};

/// The README whose blocks of commands are run in images as they are.
pub(crate) const COMMANDS: &str = "scripts/packaging/README.md";
/// Those images, and the titles of the blocks.
pub(crate) const BLOCKS: [(&str, &str); 2] = [("debian", "Debian"), ("container", "Container")];

/// Installs the tools that build boards of these targets. Not every distribution has them: then that board fails, and
/// the others still run.
pub(crate) fn tools(sh: &Shell, targets: &[String]) {
    if targets.iter().any(|target| target == "mips")
        && let Err(error) = setup::ensure(sh, &MIPS.iter().collect::<Vec<_>>())
    {
        println!("cannot build the board mips: {error:#}");
    }
}

/// Builds a package for each rules file of each image, and boots the images.
pub(crate) fn run(sh: &Shell, options: &[String]) -> Result<()> {
    let image = step("build the machines", || build::dev(sh, "image", None))?;
    if options.iter().any(|word| word == "--list") {
        return Ok(cmd!(sh, "{image} --list").run()?);
    }
    let needs =
        BUILD.iter().chain(PACKAGING).chain(MATRIX).chain(IMAGE).chain(SYSTEM).chain(BOARDS);
    setup::ensure(sh, &needs.collect::<Vec<&Need>>())?;
    let out = build::target_dir(sh)?.join("image");
    let built = out.join("built");
    let rooms = sh.current_dir().join("vmtests").join("images");
    let wanted: Vec<_> = options.iter().filter(|word| !word.starts_with('-')).collect();
    let listed = cmd!(sh, "{image} --list").quiet().read()?;
    let mut made = Vec::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, room, target, ..] = words[..] else { continue };
        let is_wanted = wanted.is_empty() || wanted.iter().any(|word| *word == name);
        // Several images may use the same packages.
        if is_wanted && !made.contains(&(room, target)) {
            let into = built.join(format!("{room}-{target}"));
            tools(sh, &[target.to_owned()]);
            packages(sh, &rooms.join(room), target, &into)?;
            if let Some((_, title)) = BLOCKS.iter().find(|(of, _)| *of == room) {
                let commands = readme::commands(&sh.read_file(COMMANDS)?, title)?;
                sh.write_file(into.join("readme.sh"), commands)?;
            }
            if room == "debian" {
                step("lintian", || lintian(sh, &into.join("1.deb")))?;
                linked(sh, &rooms.join(room).join("1.toml"), &into)?;
            }
            made.push((room, target));
        }
    }
    let mut command = Command::new(&image);
    command.arg("--built").arg(&built).arg("--out").arg(out.join("guests")).args(options);
    let (status, _) = step("boot the images", || tee(&mut command))?;
    if !status.success() {
        bail!("some images failed; their consoles are in {}", out.display());
    }
    Ok(())
}

/// Debian's own check of a package, except for what debian/lintian-overrides lists.
fn lintian(sh: &Shell, package: &Path) -> Result<()> {
    let root = is_root().then_some("--allow-root");
    Ok(cmd!(sh, "lintian {root...} --fail-on error,warning {package}").run()?)
}

/// `linked`: what a distribution would package, linked with the libbpf of that system.
fn linked(sh: &Shell, rules: &Path, into: &Path) -> Result<()> {
    let build = || build::dev_with_system(sh, rules);
    let binary = step("build set-rto with the libbpf of this machine", build)?;
    let to = into.join("linked");
    fs::copy(&binary, &to).with_context(|| format!("cannot copy to {}", to.display()))?;
    Ok(())
}

/// For each rules file `N.toml` of an image: `N.deb`. Of the first one, also the other files that `dist` makes.
pub(crate) fn packages(sh: &Shell, room: &Path, target: &str, into: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let is_rules = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let mut rules: Vec<_> = sh.read_dir(room)?.into_iter().filter(|path| is_rules(path)).collect();
    rules.sort();
    for (at, rules) in rules.iter().enumerate() {
        let name = rules.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let targets = vec![target.to_owned()];
        let options = dist::Options { targets, revision: name.clone(), ..dist::Options::default() };
        for folder in dist::run(sh, &options, Some(rules), &into.join("dist"))? {
            for file in sh.read_dir(folder)?.into_iter().filter(|path| path.is_file()) {
                let to = match file.extension() {
                    Some(extension) if extension == "deb" => into.join(format!("{name}.deb")),
                    _ if at > 0 => continue,
                    _ => into.join(file.file_name().unwrap_or_default()),
                };
                fs::copy(&file, &to).with_context(|| format!("cannot copy to {}", to.display()))?;
            }
        }
    }
    Ok(())
}
