//! What the wallet holds, as of one block.

use sosna_contracts::{Phase, address, bindings::HubWallet, from_address, from_amount};
use sosna_protocol::{Address, Amount, Hash};

use super::{Chain, ChainError, endpoints::Node};

/// A wallet's state at a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// When the hub looked, by its own clock.
    pub(crate) at_ms: u64,
    /// The block, and its time in seconds.
    pub(crate) block: u64,
    pub(crate) block_time: u64,
    /// The address of the key that the wallet takes vouchers of, and this hub's.
    pub(crate) hub: Address,
    pub(crate) own: Address,
    pub(crate) owner: Address,
    pub(crate) phase: Phase,
    pub(crate) frozen: Amount,
    pub(crate) locked: Amount,
    pub(crate) committed: Amount,
    pub(crate) paid: Amount,
    pub(crate) settled: Amount,
    pub(crate) free: Amount,
    /// All zero where there is none.
    pub(crate) newest: Hash,
    pub(crate) active_at: u64,
    /// When the period ends; 0 where none has begun.
    pub(crate) payday_at: u64,
    /// What the hub's key has to pay for gas, in units of 10^-18 ether.
    pub(crate) ether: u128,
}

// === impl View ===

impl View {
    /// Asks everything as of one block, so that the numbers belong together.
    pub(super) async fn look(
        node: &Node,
        chain: &Chain,
        own: Address,
        at_ms: u64,
    ) -> Result<Self, ChainError> {
        let looked = Self::ask(node, chain, own, at_ms).await;
        if looked.is_err() {
            chain.endpoints.disappoint();
        }
        looked
    }

    async fn ask(node: &Node, chain: &Chain, own: Address, at_ms: u64) -> Result<Self, ChainError> {
        const WHAT: &str = "the wallet";
        let nonsense = || ChainError::Answer { node: node.name().to_owned(), what: WHAT };
        let wallet = chain.wallet();
        let (block, block_time) = node.head().await?;
        macro_rules! ask {
            ($call:ident) => {
                node.ask(WHAT, wallet, &HubWallet::$call {}, block).await?
            };
        }
        let amount = |value| from_amount(&value).ok_or_else(nonsense);
        let roots = ask!(rootsCall);
        Ok(Self {
            at_ms,
            block,
            block_time,
            hub: from_address(&ask!(hubCall)),
            own,
            owner: from_address(&ask!(ownerCall)),
            phase: Phase::from_number(ask!(phaseCall)).ok_or_else(nonsense)?,
            frozen: amount(ask!(frozenCall))?,
            locked: amount(ask!(lockedCall))?,
            committed: amount(ask!(committedCall))?,
            paid: amount(ask!(paidCall))?,
            settled: amount(ask!(settledCall))?,
            free: amount(ask!(freeCall))?,
            newest: Hash(roots.newest.0),
            active_at: roots.activeAt.saturating_to(),
            payday_at: ask!(paydayAtCall).saturating_to(),
            ether: node.ether(address(&own)).await?,
        })
    }

    /// The newest block that counts: nothing until then is taken back.
    pub(super) fn settled(&self, confirmations: u64) -> u64 {
        self.block.saturating_sub(confirmations.max(1) - 1)
    }

    /// What keeps the hub from paying by this wallet, in words for the operator.
    pub(super) fn trouble(&self) -> Option<String> {
        let [hub, own, owner] = [self.hub, self.own, self.owner].map(|one| one.checksummed());
        if self.hub != self.own {
            return Some(format!(
                "the wallet takes vouchers of the key {hub}, and this hub's is {own}: no device can be paid by it; \
                 make a wallet for this hub's key and name it in `chain.wallet`"
            ));
        }
        match self.phase {
            Phase::Registered => None,
            Phase::Created => {
                Some(format!("the wallet has never registered: its owner {owner} calls register"))
            }
            Phase::Idle => Some(format!(
                "the wallet's period is over, and no root can be posted: its owner {owner} calls register"
            )),
            Phase::Suspected => Some(
                "the DAO suspects the wallet: nothing new can be committed; what was committed is paid"
                    .into(),
            ),
            Phase::Punished => Some("the DAO has banned the wallet; what was committed is paid".into()),
        }
    }
}
