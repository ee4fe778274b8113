//! `sosna deposits confirm`: signs for what was spent.

use sosna_api::{
    deposit::{Deposit, DepositList, NewBuyerVoucher},
    ledger::Ledger,
    route,
};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{
    Amount,
    eip712::{BuyerVoucher, Typed as _},
    identity::Sign as _,
};

use super::{domain, list, own};
use crate::{
    args::ConfirmArgs,
    chain::ChainError,
    client::{self, Hub},
    error::Error,
    output, show,
};

/// What came of one look.
enum Looked {
    /// Something was signed for.
    Signed(Box<Deposit>),
    /// There was nothing to sign for, and why.
    Nothing(Box<Deposit>, String),
}

pub(super) async fn confirm(hub: &Hub, args: &ConfirmArgs) -> Result<(), Error> {
    let key = args.signer.load()?;
    if !args.follow {
        return match look(hub, args, &key).await? {
            Looked::Signed(deposit) => tell(args, &deposit),
            Looked::Nothing(deposit, why) => {
                output::note(&why);
                tell(args, &deposit)
            }
        };
    }
    let mut told = String::new();
    loop {
        tokio::select! {
            looked = look(hub, args, &key) => match looked {
                Ok(Looked::Signed(deposit)) => {
                    told.clear();
                    tell(args, &deposit)?;
                }
                // Once, and not again every few seconds.
                Ok(Looked::Nothing(_, why)) if why == told => {}
                Ok(Looked::Nothing(_, why)) => {
                    output::note(&why);
                    told = why;
                }
                // A hub that is away now may be back the next time.
                Err(error @ Error::NoAnswer { .. }) => {
                    output::note(&format!("{}; trying again", sosna_host::report::line(&error)));
                }
                Err(error) => return Err(error),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(args.every) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn look(hub: &Hub, args: &ConfirmArgs, key: &IdentityKey) -> Result<Looked, Error> {
    let list = list(hub).await?;
    let (deposit, name) = own(hub, &list).await?;
    let Some(deposit) = deposit else {
        return Err(Error::Refused(format!(
            "`{name}` has no account on the chain at this hub; `sosna deposits put` names one"
        )));
    };
    if *deposit.account != key.address() {
        return Err(Error::Refused(format!(
            "the deposit is {}'s, and the key is {}'s; give the deposit's --key",
            deposit.account,
            key.address().checksummed()
        )));
    }
    let spent = spent(hub, &name).await?;
    if *deposit.owed > spent {
        return Err(Error::Contradiction(format!(
            "the hub wants {} SNM to be signed for, and its ledger says that {spent} were spent: nothing was signed",
            deposit.owed
        )));
    }
    let wanted = wanted(&deposit, args.ahead.map(|ahead| ahead.0).unwrap_or_default());
    if wanted <= *deposit.confirmed {
        let why = match *deposit.owed > *deposit.deposited {
            true => {
                format!("{} SNM are owed and {} deposited: deposit more", deposit.owed, deposit.deposited)
            }
            false => "there is nothing new to sign for".to_owned(),
        };
        return Ok(Looked::Nothing(Box::new(deposit), why));
    }
    if let Some(most) = args.most.filter(|most| wanted > most.0) {
        return Err(Error::Refused(format!(
            "{wanted} SNM are to be signed for, and --most is {most}: nothing was signed"
        )));
    }
    Ok(Looked::Signed(Box::new(sign(hub, &list, &deposit, wanted, key).await?)))
}

/// All that is to be signed for: what is owed and what is given ahead, as far as it was deposited.
fn wanted(deposit: &Deposit, ahead: Amount) -> Amount {
    let sum = deposit.owed.checked_add(ahead).unwrap_or(*deposit.deposited);
    sum.min(*deposit.deposited)
}

/// What the hub's own ledger says that was spent.
async fn spent(hub: &Hub, name: &str) -> Result<Amount, Error> {
    let ledger: Ledger = hub.get(&client::query(route::LEDGER, &[("limit", Some("1".to_owned()))])).await?;
    let account = ledger.accounts.iter().find(|account| account.buyer == name);
    Ok(account.map(|account| *account.spent).unwrap_or_default())
}

async fn sign(
    hub: &Hub,
    list: &DepositList,
    deposit: &Deposit,
    cumulative: Amount,
    key: &IdentityKey,
) -> Result<Deposit, Error> {
    let voucher = BuyerVoucher { buyer: *deposit.account, wallet: *list.wallet, cumulative };
    let signature = voucher.sign(&domain(list), key).map_err(ChainError::from)?;
    let new = NewBuyerVoucher { cumulative: cumulative.into(), signature: signature.into() };
    let confirmed: Deposit = hub.post(route::DEPOSITS_VOUCHER, &new).await?;
    if *confirmed.confirmed < cumulative {
        return Err(Error::Contradiction("the hub has taken a signature and does not say so".to_owned()));
    }
    Ok(confirmed)
}

fn tell(args: &ConfirmArgs, deposit: &Deposit) -> Result<(), Error> {
    if args.json {
        return output::json(deposit);
    }
    if args.follow {
        return output::line(&format!(
            "signed for {} SNM; {} were deposited and {} are owed",
            deposit.confirmed, deposit.deposited, deposit.owed
        ));
    }
    output::line(&show::deposit(deposit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_signed_for_that_was_not_deposited() {
        let amount = Amount::from_units;
        let deposit = Deposit {
            buyer: "alice".to_owned(),
            account: sosna_protocol::Address([1; 20]).into(),
            deposited: amount(100).into(),
            claimed: amount(0).into(),
            open_ms: None,
            owed: amount(60).into(),
            confirmed: amount(10).into(),
            unconfirmed: amount(50).into(),
            redemption: None,
        };
        assert_eq!(wanted(&deposit, amount(0)), amount(60));
        assert_eq!(wanted(&deposit, amount(30)), amount(90));
        assert_eq!(wanted(&deposit, amount(50)), amount(100));
        assert_eq!(wanted(&deposit, amount(u128::MAX)), amount(100));
    }
}
