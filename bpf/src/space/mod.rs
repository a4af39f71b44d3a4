//! All connections as a space of dimensions, and conditions as regions of it: what the checks reason about
//! and what the plan divides.
//!
//! A formula becomes a list of [`Term`]s (a disjunctive normal form): boxes, each a [`Set`] of values for
//! some dimensions, any value for the others.

pub mod automaton;
mod cover;
mod names;
mod near;
mod set;
mod terms;

pub use cover::Cover;
pub use names::{Names, matches};
pub use set::Set;
pub use terms::{MOST_TERMS, Term, Terms, terms};

use crate::rule::{End, Family};

/// What distinguishes connections. Values are numbers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// 0 outgoing, 1 incoming.
    Direction,
    /// 0 IPv4, 1 IPv6.
    Family,
    /// Host byte order.
    Port(Side),
    /// Of an IPv4 connection, host byte order; means nothing for an IPv6 one.
    Ipv4(Side),
    /// Of an IPv6 connection, host byte order; means nothing for an IPv4 one.
    Ipv6(Side),
    /// How the local port compares with the remote one: 0 below, 1 equal, 2 above. Taken for independent of
    /// the ports themselves.
    Ports,
    /// 1: both ends have the same address. Taken for independent of the addresses themselves.
    SameAddress,
    /// 1: the device's name matches the n-th list of patterns.
    Interface(usize),
}

/// An [`End`] that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This host's.
    Local,
    /// The peer's.
    Remote,
}

impl From<End> for Side {
    fn from(end: End) -> Self {
        match end {
            End::Local => Self::Local,
            End::Remote => Self::Remote,
        }
    }
}

/// The longest name of a device, in bytes (`IFNAMSIZ` less one).
pub(crate) const LONGEST: usize = 15;

/// The IPv4-mapped addresses: never the address of an IPv6 packet.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl Dimension {
    /// All values that there are.
    #[must_use]
    pub fn domain(self) -> Set {
        match self {
            Self::Direction | Self::Family | Self::SameAddress | Self::Interface(_) => {
                Set::range(0, 1)
            }
            Self::Ports => Set::range(0, 2),
            Self::Port(_) => Set::range(0, u128::from(u16::MAX)),
            Self::Ipv4(_) => Set::range(0, u128::from(u32::MAX)),
            Self::Ipv6(_) => Set::range(0, u128::MAX).minus(&Set::range(MAPPED.0, MAPPED.1)),
        }
    }
}

/// A family's value in [`Dimension::Family`].
#[must_use]
pub fn family_value(family: Family) -> u128 {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}
