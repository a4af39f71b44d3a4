//! `cargo xtask image`: boots images of the systems that set-rto is packaged for, and tries the packages there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::needs::{BUILD, IMAGE, MATRIX, Need, PACKAGING};
use crate::step::{step, tee};
use crate::{build, dist, setup};

/// Builds a package for each rules file of each image, and boots the images.
pub(crate) fn run(sh: &Shell, options: &[String]) -> Result<()> {
    let image = step("build the machines", || build::dev(sh, "image", None))?;
    if options.iter().any(|word| word == "--list") {
        return Ok(cmd!(sh, "{image} --list").run()?);
    }
    let needs = BUILD.iter().chain(PACKAGING).chain(MATRIX).chain(IMAGE);
    setup::ensure(sh, &needs.collect::<Vec<&Need>>())?;
    let out = build::target_dir(sh)?.join("image");
    let built = out.join("built");
    let rooms = sh.current_dir().join("vmtests").join("images");
    for room in sh.read_dir(&rooms)?.into_iter().filter(|path| path.is_dir()) {
        let name = room.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wanted: Vec<_> = options.iter().filter(|word| !word.starts_with('-')).collect();
        if wanted.is_empty() || wanted.contains(&&name) {
            packages(sh, &room, &built.join(name))?;
        }
    }
    let mut command = Command::new(&image);
    command.arg("--built").arg(&built).arg("--out").arg(out.join("guests")).args(options);
    let (status, _) = step("boot the images", || tee(&mut command))?;
    if !status.success() {
        bail!("not all images did as expected; their consoles are in {}", out.display());
    }
    Ok(())
}

/// For each rules file `N.toml` of an image: `N.deb`; and of the first one what else `dist` makes.
fn packages(sh: &Shell, room: &Path, into: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let is_rules = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    let mut rules: Vec<_> = sh.read_dir(room)?.into_iter().filter(|path| is_rules(path)).collect();
    rules.sort();
    for (at, rules) in rules.iter().enumerate() {
        let name = rules.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let targets = vec!["x86_64".to_owned()];
        let options =
            dist::Options { targets, rules: None, btf: Vec::new(), revision: name.clone() };
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
