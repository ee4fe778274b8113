//! What of a hub's word its wallet covers. A pure function of what was seen.

use std::fmt;

use sosna_contracts::Phase;
use sosna_protocol::{Address, Amount, eip712::Domain};

use super::agree::Seen;
use crate::store::Held;

/// How far a device may trust that it is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backing {
    /// Of what the hub has signed for, what nothing was seen to cover.
    pub(crate) unbacked: Amount,
    /// Why the device risks no more than at the start.
    pub(crate) doubt: Option<Doubt>,
}

/// Why a device risks no more than at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The hub has never signed for anything.
    New,
    /// The owner has named no nodes to ask.
    NoEndpoints,
    /// The hub settles on no chain, and the owner wants to be paid on one.
    NoWallet,
    /// No two nodes have agreed on it lately, and why.
    Unchecked(Option<String>),
    /// Its owner can take all of it out.
    NotRegistered,
}

// === impl Doubt ===

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("the hub has signed for nothing yet"),
            Self::NoEndpoints => f.write_str(
                "the hub's wallet is not checked: this device knows no nodes of its chain (the settings `chain`)",
            ),
            Self::NoWallet => f.write_str("the hub has no wallet on a chain"),
            Self::Unchecked(None) => f.write_str("the hub's wallet has not been checked yet"),
            Self::Unchecked(Some(why)) => write!(f, "the hub's wallet is not checked: {why}"),
            Self::NotRegistered => f.write_str(
                "the hub's wallet is between two periods: its owner can take out what is promised to nobody",
            ),
        }
    }
}

/// What the wallet covers of what the hub has signed for.
///
/// A line of a root on the chain is covered: the wallet cannot be emptied below its roots. For the rest a voucher is paid
/// out of what is promised to nobody, which other devices' vouchers want too: one device cannot see how many.
///
/// # Errors
/// The reason, in words, why the device must not work for this wallet.
pub(super) fn of(seen: &Seen, hub: &Address, held: &Held, domain: &Domain) -> Result<Backing, String> {
    let Some(phase) = seen.phase else {
        return Err(
            "the hub's wallet is not in the list of hubs (`chain.registry`): nobody answers for it".into()
        );
    };
    if seen.hub != *hub {
        return Err(format!(
            "the wallet that the hub names is of another hub's key, {}: it pays none of this hub's vouchers",
            seen.hub.checksummed()
        ));
    }
    match phase {
        Phase::Suspected => {
            return Err("the DAO suspects the hub's wallet: it pays only what was committed before".into());
        }
        Phase::Punished => {
            return Err("the DAO has banned the hub's wallet: it pays only what was committed before".into());
        }
        Phase::Created | Phase::Registered | Phase::Idle => {}
    }
    let paid = seen.paid.max(held.paid(domain));
    let on_chain =
        held.lines(domain).iter().filter(|line| line.root == seen.newest || line.root == seen.before);
    let committed = on_chain.map(|line| line.cumulative).fold(paid, Amount::max);
    let open = held.vouchered.checked_sub(committed).unwrap_or(Amount::ZERO);
    let is_registered = phase == Phase::Registered;
    let free = if is_registered { seen.free } else { Amount::ZERO };
    let doubt = if !is_registered {
        Some(Doubt::NotRegistered)
    } else if held.vouchered == Amount::ZERO {
        Some(Doubt::New)
    } else {
        None
    };
    Ok(Backing { unbacked: open.checked_sub(free).unwrap_or(Amount::ZERO), doubt })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sosna_protocol::Hash;

    use super::*;
    use crate::store::record::{PayoutLine, WalletRecord};

    const HUB: Address = Address([1; 20]);
    const DOMAIN: Domain = Domain { chain_id: 5, wallet: Address([2; 20]) };

    fn seen() -> Seen {
        Seen {
            block: 1,
            time: 2,
            phase: Some(Phase::Registered),
            hub: HUB,
            free: Amount::from_units(100),
            paid: Amount::from_units(10),
            payee_nonce: 0,
            newest: Hash([1; 32]),
            before: Hash([2; 32]),
        }
    }

    fn held(vouchered: u128, lines: &[(u8, u128)]) -> Held {
        let line = |&(root, cumulative): &(u8, u128)| PayoutLine {
            root: Hash([root; 32]),
            count: 1,
            cumulative: Amount::from_units(cumulative),
            path: Vec::new(),
        };
        let record = WalletRecord {
            chain_id: DOMAIN.chain_id,
            wallet: DOMAIN.wallet,
            paid: Amount::from_units(5),
            payee_nonce: 0,
            lines: lines.iter().map(line).collect(),
        };
        Held { domain: Some(DOMAIN), vouchered: Amount::from_units(vouchered), record: Some(record) }
    }

    fn unbacked(seen: &Seen, held: &Held) -> u128 {
        of(seen, &HUB, held, &DOMAIN).unwrap().unbacked.units()
    }

    #[test]
    fn vouchers_are_covered_by_what_is_promised_to_nobody() {
        assert_eq!(unbacked(&seen(), &held(110, &[])), 0);
        assert_eq!(unbacked(&seen(), &held(111, &[])), 1, "10 of 111 are paid, and 100 free");
        assert_eq!(unbacked(&Seen { free: Amount::ZERO, ..seen() }, &held(111, &[])), 101);
        // What was seen to be paid before does not come back by a node that lags.
        assert_eq!(unbacked(&Seen { paid: Amount::ZERO, ..seen() }, &held(106, &[])), 1);
    }

    #[test]
    fn a_line_of_a_root_on_the_chain_is_covered_whatever_is_free() {
        let none_free = Seen { free: Amount::ZERO, ..seen() };
        assert_eq!(unbacked(&none_free, &held(90, &[(1, 90)])), 0);
        assert_eq!(unbacked(&none_free, &held(90, &[(2, 60), (1, 80)])), 10);
        // A root that is not on the chain is nobody's promise.
        assert_eq!(unbacked(&none_free, &held(90, &[(3, 90)])), 80);
        // Lines for another wallet are not this one's.
        let mut other = held(90, &[(1, 90)]);
        other.record.as_mut().unwrap().wallet = HUB;
        assert_eq!(unbacked(&none_free, &other), 80);
    }

    #[test]
    fn what_nobody_answers_for_gets_no_work() {
        let wrong = [
            Seen { phase: None, ..seen() },
            Seen { hub: DOMAIN.wallet, ..seen() },
            Seen { phase: Some(Phase::Suspected), ..seen() },
            Seen { phase: Some(Phase::Punished), ..seen() },
        ];
        for seen in wrong {
            assert!(!of(&seen, &HUB, &held(1, &[]), &DOMAIN).unwrap_err().is_empty(), "{seen:?}");
        }
    }

    #[test]
    fn between_periods_the_owner_can_take_what_is_free() {
        for phase in [Phase::Created, Phase::Idle] {
            let backing = of(&Seen { phase: Some(phase), ..seen() }, &HUB, &held(50, &[]), &DOMAIN).unwrap();
            assert_eq!((backing.unbacked.units(), backing.doubt), (40, Some(Doubt::NotRegistered)));
        }
        let new = of(&seen(), &HUB, &held(0, &[]), &DOMAIN).unwrap();
        assert_eq!(new.doubt, Some(Doubt::New));
        assert_eq!(of(&seen(), &HUB, &held(50, &[]), &DOMAIN).unwrap().doubt, None);
    }
}
