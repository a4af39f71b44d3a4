//! Learned timers and evidence: compiled programs, run through the callbacks of connections, against an estimator that
//! shares no code with them.

mod support;

use object::{Object, ObjectSymbol};
use std::collections::HashMap;
use std::net::IpAddr;
use support::connection::{Connection, incoming, outgoing};
use support::image::Image;
use support::machine::{Exit, Memory, Program};
use support::random::Random;
use support::shared::Policy;
use support::{clang, hazards, policy};

const CONTEXT: u64 = 0x7e00_0000_0000;
const EVIDENCE: u64 = 0x7d00_0000_0000;
const HOSTS: u64 = 0x7c00_0000_0000;
const PACKET: u64 = 0x7b00_0000_0000;

const TIMEOUT_INIT: u32 = 1;
const ACTIVE: u32 = 4;
const PASSIVE: u32 = 5;
const RTO_CB: u32 = 8;

/// Offsets in struct bpf_sock_ops (include/uapi/linux/bpf.h).
const ARGS: usize = 4;
const IS_FULLSOCK: usize = 72;
const SRTT_US: usize = 80;
const CB_FLAGS: usize = 84;
const STATE: usize = 88;
const TOTAL_RETRANS: usize = 136;
const SKB_DATA: usize = 192;
const SKB_DATA_END: usize = 200;
const SKB_LEN: usize = 208;

/// Numbers of a rule's evidence in one direction: six counters, the sum of round trips and their histogram.
const NUMBERS: usize = 6 + 1 + 19;
const ASKED: usize = 0;
const ANSWERED: usize = 1;
const ANSWERED_LATE: usize = 2;
const RETRANSMISSIONS: usize = 3;
const NEEDLESS: usize = 4;
const GAVE_UP: usize = 5;

/// Bytes of a host's estimate.
const ESTIMATE: usize = 16;
/// More than any test has.
const MOST_HOSTS: usize = 512;

/// A connection at a callback.
#[derive(Debug, Clone)]
struct Event {
    op: u32,
    state: u32,
    is_full: bool,
    /// The handshake's round trip, microseconds.
    us: u32,
    retransmits: u32,
    /// Bytes of data in the packet at hand; None: no packet.
    data: Option<u32>,
    args: [u32; 3],
    flags: u32,
}

/// 2^shift jiffies are nearest to a second.
fn shift(hz: u64) -> u32 {
    (2 * hz * hz).ilog2() / 2
}

struct Kernel {
    program: Program,
    memory: Memory,
    big_endian: bool,
    hz: u64,
    jiffies: u64,
    /// Addresses of the maps.
    evidence: Option<u64>,
    learned: Option<u64>,
    hosts: HashMap<Vec<u8>, u64>,
    /// The most executed instructions, by callback.
    steps: HashMap<u32, u64>,
}

impl Kernel {
    /// `jiffies`: of each rule.
    fn new(text: &str, hz: u64, jiffies: &[u32], big_endian: bool) -> Self {
        let policy = policy(text);
        let object = clang(&policy.c, big_endian).unwrap_or_else(|error| panic!("{error}"));
        let mut image = Image::read(&object, big_endian);
        let found = hazards::hazards(image.program.instructions());
        assert!(found.is_empty(), "{found:?}");
        let file = object::File::parse(&*object).expect("an object");
        let base = image.section(".maps").map_or(0, |section| section.base);
        let address = |name: &str| {
            file.symbols().find(|it| it.name() == Ok(name)).map(|it| base + it.address())
        };
        let put = |bytes: &mut [u8], at: usize, number: u64, size: usize| {
            let raw = number.to_be_bytes();
            for (place, byte) in bytes[at..at + size].iter_mut().zip(&raw[8 - size..]) {
                *place = *byte;
            }
            if !big_endian {
                bytes[at..at + size].reverse();
            }
        };
        for section in &mut image.sections {
            match section.name.as_str() {
                ".rodata" => {
                    let hz_at = std::mem::offset_of!(Policy, hz);
                    put(&mut section.bytes, hz_at, hz, 4);
                    for (rule, jiffies) in jiffies.iter().enumerate() {
                        let at = size_of::<Policy>() + 4 * rule;
                        put(&mut section.bytes, at, (*jiffies).into(), 4);
                    }
                }
                ".rodata.ticks" => {
                    put(&mut section.bytes, 0, (hz << 32).div_ceil(1_000_000), 8);
                    put(&mut section.bytes, 8, shift(hz).into(), 4);
                    put(&mut section.bytes, 12, 120 * hz, 4);
                }
                _ => {}
            }
        }
        let mut memory = Memory::default();
        for section in image.sections.iter().filter(|it| !it.is_map()) {
            memory.add(section.base, section.bytes.clone(), section.is_writable());
        }
        memory.add(CONTEXT, vec![0; support::connection::CONTEXT_SIZE], true);
        memory.add(EVIDENCE, vec![0; jiffies.len() * 2 * NUMBERS * 8], true);
        memory.add(HOSTS, vec![0; MOST_HOSTS * ESTIMATE], true);
        memory.add(PACKET, vec![0x80; 60], false);
        Self {
            program: image.program,
            memory,
            big_endian,
            hz,
            jiffies: (1 << 32) - 300 * hz,
            evidence: address("evidence"),
            learned: address("learned"),
            hosts: HashMap::new(),
            steps: HashMap::new(),
        }
    }

    fn pass(&mut self, us: u64) {
        self.jiffies += us * self.hz / 1_000_000;
    }

    /// The reply; 0 if there was none. The event's flags change as the program says.
    fn at(&mut self, connection: &Connection, event: &mut Event) -> u32 {
        let big_endian = self.big_endian;
        let mut bytes = connection.context(big_endian, event.op, 0, 0);
        let mut put = |at: usize, number: u64, size: usize| {
            let raw = number.to_be_bytes();
            bytes[at..at + size].copy_from_slice(&raw[8 - size..]);
            if !big_endian {
                bytes[at..at + size].reverse();
            }
        };
        for (at, arg) in event.args.iter().enumerate() {
            put(ARGS + 4 * at, (*arg).into(), 4);
        }
        let of_full = |number: u32| if event.is_full { number.into() } else { 0 };
        put(IS_FULLSOCK, event.is_full.into(), 4);
        put(SRTT_US, of_full(event.us << 3), 4);
        put(CB_FLAGS, of_full(event.flags), 4);
        put(STATE, event.state.into(), 4);
        put(TOTAL_RETRANS, of_full(event.retransmits), 4);
        // A header of 32 bytes, as with timestamps.
        let (start, end, length) = match event.data {
            Some(data) => (PACKET, PACKET + 32, 32 + data),
            None => (0, 0, 0),
        };
        put(SKB_DATA, start, 8);
        put(SKB_DATA_END, end, 8);
        put(SKB_LEN, length.into(), 4);
        self.memory.region(CONTEXT).expect("the context").copy_from_slice(&bytes);
        let Self { memory, program, hosts, evidence, learned, jiffies, .. } = self;
        let mut flags = event.flags;
        let number = |bytes: &[u8]| {
            let raw: [u8; 4] = bytes.try_into().expect("four bytes");
            if big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) }
        };
        let mut helper = |id: u32, args: [u64; 5], memory: &mut Memory| match id {
            1 if Some(args[0]) == *evidence => {
                let key = number(memory.read(args[1], 4)?);
                Some(EVIDENCE + u64::from(key) * NUMBERS as u64 * 8)
            }
            1 if Some(args[0]) == *learned => {
                let key = memory.read(args[1], 24)?;
                Some(hosts.get(key).copied().unwrap_or(0))
            }
            2 if Some(args[0]) == *learned && args[3] == 1 => {
                let key = memory.read(args[1], 24)?.to_vec();
                if hosts.contains_key(&key) {
                    return Some(-17_i64 as u64);
                }
                let value = memory.read(args[2], ESTIMATE)?.to_vec();
                let place = HOSTS + (hosts.len() * ESTIMATE) as u64;
                memory.write(place, ESTIMATE)?.copy_from_slice(&value);
                hosts.insert(key, place);
                Some(0)
            }
            // Only full sockets have flags.
            59 if event.is_full => {
                flags = args[1] as u32;
                Some(0)
            }
            118 => Some(*jiffies),
            _ => None,
        };
        let ran = program.run(memory, CONTEXT, 10_000, &mut helper);
        let Exit { value, steps } = ran.unwrap_or_else(|fault| panic!("{fault}: {event:?}"));
        assert_eq!(value, 1);
        event.flags = flags;
        let most = self.steps.entry(event.op).or_default();
        *most = steps.max(*most);
        let reply = number(&self.memory.region(CONTEXT).expect("the context")[ARGS..ARGS + 4]);
        if event.op == TIMEOUT_INIT { reply } else { 0 }
    }

    /// The counters of a rule in a direction.
    fn evidence(&mut self, rule: usize, is_incoming: bool) -> Vec<u64> {
        let big_endian = self.big_endian;
        let bytes = self.memory.region(EVIDENCE).expect("the evidence");
        let start = (2 * rule + usize::from(is_incoming)) * NUMBERS * 8;
        let words = bytes[start..start + NUMBERS * 8].chunks(8).map(|raw| {
            let raw: [u8; 8] = raw.try_into().expect("eight bytes");
            if big_endian { u64::from_be_bytes(raw) } else { u64::from_le_bytes(raw) }
        });
        words.collect()
    }

    /// The first question of a connection.
    fn ask(&mut self, connection: &Connection, event: &mut Event) -> u32 {
        event.args[0] = 0;
        self.at(connection, event)
    }
}

fn is_incoming(connection: &Connection) -> bool {
    connection.direction == support::model::Direction::Incoming
}

/// A connection that begins.
fn begin(connection: &Connection) -> Event {
    let is_incoming = is_incoming(connection);
    let state = if is_incoming { 12 } else { 2 };
    let (is_full, flags) = (!is_incoming, 0);
    let (op, args) = (TIMEOUT_INIT, [0; 3]);
    Event { op, state, is_full, us: 0, retransmits: 0, data: None, args, flags }
}

/// The same when it is established.
fn established(connection: &Connection, event: &Event, us: u32, retransmits: u32) -> Event {
    let is_incoming = is_incoming(connection);
    let (op, state) = if is_incoming { (PASSIVE, 3) } else { (ACTIVE, 1) };
    Event { op, state, is_full: true, us, retransmits, data: Some(0), ..event.clone() }
}

/// RFC 6298, with the changes that set-rto-rules(5) describes, in seconds.
#[derive(Debug, Clone, Copy)]
struct Estimator {
    srtt: f64,
    rttvar: f64,
    /// At least this long, where nothing was sampled.
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

/// What is learned, by peer; None: of all peers.
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
                     [[rule]]\nname = \"near\"\nrto = { learn = true, min = \"10ms\" }\n\
                     [evidence]\noff = false\n";
const BOUNDS: [Bounds; 3] = [
    Bounds { start: 20.0, min: 2.0, max: 60.0 },
    Bounds { start: 3.0, min: 3.0, max: 3.0 },
    Bounds { start: 1.0, min: 0.01, max: 60.0 },
];

/// Thousands of connections to a few hosts by three rules, with all that may befall them, and pauses between them.
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
        // Fixed-point numbers round down, and a timer that backs off multiplies that.
        let slack = 40e-6 + timer * 3e-4;
        let jiffies = |seconds: f64| (seconds * hz as f64).floor() as u32 + u32::from(rule != 1);
        let range = jiffies(timer - slack)..=jiffies(timer + slack);
        assert!(range.contains(&reply), "{turn}: {reply} is not in {range:?}: {connection:?}");
        assert_eq!(event.flags, u32::from(!is_incoming));
        let us = match rule {
            0 => 500_000 + random.next() as u32 % 12_000_000,
            _ => 50 + random.next() as u32 % (100 << random.below(14)),
        };
        // No sample of an answered SYN-ACK is a whole number of milliseconds.
        let us = if us % 1000 == 0 { us + 1 } else { us };
        let retransmits = if random.percent(80) { 0 } else { 1 + random.next() as u32 % 5 };
        kernel.pass(us.into());
        let now = seconds(kernel.jiffies);
        if random.percent(5) {
            // No answer; the kernel asks again at each retransmission.
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
        // Without timestamps a retransmitted SYN has no sample.
        let has_sample = retransmits == 0 || random.percent(50);
        let us = if has_sample { us } else { 0 };
        let sample = has_sample.then_some(f64::from(us) / 1e6);
        // By now another one may have moved it.
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
        // By a jiffy they may differ.
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

const LEARNS: &str = "[[rule]]\nname = \"any\"\nrto = { learn = true, min = \"10ms\" }\n";

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
        // A simultaneous open: the callback is that of incoming connections, and the socket is the one that connects.
        let crossed =
            Event { op: PASSIVE, state: 3, us: 123_457, ..established(&out, &begun, 0, 0) };
        kernel.at(&out, &mut crossed.clone());
        // While it answers the other SYN, the kernel asks again for the connecting socket.
        let again = Event { state: 3, retransmits: 1, ..begun.clone() };
        kernel.ask(&out, &mut again.clone());
        // The child of a Fast Open: nothing is sampled yet.
        let child = Event { flags: 0, ..established(&into, &begun, 0, 0) };
        kernel.at(&into, &mut child.clone());
        // A cookie, by its timestamp; and a deferred accept, whose packet has data.
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
        // But these teach: 20.001 ms + twice half of it, and a jiffy.
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

/// IPv6 hosts of one network are one for an incoming connection, and each its own for an outgoing one.
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
        // And what stands for all.
        assert_eq!(kernel.hosts.len(), hosts + 1);
    }
}

/// Executed instructions, of the port rule: what the design allows for evidence and for learning.
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
