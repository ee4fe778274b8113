//! Whether the hub's wallet can pay what the hub signs: the device asks the chain itself.
//!
//! The owner names nodes of the chain and the list of hubs there; two nodes must say the same as of one block before any
//! of it counts. What nobody could check counts as owed, and is limited. The device only asks: it sends nothing to the
//! chain, and no node learns more of it than its address.

mod agree;
mod backing;
mod endpoint;
mod lines;

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use sosna_host::report;
use sosna_protocol::{Address, Amount, Hash, eip712::Domain, identity::AddressError};
use tokio::sync::watch;

use crate::{
    config::ChainConfig,
    node::Node,
    store::{Held, StoreError, record::WalletRecord},
};
use agree::{LookError, Seen};
pub(crate) use backing::{Backing, Doubt};
use endpoint::Endpoint;

/// Where traffic costs money, it is asked so much less often.
const THRIFT: u32 = 10;
/// What was seen counts for so many rounds in which nobody answered: nodes are away now and then.
const ROUNDS: u32 = 10;
/// A chain whose newest block is older stands still, or its nodes have lost the others.
const STALE_S: u64 = 3600;
/// So many lines are kept, the newest first: two roots can be claimed by at a time.
const LINES: usize = 4;
/// How long work waits for the first answers after a start.
const FIRST: Duration = Duration::from_secs(5);

/// A setting of `[chain]` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Some, but not all of them.
    #[error(
        "`chain.id`, `chain.registry` and `chain.endpoints` belong together: either all are set, or none is"
    )]
    Half,
    /// Nobody to compare it with.
    #[error("`chain.endpoints` needs two nodes at least, of different addresses: what they agree on counts")]
    One,
    /// Not an address on the chain.
    #[error("`chain.registry` is {text:?}, which is no address; it is that of the HubRegistry")]
    Registry {
        /// What stands there.
        text: String,
        /// Why not.
        #[source]
        source: AddressError,
    },
    /// Not where a node could be. Its text is not repeated: there may be an access key in it.
    #[error("number {0} of `chain.endpoints` is no https address (http is for nodes in your own network)")]
    Endpoint(usize),
    /// A client of HTTP could not be made.
    #[error("requests to `chain.endpoints` cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Nodes of the chain that the owner trusts two of, and what they said last.
#[derive(Debug)]
pub struct Reader {
    chain: Option<Arc<Chain>>,
    wallet: watch::Sender<Option<Address>>,
    last: RwLock<Last>,
    looked: watch::Sender<bool>,
}

#[derive(Debug)]
struct Chain {
    id: u64,
    registry: Address,
    endpoints: Vec<Arc<Endpoint>>,
    every: Duration,
}

#[derive(Debug, Default)]
struct Last {
    seen: Option<(Instant, Address, Seen)>,
    trouble: Option<String>,
    /// How many times more seldom nodes are asked than the settings say.
    thrift: u32,
}

/// What is known of the hub's wallet, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletReport {
    /// Its chain; 0 for none.
    pub chain_id: u64,
    /// Its address there.
    pub wallet: String,
    /// Whether two nodes have agreed on it lately.
    pub is_checked: bool,
    /// What they agreed on, or why it is not checked.
    pub words: String,
    /// The block that it was seen at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// Of what the hub has signed for, what the wallet was not seen to cover; SNM.
    pub unbacked: String,
    /// What was paid to this device on the chain in all; SNM.
    pub paid: String,
    /// The nonce with which it says next to whom it is paid, as far as it was seen.
    pub payee_nonce: u64,
}

// === impl Reader ===

impl Reader {
    /// One that asks the nodes of the settings; that asks nobody where they name none.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn new(settings: &ChainConfig) -> Result<Self, SettingError> {
        let is_set = [settings.id != 0, !settings.registry.is_empty(), !settings.endpoints.is_empty()];
        let chain = match is_set {
            [false, false, false] => None,
            [true, true, true] => Some(Arc::new(Chain::new(settings)?)),
            _ => return Err(SettingError::Half),
        };
        let (wallet, looked) = (watch::Sender::new(None), watch::Sender::new(false));
        Ok(Self { chain, wallet, last: RwLock::default(), looked })
    }

    /// How far the device may trust that it is paid for more work in a domain.
    ///
    /// # Errors
    /// The reason, in words, why it must not work for it at all.
    pub(crate) fn backing(&self, hub: &Address, domain: &Domain, held: &Held) -> Result<Backing, String> {
        if held.domain.is_some_and(|own| own != *domain) {
            return Err(
                "the hub's vouchers are for another wallet than this work: no voucher could name both".into(),
            );
        }
        let unknown = |doubt: Doubt| Backing { unbacked: held.unpaid(domain), doubt: Some(doubt) };
        let Some(chain) = &self.chain else {
            if domain.chain_id == 0 {
                // Vouchers are all that there will ever be; at first the hub has not shown that it gives any.
                let doubt = (held.vouchered == Amount::ZERO).then_some(Doubt::New);
                return Ok(Backing { unbacked: Amount::ZERO, doubt });
            }
            return Ok(unknown(Doubt::NoEndpoints));
        };
        if domain.chain_id == 0 {
            return Ok(unknown(Doubt::NoWallet));
        }
        if domain.chain_id != chain.id {
            return Err(format!(
                "the hub settles on chain {}, and this device's owner has it paid on chain {} (`chain.id`)",
                domain.chain_id, chain.id
            ));
        }
        self.look_at(domain.wallet);
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        match last.seen(chain, &domain.wallet) {
            Some(seen) => backing::of(seen, hub, held, domain),
            None => Ok(unknown(Doubt::Unchecked(last.trouble.clone()))),
        }
    }

    /// The wallet to be looked at from now on.
    fn look_at(&self, wallet: Address) {
        self.wallet.send_if_modified(|known| known.replace(wallet) != Some(wallet));
    }

    /// Waits a little for the first answers, where there is something to ask about.
    pub(crate) async fn first_look(&self) {
        if self.chain.is_some() && self.wallet.borrow().is_some() {
            let _ = tokio::time::timeout(FIRST, self.looked.subscribe().wait_for(|looked| *looked)).await;
        }
    }

    /// For people; `None` where neither hub nor owner has to do with a chain.
    pub(crate) fn report(&self, hub: &Address, held: &Held) -> Option<WalletReport> {
        let domain = match (&held.domain, &self.chain) {
            (Some(domain), _) => *domain,
            (None, None) => return None,
            (None, Some(chain)) => Domain { chain_id: chain.id, wallet: (*self.wallet.borrow())? },
        };
        if domain.chain_id == 0 && self.chain.is_none() {
            return None;
        }
        let backing = self.backing(hub, &domain, held);
        let (words, unbacked) = match backing {
            Ok(Backing { doubt: None, unbacked }) => ("registered".to_owned(), unbacked),
            Ok(Backing { doubt: Some(doubt), unbacked }) => (doubt.to_string(), unbacked),
            Err(words) => (words, held.unpaid(&domain)),
        };
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        let block = self.chain.as_ref().and_then(|chain| Some(last.seen(chain, &domain.wallet)?.block));
        Some(WalletReport {
            chain_id: domain.chain_id,
            wallet: domain.wallet.checksummed().as_str().to_owned(),
            is_checked: block.is_some(),
            words,
            block,
            unbacked: unbacked.to_string(),
            paid: held.paid(&domain).to_string(),
            payee_nonce: held.payee_nonce(&domain),
        })
    }

    fn set_trouble(&self, trouble: Option<LookError>, thrift: u32) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        last.thrift = thrift;
        if trouble.as_ref().is_some_and(|trouble| !matches!(trouble, LookError::Silent(_))) {
            // Somebody lies, or is lost: what was seen before is as doubtful.
            last.seen = None;
        }
        let trouble = trouble.map(|trouble| report::line(&trouble));
        if last.trouble != trouble {
            match &trouble {
                Some(trouble) => tracing::warn!("the hub's wallet is not checked: {trouble}"),
                None => tracing::info!("the hub's wallet is checked again"),
            }
            last.trouble = trouble;
        }
    }
}

impl Last {
    /// What is known of a wallet, unless it is too old.
    fn seen(&self, chain: &Chain, wallet: &Address) -> Option<&Seen> {
        let (at, known, seen) = self.seen.as_ref()?;
        let lifetime = chain.every * ROUNDS * self.thrift.max(1);
        (known == wallet && at.elapsed() < lifetime).then_some(seen)
    }
}

impl Chain {
    fn new(settings: &ChainConfig) -> Result<Self, SettingError> {
        let registry = Address::of_person(&settings.registry)
            .map_err(|source| SettingError::Registry { text: settings.registry.clone(), source })?;
        let client = reqwest::Client::builder()
            .timeout(Duration::from_millis(u64::from(settings.patience_ms.max(100))))
            .redirect(Policy::none())
            .http1_only()
            .pool_max_idle_per_host(1)
            .build()
            .map_err(SettingError::Client)?;
        let made = |(place, url): (usize, &String)| {
            Endpoint::new(url, client.clone()).map(Arc::new).ok_or(SettingError::Endpoint(place + 1))
        };
        let endpoints: Vec<_> = settings.endpoints.iter().enumerate().map(made).collect::<Result<_, _>>()?;
        let names: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.name()).collect();
        if names.len() < 2 || names.len() < endpoints.len() {
            return Err(SettingError::One);
        }
        let every = Duration::from_millis(u64::from(settings.poll_ms.max(100)));
        Ok(Self { id: settings.id, registry, endpoints, every })
    }
}

/// Looks for as long as the agent lives.
pub(crate) async fn watch(node: Arc<Node>) {
    let Some(chain) = node.reader.chain.clone() else { return };
    let mut named = node.reader.wallet.subscribe();
    let mut without = Vec::new();
    loop {
        let wallet = *named.borrow_and_update();
        let Some(wallet) = wallet else {
            // The node that is watched for holds the sender: it does not go before this does.
            if named.changed().await.is_err() {
                return;
            }
            continue;
        };
        let thrift = if node.is_metered() { THRIFT } else { 1 };
        let trouble = look(&node, &chain, wallet, &mut without).await.err();
        node.reader.set_trouble(trouble, thrift);
        node.reader.looked.send_replace(true);
        tokio::select! {
            () = tokio::time::sleep(chain.every * thrift) => {}
            _ = named.changed() => {}
        }
    }
}

/// Names the wallet of the voucher that the device holds, so that it is looked at from the start.
pub(crate) fn begin(node: &Node) -> Result<(), StoreError> {
    if let Some(domain) = node.store.held()?.domain.filter(|domain| domain.chain_id != 0) {
        node.reader.look_at(domain.wallet);
    }
    Ok(())
}

/// One round: what two nodes agree on, and the device's lines in the roots that they name. `without` has roots of which
/// the hub has said that they have none: a list does not change.
async fn look(
    node: &Arc<Node>,
    chain: &Arc<Chain>,
    wallet: Address,
    without: &mut Vec<Hash>,
) -> Result<(), LookError> {
    let domain = Domain { chain_id: chain.id, wallet };
    let seen = agree::look(&chain.endpoints, &domain, chain.registry, node.device).await?;
    if let Some(now_ms) = node.clock.trusted_ms()
        && seen.time.saturating_add(STALE_S) < now_ms / 1000
    {
        let minutes = (now_ms / 1000 - seen.time) / 60;
        return Err(LookError::Stale { block: seen.block, minutes });
    }
    let (paid, payee_nonce, roots) = (seen.paid, seen.payee_nonce, seen.roots());
    {
        let mut last = node.reader.last.write().unwrap_or_else(PoisonError::into_inner);
        last.seen = Some((Instant::now(), wallet, seen));
    }
    let held = node.store.held()?;
    // What nodes say takes no line away: it is what the device is paid by.
    let mut lines = held.lines(&domain).to_vec();
    let mut trouble = None;
    if held.vouchered > Amount::ZERO {
        for root in roots {
            if without.contains(&root) || lines.iter().any(|line| line.root == root) {
                continue;
            }
            match lines::fetch(node, &root).await {
                Ok(Some(line)) => lines.insert(0, line),
                Ok(None) => without.insert(0, root),
                Err(error) => trouble = Some(error),
            }
        }
    }
    lines.truncate(LINES);
    without.truncate(LINES);
    let paid = paid.max(held.paid(&domain));
    let record = WalletRecord { chain_id: domain.chain_id, wallet, paid, payee_nonce, lines };
    if held.record.as_ref() != Some(&record) {
        node.store.write(|tx| tx.put_wallet(&record))?;
    }
    // The hub's answer is no condition: without a line, what the root commits to this device counts for nothing.
    if let Some(error) = trouble {
        tracing::debug!("no line of a root: {}", report::line(&error));
    }
    Ok(())
}

/// The roots that lines can lead to now.
impl Seen {
    fn roots(&self) -> Vec<Hash> {
        // The older first: lines are kept newest first.
        [self.before, self.newest].into_iter().filter(|root| *root != Hash::ZERO).collect()
    }
}
