//! Where a hub's wallet stands.

/// A wallet's phase, as the contract numbers it (`solidity/wallet/Phase.sol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has never registered.
    Created,
    /// At work until payday.
    Registered,
    /// Between two periods.
    Idle,
    /// The DAO looks into it.
    Suspected,
    /// The DAO has banned it.
    Punished,
}

impl Phase {
    /// By its number; `None` for one that this program does not know.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Created,
            1 => Self::Registered,
            2 => Self::Idle,
            3 => Self::Suspected,
            4 => Self::Punished,
            _ => return None,
        })
    }
}
