//! A policy in effect in a small network, and its probes: one connection each, with the rule that must decide it.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;

use super::support::expect_armed;
use super::support::expect_synack_timer;
use super::support::far_port;
use super::support::judge_synack_timer;
use super::support::synack_timer;
use crate::harness::clock::DEFAULT_RTO;
use crate::harness::lab::Cable;
use crate::harness::lab::Lab;
use crate::harness::netns::has_ipv6;
use crate::harness::note;
use crate::harness::packet;
use crate::harness::setrto::SetRto;
use crate::harness::sockets::Connection;
use crate::harness::sockets::From;
use crate::harness::sockets::Own;
use crate::harness::sockets::listen;

/// A rule's timer in a rules file, read without set-rto's own compiler.
pub(crate) fn rto_in(rules: &str, name: &str) -> Result<Duration> {
    let path = format!("name = \"{name}\"");
    let (_, after) = rules.split_once(&path).with_context(|| format!("no rule {name}"))?;
    let value = after.split("rto = \"").nth(1).and_then(|rest| rest.split('"').next());
    let text = value.with_context(|| format!("rule {name} has no rto"))?;
    let at = text.find(|c: char| c.is_ascii_alphabetic()).context("a duration without unit")?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        _ => 60.0,
    };
    // Use whole microseconds, so that binary fractions do not affect the rounding to jiffies.
    Ok(Duration::from_micros((number.parse::<f64>()? * scale * 1e6).round() as u64))
}

/// An installed policy and the network to test it in.
pub(crate) struct Policy {
    pub(crate) set_rto: SetRto,
    pub(crate) lab: Lab,
    cables: Vec<Cable>,
    /// The text of the rules file.
    rules: &'static str,
    /// The number of probes each rule must have decided.
    decided: RefCell<BTreeMap<&'static str, u64>>,
    left_out: Cell<u32>,
}

impl Policy {
    /// Creates cables with these names, the first with the default route, and installs.
    pub(crate) fn install(binary: &str, rules: &'static str, devices: &[&str]) -> Result<Self> {
        Self::install_with(SetRto::of(binary)?, rules, devices)
    }

    /// The same with any executable of these rules.
    pub(crate) fn install_with(
        set_rto: SetRto,
        rules: &'static str,
        devices: &[&str],
    ) -> Result<Self> {
        let mut lab = Lab::new()?;
        let cables = devices.iter().map(|name| lab.lay(name)).collect::<Result<_>>()?;
        set_rto.ok(&["install"])?;
        let (decided, left_out) = (RefCell::default(), Cell::new(0));
        Ok(Policy { set_rto, lab, cables, rules, decided, left_out })
    }

    /// Adds one cable.
    pub(crate) fn lay(&mut self, name: &str) -> Result<()> {
        self.cables.push(self.lab.lay(name)?);
        Ok(())
    }

    /// The same for a cable that was created separately.
    pub(crate) fn lay_by(&mut self, lay: impl FnOnce(&mut Lab) -> Result<Cable>) -> Result<()> {
        self.cables.push(lay(&mut self.lab)?);
        Ok(())
    }

    /// The cable whose local device has that name.
    pub(crate) fn cable(&self, name: &str) -> Result<&Cable> {
        let found = self.cables.iter().find(|cable| cable.name == name);
        found.with_context(|| format!("no cable {name}"))
    }

    /// Opens a connection to `remote` and checks that `rule`, or none, decides it.
    pub(crate) fn outgoing(&self, remote: impl Into<SocketAddr>, rule: Rule) -> Result<()> {
        self.outgoing_from(From::default(), remote, rule)
    }

    /// The same, from a given local end.
    pub(crate) fn outgoing_bound(&self, local: &str, remote: &str, rule: Rule) -> Result<()> {
        let local = Some(local.parse()?);
        self.outgoing_from(From { local, device: None }, remote.parse::<SocketAddr>()?, rule)
    }

    /// The same, from a socket with these options.
    pub(crate) fn outgoing_with(&self, own: Own, remote: &str, rule: Rule) -> Result<()> {
        let remote = end(remote)?;
        if self.leaves_out(remote) {
            return Ok(());
        }
        let rto = self.expected(rule)?;
        Connection::open_with(own, remote)
            .and_then(|connection| expect_armed(&connection, rto))
            .with_context(|| format!("outgoing to {remote} with {own:?}: rule {rule:?}"))
    }

    /// The same, with all properties of the local end.
    pub(crate) fn outgoing_from(
        &self,
        from: From<'_>,
        remote: impl Into<SocketAddr>,
        rule: Rule,
    ) -> Result<()> {
        let remote = remote.into();
        if self.leaves_out(remote) {
            return Ok(());
        }
        let rto = self.expected(rule)?;
        Connection::open_from(from, remote)
            .and_then(|connection| expect_armed(&connection, rto))
            .with_context(|| format!("outgoing to {remote} from {from:?}: rule {rule:?}"))
    }

    /// Sends a SYN over `va` from any address to a dual-stack listener at `local` and checks that `rule`, or none,
    /// decides its SYN-ACK.
    pub(crate) fn incoming(&self, local: &str, rule: Rule) -> Result<()> {
        let local: SocketAddr = local.parse()?;
        let from: IpAddr = match local {
            SocketAddr::V4(_) => Ipv4Addr::new(10, 99, 0, 9).into(),
            SocketAddr::V6(_) => Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 9).into(),
        };
        self.incoming_from((from, far_port()).into(), local, rule)
    }

    /// The same, from a given remote end.
    pub(crate) fn incoming_from(
        &self,
        remote: SocketAddr,
        local: SocketAddr,
        rule: Rule,
    ) -> Result<()> {
        let any = if has_ipv6() {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let listener = (SocketAddr::new(any, local.port()), None);
        self.incoming_at(listener, "va", remote, local, rule)
    }

    /// The same, with a given listener (its address and the device it is bound to), over any cable.
    pub(crate) fn incoming_at(
        &self,
        (address, bound): (SocketAddr, Option<&str>),
        cable: &str,
        remote: SocketAddr,
        local: SocketAddr,
        rule: Rule,
    ) -> Result<()> {
        if self.leaves_out(local) {
            return Ok(());
        }
        let rto = self.expected(rule)?;
        let _listener = listen(address, bound)?;
        expect_synack_timer(&self.lab, self.cable(cable)?, remote, local, rto)
            .with_context(|| format!("incoming from {remote} to {local}: rule {rule:?}"))
    }

    /// The same, where `send` delivers the SYN, which it gets as an IP packet.
    pub(crate) fn incoming_by(
        &self,
        listener: (SocketAddr, Option<&str>),
        (remote, local): (SocketAddr, SocketAddr),
        rule: Rule,
        send: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.leaves_out(local) {
            return Ok(());
        }
        let rto = self.expected(rule)?;
        let _listener = listen(listener.0, listener.1)?;
        let frame = packet::syn([0; 6], [0; 6], remote, local);
        let start = Instant::now();
        send(packet::of_frame(&frame))?;
        synack_timer(remote, local)
            .and_then(|found| judge_synack_timer(found, start.elapsed(), rto))
            .with_context(|| format!("incoming from {remote} to {local}: rule {rule:?}"))
    }

    /// Checks that the rules' counters equal the numbers of connections they decided, and prints what was left out.
    pub(crate) fn finish(self) -> Result<()> {
        self.finish_round()
    }

    /// The same, before another program is installed, whose counters start at zero.
    pub(crate) fn finish_round(&self) -> Result<()> {
        let left_out = self.left_out.get();
        if left_out > 0 {
            note(format!("{left_out} probes left out: this kernel has no IPv6"));
        }
        let status = self.set_rto.status()?;
        let rules = status.json["rules"].as_array().context("no rules in the status")?;
        let decided = self.decided.take();
        ensure!(!decided.is_empty(), "no probe of this test met a rule");
        let count = self.rules.matches("[[rule]]").count();
        ensure!(rules.len() == count, "the file has {count} rules: {status:?}");
        for rule in rules {
            let name = rule["name"].as_str().context("a rule without name")?;
            let expected = decided.get(name).copied().unwrap_or(0);
            let hits = status.hits(name)?;
            ensure!(hits == expected, "rule {name} has {hits} hits, expected {expected}");
        }
        Ok(())
    }

    /// The expected timer. Counts one more decision for the rule.
    fn expected(&self, rule: Rule) -> Result<Duration> {
        let Some(name) = rule else { return Ok(DEFAULT_RTO) };
        *self.decided.borrow_mut().entry(name).or_default() += 1;
        rto_in(self.rules, name)
    }

    fn leaves_out(&self, end: SocketAddr) -> bool {
        let left_out = end.is_ipv6() && !has_ipv6();
        self.left_out.set(self.left_out.get() + u32::from(left_out));
        left_out
    }
}

/// The rule that must decide a connection; none if the kernel's default must apply.
pub(crate) type Rule = Option<&'static str>;

/// Parses an end from text.
pub(crate) fn end(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("not an address with a port: {text}"))
}
