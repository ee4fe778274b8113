//! Which node is asked.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes};
use alloy_provider::{DynProvider, Provider as _, ProviderBuilder, transport::TransportError};
use alloy_rpc_types_eth::{BlockId, TransactionReceipt, TransactionRequest};
use alloy_sol_types::SolCall;

use super::{ChainError, SettingError};

/// Nodes of one chain.
#[derive(Debug)]
pub(super) struct Endpoints {
    chain_id: u64,
    nodes: Vec<Node>,
    /// The one that answered last: it is asked first.
    favourite: AtomicUsize,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// As the operator knows it, without what may be secret: an access key is often in the path.
    name: String,
    provider: DynProvider,
}

// === impl Endpoints ===

impl Endpoints {
    pub(super) fn new(chain_id: u64, urls: &[String], patience: Duration) -> Result<Self, SettingError> {
        let client = reqwest::Client::builder().timeout(patience).build().map_err(SettingError::Client)?;
        let node = |(place, url): (usize, &String)| {
            let wrong = || SettingError::Endpoint(place + 1);
            let url: reqwest::Url = url.parse().map_err(|_| wrong())?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(wrong());
            }
            let host = url.host_str().unwrap_or_default();
            let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            // No fillers: what is sent is signed here, whole.
            let provider = ProviderBuilder::default().connect_reqwest(client.clone(), url).erased();
            Ok(Node { name, provider })
        };
        let nodes: Vec<Node> = urls.iter().enumerate().map(node).collect::<Result<_, _>>()?;
        let mut names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SettingError::Twice(twice[0].to_owned()));
        }
        Ok(Self { chain_id, nodes, favourite: AtomicUsize::new(0) })
    }

    /// The first that answers, and for the right chain.
    pub(super) async fn pick(&self) -> Result<Node, ChainError> {
        let first = self.favourite.load(Ordering::Relaxed);
        let mut refusals = Vec::new();
        for step in 0..self.nodes.len() {
            let place = (first + step) % self.nodes.len();
            let node = &self.nodes[place];
            match node.provider.get_chain_id().await {
                Ok(id) if id == self.chain_id => {
                    self.favourite.store(place, Ordering::Relaxed);
                    return Ok(node.clone());
                }
                Ok(id) => refusals.push(format!("{} is of chain {id}, not {}", node.name, self.chain_id)),
                Err(error) => refusals.push(format!("{}: {}", node.name, said(&error))),
            }
        }
        Err(ChainError::Unreachable(refusals.join("; ")))
    }

    /// One that can confirm what another says; `None` where the settings name one only, which is the operator's own.
    pub(super) async fn witness(&self, of: &Node) -> Result<Option<Node>, ChainError> {
        if self.nodes.len() < 2 {
            return Ok(None);
        }
        let mut refusals = Vec::new();
        for node in self.nodes.iter().filter(|node| node.name != of.name) {
            match node.provider.get_chain_id().await {
                Ok(id) if id == self.chain_id => return Ok(Some(node.clone())),
                Ok(id) => refusals.push(format!("{} is of chain {id}, not {}", node.name, self.chain_id)),
                Err(error) => refusals.push(format!("{}: {}", node.name, said(&error))),
            }
        }
        Err(ChainError::Alone { node: of.name.clone(), others: refusals.join("; ") })
    }

    /// Another one is asked first from now on.
    pub(super) fn disappoint(&self) {
        self.favourite.fetch_add(1, Ordering::Relaxed);
    }
}

/// In a line, without the address that reqwest adds.
fn said(error: &TransportError) -> String {
    let text = match error.as_error_resp() {
        Some(answer) => answer.message.to_string(),
        None => sosna_host::report::line(error),
    };
    match text.split_once(" for url (") {
        Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
        None => text,
    }
}

// === impl Node ===

impl Node {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn question(&self, what: &'static str) -> impl FnOnce(TransportError) -> ChainError {
        let node = self.name.clone();
        move |error| ChainError::Question { node, what, said: said(&error) }
    }

    /// Asks a contract something, as of a block.
    pub(super) async fn ask<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
        at: u64,
    ) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default().to(to).input(call.abi_encode().into());
        let answer = self.provider.call(request).block(BlockId::number(at)).await;
        let answer = answer.map_err(self.question(what))?;
        C::abi_decode_returns(&answer).map_err(|_| ChainError::Answer { node: self.name.clone(), what })
    }

    /// The newest block's number and time.
    pub(super) async fn head(&self) -> Result<(u64, u64), ChainError> {
        const WHAT: &str = "the newest block";
        let block = self.provider.get_block(BlockId::latest()).await.map_err(self.question(WHAT))?;
        let block = block.ok_or_else(|| ChainError::Answer { node: self.name.clone(), what: WHAT })?;
        Ok((block.header.number, block.header.timestamp))
    }

    /// What an account has to pay for gas.
    pub(super) async fn ether(&self, account: Address) -> Result<u128, ChainError> {
        let balance = self.provider.get_balance(account).await;
        Ok(balance.map_err(self.question("the hub's ether"))?.saturating_to())
    }

    /// How many transactions of an account were in the chain at a block.
    pub(super) async fn count(&self, account: Address, at: u64) -> Result<u64, ChainError> {
        let count = self.provider.get_transaction_count(account).block_id(BlockId::number(at)).await;
        count.map_err(self.question("the hub's transactions"))
    }

    /// Where a transaction is, if it is in the chain.
    pub(super) async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, ChainError> {
        self.provider.get_transaction_receipt(hash).await.map_err(self.question("a transaction"))
    }

    /// What a call would use, or why it would be refused: the contract's error, encoded.
    pub(super) async fn estimate(
        &self,
        request: TransactionRequest,
    ) -> Result<Result<u64, Bytes>, ChainError> {
        match self.provider.estimate_gas(request).await {
            Ok(gas) => Ok(Ok(gas)),
            Err(error) => match error.as_error_resp().and_then(|answer| answer.as_revert_data()) {
                Some(refusal) => Ok(Err(refusal)),
                None => Err(self.question("what a root would cost")(error)),
            },
        }
    }

    /// What a unit of gas costs: the most to offer, and of that the most for whoever makes the block.
    pub(super) async fn fees(&self) -> Result<(u128, u128), ChainError> {
        let fees = self.provider.estimate_eip1559_fees().await.map_err(self.question("fees"))?;
        Ok((fees.max_fee_per_gas, fees.max_priority_fee_per_gas))
    }

    /// Hands a signed transaction to the network. That it has it already is as good.
    pub(super) async fn send(&self, raw: &[u8]) -> Result<(), String> {
        match self.provider.send_raw_transaction(raw).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let said = said(&error);
                let is_known = ["already known", "already imported", "known transaction", "already exists"]
                    .iter()
                    .any(|word| said.to_lowercase().contains(word));
                if is_known {
                    Ok(())
                } else {
                    Err(format!("{} does not take a transaction: {said}", self.name))
                }
            }
        }
    }
}
