//! The little JSON that the `--json` options print: one object on one line.

use std::fmt::{self, Display, Write as _};

/// A JSON value, already written.
pub(crate) struct Json(String);

impl Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `null`.
pub(crate) fn null() -> Json {
    Json("null".into())
}

/// A number or a boolean, which JSON writes as Rust does.
pub(crate) fn plain(value: impl Display) -> Json {
    Json(value.to_string())
}

/// A string.
pub(crate) fn string(text: impl Display) -> Json {
    let mut out = String::from("\"");
    for c in text.to_string().chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Writing to a String can't fail.
            '\0'..' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    Json(out)
}

/// `null` for None.
pub(crate) fn option<T>(value: Option<T>, write: impl Fn(T) -> Json) -> Json {
    value.map_or_else(null, write)
}

/// A list.
pub(crate) fn list(items: impl Iterator<Item = Json>) -> Json {
    let items: Vec<_> = items.map(|item| item.0).collect();
    Json(format!("[{}]", items.join(",")))
}

/// An object.
pub(crate) fn object(entries: &[(&str, Json)]) -> Json {
    let entries: Vec<_> = entries.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    Json(format!("{{{}}}", entries.join(",")))
}

/// Microseconds as a number of milliseconds: 20000, 1.5.
pub(crate) fn milliseconds(us: u64) -> Json {
    let (whole, rest) = (us / 1000, us % 1000);
    match rest {
        0 => plain(whole),
        _ => plain(format!("{whole}.{rest:03}").trim_end_matches('0')),
    }
}
