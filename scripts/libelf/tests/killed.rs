//! If the build of the C libraries is killed at any moment or runs twice at once, cargo's registry is unchanged and
//! the next build succeeds. Leftovers of an older set-rto in the registry do no harm.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// A limit that exceeds the time of one build on the slowest machine.
const LIMIT: Duration = Duration::from_secs(600);

/// The number of compiled files below a directory of this name when a build is killed: first libelf's, then libbpf's.
const MOMENTS: [(&str, usize); 5] =
    [("out", 1), ("out", 60), ("staticobjs", 1), ("staticobjs", 12), ("staticobjs", 20)];

#[test]
fn killed_builds_and_two_at_once_leave_the_registry_alone() {
    let scratch = Scratch(env::temp_dir().join(format!("set-rto-killed-{}", std::process::id())));
    fs::create_dir(&scratch.0).unwrap();
    let home = scratch.0.join("home");
    own_home(&home).unwrap();
    let [one, two] = ["one", "two"].map(|name| scratch.0.join(name));

    let mut killed = 0;
    let mut cut_off = false;
    let mut before = BTreeMap::new();
    for (folder, moment) in MOMENTS {
        let mut build = start(&home, &one).unwrap();
        let end = Instant::now() + LIMIT;
        let is_over = loop {
            if objects(&one, folder).len() >= moment {
                break false;
            }
            if build.try_wait().unwrap().is_some() {
                break true;
            }
            assert!(Instant::now() < end, "no {moment} files in {folder} after {LIMIT:?}");
            thread::sleep(Duration::from_millis(2));
        };
        let group = format!("-{}", build.id());
        let kill = Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
        build.wait().unwrap();
        killed += usize::from(!is_over && kill.success());
        if !is_over {
            // A kill at the worst moment leaves half of the newest object.
            cut_off |= cut_newest_object_of_libbpf(&one).unwrap();
        }
        if before.is_empty() {
            // cargo has unpacked everything. Now add the leftovers that older builds would find.
            spoil(&libbpf_sys(&home).unwrap()).unwrap();
            before = listing(&libbpf_sys(&home).unwrap());
        }
    }
    assert!(killed >= 3, "only {killed} builds could be killed before they ended");
    assert!(cut_off, "no build was killed while it compiled libbpf");

    let mut both = [start(&home, &one).unwrap(), start(&home, &two).unwrap()];
    for build in &mut both {
        assert!(build.wait().unwrap().success(), "the build after the killed ones");
    }
    let libraries = |target: &Path| -> Vec<_> {
        let sizes = outputs(target, &["a"])
            .into_iter()
            .map(|file| (file.file_name().unwrap().to_owned(), fs::metadata(&file).unwrap().len()));
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort();
        sizes
    };
    assert_eq!(libraries(&one), libraries(&two));
    for name in ["libelf.a", "libz.a", "libbpf.a"] {
        assert!(libraries(&one).iter().any(|(file, _)| file == name), "{name} was not built");
    }
    assert!(
        listing(&libbpf_sys(&home).unwrap()) == before,
        "the registry's libbpf-sys has changed"
    );
}

/// The directory is removed when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // The failure has already been reported.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A cargo home with the user's packages, which are not unpacked yet.
fn own_home(home: &Path) -> io::Result<()> {
    let [set, usual] = ["CARGO_HOME", "HOME"].map(|name| env::var_os(name).map(PathBuf::from));
    let user = set.or_else(|| Some(usual?.join(".cargo"))).expect("a home of cargo's");
    fs::create_dir_all(home.join("registry"))?;
    for name in ["config.toml", "registry/cache", "registry/index"] {
        if user.join(name).exists() {
            symlink(user.join(name), home.join(name))?;
        }
    }
    Ok(())
}

/// Starts a build of only the C libraries and what links them, in its own process group.
fn start(home: &Path, target: &Path) -> io::Result<Child> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--quiet", "--offline", "--no-run", "--test", "linked"]);
    for package in ["libbpf-sys", "set-rto-libelf"] {
        cargo.arg("--config").arg(format!("profile.dev.package.{package}.opt-level=0"));
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("CARGO_BUILD_TARGET");
    cargo.env("CARGO_HOME", home).env("CARGO_TARGET_DIR", target);
    cargo.process_group(0).spawn()
}

/// The files with one of these endings that build scripts have made below `target`.
fn outputs(target: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(&target.join("debug/build"), &mut |file| {
        if file.extension().is_some_and(|end| ends.iter().any(|one| end == *one)) {
            files.push(file.to_owned());
        }
    });
    files
}

/// The compiled files in directories of this name.
fn objects(target: &Path, folder: &str) -> Vec<PathBuf> {
    let mut files = outputs(target, &["o"]);
    files.retain(|file| file.parent().is_some_and(|parent| parent.ends_with(folder)));
    files
}

/// False if there is none yet.
fn cut_newest_object_of_libbpf(target: &Path) -> io::Result<bool> {
    let time = |file: &PathBuf| fs::metadata(file).and_then(|data| data.modified()).ok();
    let Some(newest) = objects(target, "staticobjs").into_iter().max_by_key(time) else {
        return Ok(false);
    };
    let file = fs::OpenOptions::new().write(true).open(newest)?;
    file.set_len(file.metadata()?.len() / 2)?;
    Ok(true)
}

fn libbpf_sys(home: &Path) -> io::Result<PathBuf> {
    for registry in fs::read_dir(home.join("registry/src"))? {
        for package in fs::read_dir(registry?.path())? {
            let package = package?;
            if package.file_name().to_string_lossy().starts_with("libbpf-sys-") {
                return Ok(package.path());
            }
        }
    }
    Err(io::Error::other("cargo has not unpacked libbpf-sys"))
}

/// Leftovers observed after killed builds of elfutils and zlib with their own configure and make.
fn spoil(package: &Path) -> io::Result<()> {
    let deps = package.join("elfutils/libelf/.deps");
    fs::create_dir(&deps)?;
    fs::write(deps.join("elf_newdata.Plo"), "elf_newdata.os: elf_newdata.c /u")?;
    for file in ["elfutils/config.h", "elfutils/libelf/config.h"] {
        fs::write(package.join(file), "#error cut off")?;
    }
    for file in ["elfutils/Makefile", "elfutils/libelf/Makefile", "zlib/Makefile"] {
        fs::write(package.join(file), "elf_begin.o: /u")?;
    }
    for file in ["elfutils/libelf/elf_begin.o", "elfutils/libelf/libelf.a", "zlib/adler32.o"] {
        fs::write(package.join(file), "cut off")?;
    }
    Ok(())
}

/// Each file with its content, and each directory.
fn listing(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    walk(dir, &mut |path| {
        let content = if path.is_dir() {
            Vec::new()
        } else {
            fs::read(path).expect("a file of the registry")
        };
        found.insert(path.to_owned(), content);
    });
    found
}

fn walk(dir: &Path, each: &mut impl FnMut(&Path)) {
    // A running build creates and removes directories.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        each(&path);
        if path.is_dir() && !path.is_symlink() {
            walk(&path, each);
        }
    }
}
