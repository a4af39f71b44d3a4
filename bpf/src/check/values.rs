//! Reads the values of fields: ports, addresses, interfaces, and the words of `family` and `direction`.

use crate::rule::{Direction, Family, Pattern, PortRange, Prefix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A message, and a help if there is a more specific one than the field's.
pub(super) type Problem = (String, Option<String>);

/// A port or a range of ports.
pub(super) fn ports(text: &str) -> Result<PortRange, Problem> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        if !is_number(part) {
            return Err((format!("not a port or a range: \"{text}\""), None));
        }
        part.parse::<u16>().map_err(|_| (format!("no such port: {part}"), None))
    };
    let (low, high) = (number(low)?, number(high)?);
    if low > high {
        let help = format!("write \"{high}-{low}\"");
        return Err((format!("a reversed range: \"{text}\""), Some(help)));
    }
    Ok(PortRange { low, high })
}

/// True if the text consists of digits.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A prefix, or an address, which is a prefix of full length.
pub(super) fn prefix(text: &str) -> Result<Prefix, Problem> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    if address.contains('%') {
        let help = "leave the zone out and add an `interface` condition".to_string();
        return Err((format!("an address with a zone: \"{text}\""), Some(help)));
    }
    let address: IpAddr =
        address.parse().map_err(|_| (format!("not an address: \"{text}\""), None))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(digits) => digits
            .parse::<u8>()
            .ok()
            .filter(|length| *length <= most && is_number(digits))
            .ok_or_else(|| {
                let help = format!("from /0 to /{most}");
                (format!("no such prefix length: \"{text}\""), Some(help))
            })?,
    };
    let meant = truncate(address, length);
    if meant != address {
        let help =
            format!("write \"{meant}/{length}\" for the prefix, or \"{address}\" for the host");
        return Err((format!("host bits set in a prefix: \"{text}\""), Some(help)));
    }
    Ok(match address {
        IpAddr::V4(address) => Prefix::V4(address, length),
        // A mapped prefix counts as IPv4, as a mapped socket does.
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(v4) if length >= 96 => Prefix::V4(v4, length - 96),
            _ => Prefix::V6(address, length),
        },
    })
}

fn truncate(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// `IFNAMSIZ` less the terminating NUL (include/uapi/linux/if.h).
const INTERFACE_MAX: usize = 15;

/// A name that the kernel accepts (`dev_valid_name()`, net/core/dev.c), or a glob that such a name can match.
pub(super) fn pattern(text: &str) -> Result<Pattern, Problem> {
    let problem = if text.is_empty() {
        "the name is empty"
    } else if text.bytes().filter(|&byte| byte != b'*').count() > INTERFACE_MAX {
        "longer than 15 bytes"
    } else if text.len() > 2 * INTERFACE_MAX + 1 {
        "too many stars"
    } else if text == "." || text == ".." {
        "reserved"
    } else if text.contains(['/', ':', '"', '\\'])
        || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f)
    {
        "a character that is not allowed"
    } else if text.contains(['[', ']']) {
        "sets in brackets are not supported, write a list"
    } else {
        return Ok(Pattern(text.into()));
    };
    Err((format!("invalid interface name: {problem}"), None))
}

/// A family.
pub(super) fn family(text: &str) -> Result<Family, Problem> {
    match text {
        "ipv4" => Ok(Family::Ipv4),
        "ipv6" => Ok(Family::Ipv6),
        _ => Err(unknown(text)),
    }
}

/// A direction.
pub(super) fn direction(text: &str) -> Result<Direction, Problem> {
    match text {
        "outgoing" => Ok(Direction::Outgoing),
        "incoming" => Ok(Direction::Incoming),
        _ => Err(unknown(text)),
    }
}

fn unknown(text: &str) -> Problem {
    (format!("unknown value \"{text}\""), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        for (text, low, high) in
            [("0", 0, 0), ("80", 80, 80), ("0-65535", 0, 65535), ("8000-8999", 8000, 8999)]
        {
            assert_eq!(ports(text), Ok(PortRange { low, high }), "{text}");
        }
        for text in [
            "", "-", "-1", "1-", "65536", "0-65536", "0x50", "http", "80:90", "80 - 90", "90-80",
            "1-2-3", "+80", "8e1", "80,90",
        ] {
            assert!(ports(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn addresses_and_prefixes() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("44.0.0.0/8", "44.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("fe80::1/128", "fe80::1"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(prefix(text).map(|it| it.to_string()), Ok(shown.into()), "{text}");
        }
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10/8",
            "10.0.0.1/8",
            "2001:db8::1/32",
            "fe80::1%eth0",
            "host.example",
            "10.0.0.0/8/8",
            "010.0.0.1",
            "1.2.3.4 ",
            "10.0.0.0/256",
            "::ffff:0:0/95",
            "10.0.0.0/ 8",
        ] {
            assert!(prefix(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn interfaces() {
        for text in
            ["ax0", "ax*", "*", "eth?", "a", "123456789012345", "*12345678901234*", "eth0.5"]
        {
            assert_eq!(pattern(text), Ok(Pattern(text.into())), "{text}");
        }
        for text in
            ["", "1234567890123456", "a b", "a/b", "a:b", ".", "..", "eth[0-9]", "a\tb", "a\"b"]
        {
            assert!(pattern(text).is_err(), "{text:?} was accepted");
        }
    }
}
