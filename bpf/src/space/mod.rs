//! All connections as a space of dimensions, and conditions as regions of it. The checks reason about regions, and the
//! plan divides them.
//!
//! A formula becomes conditions on values ([`Normal`]), and these become a list of [`Term`]s (a disjunctive normal
//! form). A term is a box: a [`Set`] of values for some dimensions, and any value for the others.

pub mod interface;
mod literal;
mod set;
mod sweep;
mod terms;

pub use interface::{Interfaces, matches};
pub use literal::Normal;
pub(crate) use literal::port_set;
pub use set::Set;
pub(crate) use sweep::sweep;
pub use terms::{Budget, MOST_TERMS, Term, Terms, terms};

use crate::rule::{End, Fact, Family};

/// A property that distinguishes connections. Values are numbers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// 0 outgoing, 1 incoming.
    Direction,
    /// 0 IPv4, 1 IPv6. Both ends have the same family.
    Family,
    /// Host byte order.
    Port(Side),
    /// An IPv6 number. IPv4 addresses are mapped, and no IPv6 packet has a mapped address.
    Address(Side),
    /// How the local port compares with the remote one: 0 below, 1 equal, 2 above. It is treated as independent of the
    /// ports themselves.
    PortOrder,
    /// 1: both ends have the same address. It is treated as independent of the addresses themselves.
    SameAddress,
    /// 1: it is so. It is treated as independent of all other dimensions.
    Fact(Fact),
    /// The interface, as a class of one automaton of [`Interfaces`]. Names of one class match the same lists.
    Interface {
        /// Its number.
        automaton: usize,
        /// The number of classes. Class 0 matches none of its lists and includes connections without an interface.
        classes: u32,
    },
}

/// An [`End`] with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This host's.
    Local,
    /// The peer's.
    Remote,
}

impl Side {
    /// The corresponding end in the context's fields.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

impl From<End> for Side {
    fn from(end: End) -> Self {
        match end {
            End::Local => Self::Local,
            End::Remote => Self::Remote,
        }
    }
}

/// The IPv4 addresses in [`Dimension::Address`].
pub(crate) const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

impl Dimension {
    /// The first value is 0, and this is the last one.
    #[must_use]
    pub fn last(self) -> u128 {
        match self {
            Self::Direction | Self::Family | Self::SameAddress | Self::Fact(_) => 1,
            Self::PortOrder => 2,
            Self::Port(_) => u128::from(u16::MAX),
            Self::Address(_) => u128::MAX,
            Self::Interface { classes, .. } => u128::from(classes) - 1,
        }
    }

    /// All values of the dimension.
    #[must_use]
    pub fn domain(self) -> Set {
        Set::range(0, self.last())
    }

    /// True for an interface.
    #[must_use]
    pub fn is_interface(self) -> bool {
        matches!(self, Self::Interface { .. })
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

/// The addresses of a family.
#[must_use]
pub fn addresses(family: u128) -> Set {
    let mapped = Set::range(MAPPED.0, MAPPED.1);
    if family == 0 { mapped } else { Set::range(0, u128::MAX).minus(&mapped) }
}
