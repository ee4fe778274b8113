//! What buyers have put into the escrow on the chain for this hub, and what of it they have signed for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    text::{AddressText, AmountText, SignatureText},
    wallet::PayoutTransaction,
};

/// `GET /v1/deposits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DepositList {
    /// The chain's number (EIP-155).
    pub chain_id: u64,
    /// The contract in which buyers deposit, and for which they sign.
    pub escrow: AddressText,
    /// The hub's wallet, for which they deposit.
    pub wallet: AddressText,
    /// What may be given away of a buyer's work beyond what the buyer has signed for.
    pub exposure: AmountText,
    /// The person's own; for admins, everybody's, in the order of their accounts.
    pub deposits: Vec<Deposit>,
    /// The value of `after` that continues them; `null` at their end.
    pub next: Option<AddressText>,
}

/// The query of `GET /v1/deposits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DepositQuery {
    /// At most so many, 1 to 1000; 100 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only accounts after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub after: Option<AddressText>,
}

/// A buyer's deposit, as far as the chain's blocks count for the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deposit {
    /// A user's name.
    pub buyer: String,
    /// The account that deposits and signs.
    pub account: AddressText,
    /// All that was put in and not taken back.
    pub deposited: AmountText,
    /// What of it the hub's wallet was paid.
    pub claimed: AmountText,
    /// From when on the buyer can take back what is left; `null` where that was not announced.
    pub open_ms: Option<u64>,
    /// What is to be paid of it for work until now: all that was spent beyond what an admin has granted.
    pub owed: AmountText,
    /// All that the buyer has signed for.
    pub confirmed: AmountText,
    /// What is owed and not signed for.
    pub unconfirmed: AmountText,
    /// The hub's latest transaction that brings what the buyer has signed for; `null` where there is none.
    pub redemption: Option<PayoutTransaction>,
}

/// `POST /v1/deposits/account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDepositAccount {
    /// Whose deposits are the caller's credit from now on.
    pub account: AddressText,
    /// The account's, of `BuyerAccount(address account,address wallet,string buyer)` (EIP-712) with the caller's name, for
    /// the escrow.
    pub signature: SignatureText,
}

/// `POST /v1/deposits/voucher`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBuyerVoucher {
    /// All that the caller owes the hub; with it the hub's wallet is paid what it was not paid before.
    pub cumulative: AmountText,
    /// The account's, of `BuyerVoucher(address buyer,address wallet,uint256 cumulative)` (EIP-712), for the escrow.
    pub signature: SignatureText,
}
