//! How `interface` rules find a connection's device: the method, and why it was chosen. The program in the kernel
//! records both.

use crate::rules;
use crate::shared::Finding;
use std::str::FromStr;

/// A method of finding a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// The device of the socket's route: reads the kernel's structures, needs BTF.
    Route,
    /// The device that has the local address, as of the last install: needs no BTF.
    Address,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Address => "address",
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        [Self::Route, Self::Address]
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| "the methods are `route` and `address`".into())
    }
}

/// Why a method was chosen. Installed programs contain these numbers, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    KernelBtf = 0,
    OwnBtf = 1,
    NoBtf = 2,
    WrongBtf = 3,
    NotAllowed = 4,
    Asked = 5,
}

impl Why {
    /// The reason in words, as a part of [`Way::text`].
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::KernelBtf => "by the kernel's BTF",
            Self::OwnBtf => "by the BTF that set-rto was built with",
            Self::NoBtf => "this kernel has no BTF",
            Self::WrongBtf => "the BTF does not match this kernel",
            Self::NotAllowed => "this kernel does not let programs read its structures",
            Self::Asked => "asked for",
        }
    }
}

/// The method that a load uses, and its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) method: Method,
    pub(crate) why: Why,
    /// Cookie of the network namespace; None if sock_ops programs cannot read it (before Linux 5.15).
    pub(crate) cookie: Option<u64>,
    /// True if the device of arrival is recorded.
    pub(crate) arrivals: bool,
}

impl Way {
    /// The program's form of it; `pointer` is the size of the kernel's pointers in bytes.
    pub(crate) fn finding(self, pointer: u32) -> Finding {
        Finding {
            method: u32::from(self.method == Method::Address),
            why: self.why as u32,
            // The kernel gives none of this number.
            cookie: self.cookie.unwrap_or(0),
            arrivals: self.arrivals.into(),
            pointer,
        }
    }

    /// None for numbers that no version of this program writes.
    pub(crate) fn from_finding(finding: &Finding) -> Option<Self> {
        let methods = [Method::Route, Method::Address];
        let reasons =
            [Why::KernelBtf, Why::OwnBtf, Why::NoBtf, Why::WrongBtf, Why::NotAllowed, Why::Asked];
        Some(Self {
            method: *methods.get(finding.method as usize)?,
            why: *reasons.get(finding.why as usize)?,
            cookie: Some(finding.cookie).filter(|&cookie| cookie != 0),
            arrivals: finding.arrivals != 0,
        })
    }

    /// The text for display.
    pub(crate) fn text(self) -> String {
        let by = match self.method {
            Method::Route => "the device of the route",
            Method::Address => "the device that has the local address",
        };
        let incoming = match (rules::ASKS_FOR_ARRIVALS, self.arrivals, self.method) {
            (false, ..) => "",
            (true, true, _) => "; for incoming connections, the device that the SYN came in by",
            (true, false, Method::Route) => {
                "; for incoming connections, the device that the listener is bound to or that has the local address, \
                 since this kernel does not report which one the SYN came in by (Linux 5.17 does)"
            }
            (true, false, Method::Address) => {
                "; for incoming connections too, since this kernel does not report which one the SYN came in by \
                 (Linux 5.17 does)"
            }
        };
        format!("{by}, {}{incoming}", self.why.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_read_as_they_were_written() {
        for method in [Method::Route, Method::Address] {
            for (why, cookie, arrivals) in [
                (Why::KernelBtf, Some(0x0123_4567_89ab_cdef), true),
                (Why::WrongBtf, None, true),
                (Why::Asked, None, false),
            ] {
                let way = Way { method, why, cookie, arrivals };
                assert_eq!(Way::from_finding(&way.finding(8)), Some(way));
                for (method, why) in [(2, 0), (0, 6)] {
                    let finding = Finding { method, why, ..way.finding(8) };
                    assert_eq!(Way::from_finding(&finding), None);
                }
            }
        }
    }
}
