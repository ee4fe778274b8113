//! Buyers' deposits in the books: whose account is whose, what is credit because of it, what a buyer has signed for, and
//! how far the hub works ahead of that.
//!
//! A deposit is the buyer's until the buyer signs, and what devices are owed is the hub's to pay. So the credit that a
//! deposit gives is spent only as far as the buyer has signed, and a bounded amount beyond it; and when the buyer
//! announces to take the rest back, not beyond it.

use std::sync::Arc;

use sosna_api::Code;
use sosna_protocol::{
    Address, Amount, Signature,
    eip712::{BuyerAccount, BuyerVoucher, Typed as _},
};
use sosna_store::{Account, Deposit, Seen, Transfer, Tx};

use super::chain::Chain;
use crate::{
    error::HubError,
    hub::{Effect, Hub},
};

impl Hub {
    /// Where buyers deposit.
    ///
    /// # Errors
    /// [`Code::NotFound`] where the settings name no escrow.
    pub(crate) fn escrow(&self) -> Result<(&Arc<Chain>, sosna_protocol::eip712::Domain), HubError> {
        let chain = self.chain.as_ref();
        chain.and_then(|chain| chain.escrow.map(|escrow| (chain, escrow))).ok_or_else(|| {
            HubError::refused(
                Code::NotFound,
                "this hub takes no deposits on a chain; its admin grants credit (`sosna ledger credit`)",
            )
        })
    }

    /// Keeps that what an account deposits is a buyer's credit; says whether that is new.
    ///
    /// # Errors
    /// [`Code::Forbidden`] where the account has not signed it, [`Code::Conflict`] where the account or the buyer has
    /// another already.
    pub(crate) async fn link_account(
        self: &Arc<Self>,
        buyer: &str,
        account: Address,
        signature: Signature,
    ) -> Result<bool, HubError> {
        let (chain, escrow) = self.escrow()?;
        let link = BuyerAccount { account, wallet: chain.domain.wallet, buyer };
        link.verify(&escrow, &signature, &account).map_err(|_| {
            let detail = format!(
                "the signature is not {}'s, or not for the buyer `{buyer}` of this hub's wallet {} and escrow {}",
                account.checksummed(),
                chain.domain.wallet.checksummed(),
                escrow.wallet.checksummed()
            );
            HubError::refused(Code::Forbidden, detail)
        })?;
        let (buyer, at) = (buyer.to_owned(), escrow.wallet);
        self.change(move |tx, hub| {
            Box::pin(async move {
                let conflict = |detail: String| Err(HubError::refused(Code::Conflict, detail));
                match (tx.deposit(&account).await?, tx.deposit_of(&buyer).await?) {
                    (None, None) => {}
                    (Some(known), _) if known.buyer == buyer => return Ok((false, Vec::new())),
                    (Some(_), _) => {
                        return conflict(format!("{} is another buyer's account", account.checksummed()));
                    }
                    (None, Some(other)) => {
                        return conflict(format!(
                            "`{buyer}` deposits from {} already, and a buyer has one account",
                            other.account.checksummed()
                        ));
                    }
                }
                tx.put_deposit(&account, &buyer, &at, hub.now_ms()).await?;
                tracing::info!(account = %account.checksummed(), buyer, "an account's deposits are a buyer's credit");
                Ok((true, Vec::new()))
            })
        })
        .await
    }

    /// Takes what a buyer has signed for; the buyer's account. Less than before changes nothing.
    ///
    /// # Errors
    /// [`Code::NotFound`] for a buyer without an account, [`Code::Forbidden`] for another's signature, [`Code::NoCredit`]
    /// for more than the deposit has.
    pub(crate) async fn confirm(
        self: &Arc<Self>,
        buyer: &str,
        cumulative: Amount,
        signature: Signature,
    ) -> Result<Address, HubError> {
        let (chain, escrow) = self.escrow()?;
        let wallet = chain.domain.wallet;
        let buyer = buyer.to_owned();
        self.change(move |tx, _| {
            Box::pin(async move {
                let Some(deposit) = tx.deposit_of(&buyer).await? else {
                    return Err(HubError::refused(
                        Code::NotFound,
                        format!("`{buyer}` has no account on the chain yet; `sosna deposits put` names one"),
                    ));
                };
                let account = deposit.account;
                let voucher = BuyerVoucher { buyer: account, wallet, cumulative };
                voucher.verify(&escrow, &signature, &account).map_err(|_| {
                    let detail = format!("the signature is not {}'s for {cumulative} SNM", account.checksummed());
                    HubError::refused(Code::Forbidden, detail)
                })?;
                if cumulative > deposit.seen.put {
                    let detail = format!(
                        "{cumulative} SNM are signed for, and {} were deposited as far as this hub has seen; deposit more, \
                         or wait until the deposit is under enough blocks",
                        deposit.seen.put
                    );
                    return Err(HubError::refused(Code::NoCredit, detail));
                }
                if cumulative <= deposit.confirmed {
                    return Ok((account, Vec::new()));
                }
                tx.confirm_deposit(&account, cumulative, &signature).await?;
                Ok((account, vec![Effect::Schedule]))
            })
        })
        .await
    }
}

/// What more of a buyer's work may be given away now; `None` where nothing but the buyer's credit bounds it.
pub(crate) async fn allowance(tx: &mut Tx, hub: &Hub, buyer: &str) -> Result<Option<Amount>, HubError> {
    let Some(deposit) = tx.deposit_of(buyer).await? else { return Ok(None) };
    let open = tx.open_prices(buyer).await?.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
    let used = open.and_then(|open| open.checked_add(deposit.spent)).ok_or_else(too_large)?;
    let limit = limit(&deposit, hub.config.chain.buyer_exposure.0);
    Ok(Some(limit.checked_sub(used).unwrap_or_default()))
}

/// All that may ever be spent of what a buyer was granted and has deposited.
fn limit(deposit: &Deposit, exposure: Amount) -> Amount {
    let trust = if deposit.seen.open_from == 0 { exposure } else { Amount::ZERO };
    let most = Amount::from_units(u128::MAX);
    let signed = deposit.confirmed.checked_add(trust).unwrap_or(most).min(deposit.seen.put);
    deposit.granted.checked_add(signed).unwrap_or(most)
}

/// Books what was seen of a deposit: what is new is the buyer's credit, and what was taken back is no more.
pub(crate) async fn book(
    tx: &mut Tx,
    hub: &Hub,
    account: Address,
    seen: Seen,
) -> Result<Vec<Effect>, HubError> {
    let Some(deposit) = tx.deposit(&account).await? else { return Ok(Vec::new()) };
    // Nodes are not all equally far.
    if seen.block < deposit.seen.block {
        return Ok(Vec::new());
    }
    let buyer = Account::Buyer(deposit.buyer.clone());
    let (from, to, kind, amount) = match seen.put.checked_sub(deposit.booked) {
        Some(more) => (Account::Deposits, buyer, "deposit", more),
        None => {
            // What jobs hold comes free when they end, and is taken then.
            let less = deposit.booked.checked_sub(seen.put).unwrap_or_default();
            let less = less.min(tx.balance(&buyer).await?);
            (buyer, Account::Deposits, "taken_back", less)
        }
    };
    let moves = amount > Amount::ZERO;
    // What jobs still hold is looked for in each round, and is no news.
    if !moves && is_same(&deposit.seen, &seen) {
        return Ok(Vec::new());
    }
    let mut booked = deposit.booked;
    if moves {
        booked = match kind {
            "deposit" => booked.checked_add(amount),
            _ => booked.checked_sub(amount),
        }
        .ok_or_else(too_large)?;
        tx.transfer(&Transfer {
            key: format!("deposit:{account}:{}", deposit.changes),
            kind,
            from,
            to,
            amount,
            job: None,
            assignment: None,
            at_ms: hub.now_ms(),
        })
        .await?;
        tracing::info!(account = %account.checksummed(), buyer = deposit.buyer, %amount, kind, "a deposit has changed");
    }
    if deposit.seen.open_from == 0 && seen.open_from != 0 {
        tracing::warn!(
            account = %account.checksummed(),
            buyer = deposit.buyer,
            "a buyer has announced to take its deposit back: no more work is given away than the buyer has signed for"
        );
    }
    tx.see_deposit(&account, &seen, booked, deposit.changes + u64::from(moves)).await?;
    Ok(vec![Effect::Schedule])
}

/// Whether nothing follows from what was seen.
pub(crate) fn says_nothing_new(deposit: &Deposit, seen: &Seen) -> bool {
    is_same(&deposit.seen, seen) && deposit.booked == seen.put
}

/// But for the block, which alone is not worth a write.
fn is_same(one: &Seen, other: &Seen) -> bool {
    Seen { block: 0, ..*one } == Seen { block: 0, ..*other }
}

/// A buyer was granted more.
pub(crate) async fn count_granted(tx: &mut Tx, buyer: &str, more: Amount) -> Result<(), HubError> {
    let Some(deposit) = tx.deposit_of(buyer).await? else { return Ok(()) };
    let granted = deposit.granted.checked_add(more).ok_or_else(too_large)?;
    Ok(tx.count_deposit(buyer, granted, deposit.spent).await?)
}

/// A buyer has spent more.
pub(crate) async fn count_spent(tx: &mut Tx, buyer: &str, more: Amount) -> Result<(), HubError> {
    let Some(deposit) = tx.deposit_of(buyer).await? else { return Ok(()) };
    let spent = deposit.spent.checked_add(more).ok_or_else(too_large)?;
    Ok(tx.count_deposit(buyer, deposit.granted, spent).await?)
}

fn too_large() -> HubError {
    sosna_store::LedgerError::Overflow.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snm(count: u128) -> Amount {
        Amount::from_units(count * Amount::SNM.units())
    }

    fn deposit(put: u128, confirmed: u128, granted: u128) -> Deposit {
        Deposit {
            account: Address([1; 20]),
            buyer: "alice".to_owned(),
            escrow: Address([2; 20]),
            seen: Seen { put: snm(put), ..Seen::default() },
            booked: snm(put),
            changes: 1,
            confirmed: snm(confirmed),
            signature: None,
            granted: snm(granted),
            spent: Amount::ZERO,
        }
    }

    #[test]
    fn a_hub_works_ahead_of_a_signature_by_a_bounded_amount() {
        assert_eq!(limit(&deposit(100, 0, 0), snm(10)), snm(10));
        assert_eq!(limit(&deposit(100, 30, 0), snm(10)), snm(40));
        assert_eq!(limit(&deposit(100, 95, 0), snm(10)), snm(100), "never beyond the deposit");
        assert_eq!(limit(&deposit(0, 0, 7), snm(10)), snm(7), "what was granted needs no signature");
        assert_eq!(limit(&deposit(5, 0, 7), snm(10)), snm(12));
        let mut leaving = deposit(100, 30, 0);
        leaving.seen.open_from = 1;
        assert_eq!(limit(&leaving, snm(10)), snm(30), "who takes back is trusted with nothing");
        leaving.seen.put = snm(20);
        assert_eq!(limit(&leaving, snm(10)), snm(20));
    }

    #[test]
    fn a_deposit_owes_what_was_spent_beyond_what_was_granted() {
        let mut one = deposit(100, 0, 5);
        one.spent = snm(3);
        assert_eq!(one.owed(), Amount::ZERO);
        one.spent = snm(9);
        assert_eq!((one.owed(), one.unconfirmed()), (snm(4), snm(4)));
        one.confirmed = snm(3);
        assert_eq!((one.unconfirmed(), one.redeemable()), (snm(1), snm(3)));
        one.seen.claimed = snm(2);
        assert_eq!(one.redeemable(), snm(1));
        one.seen.put = snm(2);
        assert_eq!(one.redeemable(), Amount::ZERO, "the escrow pays all that was signed for, or nothing");
    }
}
