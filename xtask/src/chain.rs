//! A chain of this machine's own, for demos and tests: anvil, an Ethereum node that makes a block for each transaction
//! and whose clock can be put forward, with all contracts set up on it. Ends with the value that stands for it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use alloy_network::TransactionBuilder as _;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_provider::{DynProvider, Provider as _, ProviderBuilder, transport::TransportError};
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_sol_types::SolCall;
use serde_json::{Value, json};
use sosna_contracts::deployment::{self, Contracts, Roles};
use tokio::runtime::Runtime;

use crate::exec::Log;
use crate::paths::Tree;
use crate::tools::foundry::{Foundry, FoundryError};

/// How long anvil may take to start, and a transaction to be in a block.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// anvil cannot be had.
    #[error(transparent)]
    Foundry(#[from] FoundryError),
    /// It does not start, or not as it is known to.
    #[error("anvil does not start: {0}")]
    Start(String),
    /// Something of the operating system.
    #[error("anvil cannot be started")]
    Io(#[from] std::io::Error),
    /// The node refuses a request, or a contract a call.
    #[error("the chain refuses: {0}")]
    Refused(#[source] Box<TransportError>),
    /// A contract refuses a transaction that is in a block already.
    #[error("the transaction {0} failed")]
    Failed(B256),
    /// A transaction is in no block.
    #[error("the transaction {0} is in no block")]
    Lost(B256),
    /// A contract's answer is not what its interface says.
    #[error("a contract answers what its interface does not know")]
    Answer(#[from] alloy_sol_types::Error),
}

impl From<TransportError> for ChainError {
    fn from(error: TransportError) -> Self {
        Self::Refused(Box::new(error))
    }
}

impl ChainError {
    /// What a contract said when it refused: one of its errors, encoded.
    #[must_use]
    pub fn revert(&self) -> Option<Bytes> {
        match self {
            Self::Refused(error) => error.as_error_resp()?.as_revert_data(),
            _ => None,
        }
    }
}

/// Accounts that the node itself signs for, each with 10,000 ether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct People {
    /// Sets everything up and has all tokens at first.
    pub holder: Address,
    /// Sets terms, suspects and bans.
    pub dao: Address,
    /// Decides disputes.
    pub court: Address,
    /// Owns hubs' wallets.
    pub owner: Address,
    /// Pays for work.
    pub buyer: Address,
    /// Somebody who relays what others signed.
    pub relayer: Address,
}

/// What a transaction cost, and for what, in gas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// All of it, after refunds.
    pub gas: u64,
    /// Before any code runs: the transaction itself, and each byte of its data.
    pub data: u64,
    /// Storage written.
    pub written: u64,
    /// Storage read.
    pub read: u64,
    /// Events.
    pub events: u64,
}

/// The node's process, which ends with this.
#[derive(Debug)]
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The chain.
#[derive(Debug)]
pub struct DevChain {
    _node: Node,
    url: String,
    runtime: Runtime,
    provider: DynProvider,
    /// Who there is.
    pub people: People,
    /// What there is.
    pub contracts: Contracts,
}

// === impl DevChain ===

impl DevChain {
    /// Starts one.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::Foundry`] where anvil cannot be had.
    pub fn start(tree: &Tree) -> Result<Self, ChainError> {
        Self::start_with(tree, &[])
    }

    /// Starts one that remembers each step of every transaction, for [`DevChain::spend`].
    ///
    /// # Errors
    /// As of [`DevChain::start`].
    pub fn start_traced(tree: &Tree) -> Result<Self, ChainError> {
        Self::start_with(tree, &["--steps-tracing"])
    }

    fn start_with(tree: &Tree, options: &[&str]) -> Result<Self, ChainError> {
        let log = tree.root().join("target/xtask/anvil.log");
        let mut log = Log::begin(&log)?;
        let anvil = Foundry::obtain(tree, &mut log, &mut |_| {})?.anvil()?;
        let node = Command::new(anvil)
            .args(["--port", "0", "--accounts", "6", "--hardfork", "prague"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut node = Node(node);
        let url = address_of(&mut node.0)?;
        let address = url.parse().map_err(|_| ChainError::Start(format!("{url} is no address")))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The client wants it, though nothing here is encrypted; an error means that it has one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The node itself signs, and knows nonces and fees.
        let provider = ProviderBuilder::default().connect_http(address).erased();
        let accounts = runtime.block_on(async { provider.get_accounts().await })?;
        let [holder, dao, court, owner, buyer, relayer] = accounts[..] else {
            return Err(ChainError::Start(format!("it has {} accounts", accounts.len())));
        };
        let people = People { holder, dao, court, owner, buyer, relayer };
        let (contracts, creations) = deployment::plan(holder, 0, &Roles { holder, dao, court });
        let chain = Self { _node: node, url, runtime, provider, people, contracts };
        for creation in creations {
            let made = chain.transact(people.holder, TxKind::Create, creation.code)?;
            if made.contract_address != Some(creation.address) {
                let name = creation.name;
                return Err(ChainError::Start(format!("{name} is not where it was reckoned to be")));
            }
        }
        let admission = deployment::admit_factory(contracts.factory);
        chain.transact(people.dao, TxKind::Call(contracts.registry), admission)?;
        Ok(chain)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks a contract something, as somebody.
    ///
    /// # Errors
    /// [`ChainError`]; see [`ChainError::revert`].
    pub fn ask<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default().from(from).to(to).input(call.abi_encode().into());
        let answer = self.runtime.block_on(async { self.provider.call(request).await })?;
        Ok(C::abi_decode_returns(&answer)?)
    }

    /// Has a contract do something, for one of [`People`] or for whom the node may sign.
    ///
    /// # Errors
    /// [`ChainError`]; see [`ChainError::revert`].
    pub fn send<C: SolCall>(
        &self,
        from: Address,
        to: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        self.transact(from, TxKind::Call(to), call.abi_encode().into())
    }

    /// Like [`DevChain::send`], on a chain that was started traced; what it cost.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn spend<C: SolCall>(&self, from: Address, to: Address, call: &C) -> Result<Spent, ChainError> {
        let receipt = self.send(from, to, call)?;
        let plain = json!({ "disableMemory": true, "disableStack": true, "disableStorage": true });
        let trace: Value = self.runtime.block_on(async {
            let asked = json!([receipt.transaction_hash, plain]);
            self.provider.raw_request("debug_traceTransaction".into(), asked).await
        })?;
        let steps = trace["structLogs"].as_array().map_or(&[][..], Vec::as_slice);
        let sum = |is_wanted: fn(&str) -> bool| -> u64 {
            let costs = steps.iter().filter(|step| step["op"].as_str().is_some_and(is_wanted));
            costs.filter_map(|step| step["gasCost"].as_u64()).sum()
        };
        let data = call.abi_encode().iter().map(|byte| if *byte == 0 { 4 } else { 16 }).sum::<u64>();
        Ok(Spent {
            gas: receipt.gas_used,
            data: 21_000 + data,
            written: sum(|op| op == "SSTORE"),
            read: sum(|op| op == "SLOAD"),
            events: sum(|op| op.starts_with("LOG")),
        })
    }

    fn transact(&self, from: Address, to: TxKind, data: Bytes) -> Result<TransactionReceipt, ChainError> {
        let request = TransactionRequest::default().from(from).with_kind(to).input(data.into());
        self.runtime.block_on(async {
            let sent = *self.provider.send_transaction(request).await?.tx_hash();
            let end = Instant::now() + PATIENCE;
            loop {
                match self.provider.get_transaction_receipt(sent).await? {
                    Some(receipt) if receipt.status() => return Ok(receipt),
                    Some(_) => return Err(ChainError::Failed(sent)),
                    None if Instant::now() > end => return Err(ChainError::Lost(sent)),
                    None => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        })
    }

    /// Lets the node sign for an account that it has no key of, and gives it ether.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn adopt(&self, account: Address) -> Result<(), ChainError> {
        self.tell("anvil_impersonateAccount", json!([account]))?;
        self.set_ether(account, U256::from(10).pow(U256::from(20)))
    }

    /// Lets an account have so much ether, in units of 10^-18.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn set_ether(&self, account: Address, units: U256) -> Result<(), ChainError> {
        self.tell("anvil_setBalance", json!([account, units]))
    }

    /// Puts the clock forward and makes a block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn wait(&self, seconds: u64) -> Result<(), ChainError> {
        self.tell("evm_increaseTime", json!([seconds]))?;
        self.tell("anvil_mine", json!([1]))
    }

    /// Makes blocks.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn mine(&self, blocks: u64) -> Result<(), ChainError> {
        self.tell("anvil_mine", json!([blocks]))
    }

    /// Whether each transaction gets a block at once, as usual; else it waits for [`DevChain::mine`].
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn mine_by_itself(&self, does: bool) -> Result<(), ChainError> {
        self.tell("evm_setAutomine", json!([does]))
    }

    /// Transactions of an account that wait for a block: their names, and what each offers for a unit of gas at most.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn waiting(&self, account: Address) -> Result<Vec<(String, u128)>, ChainError> {
        let pool: Value = self
            .runtime
            .block_on(async { self.provider.raw_request("txpool_content".into(), json!([])).await })?;
        let of = pool["pending"].as_object().and_then(|pending| {
            pending.iter().find(|(from, _)| from.parse() == Ok(account)).map(|(_, all)| all.clone())
        });
        let number = |text: &str| u128::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default();
        let told =
            |one: &Value| Some((one["hash"].as_str()?.to_owned(), number(one["maxFeePerGas"].as_str()?)));
        let all = of.as_ref().and_then(Value::as_object);
        Ok(all.map(|all| all.values().filter_map(told).collect()).unwrap_or_default())
    }

    /// Forgets every transaction that waits for a block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn forget_waiting(&self) -> Result<(), ChainError> {
        self.tell("anvil_dropAllTransactions", json!([]))
    }

    /// Takes back so many blocks, with what was in them, and makes as many others.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn reorganise(&self, blocks: u64) -> Result<(), ChainError> {
        self.tell("anvil_reorg", json!([blocks, []]))
    }

    /// The newest block's time, in seconds since 1970.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn now(&self) -> Result<u64, ChainError> {
        let latest = alloy_rpc_types_eth::BlockNumberOrTag::Latest;
        let block = self.runtime.block_on(async { self.provider.get_block_by_number(latest).await })?;
        Ok(block.map_or(0, |block| block.header.timestamp))
    }

    /// The newest block's number.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn height(&self) -> Result<u64, ChainError> {
        Ok(self.runtime.block_on(async { self.provider.get_block_number().await })?)
    }

    /// The chain's number.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn id(&self) -> Result<u64, ChainError> {
        Ok(self.runtime.block_on(async { self.provider.get_chain_id().await })?)
    }

    fn tell(&self, what: &'static str, with: Value) -> Result<(), ChainError> {
        let _: Value = self.runtime.block_on(async { self.provider.raw_request(what.into(), with).await })?;
        Ok(())
    }
}

/// Where a node that has just been started listens, in its own words.
fn address_of(node: &mut Child) -> Result<String, ChainError> {
    let out = node.stdout.take().ok_or_else(|| ChainError::Start("it has no output".into()))?;
    let (say, said) = mpsc::channel();
    // Its output must be read for as long as it runs.
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("Listening on ") {
                let _ = say.send(format!("http://{}", address.trim()));
            }
        }
    });
    said.recv_timeout(PATIENCE).map_err(|_| ChainError::Start("it does not say where it listens".into()))
}
