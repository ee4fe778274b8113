//! How a command is told which chain, and by which key.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sosna_api::text::AddressText;
use sosna_host::identity::IdentityKey;

use super::{ChainError, Node, Sender, key};
use crate::quantity;

/// Which chain, and which contracts there.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Chain")]
pub struct ChainArgs {
    /// The JSON-RPC address of a node of the chain
    #[arg(long, value_name = "URL", env = "SOSNA_ENDPOINT", hide_env_values = true)]
    pub endpoint: Option<String>,
    /// The factory of hubs' wallets; registry and token are those that its wallets use
    #[arg(long, value_name = "ADDRESS", env = "SOSNA_FACTORY", hide_env_values = true)]
    pub factory: Option<AddressText>,
}

/// Whose signatures.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Signing")]
pub struct SignerArgs {
    /// The key that signs, and pays for gas where there is any: an Ethereum keystore (version 3), or a key's file that a
    /// program of Sosna wrote [default: the owner's key of `sosna owner key`]
    #[arg(long, value_name = "FILE", env = "SOSNA_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// A file with the keystore's password; otherwise SOSNA_KEY_PASSWORD, or it is asked for
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Whose transactions, and how patiently.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Signing")]
pub struct SignArgs {
    /// Whose.
    #[command(flatten)]
    pub signer: SignerArgs,
    /// How long a transaction may take to get into a block: 90s, 5m
    #[arg(long, value_name = "T", default_value = "3m", value_parser = quantity::duration)]
    pub wait: Duration,
    /// Send in the place of a transaction of this key that is in no block yet, and offer more for gas: one of the two
    /// comes into a block, never both
    #[arg(long)]
    pub replace: bool,
}

/// What every command has that does something on the chain.
#[derive(Debug, Clone, Args)]
pub struct ActArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub chain: ChainArgs,
    /// Who.
    #[command(flatten)]
    pub sign: SignArgs,
}

// === impl ChainArgs ===

impl ChainArgs {
    /// The node, which was asked for its chain's number.
    ///
    /// # Errors
    /// [`ChainError`] where there is none, or it does not answer.
    pub async fn node(&self) -> Result<Node, ChainError> {
        Node::named(self.endpoint.as_deref()).await
    }
}

// === impl SignerArgs ===

impl SignerArgs {
    /// The key.
    ///
    /// # Errors
    /// [`ChainError::Key`].
    pub fn load(&self) -> Result<IdentityKey, ChainError> {
        Ok(key::load(self.key.as_deref(), self.password_file.as_deref())?)
    }
}

// === impl SignArgs ===

impl SignArgs {
    /// What sends transactions of this key.
    ///
    /// # Errors
    /// [`ChainError::Key`].
    pub fn sender(&self, node: Node) -> Result<Sender, ChainError> {
        Ok(Sender::new(node, self.signer.load()?, self.wait, self.replace))
    }
}
