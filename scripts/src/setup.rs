//! Installs missing distribution packages, and no others.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use xshell::{Cmd, Shell, cmd};

use crate::managers::Manager;
use crate::needs::{Host, Need, Probe, missing, packages};
use crate::privilege::for_root;
use crate::step::command;

/// Installs the missing ones of `needs`. Changes nothing if none is missing. Errors name what is still missing and why
/// it could not be installed.
pub(crate) fn ensure(sh: &Shell, needs: &[&Need]) -> Result<()> {
    let host = Host::here();
    let manager = host.manager();
    let lacking = || missing(needs.iter().copied(), manager, |probe| host.meets(probe));
    let mut gone = lacking();
    if gone.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    println!("missing: {}", names(&gone));

    // Components belong to the toolchain in use, which is rustup's if rustup is installed.
    let components: Vec<_> = gone.iter().filter_map(|need| component(need)).collect();
    if !components.is_empty() && host.find("rustup").is_some() {
        println!("installing components of the Rust toolchain: {}", components.join(" "));
        cmd!(sh, "rustup component add {components...}").run()?;
        gone = lacking();
    }
    if gone.is_empty() {
        return Ok(());
    }

    let Some(manager) = manager else {
        let known = Manager::ALL.map(Manager::program).join(", ");
        bail!("none of {known} was found; install by hand: {}", names(&gone));
    };
    install(sh, &gone, manager)?;
    gone = lacking();
    if !gone.is_empty() {
        bail!("{} succeeded, but still missing: {}", manager.program(), names(&gone));
    }
    Ok(())
}

/// The needs that this machine does not meet now.
pub(crate) fn still_missing(needs: &[Need]) -> Vec<&Need> {
    let host = Host::here();
    missing(needs, host.manager(), |probe| host.meets(probe))
}

/// The names of needs for a message.
pub(crate) fn names(needs: &[&Need]) -> String {
    needs.iter().map(|need| need.name()).collect::<Vec<_>>().join(", ")
}

fn install(sh: &Shell, gone: &[&Need], manager: Manager) -> Result<()> {
    let sudo = for_root(&format!("installing packages for {}", names(gone)))?;
    if let Some(refresh) = manager.refresh(has_lists()) {
        words(sh, sudo, &refresh)?.run()?;
    }
    let has = |package: &str| {
        manager.lookup(package).is_some_and(|lookup| {
            words(sh, &[], &lookup)
                .is_ok_and(|lookup| lookup.quiet().ignore_stdout().ignore_stderr().run().is_ok())
        })
    };
    let packages = packages(gone, manager, has);
    println!("installing with {}: {}", manager.program(), packages.join(" "));
    let installed = words(sh, sudo, &manager.install(&packages))?.run();
    if let (Err(error), Manager::Pacman) = (&installed, manager) {
        bail!("{error}; if the package lists are out of date, run `pacman -Syu` first");
    }
    Ok(installed?)
}

fn words<'a>(sh: &'a Shell, sudo: &[&str], words: &[String]) -> Result<Cmd<'a>> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    Ok(command(sh, sudo, program).args(arguments))
}

/// True if pacman has already fetched package lists.
fn has_lists() -> bool {
    fs::read_dir(Path::new("/var/lib/pacman/sync")).is_ok_and(|mut dir| dir.next().is_some())
}

fn component(need: &Need) -> Option<&'static str> {
    match need.probe {
        Probe::Cargo("fmt") => Some("rustfmt"),
        Probe::Cargo(name) => Some(name),
        _ => None,
    }
}
