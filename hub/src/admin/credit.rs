//! Credit that an admin grants, where no chain holds deposits.

use std::sync::Arc;

use sosna_api::Code;
use sosna_protocol::Amount;
use sosna_store::{Account, Entry, Transfer};

use crate::{
    error::HubError,
    hub::{Effect, Hub},
    ledger::deposits,
};

/// Grants a buyer credit, once for each key; says whether this was the first time.
///
/// # Errors
/// [`Code::NotFound`] for nobody's name, [`Code::Invalid`] for nothing, [`Code::KeyReused`] for a key that came
/// before with other content.
pub async fn grant_credit(hub: &Arc<Hub>, key: &str, buyer: &str, amount: Amount) -> Result<bool, HubError> {
    if amount == Amount::default() {
        return Err(HubError::refused(Code::Invalid, "0 SNM are no credit; name an amount above 0"));
    }
    let (key, buyer) = (format!("credit:{key}"), buyer.to_owned());
    hub.change(move |tx, hub| {
        Box::pin(async move {
            if tx.user(&buyer).await?.is_none() {
                return Err(HubError::not_found("person"));
            }
            let transfer = Transfer {
                key,
                kind: "credit",
                from: Account::Grants,
                to: Account::Buyer(buyer.clone()),
                amount,
                job: None,
                assignment: None,
                at_ms: hub.now_ms(),
            };
            if tx.transfer(&transfer).await? {
                deposits::count_granted(tx, &buyer, amount).await?;
                return Ok((true, vec![Effect::Schedule]));
            }
            let is_same = |entry: Entry| entry.to == transfer.to.name() && entry.amount == amount;
            if tx.entry_by_key(&transfer.key).await?.is_some_and(is_same) {
                return Ok((false, Vec::new()));
            }
            let detail = "this key granted other credit before; use a new key for each grant";
            Err(HubError::refused(Code::KeyReused, detail))
        })
    })
    .await
}
