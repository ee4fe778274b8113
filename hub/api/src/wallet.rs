//! The hub's wallet on a chain, and what is owed to devices by its roots.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    text::{AddressText, AmountText, HashText},
    word::words,
};

words! {
    /// Where a wallet stands.
    pub enum WalletPhase {
        /// It has never registered.
        Created = "created",
        /// At work until payday.
        Registered = "registered",
        /// Between two periods.
        Idle = "idle",
        /// The DAO looks into it.
        Suspected = "suspected",
        /// The DAO has banned it.
        Punished = "punished",
    }
}

words! {
    /// What became of a transaction.
    pub enum TransactionState {
        /// Nothing that is certain yet.
        Open = "open",
        /// It is on the chain.
        Done = "done",
        /// It is on the chain, and the contract refused it.
        Failed = "failed",
        /// Another one of its place is on the chain.
        Replaced = "replaced",
    }
}

/// `GET /v1/wallet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wallet {
    /// The chain's number (EIP-155).
    pub chain_id: u64,
    /// Where it is.
    pub address: AddressText,
    /// What it held when the hub last looked; `null` while the chain has not answered.
    pub state: Option<WalletState>,
    /// What keeps the hub from paying by it, or from knowing; `null` where nothing does.
    pub trouble: Option<String>,
    /// The newest roots, newest first.
    pub roots: Vec<PayoutRoot>,
}

/// What a wallet held at a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalletState {
    /// The block's number.
    pub block: u64,
    /// When the hub looked.
    pub seen_ms: u64,
    /// Where it stands.
    pub phase: WalletPhase,
    /// Who owns it.
    pub owner: AddressText,
    /// The key whose vouchers it takes.
    pub hub: AddressText,
    /// Frozen until payday.
    pub frozen: AmountText,
    /// Locked until payday, beside what is committed.
    pub locked: AmountText,
    /// All that was ever committed to devices.
    pub committed: AmountText,
    /// Of that, what was paid.
    pub paid: AmountText,
    /// Neither frozen, locked nor committed.
    pub free: AmountText,
    /// When its period ends; `null` where none has begun.
    pub payday_ms: Option<u64>,
    /// What the hub's key has for gas, in ether.
    pub ether: AmountText,
}

/// A period's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayoutRoot {
    /// It.
    pub root: HashText,
    /// What it commits to all devices together.
    pub total: AmountText,
    /// How many devices its list has.
    pub devices: u32,
    /// When the list was made.
    pub made_ms: u64,
    /// From when on it can be claimed by; `null` until it is certain to be on the chain.
    pub active_ms: Option<u64>,
    /// The transactions that post it, the latest first.
    pub transactions: Vec<PayoutTransaction>,
}

/// A transaction of the hub's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayoutTransaction {
    /// Its name on the chain.
    pub hash: HashText,
    /// Its place among all of the key.
    pub nonce: u64,
    /// What became of it.
    pub state: TransactionState,
}

/// Which root's list: of the newest root on the chain, or by its name also of the one before, which can be claimed by
/// until the newest can, and of one that is on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PayoutQuery {
    /// The root; where absent, the newest that is certain to be on the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<HashText>,
}

/// `GET /v1/payouts`: the list that a root is over, in its order. Whoever adds it up and reckons the root knows what the
/// hub has committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayoutList {
    /// The chain's number.
    pub chain_id: u64,
    /// The wallet.
    pub wallet: AddressText,
    /// The root.
    pub root: HashText,
    /// The list's sum.
    pub total: AmountText,
    /// From when on it can be claimed by; `null` until it is certain to be on the chain.
    pub active_ms: Option<u64>,
    /// The lines.
    pub lines: Vec<PayoutLine>,
}

/// What a device is owed in all, or somebody whom the hub pays for work elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayoutLine {
    /// Whom.
    pub device: AddressText,
    /// All that it was ever owed, paid out or not.
    pub cumulative: AmountText,
}

/// `GET /v1/payouts/{address}`: one line, with its way up to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayoutProof {
    /// The chain's number.
    pub chain_id: u64,
    /// The wallet.
    pub wallet: AddressText,
    /// The root.
    pub root: HashText,
    /// From when on it can be claimed by; `null` until it is certain to be on the chain.
    pub active_ms: Option<u64>,
    /// How many lines the list has.
    pub count: u32,
    /// Whom.
    pub device: AddressText,
    /// All that it was ever owed, paid out or not.
    pub cumulative: AmountText,
    /// The hashes beside the way up, from the line on.
    pub path: Vec<HashText>,
}
