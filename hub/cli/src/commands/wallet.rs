//! `sosna wallet`.

use sosna_api::{route, wallet::Wallet};

use crate::{args::ListArgs, client::Hub, error::Error, output, show};

pub(super) async fn wallet(hub: &Hub, args: &ListArgs) -> Result<(), Error> {
    let wallet: Wallet = hub.get(route::WALLET).await?;
    if args.json { output::json(&wallet) } else { output::line(&show::wallet(&wallet)) }
}
