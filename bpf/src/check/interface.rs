//! Interface names and globs.

use super::wrong_type;
use crate::ast::Value;
use crate::diag::Diagnostic;
use crate::rule::Pattern;
use toml::de::DeValue;

/// `IFNAMSIZ` less the terminating NUL (include/uapi/linux/if.h).
const NAME_MAX: usize = 15;

const HELP: &str = "a name such as \"ax0\", or a glob such as \"ax*\"";

/// A name that the kernel accepts (`dev_valid_name()`, net/core/dev.c), or a glob that such a name can match.
pub(super) fn pattern(value: &Value<'_>) -> Result<Pattern, Diagnostic> {
    let DeValue::String(text) = &value.value else {
        return Err(wrong_type(value, "an interface is a string", HELP));
    };
    match problem(text) {
        None => Ok(Pattern(text.to_string())),
        Some(problem) => {
            Err(Diagnostic::new(format!("invalid interface name: {problem}"), value.span.clone())
                .help(HELP))
        }
    }
}

pub(super) fn problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("the name is empty");
    }
    if text.bytes().filter(|&byte| byte != b'*').count() > NAME_MAX {
        return Some("longer than 15 bytes");
    }
    if text.len() > 31 {
        return Some("too many stars");
    }
    if text == "." || text == ".." {
        return Some("reserved");
    }
    if text.contains(['/', ':', '"', '\\']) || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Some("a character that is not allowed");
    }
    if text.contains(['[', ']']) {
        return Some("sets in brackets are not supported, write a list");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for text in
            ["ax0", "ax*", "*", "eth?", "a", "123456789012345", "*12345678901234*", "eth0.5"]
        {
            assert_eq!(problem(text), None, "{text}");
        }
        for text in
            ["", "1234567890123456", "a b", "a/b", "a:b", ".", "..", "eth[0-9]", "a\tb", "a\"b"]
        {
            assert!(problem(text).is_some(), "{text:?} was accepted");
        }
    }
}
