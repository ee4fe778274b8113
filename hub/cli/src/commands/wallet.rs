//! `sosna wallet` and `sosna payouts`.

use sosna_api::{
    route,
    wallet::{PayoutList, PayoutProof, Wallet},
};
use sosna_contracts::payouts::{Line, Payouts};
use sosna_protocol::{Hash, payout};

use crate::{
    args::{ListArgs, PayoutsArgs},
    client::Hub,
    error::Error,
    output, show,
};

pub(super) async fn wallet(hub: &Hub, args: &ListArgs) -> Result<(), Error> {
    let wallet: Wallet = hub.get(route::WALLET).await?;
    if args.json { output::json(&wallet) } else { output::line(&show::wallet(&wallet)) }
}

/// What the hub says is checked before it is shown: a list must be what its root is over.
pub(super) async fn payouts(hub: &Hub, args: &PayoutsArgs) -> Result<(), Error> {
    let Some(device) = args.device else {
        let list: PayoutList = hub.get(route::PAYOUTS).await?;
        let lines = list
            .lines
            .iter()
            .map(|line| Line { device: *line.device, cumulative: *line.cumulative })
            .collect();
        let is_whole =
            Payouts::new(lines).is_ok_and(|tree| tree.root() == *list.root && tree.total() == *list.total);
        if !is_whole {
            return Err(Error::Failed(
                "the hub's list is not what its root is over, or does not add up to its total: what it has committed \
                 on the chain is something else than it tells"
                    .to_owned(),
            ));
        }
        return if args.json { output::json(&list) } else { output::line(&show::payouts(&list)) };
    };
    let proof: PayoutProof = hub.get(&route::fill(route::PAYOUT, device)).await?;
    let path: Vec<Hash> = proof.path.iter().map(|hash| **hash).collect();
    let led = payout::climb(&device, *proof.cumulative, proof.count, &path);
    if *proof.device != *device || led != Some(*proof.root) {
        return Err(Error::Failed("the hub's proof does not lead to the root that it names".to_owned()));
    }
    if args.json { output::json(&proof) } else { output::line(&show::payout(&proof)) }
}
