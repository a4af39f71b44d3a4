//! Ports: a number, `"low-high"`, or `"number"`.

use super::wrong_type;
use crate::ast::Value;
use crate::diag::Diagnostic;
use crate::rule::PortRange;
use toml::de::DeValue;

const HELP: &str = "a port is a number from 0 to 65535, a range is \"8000-8999\"";

/// One port or one range.
pub(super) fn range(value: &Value<'_>) -> Result<PortRange, Diagnostic> {
    let span = || value.span.clone();
    match &value.value {
        DeValue::Integer(number) => u16::from_str_radix(number.as_str(), number.radix())
            .map(|port| PortRange { low: port, high: port })
            .map_err(|_| Diagnostic::new(format!("no such port: {number}"), span()).help(HELP)),
        DeValue::String(text) => parse(text).map_err(|(message, help)| {
            Diagnostic::new(message, span()).help(help.unwrap_or_else(|| HELP.into()))
        }),
        _ => Err(wrong_type(value, "expected a port", HELP)),
    }
}

/// The range, or a message and a more specific help.
pub(super) fn parse(text: &str) -> Result<PortRange, (String, Option<String>)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, low, high) in
            [("0", 0, 0), ("80", 80, 80), ("0-65535", 0, 65535), ("8000-8999", 8000, 8999)]
        {
            assert_eq!(parse(text), Ok(PortRange { low, high }), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "", "-", "-1", "1-", "65536", "0-65536", "0x50", "http", "80:90", "80 - 90", "90-80",
            "1-2-3", "+80", "8e1", "80,90",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
