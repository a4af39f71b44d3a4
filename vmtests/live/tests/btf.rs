//! Built-in BTF for kernels without BTF. Most of these tests hide the running kernel's own BTF.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use anyhow::ensure;

use set_rto_compiler::structures::MEMBERS;

use super::interfaces;
use super::policy::Policy;
use crate::harness::Skip;
use crate::harness::bpf;
use crate::harness::btf;
use crate::harness::btf::CARRIER;
use crate::harness::btf::Copy;
use crate::harness::lab::Lab;
use crate::harness::note;
use crate::harness::setrto::SetRto;
use crate::harness::tests;
use crate::harness::wire::kernel_version;

const RULES: &str = include_str!("../rules/interfaces.toml");

tests! {
    btf_embedded_is_used: 60,
    btf_embedded_outgoing: 60,
    btf_embedded_incoming: 60,
    btf_embedded_hot_plugged: 60,
    btf_embedded_namespaces: 60,
    btf_embedded_moved_is_detected: 240,
    btf_of_the_kernel_comes_first: 60,
    btf_of_other_kernels_gives_no_wrong_answer: 60,
}

/// The executable that carries this kernel's BTF. The kernel's own BTF is now hidden.
fn embedded() -> Result<SetRto> {
    let path = btf::carrier()?;
    if !btf::is_of_this_kernel(&path)? {
        bail!(Skip::new("no executable carries the BTF of this kernel"));
    }
    // A kernel with another configuration may have the same release string.
    if !bpf::may_read_memory() {
        bail!(Skip::new("this kernel does not let programs read its structures"));
    }
    btf::hide()?;
    Ok(SetRto::at(path))
}

/// Runs an interface test with that executable.
fn like(name: &str) -> Result<()> {
    embedded()?;
    interfaces::run_with(CARRIER, name).map_err(|error| match error.downcast_ref::<Skip>() {
        Some(skip) => anyhow!("not run: {skip}"),
        None => error,
    })
}

/// The method of finding devices, as `status` reports it.
fn method(set_rto: &SetRto) -> Result<String> {
    let status = set_rto.status()?;
    let method = status.json["interface_method"].as_str();
    Ok(method.with_context(|| format!("no method in {status:?}"))?.to_owned())
}

fn btf_embedded_is_used() -> Result<()> {
    let set_rto = embedded()?;
    let checked = set_rto.ok(&["check"])?;
    let line = checked.stdout.lines().find(|line| line.contains("interface:"));
    let line = line.with_context(|| format!("nothing about interfaces in {checked}"))?;
    ensure!(line.starts_with("ok ") && line.contains("BTF that set-rto was built with"), "{line}");
    set_rto.ok(&["install"])?;
    ensure!(method(&set_rto)? == "route", "not by route: {:?}", set_rto.status()?);
    Ok(())
}

fn btf_embedded_outgoing() -> Result<()> {
    like("interface_outgoing")
}

fn btf_embedded_incoming() -> Result<()> {
    like("interface_incoming_bound_listener")
}

fn btf_embedded_hot_plugged() -> Result<()> {
    like("interface_hot_plugged")
}

fn btf_embedded_namespaces() -> Result<()> {
    like("interface_of_another_namespace")
}

/// Moves each member that the program reads, one at a time, to a wrong offset, as in the BTF of another
/// configuration.
fn btf_embedded_moved_is_detected() -> Result<()> {
    embedded()?;
    let copy = Copy::of(&btf::carrier()?)?;
    let set_rto = SetRto::at(copy.path.clone());
    // Add a device besides `lo`: another member could hold the same number by chance.
    let _lab = Lab::with_cable()?;
    let is_seen_here = |name: &str| match name {
        // This member comes first in its struct in every kernel. Nothing is found through it if there are few
        // devices.
        "node_next" => false,
        // This member is used only for options of incoming connections. Before 5.17 the packet is not read, because
        // the kernel does not report the ingress device either.
        "skb_iif" | "ops_skb" => kernel_version().is_ok_and(|version| version >= (5, 17)),
        _ => true,
    };
    let members: Vec<_> =
        MEMBERS.iter().map(|(name, _)| *name).filter(|name| is_seen_here(name)).collect();
    ensure!(members.len() >= 10, "it reads only {members:?}");
    let mut unseen = Vec::new();
    for name in &members {
        for by in [8, 4] {
            copy.move_member(name, by)?;
            let said = set_rto.ok(&["check"])?;
            let is_seen = said.stdout.contains("local address, the BTF does not match this kernel");
            if !is_seen {
                unseen.push(format!("{name} by {by}"));
            }
        }
    }
    note(format_args!("moved {} members", members.len()));
    ensure!(unseen.is_empty(), "taken for this kernel's: {}", unseen.join(", "));
    Ok(())
}

/// The built-in BTF is unused if the kernel provides its own.
fn btf_of_the_kernel_comes_first() -> Result<()> {
    if !btf::is_shown() {
        bail!(Skip::new("this kernel has no BTF of its own"));
    }
    let copy = Copy::of(&btf::carrier()?)?;
    copy.move_member("dev_name", 8)?;
    let set_rto = SetRto::at(copy.path.clone());
    set_rto.ok(&["install"])?;
    ensure!(method(&set_rto)? == "route", "the kernel's BTF is not used: {:?}", set_rto.status()?);
    Ok(())
}

/// The answers are correct, whether or not the BTF fits by chance.
fn btf_of_other_kernels_gives_no_wrong_answer() -> Result<()> {
    let path = btf::carrier()?;
    btf::hide()?;
    let copy = Copy::of(&path)?;
    if btf::is_of_this_kernel(&path)? {
        copy.move_member("sk_dst_cache", 8)?;
    }
    let set_rto = SetRto::at(copy.path.clone());
    let policy = Policy::install_with(set_rto, RULES, &["va", "ax0"])?;
    for (name, rule) in [("ax0", Some("interface-name")), ("va", None)] {
        policy.outgoing(policy.cable(name)?.remote4(1001), rule)?;
        policy.outgoing(policy.cable(name)?.remote6(1001), rule)?;
    }
    note(format_args!("by {}", method(&policy.set_rto)?));
    policy.finish()
}
