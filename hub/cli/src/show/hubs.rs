//! Hubs, their wallets and what is owed by them, as the chain has it.

use sosna_protocol::{Address, Amount, Hash};

use super::{ago_by, facts, plain, table, when_by};
use crate::chain::wallet::{Entry, State};

/// Hubs of a registry, one a line; `now_ms` is the chain's own.
#[must_use]
pub fn entries(entries: &[Entry], now_ms: u64) -> String {
    if entries.is_empty() {
        return "no hub has registered yet".to_owned();
    }
    let row = |entry: &Entry| {
        let listing = &entry.listing;
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { plain(text) };
        vec![
            entry.wallet.to_string(),
            or_dash(&listing.name),
            or_dash(&listing.endpoint),
            listing.standing.to_string(),
            entry.phase.to_string(),
            ago_by(listing.since_ms, now_ms),
        ]
    };
    let header = ["WALLET", "NAME", "ENDPOINT", "STANDING", "PHASE", "SINCE"];
    table(&header, entries.iter().map(row).collect())
}

/// A wallet, whole.
#[must_use]
pub fn state(state: &State) -> String {
    let hash = |hash: Hash| if hash == Hash::ZERO { String::new() } else { format!("0x{hash}") };
    let listing = state.listing.as_ref();
    let newest = match hash(*state.roots.newest) {
        text if text.is_empty() => text,
        text if state.roots.active_ms <= state.now_ms => format!("{text}, claimable"),
        text => format!("{text}, claimable {}", when_by(state.roots.active_ms, state.now_ms)),
    };
    facts(&[
        ("wallet", format!("{} on chain {}", state.wallet, state.chain_id)),
        ("name", listing.map(|it| plain(&it.name)).unwrap_or_default()),
        ("endpoint", listing.map(|it| plain(&it.endpoint)).unwrap_or_default()),
        ("details", listing.map(|it| hash(*it.details)).unwrap_or_default()),
        (
            "standing",
            listing.map_or_else(
                || "in no registry: it has never been registered".to_owned(),
                |it| format!("{}, registered {}", it.standing, ago_by(it.since_ms, state.now_ms)),
            ),
        ),
        ("phase", state.phase.to_string()),
        ("payday", state.payday_ms.map(|at| when_by(at, state.now_ms)).unwrap_or_default()),
        ("owner", state.owner.to_string()),
        ("hub key", format!("{}, with {} ether", state.hub, state.hub_ether)),
        ("balance", format!("{} SNM", state.balance)),
        ("frozen", format!("{} SNM", state.frozen)),
        ("locked", format!("{} SNM", state.locked)),
        ("committed", format!("{} SNM", state.committed)),
        ("paid", format!("{} SNM of that", state.paid)),
        ("free", format!("{} SNM", state.free)),
        ("root", newest),
        ("before", hash(*state.roots.before)),
        ("as of", format!("block {}", state.block)),
    ])
}

/// What devices are still owed by a root: each with what it was owed in all, and what of that is missing.
#[must_use]
pub fn owed(lines: &[(Address, Amount, Amount)]) -> String {
    let row = |(device, cumulative, missing): &(Address, Amount, Amount)| {
        vec![device.checksummed().as_str().to_owned(), cumulative.to_string(), missing.to_string()]
    };
    table(&["DEVICE", "OWED IN ALL", "NOT YET PAID"], lines.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use sosna_api::wallet::WalletPhase;

    use super::*;
    use crate::chain::wallet::{Listing, Standing};

    #[test]
    fn what_owners_say_of_their_hubs_does_not_steer_the_terminal() {
        let entry = Entry {
            wallet: Address([7; 20]).into(),
            phase: WalletPhase::Registered,
            listing: Listing {
                name: "\u{1b}[2Jpine\u{202e}\n".to_owned(),
                endpoint: String::new(),
                details: Hash::ZERO.into(),
                standing: Standing::Trusted,
                since_ms: 1_000,
            },
        };
        let text = entries(&[entry], 61_000);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains(r"\u{1b}[2Jpine\u{202e}\n  -"), "{text}");
        assert!(text.ends_with("trusted   registered  1m ago"), "{text}");
    }
}
