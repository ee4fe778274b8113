//! `sosna payouts`.

mod relay;
mod settle;

use sosna_api::{
    route,
    text::AddressText,
    wallet::{PayoutList, PayoutProof},
};
use sosna_contracts::payouts::{Line, Payouts};
use sosna_protocol::{Hash, payout};

use crate::{
    args::{PayoutsArgs, PayoutsCommand},
    client::Hub,
    connect::ConnectArgs,
    error::Error,
    output, show,
};

pub(super) async fn payouts(connect: &ConnectArgs, args: PayoutsArgs) -> Result<(), Error> {
    match (args.command, args.device) {
        (Some(PayoutsCommand::Relay(args)), _) => relay::relay(&args).await,
        (Some(PayoutsCommand::Settle(args)), _) => settle::settle(&super::hub(connect)?, &args).await,
        (None, Some(device)) => proof(&super::hub(connect)?, device, args.json).await,
        (None, None) => {
            let (list, _) = fetch(&super::hub(connect)?, None).await?;
            if args.json { output::json(&list) } else { output::line(&show::payouts(&list)) }
        }
    }
}

/// The hub's list. What the hub says is checked before it is shown or acted upon: it must be what its root is over.
async fn fetch(hub: &Hub, root: Option<Hash>) -> Result<(PayoutList, Payouts), Error> {
    let path =
        root.map_or_else(|| route::PAYOUTS.to_owned(), |root| format!("{}?root={root}", route::PAYOUTS));
    let list: PayoutList = hub.get(&path).await?;
    if root.is_some_and(|root| root != *list.root) {
        return Err(Error::Contradiction("the hub shows another list than it was asked for".to_owned()));
    }
    let lines =
        list.lines.iter().map(|line| Line { device: *line.device, cumulative: *line.cumulative }).collect();
    let tree = Payouts::new(lines).ok();
    match tree.filter(|tree| tree.root() == *list.root && tree.total() == *list.total) {
        Some(tree) => Ok((list, tree)),
        None => Err(Error::Failed(
            "the hub's list is not what its root is over, or does not add up to its total: what it has committed \
             on the chain is something else than it tells"
                .to_owned(),
        )),
    }
}

async fn proof(hub: &Hub, device: AddressText, json: bool) -> Result<(), Error> {
    let proof: PayoutProof = hub.get(&route::fill(route::PAYOUT, device)).await?;
    let path: Vec<Hash> = proof.path.iter().map(|hash| **hash).collect();
    let led = payout::climb(&device, *proof.cumulative, proof.count, &path);
    if *proof.device != *device || led != Some(*proof.root) {
        return Err(Error::Failed("the hub's proof does not lead to the root that it names".to_owned()));
    }
    if json { output::json(&proof) } else { output::line(&show::payout(&proof)) }
}
