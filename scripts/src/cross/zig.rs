//! zig as cross compiler: clang with musl and kernel headers for every machine, from one Python package.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result, ensure};
use set_rto_downloads::cache;
use xshell::{Shell, cmd};

use crate::targets::Zig;

/// Pinned: another version makes binaries of other sizes.
const VERSION: &str = "0.17.1";

/// Linked instead of libunwind. Rust's standard library walks the stack to print a panic. The binary has neither the
/// tables nor the names for that, so a walk that ends at once prints the same and takes no room.
/// 5: _URC_END_OF_STACK; 1: _UVRSR_NOT_IMPLEMENTED, of 32-bit ARM.
const NO_UNWINDING: &str = "\
int _Unwind_Backtrace(void) { return 5; }
__UINTPTR_TYPE__ _Unwind_GetIP(void) { return 0; }
int _Unwind_VRS_Get(void) { return 1; }
int _Unwind_VRS_Set(void) { return 1; }
";

/// The folder that this is in: another text needs another name.
const LIBRARIES: &str = "no-unwinding";

/// Names a file: a link that strips also writes the unstripped binary to it.
pub(crate) const SYMBOLS: &str = "SET_RTO_SYMBOLS";

/// Programs for cargo's environment.
pub(super) struct Tools {
    /// C compiler, and linker for Rust's objects.
    pub(super) cc: PathBuf,
    pub(super) ar: PathBuf,
    pub(super) ranlib: PathBuf,
}

/// The C library that zig brings.
pub(crate) struct Musl {
    pub(crate) version: String,
    pub(crate) copyright: PathBuf,
}

/// Which it is.
///
/// # Errors
/// zig was not fetched, or has it elsewhere.
pub(crate) fn musl() -> Result<Musl> {
    let folder = cache::dir()?.join(format!("zig/{VERSION}/ziglang/lib/libc/musl"));
    let file = folder.join("src/internal/version.h");
    let text = fs::read_to_string(&file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let version = text.split('"').nth(1).context("musl has no version")?.to_owned();
    Ok(Musl { version, copyright: folder.join("COPYRIGHT") })
}

/// Fetches zig, and writes the programs for a target.
///
/// # Errors
/// pip cannot fetch it, or it does not run here.
pub(super) fn tools(sh: &Shell, triple: &str, target: &Zig) -> Result<Tools> {
    let zig = zig(sh)?;
    let dir = cache::dir()?.join("cross").join(triple);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let cc = dir.join("cc");
    script(&cc, &compiler(&zig, target, &dir))?;
    let [ar, ranlib] = ["ar", "ranlib"].map(|name| (name, dir.join(name)));
    for (name, path) in [&ar, &ranlib] {
        script(path, &format!("exec '{}' {name} \"$@\"\n", zig.display()))?;
    }
    let (ar, ranlib) = (ar.1, ranlib.1);
    cache::entry(&format!("cross/{triple}/{LIBRARIES}"), |dir| {
        let [source, object, library] =
            ["nounwind.c", "nounwind.o", "libnounwind.a"].map(|name| dir.join(name));
        fs::write(&source, NO_UNWINDING)?;
        cmd!(sh, "{cc} -Os -c {source} -o {object}").run()?;
        Ok(cmd!(sh, "{ar} cr {library} {object}").run()?)
    })?;
    Ok(Tools { cc, ar, ranlib })
}

/// The text of the C compiler. cc-rs adds what it thinks of the machine; zig knows it better. For
/// `-g`, zig would first make its C library once more; so what it calls the linker with is repeated.
fn compiler(zig: &Path, target: &Zig, dir: &Path) -> String {
    let call = format!(
        "'{}' cc -target {} -mcpu={} -L'{}' \"$@\"",
        zig.display(),
        target.target,
        target.cpu,
        dir.join(LIBRARIES).display(),
    );
    // lld aligns for pages of 64 KiB, in the file too; 32-bit ARM Linux has only 4 KiB pages.
    let pages = match target.target.starts_with("arm-") {
        true => "-Wl,-z,max-page-size=4096 ",
        false => "",
    };
    let zig = zig.display();
    format!(
        "\
for word; do
	shift
	case $word in
	--target=*) ;;
	-lunwind) set -- \"$@\" -lnounwind ;;
	-Wl,--strip-*) strip=1 ;;
	*) set -- \"$@\" \"$word\" ;;
	esac
done
[ -n \"$strip\" ] || exec {call}
if [ -n \"${{{SYMBOLS}}}\" ]; then
	link=$({call} {pages}-v 2>&1 | grep '^ld.lld ' | tail -n 1 | sed -e \"s| -o [^ ]*| -o ${{{SYMBOLS}}}|\" -e 's/ -[sS] / /')
	'{zig}' $link || exit
fi
exec {call} {pages}-Wl,--strip-all
"
    )
}

fn zig(sh: &Shell) -> Result<PathBuf> {
    let dir = cache::entry(&format!("zig/{VERSION}"), |dir| {
        println!("getting zig {VERSION}, a cross compiler, with pip: 100 MB, once");
        let package = format!("ziglang=={VERSION}");
        let pip = cmd!(
            sh,
            "python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile"
        );
        pip.args(["--root-user-action=ignore", "--target"]).arg(dir).arg(&package).run().context(
            "zig cannot be had: cross builds need pip's package `ziglang`, or a copy of it in the cache",
        )
    })?;
    let zig = dir.join("ziglang/zig");
    let version = cmd!(sh, "{zig} version").quiet().read()?;
    ensure!(version.trim() == VERSION, "{} is not {VERSION}", zig.display());
    Ok(zig)
}

/// Writes a shell script. zig's own cache is in the same folder.
fn script(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let cache = cache::dir()?.join("zig/cache");
    let cache = cache.display();
    let text = format!(
        "#!/bin/sh\nexport ZIG_GLOBAL_CACHE_DIR='{cache}' ZIG_LOCAL_CACHE_DIR='{cache}'\n{text}"
    );
    if fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    // Another build may be running it.
    let fresh = path.with_extension(process::id().to_string());
    fs::write(&fresh, text).with_context(cannot)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).with_context(cannot)?;
    fs::rename(&fresh, path).with_context(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets;

    /// What the compiler calls zig with.
    fn told(words: &[&str]) -> String {
        let sh = Shell::new().unwrap();
        let temp = sh.create_temp_dir().unwrap();
        let zig = temp.path().join("a zig");
        fs::write(&zig, "#!/bin/sh\nprintf '<%s>' \"$@\"\n").unwrap();
        fs::set_permissions(&zig, fs::Permissions::from_mode(0o755)).unwrap();
        let target = targets::known("s390x").unwrap();
        let text = compiler(&zig, &target.zig, Path::new("/d"));
        cmd!(sh, "sh -c {text} cc {words...}").quiet().read().unwrap()
    }

    #[test]
    fn what_is_for_zig_reaches_it() {
        let machine = "<cc><-target><s390x-linux-musl><-mcpu=z10>";
        let own = format!("{machine}<-L/d/no-unwinding>");
        assert_eq!(told(&["--target=x", "-c", "a b"]), format!("{own}<-c><a b>"));
        assert_eq!(told(&["-lunwind", "-lc"]), format!("{own}<-lnounwind><-lc>"));
        let linked = format!("{own}<x.o><-Wl,--strip-all>");
        for strip in ["-Wl,--strip-all", "-Wl,--strip-debug"] {
            assert_eq!(told(&["x.o", strip]), linked);
        }
    }
}
