//! The books' way to a chain: what the hub's wallet holds there, and a root over all vouchers once a period.
//!
//! The chain is somebody else's: it is slow, away, and now and then takes back what it said. So everything that leaves is
//! signed and on disk before it is sent, the same is sent again until it is under enough blocks, and a hub works on while
//! nobody answers. Nothing else in the hub speaks to a chain.

mod decide;
mod deposits;
mod endpoints;
mod follow;
mod lists;
mod redeem;
mod send;
mod view;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sosna_protocol::{Address, eip712::Domain};

use crate::{config, hub::Hub};
use endpoints::{Endpoints, Node};
pub(crate) use lists::List;
use lists::Lists;
use redeem::Redemption;
pub(crate) use view::View;

/// A setting of `[chain]` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Not an address.
    #[error(
        "`chain.wallet` is \"{0}\", which is no address; it is the hub's wallet, which the factory has made"
    )]
    Wallet(String),
    /// Not an address.
    #[error("`chain.escrow` is \"{0}\", which is no address; it is the contract in which buyers deposit")]
    Escrow(String),
    /// Not where a node could be. Its text is not repeated: there may be an access key in it.
    #[error("number {0} of `chain.endpoints` is no http or https address")]
    Endpoint(usize),
    /// What two say must be two's word.
    #[error("`chain.endpoints` names {0} twice: what one says is confirmed by another")]
    Twice(String),
    /// A wallet and no way to it, or the other way round.
    #[error("`chain.id`, `chain.wallet` and `chain.endpoints` belong together: either all are set, or none")]
    Half,
    /// A client of HTTP could not be made.
    #[error("requests to `chain.endpoints` cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Why a round of questions came to nothing. The next one begins anew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    /// Nobody answers, or not for this chain.
    #[error("no endpoint of the chain can be used: {0}")]
    Unreachable(String),
    /// A node does not answer as asked.
    #[error("{node} does not answer a question about {what}: {said}")]
    Question {
        /// Whom.
        node: String,
        /// What about.
        what: &'static str,
        /// What it said, without its address: there may be an access key in it.
        said: String,
    },
    /// Nobody confirms what one says.
    #[error("of the endpoints only {node} answers, and what has happened counts when two say so: {others}")]
    Alone {
        /// The one.
        node: String,
        /// Why not the others.
        others: String,
    },
    /// Two say different things.
    #[error("{one} and {other} say different things about {what}: nothing follows from it until they agree")]
    Disagree {
        /// One.
        one: String,
        /// The other.
        other: String,
        /// What about.
        what: String,
    },
    /// An answer that the contracts' interface does not know.
    #[error("{node} answers nonsense to a question about {what}; are the addresses in `[chain]` right?")]
    Answer {
        /// Who.
        node: String,
        /// What about.
        what: &'static str,
    },
    /// The wallet refuses what is about to be sent.
    #[error("the wallet would refuse the root: {0}")]
    Refused(String),
    /// The tree cannot be made.
    #[error("there can be no such root")]
    Tree(#[from] sosna_contracts::payouts::PayoutsError),
    /// The key does not sign.
    #[error("a transaction could not be signed")]
    Sign(#[source] sosna_host::identity::CannotSign),
    /// The books.
    #[error(transparent)]
    Hub(#[from] crate::error::HubError),
}

impl From<sosna_store::StoreError> for ChainError {
    fn from(error: sosna_store::StoreError) -> Self {
        Self::Hub(error.into())
    }
}

/// A chain, the hub's wallet there, and what was last seen of it.
#[derive(Debug)]
pub struct Chain {
    pub(crate) domain: Domain,
    /// Where buyers deposit.
    pub(crate) escrow: Option<Domain>,
    pub(crate) settings: config::Chain,
    endpoints: Endpoints,
    seen: Mutex<Option<Arc<View>>>,
    trouble: Mutex<Option<String>>,
    lists: Lists,
    /// The account whose deposit was looked at last.
    looked_at: Mutex<Option<Address>>,
}

// === impl Chain ===

impl Chain {
    /// What the settings name; `None` where they name no chain.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn new(settings: &config::Chain) -> Result<Option<Self>, SettingError> {
        let is_set = [settings.id != 0, !settings.wallet.is_empty(), !settings.endpoints.is_empty()];
        match is_set {
            [false, false, false] if settings.escrow.is_empty() => return Ok(None),
            [true, true, true] => {}
            _ => return Err(SettingError::Half),
        }
        let wallet: Address =
            settings.wallet.parse().map_err(|_| SettingError::Wallet(settings.wallet.clone()))?;
        let escrow = match settings.escrow.as_str() {
            "" => None,
            text => {
                let address = text.parse().map_err(|_| SettingError::Escrow(text.to_owned()))?;
                Some(Domain { chain_id: settings.id, wallet: address })
            }
        };
        Ok(Some(Self {
            domain: Domain { chain_id: settings.id, wallet },
            escrow,
            settings: settings.clone(),
            endpoints: Endpoints::new(
                settings.id,
                &settings.endpoints,
                Duration::from_millis(u64::from(settings.patience_ms.max(100))),
            )?,
            seen: Mutex::new(None),
            trouble: Mutex::new(None),
            lists: Lists::default(),
            looked_at: Mutex::new(None),
        }))
    }

    /// What was last seen of the wallet.
    pub(crate) fn seen(&self) -> Option<Arc<View>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why nothing newer was seen, or nothing could be done, in words for the operator.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The list of a root by its name, or of the newest that is certain to be on the chain.
    pub(crate) async fn list(
        &self,
        store: &sosna_store::Store,
        root: Option<sosna_protocol::Hash>,
    ) -> Result<Option<Arc<List>>, crate::error::HubError> {
        self.lists.find(store, root).await
    }

    /// Says a trouble once, and once that it is over.
    fn set_trouble(&self, trouble: Option<String>) {
        let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != trouble {
            match &trouble {
                Some(trouble) => tracing::warn!("{trouble}"),
                None => tracing::info!("the chain is as it should be again"),
            }
            *held = trouble;
        }
    }

    fn wallet(&self) -> alloy_primitives::Address {
        sosna_contracts::address(&self.domain.wallet)
    }
}

/// Runs until the hub stops.
pub(crate) async fn run(hub: Arc<Hub>) {
    let Some(chain) = hub.chain.clone() else { return };
    let mut rounds = tokio::time::interval(Duration::from_millis(u64::from(chain.settings.poll_ms.max(50))));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let done = round(&hub, &chain).await;
        chain.set_trouble(match done {
            Ok(trouble) => trouble,
            Err(error) => Some(sosna_host::report::line(&error)),
        });
    }
}

/// Looks, follows what was sent, and sends what is due; a trouble that did not end the round, in words.
async fn round(hub: &Arc<Hub>, chain: &Chain) -> Result<Option<String>, ChainError> {
    let node = chain.endpoints.pick().await?;
    let view = Arc::new(View::look(&node, chain, hub.address(), hub.now_ms()).await?);
    *chain.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(view.clone());
    // What buyers have put in or will take back counts whatever has become of the wallet.
    // A trouble with them keeps no device from being paid.
    let unseen = deposits::look(hub, chain, &node, &view).await.err();
    let trouble = act(hub, chain, &node, &view).await?;
    Ok(trouble.or_else(|| unseen.as_ref().map(|error| sosna_host::report::line(error))))
}

/// Follows what was sent, and sends what is due.
async fn act(hub: &Arc<Hub>, chain: &Chain, node: &Node, view: &View) -> Result<Option<String>, ChainError> {
    // Whatever has become of the wallet: what was sent before may be on the chain, and its list is to be shown.
    if let Some(waiting) = follow::open(hub, chain, node, view).await? {
        return Ok(waiting.trouble.or_else(|| view.trouble()));
    }
    // A root is a promise to pay, so what pays for it comes first.
    let unpaid = match redeem::when_due(hub, chain, node, view).await? {
        Redemption::Sent(waiting) => return Ok(waiting.trouble.or_else(|| view.trouble())),
        Redemption::Nothing(trouble) => trouble,
    };
    if let Some(trouble) = view.trouble() {
        return Ok(Some(trouble));
    }
    Ok(decide::post_when_due(hub, chain, node, view).await?.or(unpaid))
}
