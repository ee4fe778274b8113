//! What can go wrong with a chain, for a person.

use std::time::Duration;

use sosna_host::{identity::CannotSign, report::Exit};
use sosna_protocol::{Address, Amount, Hash};

use super::{ClaimError, KeyError, ether};
use crate::quantity::show_duration;

/// What a node or the network between says, without the endpoint's address.
pub(super) type Said = Box<dyn std::error::Error + Send + Sync>;

/// Why nothing was seen on a chain, or done there.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// No node was named.
    #[error(
        "no node of a chain is known: give --endpoint with the JSON-RPC address of one, or set SOSNA_ENDPOINT"
    )]
    NoEndpoint,
    /// Not where a node could be. Its text is not repeated: there may be an access key in it.
    #[error("--endpoint (or SOSNA_ENDPOINT) is no address of a node; it looks like https://node.example/…")]
    Endpoint,
    /// A client of HTTP could not be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// No factory was named.
    #[error("give --factory with the address of the factory of hubs' wallets, or set SOSNA_FACTORY")]
    NoFactory,
    /// A node does not answer.
    #[error("{node} does not answer when it is asked for {what}; is a node of a chain there?")]
    Question {
        /// Whom.
        node: String,
        /// What about.
        what: &'static str,
        /// What it said.
        #[source]
        source: Said,
    },
    /// An answer that the contract's interface does not know.
    #[error("{} on chain {chain} is not {what}: it does not answer as such; is the address right?", address.checksummed())]
    NotThat {
        /// What it should be.
        what: &'static str,
        /// Where.
        address: Address,
        /// On which chain.
        chain: u64,
    },
    /// There is nothing.
    #[error("there is no contract at {} on chain {chain}; are the address and the chain right?", address.checksummed())]
    NoContract {
        /// Where.
        address: Address,
        /// On which chain.
        chain: u64,
    },
    /// A wallet of somebody else's making.
    #[error("{} is no wallet of the factory {}; do not trust it, unless you know who made it", wallet.checksummed(), factory.checksummed())]
    Foreign {
        /// Where.
        wallet: Address,
        /// Whose it should be.
        factory: Address,
    },
    /// What is to be done is for another chain.
    #[error(
        "{what} is for chain {wanted}, and {node} is of chain {chain}; give --endpoint a node of that one"
    )]
    WrongChain {
        /// What.
        what: &'static str,
        /// Its chain.
        wanted: u64,
        /// Who was asked.
        node: String,
        /// Its chain.
        chain: u64,
    },
    /// The contract refuses what is about to be sent. Nothing was.
    #[error("nothing was sent: {words}")]
    Refused {
        /// Why, in words.
        words: String,
    },
    /// The contract refused what was in a block already.
    #[error(
        "the transaction 0x{hash} is in a block, and the contract refused it: {words}; only its gas was spent"
    )]
    Failed {
        /// Which.
        hash: Hash,
        /// Why, in words.
        words: String,
    },
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Signing with it.
    #[error("the transaction could not be signed")]
    Sign(#[from] CannotSign),
    /// Too little for gas.
    #[error(
        "{} has {} ether and the transaction may cost {}; send it some and repeat the command",
        account.checksummed(),
        ether(*has),
        ether(*needs)
    )]
    NoEther {
        /// Whose.
        account: Address,
        /// What there is.
        has: u128,
        /// What there must be.
        needs: u128,
    },
    /// Too few tokens.
    #[error("{} has {has} SNM and {needs} are needed; nothing was sent", account.checksummed())]
    NoTokens {
        /// Whose.
        account: Address,
        /// What there is.
        has: Amount,
        /// What there must be.
        needs: Amount,
    },
    /// A node does not pass a transaction on.
    #[error("{node} does not take the transaction; repeat the command, or ask another node")]
    NotTaken {
        /// Who.
        node: String,
        /// Why.
        #[source]
        source: Said,
    },
    /// No block has it yet.
    #[error(
        "the transaction 0x{hash} was sent and is in no block after {}. Nothing is lost: it may still come into one. \
         {advice}",
        show_duration(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX))
    )]
    Pending {
        /// Which.
        hash: Hash,
        /// For how long.
        waited: Duration,
        /// What to do.
        advice: String,
    },
    /// An earlier transaction of the key is in no block yet.
    #[error(
        "a transaction of {} was sent before and is in no block after {}; nothing else is sent, so that nothing is done \
         twice. Repeat the command when it is in a block, or with --replace, which sends in its place and offers more for \
         gas",
        account.checksummed(),
        show_duration(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX))
    )]
    Busy {
        /// Whose.
        account: Address,
        /// For how long.
        waited: Duration,
    },
    /// Another transaction of its number came first.
    #[error(
        "another transaction of {} came into a block in the place of 0x{hash}, which did nothing and never will: most \
         likely the one that it was to replace. {advice}",
        account.checksummed()
    )]
    Overtaken {
        /// Whose.
        account: Address,
        /// Which.
        hash: Hash,
        /// What to do.
        advice: String,
    },
    /// A claim.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// More than any books of ours can hold.
    #[error("{node} names an amount of {what} that cannot exist; is it a node of the chain?")]
    Amount {
        /// Who.
        node: String,
        /// What of.
        what: &'static str,
    },
}

impl ChainError {
    /// What a script sees.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoEndpoint | Self::Endpoint | Self::NoFactory | Self::WrongChain { .. } => Exit::Usage,
            Self::NotThat { .. } | Self::NoContract { .. } => Exit::NotFound,
            Self::Question { .. } | Self::Pending { .. } | Self::Busy { .. } => Exit::NoAnswer,
            Self::Foreign { .. }
            | Self::Refused { .. }
            | Self::NoEther { .. }
            | Self::NoTokens { .. }
            | Self::NotTaken { .. }
            | Self::Overtaken { .. } => Exit::Refused,
            Self::Key(error) => error.exit(),
            Self::Claim(error) => error.exit(),
            Self::Client(_) | Self::Failed { .. } | Self::Sign(_) | Self::Amount { .. } => Exit::Failed,
        }
    }
}
