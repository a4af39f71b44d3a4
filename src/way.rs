//! How `interface` rules find a connection's device: the method, and why it is that one. It stands in the program in the
//! kernel, too.

use crate::rules;
use std::str::FromStr;

/// What a device is found by.
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

/// Why it is that method. The numbers stand in installed programs: they stay.
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
    /// In words, of a [`Way`].
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::KernelBtf => "by the kernel's BTF",
            Self::OwnBtf => "by BTF that set-rto was built with",
            Self::NoBtf => "there is no BTF of this kernel",
            Self::WrongBtf => "the BTF does not fit this kernel",
            Self::NotAllowed => "this kernel lets programs read none of its structures",
            Self::Asked => "asked for",
        }
    }
}

/// The method of a load, and what else it needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) method: Method,
    pub(crate) why: Why,
    /// Of the network namespace; 0 where the kernel tells none to sock_ops programs (before 5.15).
    pub(crate) cookie: u64,
    /// Whether the device of arrival is noted.
    pub(crate) arrivals: bool,
}

impl Way {
    /// `finding` in the generated C: method, why, cookie, arrivals.
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = u8::from(self.method == Method::Address);
        let words = [bytes[0].into(), self.why as u32];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes[8..16].copy_from_slice(&self.cookie.to_ne_bytes());
        bytes[16..20].copy_from_slice(&u32::from(self.arrivals).to_ne_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let reasons =
            [Why::KernelBtf, Why::OwnBtf, Why::NoBtf, Why::WrongBtf, Why::NotAllowed, Why::Asked];
        Some(Self {
            method: if word(0)? == 0 { Method::Route } else { Method::Address },
            why: *reasons.get(word(4)? as usize)?,
            cookie: u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?),
            arrivals: word(16)? != 0,
        })
    }

    /// For people.
    pub(crate) fn text(self) -> String {
        let by = match self.method {
            Method::Route => "the device of the route",
            Method::Address => "the device that has the local address",
        };
        let incoming = match (rules::ask_for_arrivals(), self.arrivals, self.method) {
            (false, ..) => "",
            (true, true, _) => "; of incoming connections, the device that the SYN came in by",
            (true, false, Method::Route) => {
                "; of incoming connections, the device that the listener is bound to or that has the local address, \
                 since this kernel does not tell by which one the SYN came in (Linux 5.17 does)"
            }
            (true, false, Method::Address) => {
                "; of incoming connections, too, since this kernel does not tell by which one the SYN came in \
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
            for why in [Why::KernelBtf, Why::WrongBtf, Why::Asked] {
                let way = Way { method, why, cookie: 0x0123_4567_89ab_cdef, arrivals: true };
                assert_eq!(Way::from_bytes(&way.to_bytes()), Some(way));
                let way = Way { arrivals: false, cookie: 0, ..way };
                assert_eq!(Way::from_bytes(&way.to_bytes()), Some(way));
            }
        }
        assert_eq!(Way::from_bytes(&[9; Way::BYTES]), None);
        assert_eq!(Way::from_bytes(&[]), None);
    }
}
