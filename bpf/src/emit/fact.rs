//! Writes facts as C.

use super::writer::Writer;
use crate::files::Code;
use crate::rule::{Fact, SocketField, SocketNumber, Sum};
use crate::space::Side;
use std::cmp::Ordering;

/// The prelude of tests in C.
const CODE: &str = include_str!("code.h");

/// An expression that is true if it is so. `port` spells a port in host byte order.
pub(super) fn spell(fact: &Fact, port: impl Fn(Side) -> String) -> String {
    match fact {
        Fact::Code(test) => format!("test_{test}(ctx)"),
        Fact::Sum(it) => format!("{} {} {}", sum(it, port), operator(it.order), it.number),
        Fact::Socket(SocketNumber { of, mask, number, order }) => {
            let number_of = match of {
                SocketField::Tos => "tos_of(ctx)".into(),
                _ => format!("OF_SOCKET({})", socket_field(*of)),
            };
            let masked = match mask {
                &u32::MAX => number_of,
                mask => format!("({number_of} & {mask:#x})"),
            };
            format!("{masked} {} {number}", operator(*order))
        }
    }
}

fn operator(order: Ordering) -> &'static str {
    match order {
        Ordering::Less => "<",
        Ordering::Equal => "==",
        Ordering::Greater => ">",
    }
}

/// Its name: that of the member of `struct bpf_sock`, if it is one.
fn socket_field(field: SocketField) -> &'static str {
    match field {
        SocketField::Mark => "mark",
        SocketField::Priority => "priority",
        SocketField::Tos => "tos",
    }
}

/// An expression that is 1 if it is so, else 0, and hides from the verifier which of the two it is.
pub(super) fn number(fact: &Fact, port: impl Fn(Side) -> String) -> String {
    match fact {
        Fact::Code(_) | Fact::Socket(_) => format!("opaque(ctx, {})", spell(fact, port)),
        Fact::Sum(it) => {
            let (sum, number) = (sum(it, port), it.number);
            match it.order {
                Ordering::Less => format!("less({sum}, {number})"),
                Ordering::Equal => format!("equal({sum}, {number})"),
                Ordering::Greater => format!("less({number}, {sum})"),
            }
        }
    }
}

fn sum(Sum { local, remote, .. }: &Sum, port: impl Fn(Side) -> String) -> String {
    let parts = [(Side::Local, local), (Side::Remote, remote)];
    let used = parts.into_iter().filter(|(_, (factor, _))| *factor != 0);
    let spelled: Vec<_> = used
        .map(|(side, (factor, mask))| {
            let port = match mask {
                &u16::MAX => port(side),
                mask => format!("({} & {mask:#x})", port(side)),
            };
            match factor {
                1 => format!("(s64){port}"),
                -1 => format!("-(s64){port}"),
                factor => format!("{factor} * (s64){port}"),
            }
        })
        .collect();
    spelled.join(" + ").replace(" + -", " - ")
}

/// Writes the file of `[code]`, and the functions that call its tests.
pub(super) fn code(out: &mut Writer, code: &Code) {
    out.header(CODE);
    out.empty();
    for (at, test) in code.tests.iter().enumerate() {
        out.line(format_args!("TEST({test}, {at})"));
    }
    // A name with quotes has been refused: `check::code`.
    out.header(&format!("#line 1 \"{}\"\n{}\n#line 1 \"rules\"\n", code.file.name, code.file.text));
}

/// The name of the variable for its value.
pub(super) fn name(fact: &Fact) -> String {
    match fact {
        Fact::Code(test) => format!("code_{test}"),
        Fact::Socket(SocketNumber { of, mask, number, order }) => {
            format!("{}_{mask:x}_{}_{number}", socket_field(*of), order_name(*order))
        }
        Fact::Sum(Sum { local, remote, number, order }) => {
            let sign = |number: i64| if number < 0 { "minus_" } else { "" };
            let part = |(factor, mask): (i32, u16)| {
                format!("{}{}_{mask:x}", sign(factor.into()), factor.unsigned_abs())
            };
            let order = order_name(*order);
            let (local, remote) = (part(*local), part(*remote));
            format!("sum_{local}_{remote}_{order}_{}{}", sign(*number), number.unsigned_abs())
        }
    }
}

fn order_name(order: Ordering) -> &'static str {
    match order {
        Ordering::Less => "below",
        Ordering::Equal => "is",
        Ordering::Greater => "above",
    }
}
