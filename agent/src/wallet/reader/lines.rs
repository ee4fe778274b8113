//! The device's own line of a root, which the hub shows: kept on the device, it is what the device is paid by, also when
//! the hub is gone.

use sosna_protocol::{Amount, Hash, payout};

use crate::{content::TransferError, node::Node, store::record::PayoutLine};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("the hub does not show it")]
    Transfer(#[source] TransferError),
    #[error("what the hub shows does not lead to the root {0}")]
    Wrong(Hash),
    #[error("what the hub shows cannot be read")]
    Form(#[source] serde_json::Error),
}

/// What a hub answers to `GET …/payouts/{root}`.
#[derive(serde::Deserialize)]
struct Shown {
    count: u32,
    cumulative: String,
    path: Vec<String>,
}

/// Asks the hub; `None` where the root has no line of this device.
pub(super) async fn fetch(node: &Node, root: &Hash) -> Result<Option<PayoutLine>, LineError> {
    let enrolment = node.enrolment();
    let name = format!("payouts/{root}");
    let shown = node.content.document(&enrolment, &node.clock, &name).await.map_err(LineError::Transfer)?;
    let Some(text) = shown else { return Ok(None) };
    let shown: Shown = serde_json::from_slice(&text).map_err(LineError::Form)?;
    let wrong = || LineError::Wrong(*root);
    let cumulative: Amount = shown.cumulative.parse().map_err(|_| wrong())?;
    if shown.path.len() > payout::MAX_PATH {
        return Err(wrong());
    }
    let path: Vec<Hash> =
        shown.path.iter().map(|hash| hash.parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if payout::climb(&node.device, cumulative, shown.count, &path) != Some(*root) {
        tracing::warn!("the hub shows a line that does not lead to its root {root}");
        return Err(wrong());
    }
    tracing::info!(%root, %cumulative, "holding the line of a root: it is paid whatever becomes of the hub");
    Ok(Some(PayoutLine { root: *root, count: shown.count, cumulative, path }))
}
