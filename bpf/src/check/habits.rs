//! Words of nft, ip, ss and Wireshark, and other tools' notations of ports, addresses and interfaces. Each function
//! returns the help for a text that was refused, or None if it does not know what was meant.

use super::values::{is_number, ports, prefix};
use crate::duration::UNITS;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Words of other tools with the help for each.
const KEYS: &[(&[&str], &str)] = &[
    (
        &["sport", "source_port", "src_port"],
        "`local_port` of outgoing connections, `remote_port` of incoming ones; `port` matches either end",
    ),
    (
        &["dport", "destination_port", "dst_port", "dest_port"],
        "`remote_port` of outgoing connections, `local_port` of incoming ones; `port` matches either end",
    ),
    (
        &["src", "saddr", "source", "src_ip", "from"],
        "`local` is this host's address, `remote` the peer's, whoever sends the SYN",
    ),
    (
        &["dst", "daddr", "destination", "dest", "dst_ip", "to"],
        "`remote` is the peer's address, `local` this host's, whoever sends the SYN",
    ),
    (&["ip", "ip6", "addr", "address", "host", "net", "network"], "write `remote` or `local`"),
    (&["laddr", "local_address", "local_ip"], "write `local`"),
    (&["raddr", "remote_address", "remote_ip", "peer"], "write `remote`"),
    (&["lport"], "write `local_port`"),
    (&["rport"], "write `remote_port`"),
    (&["tcp.port", "tcp.srcport", "tcp.dstport"], "write `port`, `local_port` or `remote_port`"),
    (&["ip.addr", "ip.src", "ip.dst", "ipv6.addr"], "write `remote` or `local`"),
    (&["tcp", "th"], "a rule's keys have no dots: write `port`, `local_port` or `remote_port`"),
    (
        &["oif", "oifname", "iif", "iifname", "dev", "device", "iface", "nic"],
        "write `interface`, with `direction = \"outgoing\"` or \"incoming\" if only one is meant",
    ),
    (
        &["proto", "protocol", "l4proto", "meta"],
        "all rules are about TCP; `family` is \"ipv4\" or \"ipv6\"",
    ),
    (&["dscp", "tclass", "traffic_class", "dsfield"], "write `tos`, which is the DSCP times 4"),
    (&["congctl", "cc", "congestion_control", "congestion_algorithm"], "write `congestion`"),
    (
        &["window", "wnd", "rwnd"],
        "`initial_rwnd` is the first receive window, `window_clamp` its maximum",
    ),
    (&["advmss", "mss", "maxseg"], "write `max_segment`"),
    (&["cwnd", "initcwnd", "init_cwnd"], "write `initial_cwnd`"),
    (&["initrwnd", "init_rwnd"], "write `initial_rwnd`"),
    (
        &["rtt", "rttvar", "srtt"],
        "the kernel measures the round trip; `rto` is the timer until then, `rto_min` and `rto_max` limit it later",
    ),
    (&["syncnt", "tcp_syn_retries", "retries"], "write `syn_retries`"),
    (&["tcp_synack_retries"], "write `synack_retries`"),
    (&["timeout", "tcp_user_timeout"], "write `connect_timeout`, or `user_timeout` for all data"),
    (&["keepintvl", "tcp_keepalive_intvl"], "write `keepalive_interval`"),
    (&["keepcnt", "tcp_keepalive_probes"], "write `keepalive_count`"),
    (&["keepidle", "tcp_keepalive_time", "keepalive"], "write `keepalive_idle`"),
    (&["nagle", "tcp_nodelay"], "write `nodelay = true`"),
    (&["fwmark", "so_mark"], "write `mark`"),
    (&["pacing", "pacing_rate"], "write `max_pacing_rate`"),
    (
        &["action", "verdict", "target", "return", "accept"],
        "a rule has settings, or `use = \"kernel\"` to change nothing",
    ),
    (&["comment", "description"], "write a comment: `# …`"),
    (
        &[
            "quickack",
            "timestamps",
            "timestamp",
            "sack",
            "dsack",
            "window_scaling",
            "wscale",
            "fastopen",
            "tfo",
        ],
        "the kernel lets no program set it; see \"What cannot be set\" in set-rto-rules(5)",
    ),
];

/// The help for a key or a field of another tool.
pub(super) fn key(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    KEYS.iter().find(|(words, _)| words.contains(&word.as_str())).map(|(_, help)| *help)
}

/// Services and their ports (IANA registry).
const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("dns", 53),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("mbap", 502),
    ("modbus", 502),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("mqtt", 1883),
    ("mysql", 3306),
    ("rdp", 3389),
    ("postgresql", 5432),
    ("postgres", 5432),
    ("amqp", 5672),
    ("redis", 6379),
    ("mqtts", 8883),
];

/// How to write these ports.
pub(super) fn port(text: &str) -> Option<String> {
    let service = |name: &str| SERVICES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some((name, port)) = service(text.trim()) {
        return Some(format!("names of services are not looked up: write {port} for {name}"));
    }
    if matches!(text.trim(), "*" | "any" | "all") {
        return Some("leave the condition out to match every port".into());
    }
    if let Some((number, "tcp" | "udp")) = text.split_once('/')
        && is_number(number)
    {
        return Some(format!("write {number}: all rules are about TCP"));
    }
    let spaced = text.replace("..", "-").replace([':', '–'], "-");
    let words: String = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    let range = words.replace(" - ", "-").replace(" to ", "-");
    let range = match (range.strip_suffix('-'), range.strip_prefix('-')) {
        (Some(low), _) => format!("{low}-65535"),
        (_, Some(high)) => format!("0-{high}"),
        _ => range,
    };
    if range != text && ports(&range).is_ok() {
        return Some(format!("write \"{range}\""));
    }
    let parts: Vec<_> =
        text.split([',', ' ', ';', '{', '}', '[', ']']).filter(|part| !part.is_empty()).collect();
    let spelled = |part: &&str| match is_number(part) {
        true => (*part).to_owned(),
        false => format!("\"{part}\""),
    };
    (parts.len() < 20 && !parts.is_empty() && parts.iter().all(|part| ports(part).is_ok())).then(
        || match parts.as_slice() {
            [one] => format!("write {}", spelled(one)),
            many => {
                format!(
                    "write a list: [{}]",
                    many.iter().map(spelled).collect::<Vec<_>>().join(", ")
                )
            }
        },
    )
}

/// An IPv4 address of fewer than four numbers, as route lists write it: `44.154.64` is 44.154.64.0.
pub(super) fn short_ipv4(text: &str) -> Option<Ipv4Addr> {
    let numbers: Option<Vec<u8>> = text
        .split('.')
        .map(|part| part.parse().ok().filter(|_| is_number(part) && part.len() <= 3))
        .collect();
    let numbers = numbers.filter(|numbers| numbers.len() <= 4)?;
    let mut octets = [0; 4];
    octets[..numbers.len()].copy_from_slice(&numbers);
    Some(octets.into())
}

/// The prefix with all four numbers of its address.
pub(super) fn short_prefix(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/').filter(|(_, length)| is_number(length))?;
    Some(format!("{}/{length}", short_ipv4(address)?))
}

/// The length of a netmask (255.255.0.0), or of the wildcard mask of access lists (0.0.255.255).
fn mask_length(text: &str) -> Option<u32> {
    let mask = text.parse::<Ipv4Addr>().ok()?.to_bits();
    let is_mask = |mask: u32| mask.leading_ones() + mask.trailing_zeros().min(32) >= 32;
    match mask {
        mask if is_mask(mask) => Some(mask.leading_ones()),
        mask if is_mask(!mask) => Some((!mask).leading_ones()),
        _ => None,
    }
}

/// How to write this address.
pub(super) fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = |meant: String| prefix(&meant).is_ok().then(|| format!("write \"{meant}\""));
    if let Some((address, mask)) = text.split_once(['/', ' '])
        && let (Some(address), Some(length)) = (short_ipv4(address), mask_length(mask))
    {
        return fits(format!("{address}/{length}"));
    }
    if let Some(meant) = short_prefix(text) {
        return fits(meant);
    }
    if let Some(start) = text.strip_suffix(".*") {
        let start = start.trim_end_matches(".*");
        let length = 8 * start.split('.').count();
        return short_ipv4(start).and_then(|it| fits(format!("{it}/{length}")));
    }
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Some(format!(
            "write \"{}\", and the port as `remote_port = {}`",
            end.ip(),
            end.port()
        ));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return fits(inner.to_owned());
    }
    if let Some((low, high)) = text.split_once('-')
        && low.trim().parse::<IpAddr>().is_ok()
        && high.trim().parse::<IpAddr>().is_ok()
    {
        return Some(
            "ranges of addresses are not supported: write the prefixes that cover the range".into(),
        );
    }
    match text {
        "any" | "all" | "*" | "default" => {
            Some("leave the condition out to match every address".into())
        }
        "localhost" => Some("write [\"127.0.0.0/8\", \"::1\"]".into()),
        _ if text.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.contains([':', '/']) => {
            Some("names are not looked up: write the address".into())
        }
        _ => None,
    }
}

/// The message and the help for a valid name that is more likely another tool's pattern.
pub(super) fn interface(text: &str) -> Option<(String, String)> {
    let message = |what: &str| format!("{what}: \"{text}\"");
    if let Some(name) = text.strip_prefix('!') {
        let name = name.trim();
        let help = format!("write `when = 'interface != \"{name}\"'`");
        return Some((message("a negation is no interface name"), help));
    }
    if let Some(start) = text.strip_suffix('+') {
        return Some((message("`+` is no wildcard"), format!("write \"{start}*\"")));
    }
    if let Some((name, _)) = text.split_once('@') {
        let help = format!("write \"{name}\": `ip link` shows the lower interface after `@`");
        return Some((message("not the name of an interface"), help));
    }
    if let Some((start, rest)) = text.split_once('{') {
        let (inner, end) = rest.split_once('}').unwrap_or((rest, ""));
        let names = inner.split(',').map(|part| format!("\"{start}{part}{end}\""));
        let help = format!("write a list: [{}]", names.collect::<Vec<_>>().join(", "));
        return Some((message("braces are not supported"), help));
    }
    None
}

/// How to write this duration.
pub(super) fn duration(text: &str) -> Option<String> {
    let mut meant = String::new();
    let mut hours = 0_u64;
    let text = text.trim().replace(',', ".").replace(char::is_whitespace, "");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        rest = after;
        let lower = unit.to_lowercase();
        let unit = match lower.as_str() {
            "usec" | "usecs" | "microsecond" | "microseconds" | "µs" | "μs" => "us",
            "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => "ms",
            "sec" | "secs" | "second" | "seconds" => "s",
            "min" | "mins" | "minute" | "minutes" => "m",
            "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => {
                hours = number.parse::<u64>().ok()?.checked_mul(24)?;
                continue;
            }
            "h" if hours > 0 => {
                hours = hours.checked_add(number.parse().ok()?)?;
                continue;
            }
            unit if UNITS.iter().any(|(name, _)| *name == unit) => unit,
            _ => return None,
        };
        meant.push_str(number);
        meant.push_str(unit);
    }
    if hours > 0 {
        meant.insert_str(0, &format!("{hours}h"));
    }
    crate::duration::parse(&meant).is_ok().then(|| format!("write \"{meant}\""))
}

/// Names of values of `tos`: those of ip-route(8) and netinet/ip.h, and of the code points of RFC 2474, 2597, 3246,
/// 5865 and 8622.
pub(super) fn tos(name: &str) -> Option<u32> {
    let name = name.to_ascii_lowercase();
    let digit = |at: usize| name.as_bytes().get(at).map(|byte| u32::from(byte.wrapping_sub(b'0')));
    let dscp = match (name.as_str(), name.len()) {
        ("lowdelay", _) => 4,
        ("throughput", _) => 2,
        ("reliability", _) => 1,
        ("ef" | "expedited", _) => 46,
        ("le", _) => 1,
        ("va" | "voice-admit", _) => 44,
        (name, 3) if name.starts_with("cs") => digit(2).filter(|class| *class < 8)? * 8,
        (name, 4) if name.starts_with("af") => {
            let class = digit(2).filter(|class| (1..=4).contains(class))?;
            let drop = digit(3).filter(|drop| (1..=3).contains(drop))?;
            class * 8 + drop * 2
        }
        _ => return None,
    };
    Some(dscp * 4)
}
