//! Transactions of a person's key, one after another, each of which is sent only when what was looked at still holds.
//!
//! What is looked at belongs to one block, and so does the key's number of transactions: the next one is made for that
//! number. If one that was sent before (by an earlier run of the command, or through another node) comes into a block
//! meanwhile, the number is taken and the chain refuses the new one; so nothing is ever done twice. One that waits for a
//! block can be replaced in the same way: the new one has its number, and offers more.

use std::time::{Duration, Instant};

use alloy_primitives::Bytes;
use alloy_rpc_types_eth::{Log, TransactionReceipt, TransactionRequest};
use alloy_sol_types::{SolCall, SolEvent};
use indicatif::ProgressBar;
use sosna_contracts::{address, transaction::Draft};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{Address, Hash, identity::Sign as _};

use super::{
    Block, ChainError, Node, ether,
    node::{Handed, Tried},
    refusal,
};
use crate::output;

/// How often a node is asked whether a transaction is in a block: soon at first, then less often.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(4);
/// How often more is offered than what waits for a block, where a node says that it is too little: half as much again each
/// time. Nodes want a tenth more.
const RAISES: u32 = 8;

/// What a person should do about a transaction that is in no block yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// What the command does can be done once only.
    Repeat,
    /// It would be done again; this command tells whether it was done.
    LookFirst(&'static str),
}

/// Sends transactions of one key by one node.
#[derive(Debug)]
pub struct Sender {
    node: Node,
    key: IdentityKey,
    wait: Duration,
    /// Whether what waits for a block is replaced.
    replace: bool,
    /// The block of the latest transaction; nothing older is looked at after it.
    seen: u64,
}

/// When something was looked at: a block, and the key's next transaction as of it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The block.
    pub block: Block,
    nonce: u64,
    /// Whether a transaction of this number waits for a block.
    replaces: bool,
}

/// A transaction that is in a block.
#[derive(Debug)]
pub struct Sent {
    /// Its name.
    pub hash: Hash,
    /// What it cost, in units of 10^-18 ether.
    pub cost: u128,
    receipt: TransactionReceipt,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(node: Node, key: IdentityKey, wait: Duration, replace: bool) -> Self {
        Self { node, key, wait, replace, seen: 0 }
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Whose transactions these are.
    #[must_use]
    pub fn account(&self) -> Address {
        self.key.address()
    }

    /// The key, for what is signed and not sent.
    #[must_use]
    pub const fn key(&self) -> &IdentityKey {
        &self.key
    }

    /// Now, when nothing of the key waits for a block any more, or what does is to be replaced.
    ///
    /// # Errors
    /// [`ChainError::Busy`] where something still does.
    pub async fn moment(&self) -> Result<Moment, ChainError> {
        let begin = Instant::now();
        let mut spinner = None;
        let mut pause = FIRST_LOOK;
        loop {
            let block = self.node.head().await?;
            let (nonce, all) = self.node.counts(self.account(), block).await?;
            // Behind one address there may be several nodes, of which some are behind.
            let is_now = block.number >= self.seen && (self.replace || all <= nonce);
            let is_late = !is_now && begin.elapsed() > self.wait;
            if let Some(spinner) = spinner.take_if(|_| is_now || is_late) {
                ProgressBar::finish_and_clear(&spinner);
            }
            if is_now {
                return Ok(Moment { block, nonce, replaces: all > nonce });
            }
            if is_late {
                return Err(ChainError::Busy { account: self.account(), waited: self.wait });
            }
            spinner.get_or_insert_with(|| output::spinner("waiting for a transaction that was sent before"));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// What the contract would say to a call of this key now, in words; `None` where it would do it.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn refusal<C: SolCall>(
        &self,
        moment: Moment,
        to: Address,
        call: &C,
    ) -> Result<Option<String>, ChainError> {
        self.try_it(moment.block, self.request(to, call)).await
    }

    /// The most that a call would cost now, in units of 10^-18 ether.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn cost<C: SolCall>(&self, moment: Moment, to: Address, call: &C) -> Result<u128, ChainError> {
        Ok(self.draft(moment, to, call).await?.cost())
    }

    /// Has a contract do something: tries it, says what it may cost, sends it, and waits until it is in a block.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn send<C: SolCall>(
        &mut self,
        moment: Moment,
        what: &str,
        to: Address,
        call: &C,
        advice: Advice,
    ) -> Result<Sent, ChainError> {
        if let Some(words) = self.refusal(moment, to, call).await? {
            return Err(ChainError::Refused { words });
        }
        let mut draft = self.draft(moment, to, call).await?;
        let account = self.account();
        let mut raises = 0;
        let (hash, receipt) = loop {
            let cost = draft.cost();
            let has = self.node.ether(account).await?;
            if has < cost {
                return Err(ChainError::NoEther { account, has, needs: cost });
            }
            let signed = draft.sign(&self.key)?;
            output::note(&format!(
                "{what}: at most {} ether for gas, transaction 0x{}",
                ether(cost),
                signed.hash
            ));
            match self.follow(moment, signed.hash, &signed.raw, advice).await? {
                Some(receipt) => break (signed.hash, receipt),
                None if raises < RAISES => {
                    raises += 1;
                    draft.fees = raised(draft.fees);
                }
                None => {
                    let said = "another transaction of this number offers more still";
                    return Err(ChainError::NotTaken {
                        node: self.node.name().to_owned(),
                        source: said.into(),
                    });
                }
            }
        };
        self.seen = receipt.block_number.unwrap_or(self.seen);
        if !receipt.status() {
            let words = self.try_it(moment.block, self.request(to, call)).await.ok().flatten();
            let words = words.unwrap_or_else(|| "something on the chain came before it".to_owned());
            return Err(ChainError::Failed { hash, words });
        }
        let cost = u128::from(receipt.gas_used).saturating_mul(receipt.effective_gas_price);
        Ok(Sent { hash, cost, receipt })
    }

    fn request<C: SolCall>(&self, to: Address, call: &C) -> TransactionRequest {
        let data: Bytes = call.abi_encode().into();
        TransactionRequest::default().from(address(&self.account())).to(address(&to)).input(data.into())
    }

    async fn try_it(&self, at: Block, request: TransactionRequest) -> Result<Option<String>, ChainError> {
        Ok(match self.node.simulate(request).await? {
            Tried::Done => None,
            Tried::Refused(error, said) => Some(refusal::words(&error, &said, at.time)),
        })
    }

    async fn draft<C: SolCall>(&self, moment: Moment, to: Address, call: &C) -> Result<Draft, ChainError> {
        let gas = self.node.estimate(self.request(to, call)).await?;
        let fees = self.node.fees().await?;
        Ok(Draft {
            chain_id: self.node.chain_id(),
            nonce: moment.nonce,
            to: address(&to),
            data: call.abi_encode().into(),
            // What others do before it may make it dearer; what is not used is not paid for.
            gas: gas.saturating_add(gas / 5),
            fees: if moment.replaces { raised(fees) } else { fees },
        })
    }

    /// Hands it to the node until that takes it, and waits for a block; `None` where it is to replace another, and offers too
    /// little for that.
    async fn follow(
        &self,
        moment: Moment,
        hash: Hash,
        raw: &[u8],
        advice: Advice,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        let begin = Instant::now();
        let spinner = output::spinner("waiting for a block");
        let (mut is_taken, mut is_broken) = (false, false);
        let mut pause = FIRST_LOOK;
        let done = loop {
            if !is_taken {
                // A broken connection does not tell whether the node has it; handing it over twice does no harm.
                match self.node.hand_over(raw).await {
                    Ok(Handed::Taken) => is_taken = true,
                    // What was to be replaced is this very one, unless this command has brought it.
                    Ok(Handed::Known) if moment.replaces && !is_broken => break Ok(None),
                    Ok(Handed::Known) => is_taken = true,
                    Ok(Handed::TooLittle(_)) if moment.replaces => break Ok(None),
                    Ok(Handed::TooLittle(said) | Handed::Refused(said)) => {
                        // It may be in a block already, which some nodes call a wrong number.
                        if let Ok(Some(receipt)) = self.node.receipt(hash).await {
                            break Ok(Some(receipt));
                        }
                        let node = self.node.name().to_owned();
                        break Err(ChainError::NotTaken { node, source: said });
                    }
                    Err(_) => is_broken = true,
                }
            }
            // A node that does not answer now may answer later.
            if let Ok(Some(receipt)) = self.node.receipt(hash).await {
                break Ok(Some(receipt));
            }
            if moment.replaces && self.is_overtaken(moment, hash).await {
                let (account, advice) = (self.account(), advice.after());
                break Err(ChainError::Overtaken { account, hash, advice });
            }
            if begin.elapsed() > self.wait {
                break Err(ChainError::Pending { hash, waited: self.wait, advice: advice.words() });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        };
        spinner.finish_and_clear();
        done
    }

    /// Whether the number of a transaction is taken by another one.
    async fn is_overtaken(&self, moment: Moment, hash: Hash) -> bool {
        let Ok(head) = self.node.head().await else { return false };
        let is_taken =
            self.node.counts(self.account(), head).await.is_ok_and(|(there, _)| there > moment.nonce);
        // By this one, perhaps, since it was last looked for.
        is_taken && matches!(self.node.receipt(hash).await, Ok(None))
    }
}

/// Half as much again.
fn raised((most, tip): (u128, u128)) -> (u128, u128) {
    let more = |fee: u128| fee.saturating_add(fee / 2).saturating_add(1);
    (more(most), more(tip))
}

// === impl Sent ===

impl Sent {
    /// The events of one kind that a contract told of by it.
    pub fn events<E: SolEvent>(&self, of: Address) -> impl Iterator<Item = E> {
        let of = address(&of);
        let logs: &[Log] = self.receipt.logs();
        logs.iter()
            .filter(move |log| log.inner.address == of)
            .filter_map(|log| E::decode_log(&log.inner).ok().map(|event| event.data))
    }
}

// === impl Advice ===

impl Advice {
    /// Once it is certain that it did nothing.
    fn after(self) -> String {
        match self {
            Self::Repeat => "Repeat the command: it does what is left, and nothing twice".to_owned(),
            Self::LookFirst(command) => {
                format!("Look with `{command}` what that one did before you repeat the command")
            }
        }
    }

    fn words(self) -> String {
        match self {
            Self::Repeat => "Repeat the command: it waits for it, and does nothing twice".to_owned(),
            Self::LookFirst(command) => format!(
                "Look with `{command}` what has become of it before you repeat the command, which would do it again"
            ),
        }
    }
}
