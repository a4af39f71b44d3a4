//! Learned timers and evidence: compiled programs run through the callbacks of connections and are compared with an
//! estimator that shares no code with them.

mod support;

use std::collections::HashMap;
use std::net::IpAddr;
use support::connection::{Connection, incoming, outgoing};
use support::observed::*;
use support::random::Random;

/// RFC 6298 with the changes that set-rto-rules(5) describes, in seconds.
#[derive(Debug, Clone, Copy)]
struct Estimator {
    srtt: f64,
    rttvar: f64,
    /// The lower bound before the first sample.
    least: f64,
    when: f64,
    samples: u32,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    start: f64,
    min: f64,
    max: f64,
}

impl Estimator {
    fn first(sample: f64, now: f64) -> Self {
        Self { srtt: sample, rttvar: sample / 2.0, least: 0.0, when: now, samples: 1 }
    }

    fn take(&mut self, sample: f64, now: f64) {
        let error = (sample - self.srtt).abs();
        let gain = if error > self.rttvar { 4.0 } else { 8.0 };
        self.rttvar += (error - self.rttvar) / gain;
        self.srtt += (sample - self.srtt) / 8.0;
        (self.when, self.samples) = (now, self.samples + 1);
    }

    fn timer(&self, bounds: Bounds, now: f64) -> f64 {
        let margin = if self.samples == 0 { self.least } else { 4.0 * self.rttvar };
        let margin = margin.max(self.srtt / 2.0);
        let mut timer = self.srtt + margin;
        let halvings = ((now - self.when) / 512.0).floor().min(16.0);
        if timer < bounds.start {
            timer = (self.srtt + margin * halvings.exp2()).min(bounds.start);
        }
        timer.clamp(bounds.min, bounds.max)
    }

    fn back_off(&mut self, timer: f64, now: f64) {
        if self.samples == 0 {
            self.least = self.least.max(timer);
        } else if timer > self.srtt + 4.0 * self.rttvar {
            self.rttvar = (timer - self.srtt) / 4.0;
        }
        self.when = now;
    }
}

/// The estimates by peer. None is the estimate for all peers.
#[derive(Default)]
struct Model {
    known: HashMap<(Option<IpAddr>, usize, bool), Estimator>,
}

impl Model {
    fn timer(&self, key: (IpAddr, usize, bool), bounds: Bounds, now: f64) -> f64 {
        let (peer, rule, incoming) = key;
        let known = self.known.get(&(Some(peer), rule, incoming));
        let known = known.or_else(|| self.known.get(&(None, rule, incoming)));
        known.map_or(bounds.start, |it| it.timer(bounds, now))
    }

    fn learn(
        &mut self,
        key: (IpAddr, usize, bool),
        bounds: Bounds,
        (sample, retransmits): (Option<f64>, u32),
        now: f64,
    ) {
        let (peer, rule, incoming) = key;
        if sample.is_none() && retransmits == 0 {
            return;
        }
        let sample = sample.map(|it| it.min(bounds.max));
        let later = self.timer(key, bounds, now) * f64::from(1 << retransmits.min(3));
        let later = later.min(bounds.max);
        let all = (None, rule, incoming);
        match (self.known.get_mut(&(Some(peer), rule, incoming)), sample) {
            (Some(it), Some(sample)) if it.samples > 0 => it.take(sample, now),
            (Some(it), Some(sample)) => *it = Estimator::first(sample, now),
            (Some(it), None) => it.back_off(later, now),
            (None, Some(sample)) => {
                let first = Estimator::first(sample, now);
                self.known.insert((Some(peer), rule, incoming), first);
                self.known.entry(all).and_modify(|it| it.take(sample, now)).or_insert(first);
            }
            (None, None) => {
                let (srtt, rttvar, when, samples) = (0.0, 0.0, now, 0);
                let first = Estimator { srtt, rttvar, least: later, when, samples };
                self.known.insert((Some(peer), rule, incoming), first);
            }
        }
    }
}

const RULES: &str = "[[rule]]\nname = \"radio\"\nport = 7\n\
                     rto = { learn = true, start = \"20s\", min = \"2s\", max = \"60s\" }\n\
                     [[rule]]\nname = \"fixed\"\nport = 8\nrto = \"3s\"\n\
                     [[rule]]\nname = \"near\"\nrto = { learn = true, min = \"10ms\" }\nsynack_retries = 12\n\
                     [evidence]\noff = false\n";
const BOUNDS: [Bounds; 3] = [
    Bounds { start: 20.0, min: 2.0, max: 60.0 },
    Bounds { start: 3.0, min: 3.0, max: 3.0 },
    Bounds { start: 1.0, min: 0.01, max: 60.0 },
];

/// Thousands of connections to a few hosts by three rules, with all possible events and with pauses between them.
fn random_lives(hz: u64, big_endian: bool) {
    let mut kernel = Kernel::new(RULES, hz, &[0, 3 * hz as u32, 0], big_endian);
    let (mut model, mut random) = (Model::default(), Random(hz));
    let mut expected = vec![vec![0_u64; NUMBERS]; 6];
    let hosts = ["10.0.0.1", "10.0.0.2", "44.1.2.3", "2001:db8::5", "2001:db8:1::9"];
    for turn in 0..20_000 {
        if random.percent(3) {
            kernel.pass(random.next() % 3_000_000_000);
        }
        kernel.pass(random.next() % 2_000_000);
        let rule = random.below(3);
        let host = *random.pick(&hosts);
        let port = 7 + rule;
        let is_v6 = host.contains(':');
        let remote = if is_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let local = if is_v6 { "[2001:db8::1]:40000" } else { "10.9.9.9:40000" };
        let connection =
            if random.percent(50) { outgoing(local, &remote) } else { incoming(local, &remote) };
        let is_incoming = is_incoming(&connection);
        let counters = &mut expected[2 * rule + usize::from(is_incoming)];
        // The clock of estimates: about a second.
        let seconds = |jiffies: u64| (jiffies >> shift(hz)) as f64;
        let peer = match connection.remote {
            IpAddr::V6(address) if is_incoming => {
                IpAddr::V6((address.to_bits() >> 64 << 64).into())
            }
            other => other,
        };
        let key = (peer, rule, is_incoming);
        let bounds = BOUNDS[rule];
        let mut event = begin(&connection);
        let now = seconds(kernel.jiffies);
        let reply = kernel.ask(&connection, &mut event);
        counters[ASKED] += 1;
        let timer = if rule == 1 { 3.0 } else { model.timer(key, bounds, now) };
        // Fixed-point numbers round down, and a timer that backs off multiplies the error.
        let slack = 40e-6 + timer * 3e-4;
        let jiffies = |seconds: f64| (seconds * hz as f64).floor() as u32 + u32::from(rule != 1);
        let range = jiffies(timer - slack)..=jiffies(timer + slack);
        assert!(range.contains(&reply), "{turn}: {reply} is not in {range:?}: {connection:?}");
        assert_eq!(event.flags, u32::from(!is_incoming));
        let us = match rule {
            0 => 500_000 + random.next() as u32 % 12_000_000,
            _ => 50 + random.next() as u32 % (100 << random.below(14)),
        };
        // The sample of an answered SYN-ACK is never a whole number of milliseconds.
        let us = if us % 1000 == 0 { us + 1 } else { us };
        let retransmits = if random.percent(80) { 0 } else { 1 + random.next() as u32 % 5 };
        kernel.pass(us.into());
        let now = seconds(kernel.jiffies);
        if random.percent(5) {
            // There is no answer. The kernel calls again at each retransmission.
            if !is_incoming {
                for retransmits in 1..=3 {
                    event.retransmits = retransmits;
                    kernel.at(&connection, &mut event);
                    if let Some(known) =
                        model.known.get_mut(&(Some(key.0), key.1, key.2)).filter(|_| rule != 1)
                        && retransmits > 1
                    {
                        known.back_off(bounds.start, now);
                    }
                }
                let gone = Event { op: RTO_CB, args: [3, 100, 1], ..event };
                kernel.at(&connection, &mut gone.clone());
                // It has more time left.
                kernel.at(&connection, &mut Event { args: [3, 100, 0], ..gone });
                counters[GAVE_UP] += 1;
                counters[RETRANSMISSIONS] += 3;
            }
            continue;
        }
        // Without timestamps, a retransmitted SYN gives no sample.
        let has_sample = retransmits == 0 || random.percent(50);
        let us = if has_sample { us } else { 0 };
        let sample = has_sample.then_some(f64::from(us) / 1e6);
        // Another connection may have changed it in the meantime.
        let timer = if rule == 1 { 3.0 } else { model.timer(key, bounds, now) };
        kernel.at(&connection, &mut established(&connection, &event, us, retransmits));
        counters[ANSWERED] += 1;
        if retransmits > 0 {
            counters[ANSWERED_LATE] += 1;
            counters[RETRANSMISSIONS] += u64::from(retransmits);
            if sample.is_some_and(|it| (it * hz as f64).floor() > (timer * hz as f64).floor() + 1.0)
            {
                counters[NEEDLESS] += 1;
            }
        }
        if us > 0 {
            let bucket = (us >> 7).checked_ilog2().unwrap_or(0).min(18);
            counters[7 + bucket as usize] += 1;
            counters[6] += u64::from(us);
        }
        if rule != 1 {
            model.learn(key, bounds, (sample, retransmits), now);
        }
    }
    for (at, expected) in expected.iter().enumerate() {
        let mut found = kernel.evidence(at / 2, at % 2 == 1);
        let mut expected = expected.clone();
        // They may differ by one jiffy.
        let apart = found[NEEDLESS].abs_diff(expected[NEEDLESS]);
        assert!(apart <= 3 + expected[NEEDLESS] / 50, "{found:?} {expected:?}");
        (found[NEEDLESS], expected[NEEDLESS]) = (0, 0);
        assert_eq!(found, expected, "rule {} direction {}", at / 2, at % 2);
    }
    let mut steps: Vec<_> = kernel.steps.into_iter().collect();
    steps.sort_unstable();
    eprintln!("HZ {hz}: instructions by callback: {steps:?}");
}

#[test]
fn timers_are_those_of_the_estimator() {
    random_lives(250, false);
    random_lives(100, true);
    random_lives(1000, false);
}

const LEARNS: &str =
    "[[rule]]\nname = \"any\"\nrto = { learn = true, min = \"10ms\" }\nsynack_retries = 12\n";

/// Ends a handshake, and returns the timer of the next connection of that kind.
fn timer_after(kernel: &mut Kernel, connection: &Connection, event: Event) -> u32 {
    kernel.at(connection, &mut event.clone());
    kernel.ask(connection, &mut begin(connection))
}

#[test]
fn what_is_no_round_trip_teaches_nothing() {
    let (text, hz) = (format!("{LEARNS}[evidence]\noff = false\n"), 1000);
    let out = outgoing("10.0.0.1:40000", "10.0.0.2:80");
    let into = incoming("10.0.0.1:80", "10.0.0.2:40000");
    for big_endian in [false, true] {
        let mut kernel = Kernel::new(&text, hz, &[1000], big_endian);
        let mut begun = begin(&out);
        assert_eq!(kernel.ask(&out, &mut begun), 1001);
        // A simultaneous open: the callback is that of incoming connections, and the socket is the connecting one.
        let crossed =
            Event { op: PASSIVE, state: 3, us: 123_457, ..established(&out, &begun, 0, 0) };
        kernel.at(&out, &mut crossed.clone());
        // While it answers the other SYN, the kernel calls again for the connecting socket.
        let again = Event { state: 3, retransmits: 1, ..begun.clone() };
        kernel.ask(&out, &mut again.clone());
        // The child of a Fast Open has no sample yet.
        let child = Event { flags: 0, ..established(&into, &begun, 0, 0) };
        kernel.at(&into, &mut child.clone());
        // A cookie with its timestamp, and a deferred accept, whose packet has data.
        let cookie = Event { us: 63_000, ..child.clone() };
        kernel.at(&into, &mut cookie.clone());
        let deferred = Event { us: 5_000_001, data: Some(1), ..child.clone() };
        kernel.at(&into, &mut deferred.clone());
        let unreadable = Event { data: None, ..deferred };
        kernel.at(&into, &mut unreadable.clone());
        assert!(kernel.hosts.is_empty(), "{:?}", kernel.hosts);
        let counted = kernel.evidence(0, false);
        assert_eq!((counted[ASKED], counted[ANSWERED]), (1, 1), "{counted:?}");
        let counted = kernel.evidence(0, true);
        assert_eq!((counted[ASKED], counted[ANSWERED]), (0, 4), "{counted:?}");
        assert_eq!(counted[6..].iter().sum::<u64>(), 0, "{counted:?}");
        // These connections give samples: 20.001 ms + twice half of it, and a jiffy.
        let taught = Event { us: 20_001, ..child };
        assert_eq!(timer_after(&mut kernel, &into, taught), 61);
        let late = Event { us: 30_000, retransmits: 2, ..established(&out, &begun, 0, 0) };
        assert_eq!(timer_after(&mut kernel, &out, late), 91);
    }
}

#[test]
fn one_host_moves_only_its_own_timer() {
    let mut kernel = Kernel::new(LEARNS, 1000, &[1000], false);
    let from = |host: u32| {
        let address = format!("10.0.{}.{}:40000", host >> 8, host & 255);
        incoming("10.0.0.1:80", &address)
    };
    let ends = |kernel: &mut Kernel, host: u32, us: u32| {
        let connection = from(host);
        timer_after(kernel, &connection, established(&connection, &begin(&connection), us, 0))
    };
    for host in 2..40 {
        ends(&mut kernel, host, 20_001);
    }
    let (known, unknown) = (from(2), from(99));
    let mut timers = || {
        let known = kernel.ask(&known, &mut begin(&known));
        (known, kernel.ask(&unknown, &mut begin(&unknown)))
    };
    let before = timers();
    // Its first sample is one of forty; the others are its own affair.
    ends(&mut kernel, 60, 9_000_001);
    let after = {
        let known = kernel.ask(&known, &mut begin(&known));
        (known, kernel.ask(&unknown, &mut begin(&unknown)))
    };
    assert_eq!(before.0, after.0);
    for _ in 0..1000 {
        assert!(ends(&mut kernel, 60, 59_000_001) > 9_000);
    }
    let known = kernel.ask(&known, &mut begin(&known));
    assert_eq!((known, kernel.ask(&unknown, &mut begin(&unknown))), after);
}

/// IPv6 hosts of one network share an estimate for incoming connections. For outgoing ones each host has its own.
#[test]
fn networks_that_call_are_one_host() {
    let mut kernel = Kernel::new(LEARNS, 1000, &[1000], false);
    for (make, hosts) in [(incoming as fn(&str, &str) -> Connection, 1), (outgoing, 5)] {
        kernel.hosts.clear();
        for host in 1..=5 {
            let connection = make("[2001:db8::1]:80", &format!("[2001:db8:1::{host}]:40000"));
            timer_after(
                &mut kernel,
                &connection,
                established(&connection, &begin(&connection), 20_001, 0),
            );
        }
        // The estimate for all hosts changes as well.
        assert_eq!(kernel.hosts.len(), hosts + 1);
    }
}

/// The executed instructions of the port rule: the design's limits for evidence and for learning.
#[test]
fn costs() {
    let rule = |rto: &str| format!("[[rule]]\nname = \"port\"\nport = 12345\nrto = {rto}\n");
    let connection = outgoing("10.0.0.1:40000", "10.0.0.2:12345");
    let life = |text: &str| {
        let mut kernel = Kernel::new(text, 250, &[250], false);
        let mut steps = Vec::new();
        for _ in 0..2 {
            let mut event = begin(&connection);
            kernel.ask(&connection, &mut event);
            kernel.at(&connection, &mut established(&connection, &event, 40_001, 0));
            let of = |op: u32, kernel: &mut Kernel| kernel.steps.remove(&op).unwrap_or(0);
            steps.push((of(TIMEOUT_INIT, &mut kernel), of(ACTIVE, &mut kernel)));
        }
        steps
    };
    let fixed = life(&rule("\"1s\""));
    let evidence = life(&(rule("\"1s\"") + "[evidence]\noff = false\n"));
    let learned = life(&rule("{ learn = true }"));
    let both = life(&(rule("{ learn = true }") + "[evidence]\noff = false\n"));
    eprintln!("first and second connection, at its beginning and at its end:");
    eprintln!("fixed {fixed:?}\nevidence {evidence:?}\nlearned {learned:?}\nboth {both:?}");
    let sum = |steps: &[(u64, u64)], at: usize| steps[at].0 + steps[at].1;
    assert_eq!(fixed[1], (16, 4));
    assert!(sum(&evidence, 1) <= 150, "{evidence:?}");
    assert!(sum(&both, 0) <= 400, "a new host: {both:?}");
    assert!(sum(&both, 1) <= 350, "a known host: {both:?}");
}

/// A rule that changes nothing is counted like any other, but replies nothing and teaches nothing. Tests of ports, tests
/// in C and options that are taken back are what they are without evidence.
#[test]
fn rules_that_are_not_timers() {
    let rules = "[code]\nfile = \"tests.c\"\n\
                 [[rule]]\nname = \"exempt\"\nremote_port = 7\nuse = \"kernel\"\n\
                 [[rule]]\nname = \"sum\"\nwhen = \"local_port - remote_port == 1000\"\n\
                 connect_timeout = \"1s\"\nuser_timeout = \"9s\"\n\
                 [[rule]]\nname = \"c\"\ntest = \"odd_local_port\"\nconnect_timeout = \"2s\"\n\
                 [[rule]]\nname = \"any\"\nrto = { learn = true, min = \"10ms\" }\n\
                 synack_retries = 12\n\
                 [evidence]\noff = false\n";
    const CONNECT: u32 = 3;
    let timeout = |ms: u32| (6, 18, ms);
    // The last one at each callback holds: at the end of the handshake it is `user_timeout`, or none.
    let cases = [
        (40_000, "10.0.0.2:7", 0, vec![]),
        (40_000, "10.0.0.2:39000", 1, vec![timeout(9_000), timeout(1_000), timeout(9_000)]),
        (40_001, "10.0.0.2:80", 2, vec![timeout(2_000), timeout(0)]),
        (40_000, "10.0.0.2:80", 3, vec![]),
    ];
    for big_endian in [false, true] {
        let mut kernel = Kernel::new(rules, 1000, &[0, 0, 0, 1000], big_endian);
        for (local, remote, rule, expected) in &cases {
            let out = outgoing(&format!("10.0.0.1:{local}"), remote);
            let mut event = begin(&out);
            kernel.at(&out, &mut Event { op: CONNECT, ..event.clone() });
            // What another program has replied.
            event.args[0] = 77;
            let reply = kernel.at(&out, &mut event);
            kernel.at(&out, &mut established(&out, &event, 20_001, 0));
            assert_eq!(reply, if *rule == 3 { 1001 } else { 77 }, "{remote}");
            assert_eq!(std::mem::take(&mut kernel.options), *expected, "{remote}");
            let counted = kernel.evidence(*rule, false);
            assert_eq!((counted[ASKED], counted[ANSWERED]), (1, 1), "{remote}: {counted:?}");
            let is_taught = *rule == 3;
            assert_eq!(kernel.hosts.is_empty(), !is_taught, "{remote}");
        }
    }
}
