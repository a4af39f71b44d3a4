//! `cargo xtask dist --source`: the archive of the sources that a release has, and the recipes for the trees of others
//! with its checksum in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use super::cannot;
use super::files::packaging;

/// Stands for the checksum of the archive in recipes of the repository, which the archive contains.
const CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The same, as Nix writes it.
const NIX_CHECKSUM: &str = "    hash = lib.fakeHash;\n";
/// The recipes, below scripts/packaging.
const RECIPES: [&str; 4] = ["buildroot", "nix", "openwrt", "yocto"];
/// What Yocto's recipe requires, beside it.
const CRATES: &str = "yocto/recipes-connectivity/set-rto/set-rto-crates.inc";

/// Writes the archive of the last commit, and the recipes. Gives the folder.
pub(crate) fn run(sh: &Shell, into: &Path) -> Result<PathBuf> {
    let folder = into.join("source");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| cannot("empty", &folder))?;
    }
    fs::create_dir_all(&folder).with_context(|| cannot("make", &folder))?;
    let name = format!("set-rto-{}", env!("CARGO_PKG_VERSION"));
    let archive = folder.join(format!("{name}.tar.gz"));
    let changed = cmd!(sh, "git status --porcelain --untracked-files=no").quiet().read()?;
    if !changed.is_empty() {
        println!("note: the archive is of the last commit, without what has changed since");
    }
    // The time in it is the commit's. git compresses without name and time.
    cmd!(sh, "git archive --format=tar.gz --prefix={name}/ --output={archive} HEAD").run()?;
    let sum = cmd!(sh, "sha256sum {archive}").quiet().read()?;
    let sum = sum.split_whitespace().next().context("no checksum")?;
    let nix = format!("    hash = \"sha256:{sum}\";\n");
    let recipes = folder.join("recipes");
    for recipe in RECIPES {
        let from = packaging(&sh.current_dir()).join(recipe);
        cmd!(sh, "mkdir -p {recipes}").quiet().run()?;
        cmd!(sh, "cp -r {from} {recipes}/").quiet().run()?;
    }
    let mut put = 0;
    for file in below(&recipes)? {
        let text = fs::read_to_string(&file).with_context(|| cannot("read", &file))?;
        let fresh = text.replace(CHECKSUM, sum).replace(NIX_CHECKSUM, &nix);
        if fresh != text {
            put += 1;
            fs::write(&file, fresh).with_context(|| cannot("write", &file))?;
        }
    }
    // Buildroot's is of an archive that it makes of this one and all crates.
    ensure!(put == RECIPES.len() - 1, "{put} recipes have a place for the checksum");
    let lock = sh.read_file("Cargo.lock")?;
    fs::write(recipes.join(CRATES), crates(&lock)?).with_context(|| cannot("write", &recipes))?;
    println!("{sum}  {}", archive.display());
    Ok(folder)
}

fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| cannot("read", folder))? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(below(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

/// The crates of Cargo.lock as `bitbake -c update_crates` lists them.
fn crates(lock: &str) -> Result<String> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock["package"].as_array().context("Cargo.lock has no packages")?;
    let text = |package: &toml::Value, key: &str| {
        package.get(key).and_then(toml::Value::as_str).map(str::to_owned)
    };
    let (mut uris, mut sums) = (String::new(), String::new());
    for package in packages {
        // Ours have none.
        let Some(checksum) = text(package, "checksum") else { continue };
        let name = text(package, "name").context("a package without a name")?;
        let version = text(package, "version").context("a package without a version")?;
        uris += &format!("    crate://crates.io/{name}/{version} \\\n");
        sums += &format!("SRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"\n");
    }
    Ok(format!("# The crates of Cargo.lock.\n\nSRC_URI += \" \\\n{uris}\"\n\n{sums}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_have_the_checksum() {
        let sh = Shell::new().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        sh.change_dir(root);
        if !root.join(".git").exists() {
            println!("no git repository here: nothing to pack");
            return;
        }
        let temp = sh.create_temp_dir().unwrap();
        let folder = run(&sh, temp.path()).unwrap();
        let archive = folder.join(format!("set-rto-{}.tar.gz", env!("CARGO_PKG_VERSION")));
        let sum = cmd!(sh, "sha256sum {archive}").quiet().read().unwrap();
        let sum = sum.split_whitespace().next().unwrap();
        let yocto = format!("set-rto_{}.bb", env!("CARGO_PKG_VERSION"));
        for recipe in [
            "openwrt/set-rto/Makefile".to_owned(),
            "nix/package.nix".to_owned(),
            format!("yocto/recipes-connectivity/set-rto/{yocto}"),
        ] {
            let text = fs::read_to_string(folder.join("recipes").join(&recipe)).unwrap();
            assert!(text.contains(sum), "{recipe}");
            assert!(!text.contains(CHECKSUM), "{recipe}");
        }
        assert!(folder.join("recipes").join(CRATES).exists());
        let listed = cmd!(sh, "tar -tzf {archive}").quiet().read().unwrap();
        assert!(listed.contains("/LICENSE-MIT\n") && listed.contains("/Cargo.lock\n"));
    }

    #[test]
    fn crates_of_the_lock() {
        let text = crates(include_str!("../../../Cargo.lock")).unwrap();
        assert!(text.contains("    crate://crates.io/argh/0.1."), "{text}");
        assert!(!text.contains("set-rto"), "ours are in the archive");
        let (uris, sums) = (text.matches("crate://").count(), text.matches(".sha256sum]").count());
        assert!(uris > 50 && uris == sums, "{uris} {sums}");
    }
}
