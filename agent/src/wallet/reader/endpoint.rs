//! One node of a chain, asked by JSON-RPC 2.0 over HTTP (ethereum.github.io/execution-apis). What it says is somebody
//! else's word: bounded, typed, and believed by nobody alone.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use alloy_primitives::Bytes;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sosna_registry::{is_public, reason};

/// No answer to these questions is longer.
const LONGEST: usize = 64 * 1024;

/// A node.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Host and port: an access key is often in the path.
    name: String,
    url: Url,
    client: Client,
    asked: AtomicU64,
}

/// What a contract says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It answers.
    Answer(Bytes),
    /// It refuses, by its error, encoded.
    Refusal(Bytes),
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) hash: String,
    pub(super) time: u64,
}

/// Why there is no answer; in words, without the node's address.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0}")]
    Unreachable(String),
    #[error("it answers HTTP {0}")]
    Status(u16),
    #[error("its answer is too long")]
    TooLong,
    #[error("its answer is no JSON-RPC")]
    Nonsense,
    #[error("it answers \"{0}\"")]
    Error(String),
    #[error("it does not know block {0}")]
    NoBlock(u64),
}

#[derive(Deserialize)]
struct Answer {
    id: Option<u64>,
    result: Option<Value>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
    data: Option<Value>,
}

// === impl Endpoint ===

impl Endpoint {
    /// `None` for what is no address, or goes over somebody else's wires in the clear.
    pub(super) fn new(url: &str, client: Client) -> Option<Self> {
        let url: Url = url.trim().parse().ok()?;
        let host = url.host_str()?.to_owned();
        let is_own = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| !is_public(address));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_own) {
            return None;
        }
        let name = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Some(Self { name, url, client, asked: AtomicU64::new(1) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    async fn ask(&self, method: &str, params: &Value) -> Result<Answer, AskError> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let question = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let unreachable = |error| AskError::Unreachable(reason(error));
        let mut response =
            self.client.post(self.url.clone()).json(&question).send().await.map_err(unreachable)?;
        let status = response.status();
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if text.len() + chunk.len() > LONGEST {
                return Err(AskError::TooLong);
            }
            text.extend_from_slice(&chunk);
        }
        match serde_json::from_slice::<Answer>(&text) {
            Ok(answer) if answer.id == Some(id) => Ok(answer),
            _ if !status.is_success() => Err(AskError::Status(status.as_u16())),
            _ => Err(AskError::Nonsense),
        }
    }

    async fn value(&self, method: &str, params: Value) -> Result<Value, AskError> {
        let answer = self.ask(method, &params).await?;
        match (answer.result, answer.error) {
            (Some(value), None) => Ok(value),
            (_, Some(problem)) => Err(AskError::Error(in_short(&problem.message))),
            (None, None) => Ok(Value::Null),
        }
    }

    async fn number(&self, method: &str) -> Result<u64, AskError> {
        quantity(&self.value(method, json!([])).await?).ok_or(AskError::Nonsense)
    }

    /// The chain's number, and its newest block's.
    pub(super) async fn head(&self) -> Result<(u64, u64), AskError> {
        Ok((self.number("eth_chainId").await?, self.number("eth_blockNumber").await?))
    }

    /// A block by its number.
    pub(super) async fn block(&self, number: u64) -> Result<Block, AskError> {
        let block = self.value("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await?;
        if block.is_null() {
            return Err(AskError::NoBlock(number));
        }
        let hash = block["hash"].as_str().ok_or(AskError::Nonsense)?.to_lowercase();
        let time = quantity(&block["timestamp"]).ok_or(AskError::Nonsense)?;
        Ok(Block { hash, time })
    }

    /// What a contract says as of a block.
    pub(super) async fn call(
        &self,
        to: alloy_primitives::Address,
        data: &[u8],
        at: u64,
    ) -> Result<Said, AskError> {
        let call = json!([{ "to": to, "input": Bytes::copy_from_slice(data) }, format!("{at:#x}")]);
        let answer = self.ask("eth_call", &call).await?;
        match (answer.result, answer.error) {
            (Some(value), None) => bytes(&value).map(Said::Answer).ok_or(AskError::Nonsense),
            (_, Some(problem)) => match problem.data.as_ref().and_then(refusal) {
                Some(refusal) => Ok(Said::Refusal(refusal)),
                None => Err(AskError::Error(in_short(&problem.message))),
            },
            (None, None) => Err(AskError::Nonsense),
        }
    }
}

/// An error's data is the contract's refusal, or an object that has it.
fn refusal(data: &Value) -> Option<Bytes> {
    bytes(data).or_else(|| bytes(&data["data"])).filter(|bytes| !bytes.is_empty())
}

fn bytes(value: &Value) -> Option<Bytes> {
    value.as_str()?.parse().ok()
}

fn quantity(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Of what a stranger says, as much as a line holds, and nothing that a terminal would act on.
fn in_short(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_ones_own_network_is_spoken_to_in_the_clear() {
        let name = |url: &str| Endpoint::new(url, Client::new()).map(|endpoint| endpoint.name);
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert_eq!(name("https://node.example/v3/secret").as_deref(), Some("node.example"));
        for own in
            ["http://127.0.0.1:8545", "http://localhost:8545", "http://192.168.1.2:8545", "http://[::1]:1"]
        {
            assert!(name(own).is_some(), "{own}");
        }
        for other in ["http://node.example", "http://8.8.8.8:8545", "ws://127.0.0.1:1", "node", ""] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn numbers_and_refusals_are_read_as_nodes_write_them() {
        assert_eq!(quantity(&json!("0x1a")), Some(26));
        for wrong in [json!("1a"), json!(26), json!("0x"), json!("0x11112222333344445")] {
            assert_eq!(quantity(&wrong), None, "{wrong}");
        }
        let said = Some(Bytes::from_static(&[1, 2]));
        assert_eq!(refusal(&json!("0x0102")), said);
        assert_eq!(refusal(&json!({ "data": "0x0102" })), said);
        for none in [json!("0x"), json!("reverted"), json!(null)] {
            assert_eq!(refusal(&none), None, "{none}");
        }
        assert_eq!(in_short("too\u{1b}[31m\nmany").as_str(), "too[31mmany");
    }
}
