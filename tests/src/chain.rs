//! Wallets on a chain of this machine's own.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use serde_json::Value;
use sosna_contracts::bindings::{HubWallet, HubWalletFactory, SNM};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{eip712::Domain, identity::Sign as _};
use xtask::chain::{ChainError, DevChain};
use xtask::paths::Tree;

use crate::{program::Done, world::World};

/// What a wallet gets: more than any test commits.
const FUNDS: u128 = 1_000_000 * 10_u128.pow(18);

/// A chain with all contracts; none, with the reason printed, where there can be no chain.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn chain(test: &str) -> Option<DevChain> {
    match DevChain::start(&Tree::find().unwrap()) {
        Ok(chain) => Some(chain),
        Err(ChainError::Foundry(error)) => {
            eprintln!("SKIPPED {test}: {}", sosna_host::report::line(&error));
            None
        }
        Err(error) => panic!("{}", sosna_host::report::line(&error)),
    }
}

/// Somebody with ether, and nothing else to do with anybody, at the command line.
#[derive(Debug)]
pub struct Anybody {
    /// Their account.
    pub account: Address,
    key: String,
    endpoint: String,
}

/// A hub with a registered wallet.
#[derive(Debug)]
pub struct Wallet<'a> {
    /// Where it is.
    pub chain: &'a DevChain,
    /// Its hub's key.
    pub hub: IdentityKey,
    /// Its address.
    pub at: Address,
}

impl Anybody {
    /// One whose key is in a world's folder.
    ///
    /// # Panics
    /// When the chain fails.
    #[must_use]
    pub fn new(world: &World, chain: &DevChain) -> Self {
        let key = world.dir().join("anybody.key");
        let account = sosna_contracts::address(&IdentityKey::load_or_create(&key).unwrap().address());
        chain.adopt(account).unwrap();
        Self { account, key: key.display().to_string(), endpoint: chain.url().to_owned() }
    }

    /// The file with their key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// `sosna payouts` with these arguments.
    #[must_use]
    pub fn payouts(&self, world: &World, arguments: &[&str]) -> Done {
        let line = [&["payouts"], arguments, &["--endpoint", &self.endpoint, "--key", &self.key]].concat();
        world.cli(&world.admin(), &line)
    }

    /// Has something relayed that a device has signed.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn relay(&self, world: &World, signed: &Value, arguments: &[&str]) -> Done {
        std::fs::write(world.dir().join("signed.json"), signed.to_string()).unwrap();
        self.payouts(world, &[&["relay", "signed.json"], arguments].concat())
    }
}

impl<'a> Wallet<'a> {
    /// A registered wallet with money for a hub, whose key can pay for gas.
    ///
    /// # Panics
    /// When the chain fails.
    #[must_use]
    pub fn new(chain: &'a DevChain, hub: IdentityKey) -> Self {
        let key = sosna_contracts::address(&hub.address());
        let owner = chain.people.owner;
        let create = HubWalletFactory::createCall { hub: key };
        let at = chain.ask(owner, chain.contracts.factory, &create).unwrap();
        chain.send(owner, chain.contracts.factory, &create).unwrap();
        let fund = SNM::transferCall { to: at, value: U256::from(FUNDS) };
        chain.send(chain.people.holder, chain.contracts.token, &fund).unwrap();
        chain.send(owner, at, &HubWallet::registerCall {}).unwrap();
        chain.adopt(key).unwrap();
        Self { chain, hub, at }
    }

    /// The wallet of a world's hub, which has not given any work. The hub asks these nodes, looks often, and posts a root
    /// whenever there is something for it.
    ///
    /// # Panics
    /// When hub or chain fail.
    #[must_use]
    pub fn of_hub(world: &mut World, chain: &'a DevChain, endpoints: &[&str], confirmations: u64) -> Self {
        // The key is made by the first start.
        world.start_hub();
        world.stop_hub();
        let key = IdentityKey::load(&world.hub_data().join("hub.key")).unwrap().unwrap();
        let wallet = Self::new(chain, key);
        world.set_hub("chain.id", &chain.id().unwrap().to_string());
        world.set_hub("chain.wallet", &wallet.at.to_string());
        world.set_hub("chain.endpoints", &endpoints.join(","));
        world.set_hub("chain.confirmations", &confirmations.to_string());
        world.set_hub("chain.poll_ms", "200");
        world.set_hub("chain.patience_ms", "1000");
        world.set_hub("chain.root_ms", "0");
        wallet
    }

    /// Has devices that are made from now on see for themselves, by these nodes.
    ///
    /// # Panics
    /// When the chain fails.
    pub fn show_to_agents(&self, world: &mut World, endpoints: &[&str]) {
        world.set_agents("chain.id", &self.chain.id().unwrap().to_string());
        world.set_agents("chain.registry", &self.chain.contracts.registry.to_string());
        world.set_agents("chain.endpoints", &endpoints.join(","));
        world.set_agents("chain.poll_ms", "200");
        world.set_agents("chain.patience_ms", "1000");
    }

    /// The name of its hub's key.
    #[must_use]
    pub fn hub_address(&self) -> sosna_protocol::Address {
        self.hub.address()
    }

    /// Of what is signed for it.
    ///
    /// # Panics
    /// When the chain fails.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.chain.id().unwrap(), wallet: sosna_contracts::from_address(&self.at) }
    }

    /// Asks it something.
    ///
    /// # Panics
    /// When the chain fails.
    pub fn ask<C: SolCall>(&self, call: &C) -> C::Return {
        self.chain.ask(self.chain.people.relayer, self.at, call).unwrap()
    }

    /// Has somebody call it.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn relay<C: SolCall>(&self, call: &C) -> Result<(), ChainError> {
        self.chain.send(self.chain.people.relayer, self.at, call).map(drop)
    }

    /// What the wallet says when it refuses a call.
    ///
    /// # Panics
    /// When it does not.
    pub fn refusal<C: SolCall>(&self, call: &C) -> HubWallet::HubWalletErrors {
        let refused = self.chain.ask(self.chain.people.relayer, self.at, call).map(drop).unwrap_err();
        let said = refused.revert().unwrap_or_else(|| panic!("{refused:?}"));
        alloy_sol_types::SolInterface::abi_decode(&said).unwrap()
    }

    /// Tokens of an account.
    ///
    /// # Panics
    /// When the chain fails.
    #[must_use]
    pub fn balance(&self, of: Address) -> U256 {
        self.chain.ask(of, self.chain.contracts.token, &SNM::balanceOfCall { account: of }).unwrap()
    }

    /// What a device was ever paid.
    ///
    /// # Panics
    /// When the chain fails.
    #[must_use]
    pub fn paid(&self, device: &IdentityKey) -> U256 {
        self.paid_to(sosna_contracts::address(&device.address()))
    }

    /// The same by its address.
    ///
    /// # Panics
    /// When the chain fails.
    #[must_use]
    pub fn paid_to(&self, device: Address) -> U256 {
        self.ask(&HubWallet::accountOfCall { device }).paid_
    }
}
