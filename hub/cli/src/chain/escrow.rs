//! A buyer's deposit in the escrow, as of one block.

use alloy_primitives::U256;
use sosna_contracts::{
    address,
    bindings::{DealEscrow, SNM},
    from_address, from_amount,
};
use sosna_protocol::{Address, Amount};

use super::{Block, ChainError, Node};

const ESCROW: &str = "an escrow of buyers' deposits";
const TOKEN: &str = "the escrow's token";

/// What a buyer has there for one hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// All that was put in and not taken back.
    pub put: Amount,
    /// What of it the hub was paid.
    pub claimed: Amount,
    /// From when on the rest can be taken back, in seconds since 1970; 0 where that was not announced.
    pub open_from: u64,
}

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escrow {
    /// Where it is.
    pub at: Address,
    /// What is deposited.
    pub token: Address,
}

// === impl Held ===

impl Held {
    /// What the hub was not paid.
    #[must_use]
    pub fn left(&self) -> Amount {
        self.put.checked_sub(self.claimed).unwrap_or_default()
    }
}

// === impl Escrow ===

impl Escrow {
    /// The escrow at an address, if there is one and it takes deposits for a wallet.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn of(node: &Node, at: Address, wallet: Address, block: Block) -> Result<Self, ChainError> {
        if !node.has_code(at, block).await? {
            return Err(ChainError::NoContract { address: at, chain: node.chain_id() });
        }
        let token = from_address(&node.ask(ESCROW, at, &DealEscrow::tokenCall {}, block).await?);
        let factory = from_address(&node.ask(ESCROW, at, &DealEscrow::factoryCall {}, block).await?);
        super::wallet::open(node, wallet, Some(factory), block).await?;
        Ok(Self { at, token })
    }

    /// What a buyer has there for a hub's wallet.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn held(
        &self,
        node: &Node,
        buyer: Address,
        wallet: Address,
        block: Block,
    ) -> Result<Held, ChainError> {
        let call = DealEscrow::depositOfCall { buyer: address(&buyer), wallet: address(&wallet) };
        let found = node.ask(ESCROW, self.at, &call, block).await?;
        Ok(Held {
            put: Amount::from_units(found.put),
            claimed: Amount::from_units(found.claimed),
            open_from: found.openFrom.to(),
        })
    }

    /// What an account has, and what of it the escrow may take.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn means(
        &self,
        node: &Node,
        account: Address,
        block: Block,
    ) -> Result<(Amount, Amount), ChainError> {
        let (owner, spender) = (address(&account), address(&self.at));
        let has = node.ask(TOKEN, self.token, &SNM::balanceOfCall { account: owner }, block).await?;
        let may = node.ask(TOKEN, self.token, &SNM::allowanceCall { owner, spender }, block).await?;
        // More than there is may be allowed.
        let amount = |units: U256| from_amount(&units).unwrap_or(Amount::from_units(u128::MAX));
        Ok((amount(has), amount(may)))
    }
}
