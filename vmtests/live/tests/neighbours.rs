//! Other sock_ops programs on the same hook: the last answer decides, and set-rto answers only for connections that
//! match a rule.

use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::support::expect_armed;
use super::support::expect_synack_timer;
use super::support::far_port;
use crate::harness::bpf;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::clock::Hz;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::neighbour::Neighbour;
use crate::harness::sandbox;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::listen;
use crate::harness::tests;

/// The port and timer of the default rule, and a port without a rule.
const PORT: u16 = 12345;
const OURS: Duration = Duration::from_secs(20);
const NO_RULE: u16 = 12346;
/// The answer of the other program.
const THEIRS: Duration = Duration::from_secs(7);

tests! {
    neighbour_keeps_its_answer_where_no_rule_is: 60,
    neighbour_attached_after_us_that_is_silent: 60,
    neighbour_attached_after_us_that_answers: 60,
    neighbour_in_a_child_cgroup_is_overruled: 60,
    neighbour_that_answers_other_questions: 60,
    neighbours_survive_install_and_remove: 60,
    neighbour_that_admits_no_other: 60,
}

struct Scene {
    set_rto: SetRto,
    lab: Lab,
    cable: Cable,
    theirs: Neighbour,
}

impl Scene {
    fn new() -> Result<Self> {
        let (lab, cable) = Lab::with_cable()?;
        let jiffies = Hz::of_this_kernel()?.jiffies(THEIRS);
        let theirs = Neighbour::Answers(jiffies.try_into()?);
        Ok(Scene { set_rto: SetRto::of("default")?, lab, cable, theirs })
    }

    /// Checks the timers of connections with our port and with a port that no rule names, for SYNs and for SYN-ACKs.
    fn expect(&self, with_rule: Duration, without: Duration) -> Result<()> {
        for (port, rto) in [(PORT, with_rule), (NO_RULE, without)] {
            expect_armed(&Connection::open(self.cable.remote4(port))?, rto)
                .with_context(|| format!("SYN to port {port}"))?;
            let here = (self.cable.here4(), port).into();
            let _listener = listen(here, None)?;
            expect_synack_timer(&self.lab, &self.cable, self.cable.remote4(far_port()), here, rto)
                .with_context(|| format!("SYN-ACK from port {port}"))?;
        }
        Ok(())
    }
}

fn neighbour_keeps_its_answer_where_no_rule_is() -> Result<()> {
    let scene = Scene::new()?;
    scene.theirs.attach("theirs", &sandbox::cgroup()?)?;
    scene.expect(THEIRS, THEIRS).context("before install")?;
    scene.set_rto.ok(&["install"])?;
    scene.expect(OURS, THEIRS).context("installed")?;
    let status = scene.set_rto.status()?;
    let listed = status.json["neighbours"].as_array().context("no neighbours")?;
    let [neighbour] = listed.as_slice() else { anyhow::bail!("not one neighbour: {status:?}") };
    ensure!(neighbour["name"] == "theirs", "its name is not `theirs`: {neighbour}");
    ensure!(
        bpf::attached(bpf::SOCK_OPS, &sandbox::cgroup()?)?.iter().any(|id| neighbour["id"] == *id),
        "its id is not on the hook: {neighbour}"
    );
    scene.set_rto.ok(&["remove"])?;
    scene.expect(THEIRS, THEIRS).context("after remove")
}

fn neighbour_attached_after_us_that_is_silent() -> Result<()> {
    let scene = Scene::new()?;
    scene.set_rto.ok(&["install"])?;
    Neighbour::Silent.attach("silent", &sandbox::cgroup()?)?;
    scene.expect(OURS, DEFAULT_RTO)?;
    let status = scene.set_rto.status()?;
    ensure!(status.json["neighbours"][0]["name"] == "silent", "not listed: {status:?}");
    Ok(())
}

/// The kernel uses the last answer, which is the other program's. `status` lists that program.
fn neighbour_attached_after_us_that_answers() -> Result<()> {
    let scene = Scene::new()?;
    scene.set_rto.ok(&["install"])?;
    scene.expect(OURS, DEFAULT_RTO)?;
    scene.theirs.attach("later", &sandbox::cgroup()?)?;
    scene.expect(THEIRS, THEIRS)?;
    let status = scene.set_rto.status()?;
    ensure!(status.json["neighbours"][0]["name"] == "later", "not listed: {status:?}");
    Ok(())
}

/// The root's programs run after those in the cgroups below it.
fn neighbour_in_a_child_cgroup_is_overruled() -> Result<()> {
    let scene = Scene::new()?;
    let child = sandbox::cgroup()?.join("child");
    std::fs::create_dir(&child)?;
    scene.set_rto.ok(&["install"])?;
    scene.theirs.attach("below", &child)?;
    std::fs::write(child.join("cgroup.procs"), "0")?;
    scene.expect(OURS, THEIRS)
}

/// The kernel's sample programs return -1 for every operation they do not handle.
fn neighbour_that_answers_other_questions() -> Result<()> {
    let scene = Scene::new()?;
    Neighbour::AnswersOthers.attach("before", &sandbox::cgroup()?)?;
    scene.set_rto.ok(&["install"])?;
    Neighbour::AnswersOthers.attach("after", &sandbox::cgroup()?)?;
    scene.expect(OURS, DEFAULT_RTO)
}

fn neighbours_survive_install_and_remove() -> Result<()> {
    let scene = Scene::new()?;
    let cgroup = sandbox::cgroup()?;
    scene.theirs.attach("first", &cgroup)?;
    Neighbour::Silent.attach("second", &cgroup)?;
    let before = bpf::attached(bpf::SOCK_OPS, &cgroup)?;
    scene.set_rto.ok(&["install"])?;
    SetRto::of("a")?.ok(&["install"])?;
    let during = bpf::attached(bpf::SOCK_OPS, &cgroup)?;
    ensure!(during.len() == 3 && during.starts_with(&before), "{before:?} became {during:?}");
    scene.set_rto.ok(&["remove"])?;
    let after = bpf::attached(bpf::SOCK_OPS, &cgroup)?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

/// A program attached without BPF_F_ALLOW_MULTI is exclusive: the kernel refuses ours.
fn neighbour_that_admits_no_other() -> Result<()> {
    let scene = Scene::new()?;
    let cgroup = sandbox::cgroup()?;
    let program = scene.theirs.load("alone")?;
    bpf::attach(bpf::SOCK_OPS, &cgroup, &program, 0)?;
    let before = bpf::attached(bpf::SOCK_OPS, &cgroup)?;
    scene.set_rto.run(&["install"])?.refuses(2, &["ALLOW_MULTI", "not permitted"])?;
    ensure!(bpf::attached(bpf::SOCK_OPS, &cgroup)? == before, "the hook has changed");
    ensure!(!std::path::Path::new("/sys/fs/bpf/set-rto").exists(), "a pin is left");
    scene.expect(THEIRS, THEIRS)
}
