//! A node of a chain, asked by JSON-RPC.

use std::{net::IpAddr, time::Duration};

use alloy_primitives::{B256, Bytes};
use alloy_provider::{
    DynProvider, Provider as _, ProviderBuilder,
    transport::{RpcError, TransportError, TransportErrorKind},
};
use alloy_rpc_types_eth::{BlockId, TransactionReceipt, TransactionRequest};
use alloy_sol_types::SolCall;
use sosna_contracts::address;
use sosna_protocol::{Address, Hash};

use super::{ChainError, error::Said};

/// How long a node may think.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node, and the number of its chain.
#[derive(Debug, Clone)]
pub struct Node {
    /// As people know it, without what may be secret: an access key is often in the path.
    name: String,
    provider: DynProvider,
    chain_id: u64,
    /// Its address up to what may be secret, and whether that is all of it.
    shown: (String, bool),
    /// What of its address must not be shown, should the node repeat it.
    secrets: Vec<String>,
}

/// A block, by which questions are asked whose answers belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its time, in seconds since 1970: the chain's own now.
    pub time: u64,
}

/// What a node says to a signed transaction.
#[derive(Debug)]
pub(super) enum Handed {
    /// It has it now.
    Taken,
    /// It had it already.
    Known,
    /// Another of its number offers as much.
    TooLittle(Said),
    /// It does not take it.
    Refused(Said),
}

/// What becomes of a call, without sending it.
pub(super) enum Tried {
    /// Done.
    Done,
    /// The contract's error, encoded; the node's words where there is none.
    Refused(Bytes, String),
}

// === impl Node ===

impl Node {
    /// The node that a command names, if it names one.
    ///
    /// # Errors
    /// [`ChainError`] where there is none, or it does not answer.
    pub async fn named(url: Option<&str>) -> Result<Self, ChainError> {
        Self::connect(url.filter(|url| !url.is_empty()).ok_or(ChainError::NoEndpoint)?).await
    }

    /// The node at an address, if it answers.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn connect(url: &str) -> Result<Self, ChainError> {
        let url: reqwest::Url = url.trim().parse().map_err(|_| ChainError::Endpoint)?;
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
        let host = host.ok_or(ChainError::Endpoint)?;
        let name = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(10))
            // An access key goes where it was given for, and nowhere else.
            .redirect(reqwest::redirect::Policy::none());
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            // A proxy from the environment is not for this machine.
            client = client.no_proxy();
        }
        let client = client.build().map_err(ChainError::Client)?;
        let secrets = secrets(&url);
        let is_whole = url.path() == "/" && url.query().is_none() && url.username().is_empty();
        let shown = (format!("{}://{name}{}", url.scheme(), if is_whole { "" } else { "/…" }), is_whole);
        // No fillers: what is sent is signed here, whole.
        let provider = ProviderBuilder::default().connect_reqwest(client, url).erased();
        let mut node = Self { name, provider, chain_id: 0, shown, secrets };
        node.chain_id =
            node.provider.get_chain_id().await.map_err(|error| node.silent("its chain", error))?;
        Ok(node)
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address as far as it may be shown, and whether that is all of it.
    #[must_use]
    pub fn shown(&self) -> (&str, bool) {
        (&self.shown.0, self.shown.1)
    }

    /// Its chain's number.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// That something is for this node's chain.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`].
    pub fn require_chain(&self, what: &'static str, wanted: u64) -> Result<(), ChainError> {
        if wanted == self.chain_id {
            return Ok(());
        }
        Err(ChainError::WrongChain { what, wanted, node: self.name.clone(), chain: self.chain_id })
    }

    /// The newest block.
    ///
    /// # Errors
    /// [`ChainError::Question`].
    pub async fn head(&self) -> Result<Block, ChainError> {
        const WHAT: &str = "the newest block";
        let block = self.provider.get_block(BlockId::latest()).await;
        let block = block.map_err(|error| self.silent(WHAT, error))?;
        let missing =
            || ChainError::Question { node: self.name.clone(), what: WHAT, source: "it has none".into() };
        let header = block.ok_or_else(missing)?.header;
        Ok(Block { number: header.number, time: header.timestamp })
    }

    /// Asks a contract something, as of a block; `what` is what the contract should be.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn ask<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
        at: Block,
    ) -> Result<C::Return, ChainError> {
        let not_that = || ChainError::NotThat { what, address: to, chain: self.chain_id };
        let request = TransactionRequest::default().to(address(&to)).input(call.abi_encode().into());
        let answer = match self.provider.call(request).block(BlockId::number(at.number)).await {
            Ok(answer) => answer,
            Err(error) if is_refusal(&error) => return Err(not_that()),
            Err(error) => return Err(self.silent(what, error)),
        };
        C::abi_decode_returns(&answer).map_err(|_| not_that())
    }

    /// The same, where the contract may refuse: its error, encoded.
    ///
    /// # Errors
    /// [`ChainError`].
    pub(super) async fn ask_or_refusal<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
        at: Block,
    ) -> Result<Result<C::Return, Bytes>, ChainError> {
        let not_that = || ChainError::NotThat { what, address: to, chain: self.chain_id };
        let request = TransactionRequest::default().to(address(&to)).input(call.abi_encode().into());
        match self.provider.call(request).block(BlockId::number(at.number)).await {
            Ok(answer) => C::abi_decode_returns(&answer).map(Ok).map_err(|_| not_that()),
            Err(error) => match revert(&error) {
                Some(data) => Ok(Err(data)),
                None if is_refusal(&error) => Err(not_that()),
                None => Err(self.silent(what, error)),
            },
        }
    }

    /// Whether there is a contract at an address.
    ///
    /// # Errors
    /// [`ChainError::Question`].
    pub async fn has_code(&self, at: Address, block: Block) -> Result<bool, ChainError> {
        let code = self.provider.get_code_at(address(&at)).block_id(BlockId::number(block.number)).await;
        Ok(!code.map_err(|error| self.silent("a contract's code", error))?.is_empty())
    }

    /// What an account has to pay for gas.
    ///
    /// # Errors
    /// [`ChainError::Question`].
    pub async fn ether(&self, account: Address) -> Result<u128, ChainError> {
        let balance = self.provider.get_balance(address(&account)).await;
        Ok(balance.map_err(|error| self.silent("an account's ether", error))?.saturating_to())
    }

    /// How many transactions of an account are in the chain at a block, and with those that wait.
    pub(super) async fn counts(&self, account: Address, at: Block) -> Result<(u64, u64), ChainError> {
        const WHAT: &str = "an account's transactions";
        let account = address(&account);
        let there = self.provider.get_transaction_count(account).block_id(BlockId::number(at.number));
        let there = there.await.map_err(|error| self.silent(WHAT, error))?;
        let all = self.provider.get_transaction_count(account).pending();
        Ok((there, all.await.map_err(|error| self.silent(WHAT, error))?))
    }

    /// What would become of a transaction now.
    pub(super) async fn simulate(&self, request: TransactionRequest) -> Result<Tried, ChainError> {
        match self.provider.call(request).block(BlockId::latest()).await {
            Ok(_) => Ok(Tried::Done),
            Err(error) => match revert(&error) {
                Some(data) => Ok(Tried::Refused(data, self.words(error))),
                None if is_refusal(&error) => Ok(Tried::Refused(Bytes::new(), self.words(error))),
                None => Err(self.silent("what would become of a transaction", error)),
            },
        }
    }

    /// How much gas a transaction would use.
    pub(super) async fn estimate(&self, request: TransactionRequest) -> Result<u64, ChainError> {
        // What waits for a block may be replaced by this.
        let gas = self.provider.estimate_gas(request).block(BlockId::latest()).await;
        gas.map_err(|error| self.silent("the gas of a transaction", error))
    }

    /// What a unit of gas costs: the most to offer, and of that the most for whoever makes the block.
    pub(super) async fn fees(&self) -> Result<(u128, u128), ChainError> {
        let fees = self.provider.estimate_eip1559_fees().await;
        let fees = fees.map_err(|error| self.silent("the price of gas", error))?;
        Ok((fees.max_fee_per_gas, fees.max_priority_fee_per_gas))
    }

    /// Where a transaction is, if it is in the chain.
    pub(super) async fn receipt(&self, hash: Hash) -> Result<Option<TransactionReceipt>, ChainError> {
        let receipt = self.provider.get_transaction_receipt(B256::from(hash.0)).await;
        receipt.map_err(|error| self.silent("a transaction", error))
    }

    /// Hands a signed transaction to the network. Nodes have no common codes for why they do not take one.
    pub(super) async fn hand_over(&self, raw: &[u8]) -> Result<Handed, ChainError> {
        const KNOWN: [&str; 4] = ["already known", "already imported", "known transaction", "already exists"];
        const TOO_LITTLE: [&str; 2] = ["underpriced", "replacement"];
        match self.provider.send_raw_transaction(raw).await {
            Ok(_) => Ok(Handed::Taken),
            Err(error) if error.is_error_resp() => {
                let said = self.words(error);
                let lower = said.to_lowercase();
                let is_one_of = |words: &[&str]| words.iter().any(|word| lower.contains(word));
                if is_one_of(&KNOWN) {
                    return Ok(Handed::Known);
                }
                let is_too_little = is_one_of(&TOO_LITTLE);
                Ok(if is_too_little { Handed::TooLittle(said.into()) } else { Handed::Refused(said.into()) })
            }
            Err(error) => Err(self.silent("a transaction", error)),
        }
    }

    fn silent(&self, what: &'static str, error: TransportError) -> ChainError {
        ChainError::Question { node: self.name.clone(), what, source: self.said(error) }
    }

    fn words(&self, error: TransportError) -> String {
        sosna_host::report::line(&*self.said(error))
    }

    /// What went wrong, without the endpoint's address, which reqwest adds and a node may repeat.
    fn said(&self, error: TransportError) -> Said {
        let text = match error {
            RpcError::Transport(TransportErrorKind::Custom(inner)) => {
                match inner.downcast::<reqwest::Error>() {
                    Ok(error) => return Box::new(error.without_url()),
                    Err(inner) => inner.to_string(),
                }
            }
            // What stands in such an answer is seldom for people.
            RpcError::Transport(TransportErrorKind::HttpError(error)) => refused_by_status(error.status),
            RpcError::Transport(TransportErrorKind::HttpErrorWithRetryAfter { error, .. }) => {
                refused_by_status(error.status)
            }
            RpcError::DeserError { err, .. } => return Box::new(err),
            RpcError::ErrorResp(answer) => answer.message.to_string(),
            other => other.to_string(),
        };
        let hidden = self.secrets.iter().fold(text, |text, secret| text.replace(secret, "…"));
        // It comes from outside, and goes to a terminal.
        crate::show::plain(&hidden).into()
    }
}

fn refused_by_status(status: u16) -> String {
    format!("it answers with status {status}; is the whole address right, with its access key?")
}

/// What of an address may be an access key.
fn secrets(url: &reqwest::Url) -> Vec<String> {
    let segments = url.path_segments().into_iter().flatten();
    let parts = segments.chain([url.username()]).chain(url.password()).chain(url.query());
    // Shorter ones are no keys, and would tear words apart.
    parts.filter(|part| part.len() >= 6).map(str::to_owned).collect()
}

/// The contract's error in a node's answer, encoded.
fn revert(error: &TransportError) -> Option<Bytes> {
    error.as_error_resp().and_then(|answer| answer.as_revert_data())
}

/// Whether it is the chain's own code that says no, and not the node.
fn is_refusal(error: &TransportError) -> bool {
    let said = error.as_error_resp().map(|answer| (answer.code, answer.message.to_lowercase()));
    said.is_some_and(|(code, said)| {
        code == 3 || ["revert", "invalid opcode", "out of gas"].iter().any(|word| said.contains(word))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn endpoints_keep_their_keys_to_themselves() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A port that nobody listens on any more.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://me:password@127.0.0.1:{port}/v3/0123456789abcdef?key=fedcba");
        let error = Node::connect(&url).await.unwrap_err();
        let said = format!("{}\n{error:?}", sosna_host::report::chain(&error));
        assert!(said.contains(&format!("127.0.0.1:{port} does not answer")), "{said}");
        for secret in ["password", "0123456789", "fedcba", "/v3"] {
            assert!(!said.contains(secret), "{said}");
        }
        for url in ["node.example", "ftp://node.example", "ws://node.example", "http://", ""] {
            assert!(matches!(Node::connect(url).await.unwrap_err(), ChainError::Endpoint), "{url}");
        }
        let url = url.parse().unwrap();
        assert_eq!(secrets(&url), ["0123456789abcdef", "password", "key=fedcba"]);
    }
}
