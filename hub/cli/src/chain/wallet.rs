//! Hubs' wallets, the registry in which they are listed, and the factory that makes them, as of one block.

use alloy_primitives::U256;
use alloy_sol_types::{SolCall as _, SolError as _};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use sosna_api::{
    text::{AddressText, AmountText, HashText},
    wallet::WalletPhase,
};
use sosna_contracts::{
    Phase, address,
    bindings::{HubRegistry, HubWallet, HubWalletFactory, SNM},
    from_address, from_amount,
};
use sosna_protocol::{Address, Amount, Hash};

use super::{Block, ChainError, Node};

/// What a question is about, and what an address should be.
pub const WALLET: &str = "a hub's wallet";
const FACTORY: &str = "a factory of hubs' wallets";
const REGISTRY: &str = "a registry of hubs";
const TOKEN: &str = "the wallets' token";

/// How many wallets of the registry are asked for at once.
const PAGE: usize = 100;
/// A registry with more hubs than there will be has no end.
const MOST_HUBS: usize = 100_000;
/// How many of them are looked at at once.
const AT_ONCE: usize = 8;
/// How many devices' accounts are asked for at once.
const ACCOUNTS: usize = 256;

/// What belongs together on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contracts {
    /// Makes wallets.
    pub factory: Address,
    /// Lists them.
    pub registry: Address,
    /// What they pay in.
    pub token: Address,
}

/// How far the DAO trusts a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is registered, and nothing else is known.
    Unconfirmed,
    /// Somebody has checked that it is what it says.
    Verified,
    /// The DAO vouches for it.
    Trusted,
}

/// What the registry has of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Its name, as its owner says.
    pub name: String,
    /// Where it is reached, as its owner says.
    pub endpoint: String,
    /// The SHA-256 of a longer description; all zero for none.
    pub details: HashText,
    /// How far it is trusted.
    pub standing: Standing,
    /// When it first registered.
    pub since_ms: u64,
}

/// A hub of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its wallet.
    pub wallet: AddressText,
    /// Where the wallet stands.
    pub phase: WalletPhase,
    /// What is said of the hub.
    #[serde(flatten)]
    pub listing: Listing,
}

/// A wallet, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// The chain's number.
    pub chain_id: u64,
    /// As of which block.
    pub block: u64,
    /// That block's time: the chain's own now.
    pub now_ms: u64,
    /// Where it is.
    pub wallet: AddressText,
    /// What the registry says of it; `null` for a wallet that has never registered.
    pub listing: Option<Listing>,
    /// Where it stands.
    pub phase: WalletPhase,
    /// Who owns it.
    pub owner: AddressText,
    /// The address of the hub's key.
    pub hub: AddressText,
    /// What the hub's key has for gas, in ether.
    pub hub_ether: AmountText,
    /// All that it holds.
    pub balance: AmountText,
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
    /// What devices claim by.
    pub roots: Roots,
}

/// The two roots of a wallet; all zero for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Roots {
    /// The newest.
    pub newest: HashText,
    /// From when on it can be claimed by.
    pub active_ms: u64,
    /// The one before, which can.
    pub before: HashText,
}

/// A wallet's phase by the contract's number.
#[must_use]
pub const fn phase_of(number: u8) -> Option<WalletPhase> {
    Some(match Phase::from_number(number) {
        Some(Phase::Created) => WalletPhase::Created,
        Some(Phase::Registered) => WalletPhase::Registered,
        Some(Phase::Idle) => WalletPhase::Idle,
        Some(Phase::Suspected) => WalletPhase::Suspected,
        Some(Phase::Punished) => WalletPhase::Punished,
        None => return None,
    })
}

/// Its word.
pub(super) const fn phase_word(number: u8) -> &'static str {
    match phase_of(number) {
        Some(phase) => phase.word(),
        None => "in a phase that this program does not know",
    }
}

fn amount(node: &Node, what: &'static str, value: &U256) -> Result<Amount, ChainError> {
    from_amount(value).ok_or_else(|| ChainError::Amount { node: node.name().to_owned(), what })
}

const fn millis(seconds: u64) -> u64 {
    seconds.saturating_mul(1000)
}

// === impl Contracts ===

impl Contracts {
    /// What belongs to a factory.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn of(node: &Node, factory: Address, at: Block) -> Result<Self, ChainError> {
        let code = node.ask(FACTORY, factory, &HubWalletFactory::codeCall {}, at).await?;
        Self::of_wallet(node, from_address(&code), at).await
    }

    /// What a wallet belongs to.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn of_wallet(node: &Node, wallet: Address, at: Block) -> Result<Self, ChainError> {
        let factory = node.ask(WALLET, wallet, &HubWallet::factoryCall {}, at).await?;
        let registry = node.ask(WALLET, wallet, &HubWallet::registryCall {}, at).await?;
        let token = node.ask(WALLET, wallet, &HubWallet::tokenCall {}, at).await?;
        Ok(Self {
            factory: from_address(&factory),
            registry: from_address(&registry),
            token: from_address(&token),
        })
    }

    /// Whether the DAO lets this factory's wallets register.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn is_admitted(&self, node: &Node, at: Block) -> Result<bool, ChainError> {
        let asked = HubRegistry::isAdmittedCall { factory: address(&self.factory) };
        node.ask(REGISTRY, self.registry, &asked, at).await
    }

    /// The wallets of an owner, in their order.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn wallets_of(
        &self,
        node: &Node,
        owner: Address,
        at: Block,
    ) -> Result<Vec<Address>, ChainError> {
        let asked = HubWalletFactory::walletsOfCall { owner: address(&owner) };
        let wallets = node.ask(FACTORY, self.factory, &asked, at).await?;
        Ok(wallets.iter().map(from_address).collect())
    }

    /// Tokens of an account.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn balance(&self, node: &Node, account: Address, at: Block) -> Result<Amount, ChainError> {
        let asked = SNM::balanceOfCall { account: address(&account) };
        amount(node, TOKEN, &node.ask(TOKEN, self.token, &asked, at).await?)
    }

    /// What the registry says of a wallet; `None` for one that has never registered.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn listing(
        &self,
        node: &Node,
        wallet: Address,
        at: Block,
    ) -> Result<Option<Listing>, ChainError> {
        let not_that =
            || ChainError::NotThat { what: REGISTRY, address: self.registry, chain: node.chain_id() };
        let asked = HubRegistry::hubOfCall { wallet: address(&wallet) };
        let hub = match node.ask_or_refusal(REGISTRY, self.registry, &asked, at).await? {
            Ok(hub) => hub,
            Err(error) if HubRegistry::NotListed::abi_decode(&error).is_ok() => return Ok(None),
            Err(_) => return Err(not_that()),
        };
        let standing = match hub.standing {
            0 => Standing::Unconfirmed,
            1 => Standing::Verified,
            2 => Standing::Trusted,
            _ => return Err(not_that()),
        };
        Ok(Some(Listing {
            name: hub.description.name,
            endpoint: hub.description.endpoint,
            details: Hash(hub.description.details.0).into(),
            standing,
            since_ms: millis(hub.since.to()),
        }))
    }

    /// Every hub of the registry, in the order in which they first registered.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn entries(&self, node: &Node, at: Block) -> Result<Vec<Entry>, ChainError> {
        let mut entries = Vec::new();
        while entries.len() < MOST_HUBS {
            let first = U256::from(entries.len());
            let asked = HubRegistry::walletsCall { first, most: U256::from(PAGE) };
            let page = node.ask(REGISTRY, self.registry, &asked, at).await?;
            let looks = page.iter().map(|wallet| self.entry(node, from_address(wallet), at));
            let looked: Vec<Entry> =
                futures_util::stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
            let is_last = looked.len() < PAGE;
            entries.extend(looked);
            if is_last {
                return Ok(entries);
            }
        }
        Err(ChainError::NotThat { what: REGISTRY, address: self.registry, chain: node.chain_id() })
    }

    async fn entry(&self, node: &Node, wallet: Address, at: Block) -> Result<Entry, ChainError> {
        let not_that = || ChainError::NotThat { what: WALLET, address: wallet, chain: node.chain_id() };
        let listing = self.listing(node, wallet, at).await?.ok_or_else(not_that)?;
        Ok(Entry { wallet: wallet.into(), phase: phase(node, wallet, at).await?, listing })
    }
}

// === impl Standing ===

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Unconfirmed => "unconfirmed",
            Self::Verified => "verified",
            Self::Trusted => "trusted",
        })
    }
}

/// The contracts of a wallet that somebody has named; of the factory's own making, where the factory is named too.
///
/// # Errors
/// [`ChainError`].
pub async fn open(
    node: &Node,
    wallet: Address,
    factory: Option<Address>,
    at: Block,
) -> Result<Contracts, ChainError> {
    if !node.has_code(wallet, at).await? {
        return Err(ChainError::NoContract { address: wallet, chain: node.chain_id() });
    }
    if let Some(factory) = factory {
        let asked = HubWalletFactory::isWalletCall { wallet: address(&wallet) };
        if !node.ask(FACTORY, factory, &asked, at).await? {
            return Err(ChainError::Foreign { wallet, factory });
        }
    }
    Contracts::of_wallet(node, wallet, at).await
}

/// A wallet's phase.
///
/// # Errors
/// [`ChainError`].
pub async fn phase(node: &Node, wallet: Address, at: Block) -> Result<WalletPhase, ChainError> {
    let number = node.ask(WALLET, wallet, &HubWallet::phaseCall {}, at).await?;
    phase_of(number).ok_or(ChainError::NotThat { what: WALLET, address: wallet, chain: node.chain_id() })
}

/// The address of the key whose vouchers a wallet takes.
///
/// # Errors
/// [`ChainError`].
pub async fn hub(node: &Node, wallet: Address, at: Block) -> Result<Address, ChainError> {
    Ok(from_address(&node.ask(WALLET, wallet, &HubWallet::hubCall {}, at).await?))
}

/// A wallet's roots.
///
/// # Errors
/// [`ChainError`].
pub async fn roots(node: &Node, wallet: Address, at: Block) -> Result<Roots, ChainError> {
    let roots = node.ask(WALLET, wallet, &HubWallet::rootsCall {}, at).await?;
    Ok(Roots {
        newest: Hash(roots.newest.0).into(),
        active_ms: millis(roots.activeAt.saturating_to()),
        before: Hash(roots.before.0).into(),
    })
}

/// What each of some devices was ever paid by a wallet, in their order. `each` hears of every step.
///
/// # Errors
/// [`ChainError`].
pub async fn paid(
    node: &Node,
    wallet: Address,
    devices: &[Address],
    at: Block,
    mut each: impl FnMut(usize),
) -> Result<Vec<Amount>, ChainError> {
    let not_that = || ChainError::NotThat { what: WALLET, address: wallet, chain: node.chain_id() };
    let mut paid = Vec::with_capacity(devices.len());
    for some in devices.chunks(ACCOUNTS) {
        let ask = |device: &Address| HubWallet::accountOfCall { device: address(device) }.abi_encode().into();
        let asked = HubWallet::multicallCall { data: some.iter().map(ask).collect() };
        let answers = node.ask(WALLET, wallet, &asked, at).await?;
        if answers.len() != some.len() {
            return Err(not_that());
        }
        for answer in answers {
            let account = HubWallet::accountOfCall::abi_decode_returns(&answer).map_err(|_| not_that())?;
            paid.push(amount(node, WALLET, &account.paid_)?);
        }
        each(some.len());
    }
    Ok(paid)
}

// === impl State ===

impl State {
    /// Looks at a wallet, with what its registry says.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn look(
        node: &Node,
        wallet: Address,
        contracts: &Contracts,
        at: Block,
    ) -> Result<Self, ChainError> {
        macro_rules! amount_of {
            ($call:ident) => {
                amount(node, WALLET, &node.ask(WALLET, wallet, &HubWallet::$call {}, at).await?)?.into()
            };
        }
        let payday: u64 = node.ask(WALLET, wallet, &HubWallet::paydayAtCall {}, at).await?.saturating_to();
        let hub = hub(node, wallet, at).await?;
        Ok(Self {
            chain_id: node.chain_id(),
            block: at.number,
            now_ms: millis(at.time),
            wallet: wallet.into(),
            listing: contracts.listing(node, wallet, at).await?,
            phase: phase(node, wallet, at).await?,
            owner: from_address(&node.ask(WALLET, wallet, &HubWallet::ownerCall {}, at).await?).into(),
            hub: hub.into(),
            hub_ether: Amount::from_units(node.ether(hub).await?).into(),
            balance: contracts.balance(node, wallet, at).await?.into(),
            frozen: amount_of!(frozenCall),
            locked: amount_of!(lockedCall),
            committed: amount_of!(committedCall),
            paid: amount_of!(paidCall),
            free: amount_of!(freeCall),
            payday_ms: (payday != 0).then_some(millis(payday)),
            roots: roots(node, wallet, at).await?,
        })
    }
}
