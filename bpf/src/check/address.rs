//! Addresses and prefixes.

use super::wrong_type;
use crate::ast::Value;
use crate::diag::Diagnostic;
use crate::rule::Prefix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use toml::de::DeValue;

const HELP: &str = "an address or a prefix: \"192.0.2.1\", \"44.0.0.0/8\", \"2001:db8::/32\"";

/// One address (a prefix of full length) or prefix.
pub(super) fn prefix(value: &Value<'_>) -> Result<Prefix, Diagnostic> {
    let DeValue::String(text) = &value.value else {
        return Err(wrong_type(value, "an address is a string", HELP));
    };
    parse(text).map_err(|(message, help)| {
        Diagnostic::new(message, value.span.clone()).help(help.unwrap_or_else(|| HELP.into()))
    })
}

/// The prefix, or a message and a more specific help.
pub(super) fn parse(text: &str) -> Result<Prefix, (String, Option<String>)> {
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
            .filter(|length| *length <= most && digits.bytes().all(|b| b.is_ascii_digit()))
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
        // A mapped prefix is IPv4, as a mapped socket is.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
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
            assert_eq!(parse(text).map(|prefix| prefix.to_string()), Ok(shown.into()), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
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
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
