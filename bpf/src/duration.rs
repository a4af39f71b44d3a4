//! Durations: decimal numbers with units, exact to the microsecond.

/// The units, in microseconds.
pub const UNITS: [(&str, u64); 5] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];

/// How a duration is written.
pub(crate) const HELP: &str = "a number and a unit: \"300ms\", \"1.5s\", \"2m\"";

/// The list of the units, for messages.
pub(crate) const UNITS_HELP: &str = "the units are us, ms, s, m and h";

/// Reads a duration, in microseconds: one number and unit, or several from the largest unit to the smallest
/// (`1m30s`).
///
/// # Errors
/// The help if the text is not a duration.
pub fn parse(text: &str) -> Result<u64, String> {
    let (mut sum, mut larger) = (0_u64, u64::MAX);
    let mut rest = text;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let (part, after) = rest.split_at(unit.map_or(rest.len(), |unit| digits + unit));
        if digits == rest.len() && larger < u64::MAX {
            return Err(format!("`{rest}` has no unit: {UNITS_HELP}"));
        }
        let (us, scale) = one(part, digits)?;
        if scale >= larger {
            return Err("write the largest unit first: \"1m30s\"".into());
        }
        sum = sum.saturating_add(us);
        if after.is_empty() {
            return Ok(sum);
        }
        (rest, larger) = (after, scale);
    }
}

/// A number of this length and its unit: the duration and the unit, both in microseconds.
fn one(text: &str, digits: usize) -> Result<(u64, u64), String> {
    let format = || HELP.to_string();
    let (number, unit) = text.split_at(digits);
    if unit.is_empty() && !number.is_empty() {
        return Err(format!("add a unit: \"{number}s\"; {UNITS_HELP}"));
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if number.is_empty() {
            format()
        } else {
            format!("unknown unit `{unit}`: {UNITS_HELP}")
        });
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(format());
    }
    // A value that overflows is out of every range, and so is the largest number.
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(*scale);
    Ok((whole.saturating_add(part(fraction, *scale)?), *scale))
}

/// The digits after the point, in microseconds.
fn part(digits: &str, scale: u64) -> Result<u64, String> {
    let digits = digits.trim_end_matches('0');
    let finer = || "finer than a microsecond".to_string();
    // The largest unit has eight factors of 10 and two more of 2, so an eleventh digit is always too fine.
    if digits.len() > 10 {
        return Err(finer());
    }
    let number = digits.bytes().fold(0, |sum, byte| sum * 10 + u128::from(byte - b'0'));
    let (parts, whole) = (number * u128::from(scale), 10_u128.pow(digits.len() as u32));
    // Less than the unit.
    if parts.is_multiple_of(whole) { Ok((parts / whole) as u64) } else { Err(finer()) }
}

/// Writes a duration as a person would: `1.5s`, `300ms`.
#[must_use]
pub fn spell(us: u64) -> String {
    let (name, scale) = match us {
        0..1_000 => ("us", 1),
        1_000..1_000_000 => ("ms", 1_000),
        _ => ("s", 1_000_000),
    };
    let (whole, rest) = (us / scale, us % scale);
    if rest == 0 {
        return format!("{whole}{name}");
    }
    let digits = format!("{:0width$}", rest, width = if scale == 1_000 { 3 } else { 6 });
    format!("{whole}.{}{name}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, us) in [
            ("1ms", 1_000),
            ("1.5s", 1_500_000),
            ("0.001s", 1_000),
            ("2m", 120_000_000),
            ("0.5m", 30_000_000),
            ("0.000001m", 60),
            ("0.0000001m", 6),
            ("1.25m", 75_000_000),
            ("0.0125m", 750_000),
            ("1500us", 1_500),
            ("20.000000s", 20_000_000),
            ("007s", 7_000_000),
            ("1h", 3_600_000_000),
            ("0.0000000025h", 9),
            ("1s500ms", 1_500_000),
            ("1h30m", 5_400_000_000),
            ("1.5m0.5s1us", 90_500_001),
        ] {
            assert_eq!(parse(text), Ok(us), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "s",
            "20",
            "1.s",
            ".5s",
            "1..5s",
            "1.5.5s",
            "-1s",
            "+1s",
            "1e3s",
            "1 s",
            " 1s",
            "1d",
            "1S",
            "500ms1s",
            "1s1s",
            "1s500",
            "1s.",
            "0.00000000025h",
            "0x10s",
            "0.5us",
            "0.0000001s",
            "1s ",
            "٣s",
            "0.00000001m",
        ] {
            assert!(parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn huge_numbers_do_not_wrap() {
        assert_eq!(parse("99999999999999999999999m"), Ok(u64::MAX));
        assert_eq!(parse("18446744073709551615.9s"), Ok(u64::MAX));
    }

    #[test]
    fn spelled_as_written() {
        for text in ["1ms", "300ms", "1.5s", "20s", "120s", "1.25ms", "999us"] {
            assert_eq!(spell(parse(text).expect("a duration")), text);
        }
    }
}
