//! Who is there, and how they act: a chain, a world of real processes, and people with keys of their own in its folder.
//! Where Sosna has a command for something, people use it; for the rest the chain's node takes their calls.

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolInterface as _};
use serde::de::DeserializeOwned;
use sosna_contracts::bindings::{HubWallet, SNM};
use sosna_contracts::{address, from_address, from_amount};
use sosna_host::identity::IdentityKey;
use sosna_protocol::Amount;
use sosna_protocol::eip712::Domain;
use sosna_protocol::identity::Sign as _;

use super::super::DemoError;
use super::super::world::World;
use crate::chain::{ChainError, DevChain};

/// A day, in seconds.
pub(super) const DAY: u64 = 24 * 3600;

/// Somebody with a key in a file.
#[derive(Debug)]
pub(super) struct Person {
    /// The file.
    pub(super) path: PathBuf,
    /// The key.
    pub(super) key: IdentityKey,
    /// Their account.
    pub(super) at: Address,
}

/// Everything that acts.
#[derive(Debug)]
pub(super) struct Scene {
    /// Dropped first, so that nobody misses the chain.
    pub(super) world: World,
    /// The chain.
    pub(super) chain: DevChain,
    /// Its number.
    pub(super) chain_id: u64,
    /// Where logs, keys and data are.
    pub(super) folder: PathBuf,
    /// Owns the hub's wallet.
    pub(super) owner: Person,
    /// Pays for work.
    pub(super) buyer: Person,
    /// Has ether, and nothing else to do with anybody.
    pub(super) relayer: Person,
    /// Owns the wallet of a hub that will cheat.
    pub(super) rival: Person,
}

/// So many SNM.
pub(super) const fn snm(whole: u64) -> Amount {
    Amount::from_units(whole as u128 * Amount::SNM.units())
}

/// What was tried, when the chain refuses it.
pub(super) fn refused(what: &'static str) -> impl Fn(ChainError) -> DemoError {
    move |source| DemoError::Chain { what, source: Box::new(source) }
}

/// Something that must be as the story has it.
pub(super) fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Result<(), DemoError> {
    if is_so { Ok(()) } else { Err(DemoError::Wrong(otherwise())) }
}

/// An amount that a command has printed.
pub(super) fn amount_of(text: &str) -> Result<Amount, DemoError> {
    text.parse().map_err(|_| DemoError::Wrong(format!("{text} is no amount of SNM")))
}

/// An amount that a contract has answered.
pub(super) fn small(amount: &U256) -> Result<Amount, DemoError> {
    from_amount(amount).ok_or_else(|| DemoError::Wrong(format!("{amount} units are more than there are")))
}

/// An address that a command has printed.
pub(super) fn address_of(text: &str) -> Result<Address, DemoError> {
    text.parse().map_err(|_| DemoError::Wrong(format!("{text} is no address")))
}

/// A transaction that a command has printed.
pub(super) fn transaction_of(text: &str) -> Result<B256, DemoError> {
    text.parse().map_err(|_| DemoError::Wrong(format!("{text} is no transaction")))
}

/// The first characters of an address, for people.
pub(super) fn brief(address: &Address) -> String {
    let whole = address.to_string();
    format!("{}…{}", &whole[..6], &whole[whole.len() - 4..])
}

// === impl Person ===

impl Person {
    /// The one whose key is in `folder`, made where there is none.
    ///
    /// # Errors
    /// [`DemoError::Key`].
    pub(super) fn new(folder: &Path, name: &str) -> Result<Self, DemoError> {
        let path = folder.join(format!("{name}.key"));
        match IdentityKey::load_or_create(&path) {
            Ok(key) => Ok(Self { at: address(&key.address()), path, key }),
            Err(source) => Err(DemoError::Key { path, source }),
        }
    }
}

// === impl Scene ===

impl Scene {
    /// The people of a world on a chain, without tokens; who sends transactions has ether.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn new(chain: DevChain, world: World, folder: &Path) -> Result<Self, DemoError> {
        let person = |name| Person::new(folder, name);
        let scene = Self {
            chain_id: chain.id().map_err(refused("ask for the chain's number"))?,
            world,
            chain,
            folder: folder.to_owned(),
            owner: person("owner")?,
            buyer: person("buyer")?,
            relayer: person("relayer")?,
            rival: person("cheat-owner")?,
        };
        for one in [&scene.owner, &scene.buyer, &scene.relayer, &scene.rival] {
            scene.chain.adopt(one.at).map_err(refused("give somebody ether"))?;
        }
        Ok(scene)
    }

    /// `sosna` on this chain with somebody's key; what it says as JSON.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn sosna<T: DeserializeOwned>(
        &self,
        who: &Person,
        arguments: &[&str],
    ) -> Result<T, DemoError> {
        let key = who.path.display().to_string();
        let factory = self.chain.contracts.factory.to_string();
        let place = ["--endpoint", self.chain.url(), "--factory", &factory, "--key", &key];
        self.world.sosna_json(&[arguments, &place].concat())
    }

    /// The same by the buyer, with the buyer's token at the hub; the command names the contract.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn sosna_as_buyer<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, DemoError> {
        let key = self.buyer.path.display().to_string();
        let place = ["--endpoint", self.chain.url(), "--key", &key];
        self.world.sosna_json_as_buyer(&[arguments, &place].concat())
    }

    /// Has a contract do something that Sosna has no command for; the transaction.
    ///
    /// # Errors
    /// [`DemoError::Chain`].
    pub(super) fn send<C: SolCall>(
        &self,
        what: &'static str,
        from: Address,
        to: Address,
        call: &C,
    ) -> Result<B256, DemoError> {
        Ok(self.chain.send(from, to, call).map_err(refused(what))?.transaction_hash)
    }

    /// Asks a contract.
    ///
    /// # Errors
    /// [`DemoError::Chain`].
    pub(super) fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, DemoError> {
        self.chain.ask(self.relayer.at, to, call).map_err(refused("ask a contract"))
    }

    /// What a wallet says when it refuses somebody's call; nothing is sent.
    ///
    /// # Errors
    /// [`DemoError::Wrong`] where it does not refuse.
    pub(super) fn refusal<C: SolCall>(
        &self,
        from: Address,
        wallet: Address,
        call: &C,
    ) -> Result<HubWallet::HubWalletErrors, DemoError> {
        let said = self.chain.ask(from, wallet, call).map(drop).err().and_then(|error| error.revert());
        let known = said.and_then(|said| HubWallet::HubWalletErrors::abi_decode(&said).ok());
        known.ok_or_else(|| DemoError::Wrong(format!("the wallet {wallet} should refuse {}", C::SIGNATURE)))
    }

    /// Has tokens sent.
    ///
    /// # Errors
    /// [`DemoError::Chain`].
    pub(super) fn pay(&self, from: Address, to: Address, amount: Amount) -> Result<B256, DemoError> {
        let call = SNM::transferCall { to, value: sosna_contracts::amount(amount) };
        self.send("send tokens", from, self.chain.contracts.token, &call)
    }

    /// An account's tokens.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn balance(&self, account: Address) -> Result<Amount, DemoError> {
        small(&self.ask(self.chain.contracts.token, &SNM::balanceOfCall { account })?)
    }

    /// Puts the chain's clock forward.
    ///
    /// # Errors
    /// [`DemoError::Chain`].
    pub(super) fn wait(&self, seconds: u64) -> Result<(), DemoError> {
        self.chain.wait(seconds).map_err(refused("put the chain's clock forward"))
    }

    /// Of what is signed for a contract of this chain.
    pub(super) fn domain(&self, contract: Address) -> Domain {
        Domain { chain_id: self.chain_id, wallet: from_address(&contract) }
    }

    /// What a wallet has paid to a device.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn paid(&self, wallet: Address, device: Address) -> Result<Amount, DemoError> {
        small(&self.ask(wallet, &HubWallet::accountOfCall { device })?.paid_)
    }

    /// Has an owner's hub get a registered wallet with so many SNM by `sosna hubs register`; its address, and the
    /// transactions.
    ///
    /// # Errors
    /// [`DemoError`].
    pub(super) fn register(
        &self,
        owner: &Person,
        hub: &str,
        name: &str,
        funds: Amount,
    ) -> Result<(Address, Vec<B256>), DemoError> {
        let funds = funds.to_string();
        let mut arguments = vec!["hubs", "register", "--hub-key", hub, "--name", name];
        arguments.extend(["--url", self.world.web.as_str(), "--fund", &funds]);
        let done: Registered = self.sosna(owner, &arguments)?;
        let sent = done.steps.iter().filter_map(|step| step.transaction.as_deref());
        let sent = sent.map(transaction_of).collect::<Result<Vec<_>, _>>()?;
        Ok((address_of(&done.state.wallet)?, sent))
    }
}

/// `sosna hubs register --json`.
#[derive(Debug, serde::Deserialize)]
struct Registered {
    steps: Vec<Step>,
    #[serde(flatten)]
    state: State,
}

#[derive(Debug, serde::Deserialize)]
struct Step {
    transaction: Option<String>,
}

#[derive(Debug, serde::Deserialize)]
struct State {
    wallet: String,
}
