//! Missing privileges, and kernels without BPF.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::state::refused;
use crate::harness::bpf;
use crate::harness::restrict::CAP_BPF;
use crate::harness::restrict::CAP_NET_ADMIN;
use crate::harness::restrict::CAP_PERFMON;
use crate::harness::restrict::Capability;
use crate::harness::restrict::Restriction;
use crate::harness::setrto::Output;
use crate::harness::setrto::SetRto;
use crate::harness::tests;

tests! {
    refuses_an_ordinary_user: 60,
    refuses_and_names_a_missing_capability: 60,
    works_with_just_the_capabilities_it_needs: 60,
    refuses_a_kernel_without_bpf: 60 anywhere,
    refuses_a_kernel_without_cgroup_bpf: 60 anywhere,
}

fn refuses_an_ordinary_user() -> Result<()> {
    let nobody = SetRto::of("a")?.restricted(Restriction::Unprivileged)?;
    refused(&nobody, &["install"], &["root"])?;
    // Once installed, an ordinary user cannot remove the policy.
    let root = SetRto::of("a")?;
    root.ok(&["install"])?;
    refused(&nobody, &["remove"], &["root"])?;
    refused(&nobody, &["install"], &["root"])?;
    ensure!(root.status()?.code == 0, "not installed: {:?}", root.status()?);
    // Commands that need no privilege work.
    nobody.ok(&["rules"])?;
    nobody.ok(&["--version"])?;
    Ok(())
}

/// Root without one of the capabilities.
fn refuses_and_names_a_missing_capability() -> Result<()> {
    let cases: [(&str, Vec<Capability>, &str); 5] = [
        ("a", vec![], "CAP_"),
        ("a", vec![CAP_NET_ADMIN, CAP_PERFMON], "CAP_BPF"),
        ("a", vec![CAP_BPF, CAP_PERFMON], "CAP_NET_ADMIN"),
        ("interfaces", vec![CAP_BPF, CAP_NET_ADMIN], "CAP_PERFMON"),
        // Enough rules to be looked up in tables.
        ("conditions", vec![CAP_BPF, CAP_NET_ADMIN], "CAP_PERFMON"),
    ];
    for (rules, kept, name) in cases {
        let restricted = SetRto::of(rules)?.restricted(Restriction::Only(kept))?;
        refused(&restricted, &["install"], &[name])?;
    }
    // The capabilities that are present are not reported as missing.
    let only = Restriction::Only(vec![CAP_NET_ADMIN, CAP_PERFMON]);
    let said = SetRto::of("a")?.restricted(only)?.run(&["install"])?;
    ensure!(!said.stderr.contains("CAP_NET_ADMIN"), "CAP_NET_ADMIN is there: {said}");
    Ok(())
}

/// A service with few capabilities instead of full root.
fn works_with_just_the_capabilities_it_needs() -> Result<()> {
    let (code, more) = (vec![CAP_BPF, CAP_NET_ADMIN], vec![CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON]);
    let sets = [
        ("a", &code),
        ("order", &code),
        ("wire", &code),
        ("conditions", &more),
        ("interfaces", &more),
    ];
    for (rules, kept) in sets {
        let root = SetRto::of(rules)?;
        let restricted = root.restricted(Restriction::Only(kept.clone()))?;
        // A first install, a repeated one, and one over another set of rules.
        for before in [&[][..], &["install"], &["install"]] {
            if !before.is_empty() {
                SetRto::of("b")?.ok(before)?;
            }
            restricted.ok(&["install"]).with_context(|| format!("{rules} after {before:?}"))?;
            let status = root.status()?;
            ensure!(status.code == 0, "{rules} after {before:?}: not installed: {status:?}");
        }
        restricted.ok(&["install"]).with_context(|| format!("{rules} twice"))?;
        restricted.ok(&["remove"]).with_context(|| format!("remove {rules}"))?;
    }
    Ok(())
}

fn refuses_a_kernel_without_bpf() -> Result<()> {
    let none = SetRto::of("a")?.restricted(Restriction::NoBpf)?;
    refused(&none, &["install"], &["CONFIG_BPF_SYSCALL"])?;
    judge_check(&none.run(&["check", "--json"])?, "CONFIG_BPF_SYSCALL")
}

/// A real kernel without BPF, if this is one; otherwise its errors are injected.
fn refuses_a_kernel_without_cgroup_bpf() -> Result<()> {
    let set_rto = SetRto::of("a")?;
    let none = match bpf::has_cgroups() {
        true => set_rto.restricted(Restriction::NoCgroupBpf)?,
        false => set_rto,
    };
    refused(&none, &["install"], &["CONFIG_CGROUP_BPF"])?;
    judge_check(&none.run(&["check", "--json"])?, "CONFIG_CGROUP_BPF")
}

/// `check` must report what is missing, and that it matters.
fn judge_check(output: &Output, word: &str) -> Result<()> {
    output.exits(2)?;
    let report = output.json()?;
    ensure!(report["ok"] == false, "all is well: {report}");
    let checks = report["checks"].as_array().context("no checks")?;
    let told = checks.iter().any(|check| {
        check["ok"] == false && check["detail"].as_str().is_some_and(|text| text.contains(word))
    });
    ensure!(told, "no check says {word}: {report}");
    Ok(())
}
