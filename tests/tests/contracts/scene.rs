//! A chain, wallets on it, and keys.

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sosna_contracts::bindings::{HubWallet, HubWalletFactory, SNM};
use sosna_host::identity::IdentityKey;
use sosna_protocol::{eip712::Domain, identity::Sign as _};
use xtask::chain::{ChainError, DevChain};
use xtask::paths::Tree;

/// What a wallet gets: more than anything here commits.
const FUNDS: u128 = 1_000_000 * 10_u128.pow(18);

/// None, with the reason printed, where there can be no chain.
pub(crate) fn chain(test: &str) -> Option<DevChain> {
    match DevChain::start(&Tree::find().unwrap()) {
        Ok(chain) => Some(chain),
        Err(ChainError::Foundry(error)) => {
            eprintln!("SKIPPED {test}: {}", sosna_host::report::line(&error));
            None
        }
        Err(error) => panic!("{}", sosna_host::report::line(&error)),
    }
}

/// Inputs that are the same in every run.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A key by number.
pub(crate) fn key(number: u64) -> IdentityKey {
    let mut bytes = [0x51; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    IdentityKey::from_bytes(bytes).unwrap()
}

/// A hub with a registered wallet.
pub(crate) struct Wallet<'a> {
    pub(crate) chain: &'a DevChain,
    pub(crate) hub: IdentityKey,
    pub(crate) at: Address,
}

impl<'a> Wallet<'a> {
    pub(crate) fn new(chain: &'a DevChain, hub: IdentityKey) -> Self {
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

    pub(crate) fn domain(&self) -> Domain {
        Domain { chain_id: self.chain.id().unwrap(), wallet: sosna_contracts::from_address(&self.at) }
    }

    pub(crate) fn ask<C: SolCall>(&self, call: &C) -> C::Return {
        self.chain.ask(self.chain.people.relayer, self.at, call).unwrap()
    }

    pub(crate) fn relay<C: SolCall>(&self, call: &C) -> Result<(), ChainError> {
        self.chain.send(self.chain.people.relayer, self.at, call).map(drop)
    }

    /// What the wallet says when it refuses a call.
    pub(crate) fn refusal<C: SolCall>(&self, call: &C) -> HubWallet::HubWalletErrors {
        let refused = self.chain.ask(self.chain.people.relayer, self.at, call).map(drop).unwrap_err();
        let said = refused.revert().unwrap_or_else(|| panic!("{refused:?}"));
        alloy_sol_types::SolInterface::abi_decode(&said).unwrap()
    }

    pub(crate) fn balance(&self, of: Address) -> U256 {
        self.chain.ask(of, self.chain.contracts.token, &SNM::balanceOfCall { account: of }).unwrap()
    }

    pub(crate) fn paid(&self, device: &IdentityKey) -> U256 {
        let device = sosna_contracts::address(&device.address());
        self.ask(&HubWallet::accountOfCall { device }).paid_
    }
}
