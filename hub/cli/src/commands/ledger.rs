//! `sosna ledger`.

use sosna_api::{
    ledger::{Account, Ledger, NewCredit},
    route,
};

use crate::{
    args::{LedgerArgs, LedgerCommand},
    client::{self, Hub, IdempotencyKey},
    error::Error,
    output, show,
};

pub(super) async fn ledger(hub: &Hub, args: LedgerArgs) -> Result<(), Error> {
    match args.command {
        None => {
            let path = client::query(route::LEDGER, &[("limit", Some(args.limit.to_string()))]);
            let ledger: Ledger = hub.get(&path).await?;
            if args.json { output::json(&ledger) } else { output::line(&show::ledger(&ledger)) }
        }
        Some(LedgerCommand::Credit { buyer, amount, json }) => {
            let credit = NewCredit { buyer, amount };
            let account: Account =
                hub.create(route::LEDGER_CREDIT, &credit, &IdempotencyKey::random()).await?;
            if json {
                return output::json(&account);
            }
            output::line(&format!("{}: {} SNM available", account.buyer, account.available))
        }
    }
}
