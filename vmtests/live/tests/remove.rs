//! remove: what it leaves behind, and a second run.

use std::path::Path;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use super::state::A;
use super::state::PIN;
use super::state::attached;
use super::state::expect_timer;
use super::state::pins;
use crate::harness::bpf;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Lab;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    remove_gives_the_default_back: 60,
    remove_twice: 60,
    remove_own_leaves_other_rules: 60,
    remove_leaves_what_others_pinned: 60,
}

fn remove_gives_the_default_back() -> Result<()> {
    let a = SetRto::of("a")?;
    let (_lab, cable) = Lab::with_cable()?;
    let fresh = pins()?;
    // The default applies at once, although the kernel frees a link from a work queue some milliseconds later.
    for _ in 0..20 {
        a.ok(&["install"])?;
        expect_timer(&cable, A)?;
        a.ok(&["remove"])?;
        expect_timer(&cable, DEFAULT_RTO)?;
        ensure!(attached()?.is_empty(), "{:?} are attached", attached()?);
    }
    // It also applies while another process holds the link open.
    a.ok(&["install"])?;
    let held = bpf::open_pin(&Path::new(PIN).join("link"))?;
    a.ok(&["remove"])?;
    expect_timer(&cable, DEFAULT_RTO).context("while the link is held open")?;
    drop(held);
    let left = pins()?;
    ensure!(left == fresh, "before install {fresh:?}, after remove {left:?}");
    Ok(())
}

fn remove_twice() -> Result<()> {
    let a = SetRto::of("a")?;
    a.ok(&["remove"])?.says(&["set-rto: ", "not installed"])?;
    a.ok(&["install"])?;
    let first = a.ok(&["remove"])?;
    ensure!(first.stderr.is_empty(), "a first remove has nothing to remark: {first}");
    a.ok(&["remove"])?.says(&["set-rto: ", "not installed"])?;
    // The executable of other rules can remove it, too.
    a.ok(&["install"])?;
    SetRto::of("b")?.ok(&["remove"])?;
    ensure!(a.status()?.json["installed"] == Value::Bool(false), "{:?}", a.status()?);
    Ok(())
}

/// With `--own`, a policy attached by another binary stays, as when a replaced pod ends after its successor has
/// started.
fn remove_own_leaves_other_rules() -> Result<()> {
    let (a, b) = (SetRto::of("a")?, SetRto::of("b")?);
    a.ok(&["remove", "--own"])?.says(&["set-rto: ", "not installed"])?;
    a.ok(&["install"])?;
    b.ok(&["remove", "--own"])?.says(&["set-rto: ", "not removed", "another binary"])?;
    ensure!(a.status()?.code == 0, "removed: {:?}", a.status()?);
    a.ok(&["remove", "--own"])?;
    ensure!(a.status()?.json["installed"] == Value::Bool(false), "{:?}", a.status()?);
    Ok(())
}

/// A foreign pin in our directory stays and does not prevent the removal.
fn remove_leaves_what_others_pinned() -> Result<()> {
    let a = SetRto::of("a")?;
    a.ok(&["install"])?;
    let theirs = Path::new(PIN).join("theirs");
    bpf::pin(&bpf::map()?, &theirs)?;
    a.ok(&["remove"])?;
    ensure!(theirs.exists(), "{theirs:?} was removed");
    ensure!(attached()?.is_empty(), "{:?} are attached", attached()?);
    a.ok(&["install"])?;
    ensure!(a.status()?.code == 0, "not installed: {:?}", a.status()?);
    Ok(())
}
