//! Conditions in C, joined by `&&`, `||` and `!` with no parentheses but those that are needed.

/// A condition in C.
pub(super) struct Test {
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What joins its parts, so that parentheses stand only where they must.
#[derive(PartialEq, Eq)]
pub(super) enum Kind {
    One,
    And,
    Or,
}

impl Test {
    pub(super) fn and(self, other: Self) -> Self {
        let part = |test: Self| if test.kind == Kind::Or { enclose(&test.text) } else { test.text };
        Self { text: format!("{} &&\n\t    {}", part(self), part(other)), kind: Kind::And }
    }

    pub(super) fn or(self, other: Self) -> Self {
        let part =
            |test: Self| if test.kind == Kind::And { enclose(&test.text) } else { test.text };
        Self { text: format!("{} ||\n\t    {}", part(self), part(other)), kind: Kind::Or }
    }

    pub(super) fn not(self) -> Self {
        let is_call = self.text.ends_with("(ctx)") && !self.text.contains(' ');
        let text = if is_call { self.text } else { enclose(&self.text) };
        Self { text: format!("!{text}"), kind: Kind::One }
    }
}

fn enclose(text: &str) -> String {
    format!("({})", text.replace("\n\t    ", "\n\t     "))
}
