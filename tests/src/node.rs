//! A node of a chain that does its clients harm: it passes on to an honest one what it is asked, and spoils the answers
//! as it is told to. A real one cannot be made to lie.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

/// What it does to what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is honest.
    None,
    /// It answers HTTP 503.
    Down,
    /// It thinks for so long before it answers.
    Slow(Duration),
    /// It says to be of another chain.
    OtherChain,
    /// It says that contracts hold something else than they do.
    Lying,
    /// It has other blocks.
    Forked,
    /// It says that the chain is so many blocks longer.
    Ahead(u64),
    /// It says that each transaction is in a block.
    Everything,
}

/// Such a node.
#[derive(Debug)]
pub struct FaultyNode {
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    honest: String,
    client: reqwest::Client,
    fault: Mutex<Fault>,
}

// === impl FaultyNode ===

impl FaultyNode {
    /// One that is honest so far, before another.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn before(honest: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Arc::new(Shared {
            honest: honest.to_owned(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            fault: Mutex::new(Fault::None),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", post(answer)).with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { shared, address, _runtime: runtime }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Json(question): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let fault = *shared.fault.lock().unwrap_or_else(PoisonError::into_inner);
    match fault {
        Fault::Down => return Err(StatusCode::SERVICE_UNAVAILABLE),
        Fault::Slow(pause) => tokio::time::sleep(pause).await,
        _ => {}
    }
    let asked = shared.client.post(&shared.honest).json(&question).send().await;
    let mut answer: Value =
        asked.map_err(|_| StatusCode::BAD_GATEWAY)?.json().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let method = question["method"].as_str().unwrap_or_default();
    let result = &mut answer["result"];
    match (fault, method) {
        (Fault::OtherChain, "eth_chainId") => *result = json!("0x7"),
        (Fault::Lying, "eth_call") => flip_last(result),
        (Fault::Forked, "eth_getBlockByNumber") => flip_last(&mut result["hash"]),
        (Fault::Ahead(blocks), "eth_blockNumber") => {
            let number = result.as_str().and_then(|text| u64::from_str_radix(text.get(2..)?, 16).ok());
            *result = json!(format!("{:#x}", number.unwrap_or_default() + blocks));
        }
        (Fault::Everything, "eth_getTransactionReceipt") if result.is_null() => {
            *result = receipt(&question["params"][0]);
        }
        _ => {}
    }
    Ok(Json(answer))
}

/// Another last digit.
fn flip_last(value: &mut Value) {
    if let Some(text) = value.as_str() {
        let (rest, last) = text.split_at(text.len().saturating_sub(1));
        *value = json!(format!("{rest}{}", if last == "1" { "2" } else { "1" }));
    }
}

/// That a transaction is in the chain's first block.
fn receipt(hash: &Value) -> Value {
    let nobody = format!("0x{}", "00".repeat(20));
    json!({
        "transactionHash": hash, "transactionIndex": "0x0", "status": "0x1", "type": "0x2",
        "blockHash": format!("0x{}", "11".repeat(32)), "blockNumber": "0x1",
        "from": nobody, "to": nobody, "contractAddress": null, "logs": [],
        "logsBloom": format!("0x{}", "00".repeat(256)),
        "gasUsed": "0x5208", "cumulativeGasUsed": "0x5208", "effectiveGasPrice": "0x1"
    })
}
